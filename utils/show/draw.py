"""Pictures for people: boxes on images, images side by side."""

import colorsys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib import font_manager
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from utils.boxes import Targets

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
    frames = np.asarray(boxes, dtype=float).reshape(-1, 4).tolist()
    names = [class_names[label - 1] for label in labels]
    if scores is not None:
        names = [f"{name} {score:.2f}" for name, score in zip(names, scores, strict=True)]
    texts = [legible(name, size) for name in names]
    extents = [pen.textbbox((0, 0), text, font=font) for text, font in texts]
    corners = label_corners(
        frames, [(x2 - x1 + 4, y2 - y1 + 4) for x1, y1, x2, y2 in extents], (width, height)
    )
    order = range(len(frames) - 1, -1, -1)  # the best is drawn last, so that it is on top
    for i in order:
        left, top, right, bottom = frames[i]
        ends = left, top, max(left, right), max(top, bottom)
        pen.rectangle(ends, outline=class_colour(labels[i]), width=line)
    for i in order:
        colour, (text, font) = class_colour(labels[i]), texts[i]
        (x, y), (x1, y1, x2, y2) = corners[i], extents[i]
        pen.rectangle((x, y, x + x2 - x1 + 4, y + y2 - y1 + 4), fill=colour)
        ink = "black" if luminance(colour) > 140 else "white"
        pen.text((x + 2 - x1, y + 2 - y1), text, fill=ink, font=font)
    return np.asarray(canvas)


def label_corners(
    boxes: Sequence[Sequence[float]],
    sizes: Sequence[tuple[float, float]],
    image: tuple[int, int],
) -> list[tuple[float, float]]:
    """Where labels go so that none covers another, as long as there is room around their boxes.

    The first has the first choice: above its box, inside at the top, below, inside at the bottom,
    each at the left end and then at the right. Where every place is taken it is the one that
    covers least.

    Args:
        boxes: D of them, xyxy in pixels.
        sizes: `(width, height)` of the D labels in pixels.
        image: `(width, height)` in pixels; no label leaves it.

    Returns:
        The D upper left corners `(x, y)`.
    """
    taken = np.zeros((0, 4))
    for (left, top, right, bottom), (w, h) in zip(boxes, sizes, strict=True):
        rows = [top - h, top, bottom, bottom - h]
        rows = [y for y in rows if 0 <= y <= image[1] - h] or [0.0]
        places = [(x, y) for y in rows for x in (left, right - w)]
        spots = np.array([(x, y, x + w, y + h) for x, y in places])
        beyond = np.maximum(spots[:, 2] - image[0], 0)  # pushed back from the right, then left
        spots[:, (0, 2)] -= beyond[:, None]
        spots[:, (0, 2)] -= np.minimum(spots[:, 0], 0)[:, None]
        sides = np.minimum(spots[:, None, 2:], taken[:, 2:]) - np.maximum(
            spots[:, None, :2], taken[:, :2]
        )
        covered = sides.clip(0).prod(-1).sum(-1)
        taken = np.concatenate((taken, spots[covered.argmin()][None]))
    return [(x, y) for x, y in taken[:, :2].tolist()]


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
    # Of every script Matplotlib's last resort has a box.
    files = {font.fname for font in font_manager.fontManager.ttflist}
    installed = sorted(path for path in files if not Path(path).name.startswith("LastResort"))
    return next((path for path in installed if wanted <= characters(path)), default)


@cache
def characters(font: str) -> frozenset[int]:
    """The code points that a font file has a glyph for."""
    return frozenset(FT2Font(font).get_charmap())


def fitted(image: Picture, longest: int) -> tuple[Picture, float]:
    """The picture with its longer side `longest`, so that labels are legible, and the factor."""
    scale = longest / max(image.shape[:2])
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (width, height), interpolation=method), np.uint8), scale


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


def draw_batch(
    images: Tensor, targets: Targets, class_names: Sequence[str], most: int = 16
) -> Picture:
    """What a network sees of the first images of a batch, with their objects, four in a row.

    Args:
        images: `[B, 3, S, S]` float RGB 0..255.
        targets: of the same images.
        class_names: names of the classes 1..K.
        most: how many images to draw.
    """
    side, columns = images.shape[-1], 4
    pictures = []
    for image, boxes, labels in zip(images[:most].cpu(), *(x.cpu() for x in targets), strict=False):
        pixels = image.clamp(0, 255).round().byte().permute(1, 2, 0).contiguous().numpy()
        real = labels > 0
        pictures.append(draw_boxes(pixels, boxes[real] * side, labels[real].tolist(), class_names))
    pictures += [np.full((side, side, 3), 255, np.uint8)] * (-len(pictures) % columns)
    framed = [np.pad(p, ((2, 2), (2, 2), (0, 0)), constant_values=255) for p in pictures]
    rows = [np.hstack(framed[i : i + columns]) for i in range(0, len(framed), columns)]
    return np.asarray(np.vstack(rows))


def beside(pictures: Sequence[Picture], titles: Sequence[str], least: int = 0) -> Picture:
    """Pictures of one size in a row, each at least so wide, a strip with its title above each.

    Of a title that is wider than its picture the end is shown.
    """
    height, width = pictures[0].shape[:2]
    width = max(width, least)
    size = max(11, round(max(height, width) / 30))
    strip = 2 * size
    sheet = Image.new("RGB", (width * len(pictures), strip + height), "white")
    pen = ImageDraw.Draw(sheet)
    for column, (picture, title) in enumerate(zip(pictures, titles, strict=True)):
        text, font = legible(title, size)
        while len(text) > 1 and pen.textlength(text, font) > width - size:
            text = f"…{text.lstrip('…')[1:]}"  # ends of paths and names tell them apart
        pen.text((column * width + size // 2, size // 3), text, fill="black", font=font)
        sheet.paste(Image.fromarray(picture), (column * width, strip))
    return np.asarray(sheet)


def over_heat(image: Picture, heat: npt.NDArray[np.float32]) -> Picture:
    """An image in grey, coloured where the heat is: from blue, 0, through yellow to red, 1.

    Args:
        image: `[H, W, 3]`.
        heat: `[h, w]`, 0..1, over the whole image.
    """
    height, width = image.shape[:2]
    large = cv2.resize(heat, (width, height), interpolation=cv2.INTER_LINEAR).clip(0, 1)
    colour = cv2.applyColorMap((255 * large).astype(np.uint8), cv2.COLORMAP_TURBO)[..., ::-1]
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None]
    # Where nothing is seen the image shows through; even the surest place keeps some of it.
    share = 0.25 + 0.45 * large[..., None]
    return np.asarray((1 - share) * grey + share * colour, np.uint8)
