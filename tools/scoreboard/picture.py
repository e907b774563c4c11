"""AP over latency: what is up and to the left is better."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from utils.files import whole
from utils.show.draw import legible
from utils.show.plots import SIZE, as_they_are

MARKERS = "os^D"  # of ten networks each, in as many colours


def front(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """The names of (milliseconds, AP) that nothing beats in one without losing in the other.

    Fastest first. Of equal points all are in it.
    """
    best = [
        name
        for name, (ms, ap) in points.items()
        if not any(
            other_ms <= ms and other_ap >= ap and (other_ms, other_ap) != (ms, ap)
            for other_ms, other_ap in points.values()
        )
    ]
    return sorted(best, key=lambda name: points[name])


def draw_scoreboard(rows: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Draws every row that has a latency and an AP; names beside the picture never overlap."""
    from matplotlib.figure import Figure

    points = {
        name: (float(row["latency_ms"]), 100 * float(row["voc07"]["mAP"]))
        for name, row in rows.items()
        if "latency_ms" in row and row["voc07"]["mAP"] is not None  # None: no objects
    }
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.add_subplot()
    best = front(points)
    line = [points[name] for name in best]
    axes.plot(*zip(*line, strict=True), color="gray", alpha=0.5)
    for number, point in enumerate(points.values()):
        marker = MARKERS[number // 10 % len(MARKERS)]
        axes.plot(*point, marker, color=f"C{number % 10}", markersize=9)
    axes.set_xscale("log")
    for axis in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        axis("{x:g}")
    axes.margins(0.15, 0.15)
    axes.set_xlabel("milliseconds for one image")
    axes.set_ylabel("mAP (VOC07), %")
    axes.grid(alpha=0.3, which="both")
    if points:
        # With handles, or a name that begins with _ would be left out.
        names = ["nothing is faster and better", *(legible(name, SIZE)[0] for name in points)]
        legend = figure.legend(axes.lines, names, loc="outside right upper")
        as_they_are(legend.get_texts())
    with whole(path) as unfinished:
        figure.savefig(unfinished, format="png", dpi=120)
