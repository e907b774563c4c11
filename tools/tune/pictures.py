"""The pictures of a search: which settings matter, and the mAP over the two that matter most."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from tools.tune.report import COMPLETE, PRUNED, Trial, best_of, default_of
from tools.tune.search import Range

COLOURS = "viridis"
# How far a trial speaks for settings beside its own, as a part of a range; beyond REACH of it
# nothing is claimed.
BANDWIDTH, REACH = 0.1, 0.25
GRID = 200  # cells along a side of the surface


def draw(
    out: Path,
    trials: Sequence[Trial],
    ranges: Mapping[str, Range],
    importances: Mapping[str, float],
) -> list[str]:
    """Draws into `out` what there is to draw; returns the names of the files."""
    complete = [t for t in trials if t.state == COMPLETE]
    drawn = []
    if importances:
        draw_importances(importances, len(complete), out / "importances.png")
        drawn.append("importances.png")
    if complete:
        names = list(importances or ranges)[:2]
        draw_heatmap(trials, names, ranges, out / "heatmap.png")
        drawn.append("heatmap.png")
    return drawn


def draw_importances(importances: Mapping[str, float], complete: int, path: Path) -> None:
    """Bars of the settings' shares in what makes a trial good, as given; the first one on top."""
    figure = Figure(figsize=(6.4, 1.4 + 0.36 * len(importances)), layout="constrained")
    axes = figure.add_subplot()
    names, shares = list(importances), [100 * share for share in importances.values()]
    axes.barh(names, shares, color="#4477aa", height=0.65)
    axes.invert_yaxis()
    for i, share in enumerate(shares):
        axes.text(share, i, f" {share:.0f}", va="center")
    axes.set(
        title=f"What tells the best of {complete} complete trials apart",
        xlabel="importance, % (PED-ANOVA)",
        xlim=(0, 1.1 * max(shares)),
    )
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)


def draw_heatmap(
    trials: Sequence[Trial], names: Sequence[str], ranges: Mapping[str, Range], path: Path
) -> None:
    """The mAP over two settings: trials as points, and around complete ones their weighted mean.

    Args:
        trials: at least one of them complete.
        names: two settings; with one alone, the mAP is the other axis.
        ranges: of the settings.
        path: the PNG.
    """
    shown = [t for t in trials if t.state in (COMPLETE, PRUNED) and t.score is not None]
    complete = [t for t in shown if t.state == COMPLETE]
    figure = Figure(figsize=(7.2, 5.6), layout="constrained")
    axes = figure.add_subplot()
    label_axis(axes.xaxis, names[0], ranges[names[0]])
    axes.set(xlim=(0, 1), ylabel="mAP, %")
    units = [np.array([ranges[name].unit(t.settings[name]) for t in shown]) for name in names]
    places = np.stack([*units, percent(shown)][:2], axis=1)
    scores = percent(complete)
    norm = Normalize(scores.min(), max(scores.max(), scores.min() + 0.1))
    if len(names) > 1:
        label_axis(axes.yaxis, names[1], ranges[names[1]])
        axes.set(ylim=(0, 1))
        draw_surface(axes, places[[t in complete for t in shown]], scores, norm)
    draw_points(axes, shown, places, norm)
    figure.colorbar(ScalarMappable(norm, COLOURS), ax=axes, label="best validation mAP, %")
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    axes.set_title(
        f"mAP of {len(complete)} complete and {len(shown) - len(complete)} pruned trials"
    )
    figure.savefig(path, dpi=120)


def percent(trials: Sequence[Trial]) -> npt.NDArray[np.float64]:
    """The trials' mAP in percent."""
    return np.array([100 * (t.score or 0.0) for t in trials])


def label_axis(axis: Axis, name: str, scope: Range) -> None:
    """An axis from 0 to 1 that is labelled with the values of a setting."""
    ticks = np.geomspace(scope.low, scope.high, 6) if scope.log else np.linspace(*scope[:2], 6)
    values = [float(f"{tick:.1g}") if scope.log else tick for tick in ticks]
    values = sorted({min(max(value, scope.low), scope.high) for value in values})
    axis.set_ticks([scope.unit(v) for v in values], labels=[f"{v:g}" for v in values])
    axis.set_label_text(f"{name} (logarithmic)" if scope.log else name)


def surface(
    places: npt.NDArray[np.float64], scores: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """`[GRID, GRID]`, row by the second setting: the mean of `scores` around each cell, weighted by
    a Gaussian of the distance; NaN where no trial is near.

    Args:
        places: `[N, 2]`, in 0..1.
        scores: `[N]`.
    """
    side = (np.arange(GRID) + 0.5) / GRID
    x, y = np.meshgrid(side, side)
    distances = np.hypot(x[..., None] - places[:, 0], y[..., None] - places[:, 1])
    weights = np.exp(-0.5 * (distances / BANDWIDTH) ** 2)
    mean = (weights * scores).sum(-1) / weights.sum(-1)
    return np.where(distances.min(-1) <= REACH, mean, np.nan)


def draw_surface(
    axes: Axes,
    places: npt.NDArray[np.float64],
    scores: npt.NDArray[np.float64],
    norm: Normalize,
) -> None:
    """The weighted mean in the colours of the points, paler than they."""
    axes.imshow(
        surface(places, scores), origin="lower", extent=(0, 1, 0, 1), aspect="auto",
        cmap=COLOURS, norm=norm, alpha=0.55,
    )  # fmt: skip


def draw_points(
    axes: Axes,
    trials: Sequence[Trial],
    places: npt.NDArray[np.float64],
    norm: Normalize,
) -> None:
    """Trials at their places, coloured by mAP; the default and the best complete one are marked."""
    complete = np.array([t.state == COMPLETE for t in trials])
    x, y = places.T
    if not complete.all():
        axes.scatter(
            x[~complete], y[~complete], marker="x", c="0.35", s=30, label="pruned", clip_on=False
        )
    axes.scatter(
        x[complete], y[complete], c=percent(trials)[complete], cmap=COLOURS, norm=norm,
        s=55, edgecolors="white", label="complete", clip_on=False, zorder=3,
    )  # fmt: skip
    marked = ((default_of(trials), "s", "default", 170), (best_of(trials), "*", "best", 420))
    for trial, marker, label, size in marked:
        if trial is not None:
            i = trials.index(trial)
            axes.scatter(
                x[i], y[i], marker=marker, s=size, facecolors="none", edgecolors="black",
                linewidths=1.3, label=label, clip_on=False, zorder=4,
            )  # fmt: skip
