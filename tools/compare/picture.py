"""A comparison as one picture: every seed, the paired differences, and where they come from."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure


def draw(comparison: Mapping[str, Any], path: str | Path) -> None:
    """Draws what `tools.compare.comparison.compare` returned."""
    variants = comparison["variants"]
    gained = {name: row for name, row in variants.items() if "difference" in row}
    figure = Figure(figsize=(15, 2.2 + 0.45 * len(variants)), layout="constrained")
    seeds, differences, classes = figure.subplots(1, 3, width_ratios=(1.2, 1, 1.1))
    draw_seeds(seeds, comparison)
    draw_differences(differences, gained, comparison["metric"])
    draw_gains(classes, gained)
    figure.savefig(path, dpi=110)


def draw_seeds(axes: Axes, comparison: Mapping[str, Any]) -> None:
    """One line a variant: its seeds as points, their mean as a bar; the teacher as a line."""
    variants, metric = comparison["variants"], comparison["metric"]
    for place, row in enumerate(variants.values()):
        values = list(row["seeds"].values())
        axes.plot(values, [place] * len(values), "o", alpha=0.6, color="tab:blue")
        axes.plot([row["mean"]] * 2, [place - 0.3, place + 0.3], color="black")
    teacher = comparison["teacher"]["means"][metric]
    axes.axvline(teacher, color="tab:green", linestyle="--")
    axes.annotate(  # beside the line: a legend would cover seeds
        f"teacher {teacher:.1f}", (teacher, 0.5), (-4, 0), axes.get_xaxis_transform(),
        "offset points", color="tab:green", rotation=90, ha="right", va="center",
    )  # fmt: skip
    label_rows(axes, list(variants))
    axes.set(title="every seed, and the mean", xlabel=f"{metric} AP, percent")


def draw_differences(axes: Axes, gained: Mapping[str, Any], metric: str) -> None:
    """The mean of each variant's paired difference with its 95 % interval."""
    if not gained:
        axes.set_axis_off()
        return
    for place, row in enumerate(gained.values()):
        difference = row["difference"]
        low, high = difference["t"]
        colour = "tab:gray" if math.isnan(low) or low <= 0 <= high else "tab:green"
        colour = "tab:red" if high < 0 else colour
        if not math.isnan(low):
            axes.plot([low, high], [place, place], color=colour, linewidth=3, alpha=0.5)
        axes.plot(difference["mean"], place, "D", color=colour)
    axes.axvline(0, color="black", linewidth=1)
    label_rows(axes, list(gained))
    axes.set(title="difference to alone, paired, 95 % (t)", xlabel=f"{metric} AP, points")


def draw_gains(axes: Axes, gained: Mapping[str, Any]) -> None:
    """The mean gain of each variant by class and by size of object.

    Coloured where the 95 % interval excludes zero; the rest may well be noise.
    """
    if not gained:
        axes.set_axis_off()
        return
    table = [[*row["class_gain"].values(), *row["size_gain"].values()] for row in gained.values()]
    first = next(iter(gained.values()))
    values = np.array(table, dtype=float)
    keys = [*first["class_gain"], *first["size_gain"]]
    sure = np.array([[key in row["sure"] for key in keys] for row in gained.values()])
    limit = float(np.abs(values[sure]).max()) if sure.any() else 1.0
    coloured = np.where(sure, values, np.nan)
    image = axes.imshow(coloured, cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        if not math.isnan(value):
            light = not sure[row, column] or abs(value) < 0.6 * limit
            text, ink = f"{value:+.1f}", "black" if light else "white"
            axes.text(column, row, text, ha="center", va="center", fontsize=7, color=ink)
    axes.set_xticks(range(len(keys)), keys, rotation=60, ha="right")
    label_rows(axes, list(gained))
    axes.grid(visible=False)
    axes.set_title("mean gain, points; coloured where 95 % (t) exclude 0")
    if axes.figure is not None and sure.any():
        axes.figure.colorbar(image, ax=axes)


def label_rows(axes: Axes, names: list[str]) -> None:
    """Names the rows from the top."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(alpha=0.3, axis="x")
