"""Pictures for people: boxes on images, images side by side, precision-recall curves."""

import colorsys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFont

from utils.metrics.evaluator import Evaluator

Picture = npt.NDArray[np.uint8]


def draw_boxes(
    image: Picture,
    boxes: npt.ArrayLike,
    labels: Sequence[int],
    class_names: Sequence[str],
    scores: Sequence[float] | None = None,
) -> Picture:
    """A copy of an image with boxes and their class names.

    Args:
        image: `[H, W, 3]` uint8 RGB.
        boxes: `[D, 4]` xyxy in its pixels.
        labels: `[D]`, 1..K.
        class_names: names of the classes 1..K, in any script.
        scores: `[D]`, shown behind the names where given.

    Returns:
        `[H, W, 3]` uint8 RGB.
    """
    canvas = Image.fromarray(image)
    pen = ImageDraw.Draw(canvas)
    height, width = image.shape[:2]
    line = max(2, round(max(height, width) / 300))
    size = max(11, round(max(height, width) / 36))
    # The best is drawn last, so that it is on top.
    for i, box in reversed(list(enumerate(np.asarray(boxes, dtype=float).reshape(-1, 4)))):
        name = class_names[labels[i] - 1]
        colour = class_colour(labels[i])
        left, top, right, bottom = box.tolist()
        pen.rectangle((left, top, max(left, right), max(top, bottom)), outline=colour, width=line)
        text, font = legible(name if scores is None else f"{name} {scores[i]:.2f}", size)
        x1, y1, x2, y2 = pen.textbbox((0, 0), text, font=font)
        label_width, label_height = x2 - x1 + 4, y2 - y1 + 4
        # Above the box, or inside where the image ends; never beyond its sides.
        x = min(max(0.0, left), max(0.0, width - label_width))
        y = top - label_height if top >= label_height else max(0.0, top)
        y = min(y, max(0.0, height - label_height))
        pen.rectangle((x, y, x + label_width, y + label_height), fill=colour)
        ink = "black" if luminance(colour) > 140 else "white"
        pen.text((x + 2 - x1, y + 2 - y1), text, fill=ink, font=font)
    return np.asarray(canvas)


def class_colour(label: int) -> tuple[int, int, int]:
    """A colour for a class; neighbouring labels differ in hue by the golden angle."""
    r, g, b = colorsys.hsv_to_rgb((0.61803 * label) % 1.0, 0.85, 0.95)
    return round(255 * r), round(255 * g), round(255 * b)


def luminance(colour: tuple[int, int, int]) -> float:
    """Perceived brightness in 0..255 (ITU-R BT.601)."""
    r, g, b = colour
    return 0.299 * r + 0.587 * g + 0.114 * b


def legible(text: str, size: int) -> tuple[str, ImageFont.FreeTypeFont]:
    """`text` and a font that has all its characters.

    Matplotlib's DejaVu Sans where it suffices, else a font of the system. Characters that no font
    has are written as their code point, U+732B, instead of as empty boxes.
    """
    path = font_for("".join(sorted(set(text))))
    known = characters(path)
    shown = "".join(c if ord(c) in known else f"U+{ord(c):04X}" for c in text)
    return shown, ImageFont.truetype(path, size)


@cache
def font_for(letters: str) -> str:
    """The file of a font with all of `letters`, or else DejaVu Sans."""
    default = str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf")
    wanted = {ord(c) for c in letters}
    if wanted <= characters(default):
        return default
    installed = sorted({font.fname for font in font_manager.fontManager.ttflist})
    return next((path for path in installed if wanted <= characters(path)), default)


@cache
def characters(font: str) -> frozenset[int]:
    """The code points that a font file has a glyph for."""
    return frozenset(FT2Font(font).get_charmap())


def side_by_side(rows: Sequence[Sequence[Picture]], titles: Sequence[str]) -> Picture:
    """Images in a grid, one column a title; each is fitted into a cell of 300 x 300."""
    cell, head = 300, 26
    sheet = Image.new("RGB", (cell * len(titles), head + cell * len(rows)), "white")
    pen = ImageDraw.Draw(sheet)
    for column, title in enumerate(titles):
        text, font = legible(title, 15)
        pen.text((column * cell + 6, 4), text, fill="black", font=font)
        for row, images in enumerate(rows):
            image = Image.fromarray(images[column])
            image.thumbnail((cell - 4, cell - 4))
            sheet.paste(image, (column * cell + 2, head + row * cell + 2))
    return np.asarray(sheet)


def draw_precision_recall(evaluator: Evaluator, path: str | Path) -> None:
    """Writes the precision-recall curve of every class with objects (VOC, IoU 0.5) as one PNG."""
    ap = evaluator.result("voc10").per_class
    names = [name for name in evaluator.class_names if not np.isnan(ap[name])]
    figure = Figure(figsize=(8, max(5.0, 1.2 + 0.23 * len(names))), layout="constrained")
    axes = figure.add_subplot()
    for k, name in enumerate(names):
        precision, recall, _ = evaluator.precision_recall(name)
        colour = tuple(c / 255 for c in class_colour(k + 1))
        style = ("-", "--", ":")[k % 3]
        axes.plot(recall, precision, style, color=colour, label=f"{name}  {ap[name]:.3f}")
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
    axes.set_title(
        f"IoU 0.5, area under the curve (voc10): mean {np.mean([ap[n] for n in names]):.3f}"
        if names
        else "no objects"
    )
    axes.grid(alpha=0.3)
    if names:
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    figure.savefig(path, dpi=100, format="png")
