"""The pictures of a search: which there are, and that drawing them leaves nothing behind."""

from pathlib import Path
from typing import Any

import matplotlib
import optuna
import pytest
from matplotlib import pyplot
from optuna.trial import TrialState
from PIL import Image

from tools.tune.pictures import draw
from tools.tune.study import importances

optuna.logging.set_verbosity(optuna.logging.ERROR)


def study_of(scores: list[float | None], *names: str) -> Any:
    """A study with a trial of each mAP; None: it failed."""
    study = optuna.create_study(direction="maximize")
    scope = optuna.distributions.FloatDistribution(0.05, 4, log=True)
    for i, score in enumerate(scores):
        trial = optuna.create_trial(
            state=TrialState.FAIL if score is None else TrialState.COMPLETE,
            value=score,
            params=dict.fromkeys(names, 0.1 * (i + 1)),
            distributions=dict.fromkeys(names, scope),
        )
        study.add_trial(trial)
    return study


RISING = [0.1 + 0.02 * i for i in range(10)]


@pytest.mark.parametrize(
    ("scores", "names", "expected"),
    [
        ([*RISING, None, 0.2], ["a", "b", "c"], ["importances", "ranks", "slices"]),
        (RISING, ["a"], ["importances", "slices"]),
        ([0.3, None, *[0.3] * 9], ["a", "b"], ["ranks", "slices"]),  # equally good: nothing tells
        (RISING[:9], ["a", "b"], ["slices"]),  # too few for a plane
        ([*RISING[:4], None], ["a", "b"], []),
        ([0.3, None], ["a", "b"], []),
        ([], ["a", "b"], []),
    ],
)
def test_pictures(
    tmp_path: Path, scores: list[float | None], names: list[str], expected: list[str]
) -> None:
    colour = matplotlib.rcParams["axes.facecolor"]
    assert draw(tmp_path, study_of(scores, *names), names) == [f"{n}.png" for n in expected]
    assert {path.stem for path in tmp_path.iterdir()} == set(expected)
    for path in tmp_path.iterdir():
        with Image.open(path) as picture:
            assert min(picture.size) > 300
            assert len(picture.convert("L").getcolors()) > 20
    assert pyplot.get_fignums() == []
    assert matplotlib.rcParams["axes.facecolor"] == colour


def test_the_setting_that_decides_is_the_important_one() -> None:
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))

    def objective(trial: optuna.Trial) -> float:
        trial.suggest_float("idle", 0, 1)
        return trial.suggest_float("decides", 0, 1)

    study.optimize(objective, n_trials=40)
    shares = importances(study, ["idle", "decides"])
    assert list(shares) == ["decides", "idle"]
    assert shares["decides"] > 0.8
    assert sum(shares.values()) == pytest.approx(1)
