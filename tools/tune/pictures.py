"""The pictures of a search, as Optuna draws them: what matters, and the mAP over the settings."""

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib

from tools.tune.study import importances

SCORE = "best validation mAP, 0..1"
# Complete trials from which a picture shows more than chance; a plane takes more than a line.
LEAST = {"slices.png": 5, "importances.png": 10, "ranks.png": 10}


def draw(out: Path, study: Any, names: Sequence[str]) -> list[str]:
    """Draws the complete trials of a search into `out`; returns the names of the files.

    `importances.png` has each setting's share in what tells the best trials from the rest,
    `slices.png` the mAP over each setting, `ranks.png` the trials in the plane of the two settings
    that matter most.

    Args:
        out: a folder.
        study: an `optuna.Study`; what it has too few complete trials for is not drawn, see `LEAST`.
        names: the settings that are searched.
    """
    from optuna.visualization import matplotlib as plots

    count = sum(trial.state.name == "COMPLETE" for trial in study.trials)
    if count < min(LEAST.values()):
        return []
    shares = importances(study, names)
    names = list(shares or names)
    pictures: dict[str, Callable[..., Any]] = {}
    pictures["slices.png"] = partial(plots.plot_slice, params=names)
    if shares:
        pictures["importances.png"] = partial(plots.plot_param_importances, params=names)
    if len(names) > 1:
        pictures["ranks.png"] = partial(plots.plot_rank, params=names[:2])
    drawn = [name for name in sorted(pictures) if count >= LEAST[name]]
    for name in drawn:
        save(partial(pictures[name], study, target_name=SCORE), out / name)
    return drawn


def save(plot: Callable[[], Any], path: Path) -> None:
    """Writes what `plot` draws with pyplot as a PNG; the style that it sets ends with it."""
    from matplotlib import pyplot
    from optuna.exceptions import ExperimentalWarning

    matplotlib.use("agg")  # a picture in a file needs no screen
    with matplotlib.rc_context(), warnings.catch_warnings():
        # Drawing with matplotlib has been experimental since Optuna 2.2.
        warnings.simplefilter("ignore", ExperimentalWarning)
        plot()
        figure = pyplot.gcf()
        for axes in figure.axes:
            axes.tick_params("x", which="both", rotation=60)  # or they run into one another
        figure.savefig(path, dpi=120, bbox_inches="tight")
        pyplot.close(figure)
