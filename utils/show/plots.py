"""The confusion matrix as a picture."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from utils.metrics.confusion import confusion
from utils.metrics.evaluator import Evaluator

MOST_NUMBERS = 25  # classes up to which the cells have numbers


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
