"""Plots of an evaluation: precision-recall curves, the confusion matrix."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.text import Text

from utils.metrics.confusion import confusion
from utils.metrics.evaluator import Evaluator
from utils.show.draw import class_colour, legible

MOST_NUMBERS = 25  # classes up to which the cells have numbers
LONGEST = 24  # letters of a name
SIZE = 10  # of letters, in points


def draw_precision_recall(evaluator: Evaluator, path: str | Path) -> None:
    """Writes the precision-recall curve of every class with objects (VOC, IoU 0.5) as one PNG."""
    ap = evaluator.result("voc10").per_class
    names = [name for name in evaluator.class_names if not np.isnan(ap[name])]
    figure = Figure(figsize=(8, max(5.0, 1.2 + 0.23 * len(names))), layout="constrained")
    axes = figure.add_subplot()
    for k, name in enumerate(names):
        precision, recall, _ = evaluator.precision_recall(name)
        # From recall 0 on, where the area begins, or a single point would not be seen.
        recall = np.append(np.zeros(min(1, len(recall))), recall)
        precision = np.append(precision[:1], precision)
        colour = tuple(c / 255 for c in class_colour(k + 1))
        style = ("-", "--", ":")[k % 3]
        axes.plot(recall, precision, style, color=colour, label=f"{ap[name]:.3f}  {shown(name)}")
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
    axes.set_title(
        f"IoU 0.5, area under the curve (voc10): mean {np.mean([ap[n] for n in names]):.3f}"
        if names
        else "no objects"
    )
    axes.grid(alpha=0.3)
    if names:
        legend = axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
        as_they_are(legend.get_texts())
    figure.savefig(path, dpi=100, format="png")


def draw_confusion(evaluator: Evaluator, path: str | Path, score: float) -> None:
    """Writes the matrix of detections with at least this score as a PNG.

    A row is what is there, a column what is detected; colour is the share of the row. What is
    detected where nothing is has a row of its own, coloured by its share of all such detections.
    """
    table = confusion(evaluator, score)
    # The background, label 0, goes to the end.
    table = np.roll(table, (-1, -1), (0, 1))
    shares = table / np.maximum(1, table.sum(1, keepdims=True))
    count = len(table)
    side = max(5.0, 2.2 + 0.42 * count)
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    names = [shown(name) for name in evaluator.class_names]
    axes.set_xticks(range(count), [*names, "not found"], rotation=60, ha="right")
    axes.set_yticks(range(count), [*names, "nothing there"])
    as_they_are([*axes.get_xticklabels(), *axes.get_yticklabels()])
    axes.axhline(count - 1.5, color="gray", linewidth=1)
    axes.axvline(count - 1.5, color="gray", linewidth=1)
    for row in range(count):
        for column in range(count):
            if table[row, column] and count <= MOST_NUMBERS + 1:
                ink = "white" if shares[row, column] > 0.5 else "black"
                text = str(table[row, column])
                axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=9)
    axes.set(xlabel="detected", ylabel="object")
    title = f"objects and detections with a score of {score:g} or more, IoU 0.5"
    figure.suptitle(title, fontsize=SIZE)
    figure.savefig(path, dpi=100, format="png")


def shown(name: str) -> str:
    """A class name in so few letters that the plot has room, and in letters that a font has."""
    name, _ = legible(name, SIZE)
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1].rstrip()}…"


def as_they_are(texts: Iterable[Text]) -> None:
    """Shows texts in fonts that have all their letters, and a `$` as what it is."""
    for text in texts:
        _, font = legible(text.get_text(), SIZE)
        text.set_parse_math(False)
        text.set_fontproperties(FontProperties(fname=str(font.path), size=SIZE))
