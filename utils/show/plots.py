"""Plots of an evaluation: precision-recall curves, the confusion matrix."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from utils.metrics.confusion import confusion
from utils.metrics.evaluator import Evaluator
from utils.show.draw import class_colour

MOST_NUMBERS = 25  # classes up to which the cells have numbers


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
    axes.set_xticks(range(count), [*evaluator.class_names, "not found"], rotation=60, ha="right")
    axes.set_yticks(range(count), [*evaluator.class_names, "nothing there"])
    axes.axhline(count - 1.5, color="gray", linewidth=1)
    axes.axvline(count - 1.5, color="gray", linewidth=1)
    for row in range(count):
        for column in range(count):
            if table[row, column] and count <= MOST_NUMBERS + 1:
                ink = "white" if shares[row, column] > 0.5 else "black"
                text = str(table[row, column])
                axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=9)
    axes.set(xlabel="detected", ylabel="object")
    axes.set_title(f"objects and detections with a score of {score:g} or more, IoU 0.5")
    figure.savefig(path, dpi=100, format="png")
