"""A teacher report as a picture: what the teacher has over its student, and whom to believe."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tools.teacher_report.tables import labelled
from tools.teacher_report.verdict import ap_of

BETTER, WORSE, STUDENT = "#2f6fc4", "#d1495b", "#e08a1e"


def draw(report: Mapping[str, Any], path: str | Path) -> None:
    """Writes differences by class and size, and the reliability diagram, as one PNG."""
    groups = list(labelled(report))
    names = [name for name, _ in groups]
    height = max(5.4, 1.6 + 0.3 * len(names))
    figure = Figure(figsize=(15, height), layout="constrained")
    figure.suptitle(
        f"Teacher {report['teacher']['backbone']} less student {report['student']['backbone']}, "
        f"{' '.join(report['split'])} (blue: the teacher is better)"
    )
    # Many classes make it tall; the reliability diagram stays as it is, and below it is nothing.
    rows = (3.9, 1.5, max(0.01, height - 5.4))
    columns = figure.add_gridspec(3, 4, width_ratios=(1, 1, 1, 1.4), height_ratios=rows)
    panels = [figure.add_subplot(columns[:, i]) for i in range(3)]
    differences = {
        "AP, points\n(classes and all: voc07; sizes: coco)": [ap_of(g) for _, g in groups],
        "probability of the true class,\npoints": [g["probability"] for _, g in groups],
        "IoU of the boxes with the objects,\npoints": [g["iou"] for _, g in groups],
    }
    for i, (title, pairs) in enumerate(differences.items()):
        draw_differences(panels[i], [100 * (p["teacher"] - p["student"]) for p in pairs], title)
        panels[i].set_yticks(range(len(names)), names if i == 0 else [""] * len(names))
        for border in (len(report["classes"]), len(names) - 1):  # classes | sizes | all
            panels[i].axhline(border - 0.5, color="0.7", linewidth=0.8)
    upper = figure.add_subplot(columns[0, 3])
    draw_reliability(upper, figure.add_subplot(columns[1, 3], sharex=upper), report["calibration"])
    figure.savefig(path, dpi=100)


def draw_differences(axes: Axes, values: Sequence[float], title: str) -> None:
    """A bar for each value, labelled; `none` where it is nan."""
    known = [0.0 if math.isnan(value) else value for value in values]
    colours = [BETTER if value >= 0 else WORSE for value in known]
    axes.barh(range(len(known)), known, color=colours, height=0.7)
    low, high = min(0.0, *known), max(0.0, *known)
    span = (high - low) or 1.0
    # Room for the labels beside the longest bars.
    axes.set_xlim(low - (0.24 if low < 0 else 0.04) * span, high + 0.24 * span)
    for i, value in enumerate(values):
        text = "none" if math.isnan(value) else f"{value:+.1f}"
        right = known[i] >= 0
        axes.annotate(
            text,
            (known[i], i),
            (4 if right else -4, 0),
            textcoords="offset points",
            ha="left" if right else "right",
            va="center",
            fontsize=9,
        )
    axes.axvline(0, color="0.3", linewidth=0.8)
    axes.set_ylim(len(values) - 0.5, -0.5)
    axes.set_title(title, fontsize=10)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)


def draw_reliability(axes: Axes, below: Axes, calibration: Mapping[str, Any]) -> None:
    """Score against precision of both, and `below` how many detections each point stands for."""
    axes.plot([0, 1], [0, 1], color="0.5", linewidth=1, linestyle="--", label="as scores say")
    axes.axvspan(0, calibration["least_score"], color="0.93")
    for i, (side, colour) in enumerate((("teacher", BETTER), ("student", STUDENT))):
        curve = calibration[side]
        used = {float(low): b for low, b in curve["bins"].items() if b["number"]}
        error = "" if math.isnan(curve["error"]) else f": error {100 * curve['error']:.1f} points"
        x, y = ([b[name] for b in used.values()] for name in ("score", "precision"))
        axes.plot(x, y, color=colour, marker="o", markersize=5, label=f"{side}{error}")
        width = 0.8 / len(curve["bins"]) / 2
        places = [low + 0.01 + i * width for low in used]
        counts = [b["number"] for b in used.values()]
        below.bar(places, counts, width, align="edge", color=colour)
    axes.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="precision at IoU 0.5")
    axes.tick_params(labelbottom=False)
    axes.set_title(
        "Reliability; above the line: better than scores say\n"
        f"(grey: below {calibration['least_score']}, not counted in the error)",
        fontsize=10,
    )
    axes.legend(loc="best", framealpha=0.8)
    below.set_yscale("log")
    below.set(xlabel="score", ylabel="detections")
    for one in (axes, below):
        one.grid(alpha=0.3)
        one.set_axisbelow(True)
