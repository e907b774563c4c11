"""The Optuna side of a search: a study that processes share and that a restart goes on with.

A trial's number decides its seed, so settings do not depend on restarts. Settings are rounded to
three digits: what is trained is what the table and the command say.
"""

import sqlite3
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tools.tune.report import COMPLETE, FAILED, INTERRUPTED, PRUNED, RUNNING, Trial
from tools.tune.search import Range

HEARTBEAT, SILENCE = 15, 60  # seconds between signs of life; after which a worker counts as dead
ATTEMPTS = 3  # at settings whose worker died: they may be what kills it


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """One process at a time; others wait. The lock ends with its process, however that ends."""
    lock = sqlite3.connect(path, timeout=120, isolation_level=None)
    try:
        lock.execute("BEGIN EXCLUSIVE")
        yield
    finally:
        lock.close()


def open_study(out: Path, url: str, common: Mapping[str, Any], startup: int) -> Any:
    """The study of the folder `out`, new or as it is; an `optuna.Study`.

    Args:
        out: its name is the study's.
        url: the database; empty: SQLite in `out`.
        common: what all of its trials have in common.
        startup: trials before any is pruned.

    Raises:
        ValueError: the database cannot be opened, or the study's trials are not comparable.
        FileExistsError: `out` holds trials of another study.
    """
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    optuna.logging.set_verbosity(optuna.logging.ERROR)  # this tool says what happens
    folders = list(out.glob("trial-*"))
    local = f"sqlite:///{(out / 'study.db').resolve().as_posix()}"
    wait = {"connect_args": {"timeout": 60}} if (url or local).startswith("sqlite") else {}
    try:
        with warnings.catch_warnings():
            # Heartbeats have been experimental since Optuna 2.9.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            storage = optuna.storages.RDBStorage(
                url or local, engine_kwargs=wait, heartbeat_interval=HEARTBEAT,
                grace_period=SILENCE, heartbeat_stale_trial_callback=try_again,
            )  # fmt: skip
        study = optuna.create_study(
            study_name=out.resolve().name, storage=storage, direction="maximize",
            load_if_exists=True, pruner=optuna.pruners.MedianPruner(n_startup_trials=startup),
        )  # fmt: skip
    except (SQLAlchemyError, ImportError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"--storage cannot be opened: {reason}; give a URL such as "
            "sqlite:////shared/study.db or postgresql://USER@HOST/NAME"
        ) from error
    if folders and not study.trials:
        raise FileExistsError(f"{folders[0]} is of another study; pass another --out")
    for name, ours in common.items():
        theirs = study.user_attrs.get("common", common).get(name)
        if theirs != ours:
            raise ValueError(
                f"{out}: the study's {name} is {theirs!r}, this command's {ours!r}, and such "
                "trials cannot be compared; use the same settings, or another --out"
            )
    study.set_user_attr("common", dict(common))
    return study


def enqueue_default(study: Any, settings: Mapping[str, float]) -> None:
    """Has the next trial start from the default, unless a trial has, or is going to."""
    if not any(t.user_attrs.get("default") and t.state.name != "FAIL" for t in study.trials):
        study.enqueue_trial(dict(settings), user_attrs={"default": True})


def try_again(study: Any, trial: Any, continues: str = "") -> None:
    """Enqueues settings of a trial that somebody else, or nobody, ended before its time.

    Args:
        study: the trial's.
        trial: with all of its settings, or it is given up.
        continues: the trial's folder where its run was saved; otherwise it starts anew.
    """
    attempt = trial.user_attrs.get("attempt", 1) + (not continues)
    if attempt <= ATTEMPTS and trial.params:
        attributes = {"attempt": attempt, "continues": continues}
        attributes["default"] = trial.user_attrs.get("default", False)
        study.enqueue_trial(trial.params, user_attrs=attributes)


def suggest(
    study: Any, trial: Any, ranges: Mapping[str, Range], seed: int, startup: int
) -> dict[str, float]:
    """The settings of a trial, decided by the trials before it, its number and the seed."""
    import optuna

    study.sampler = optuna.samplers.TPESampler(
        seed=(seed * 1_000_003 + trial.number) % 2**32, n_startup_trials=startup
    )
    settings = {
        name: float(f"{trial.suggest_float(name, low, high, log=log):.3g}")
        for name, (low, high, log) in ranges.items()
    }
    trial.set_user_attr("settings", settings)
    return settings


def notice_dead_workers(study: Any) -> None:
    """Enqueues again what workers left behind that have been silent for long."""
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        optuna.storages.fail_stale_trials(study)


def trials_of(study: Any) -> list[Trial]:
    """What the study knows, except trials that nobody has begun."""
    states = {"COMPLETE": COMPLETE, "PRUNED": PRUNED, "RUNNING": RUNNING}
    return [
        Trial(
            number=t.number,
            # Without a message it did not fail but was interrupted.
            state=states.get(t.state.name, FAILED if "error" in t.user_attrs else INTERRUPTED),
            settings=t.user_attrs.get("settings", {}),
            score=max(t.intermediate_values.values(), default=None),
            epochs=max(t.intermediate_values, default=0),
            default=t.user_attrs.get("default", False),
            message=t.user_attrs.get("error", ""),
        )
        for t in study.trials
        if t.state.name != "WAITING"
    ]


def importances(study: Any, names: Sequence[str]) -> dict[str, float]:
    """Each setting's share in what tells the best trials from the rest, largest first.

    Empty where that cannot be said: with fewer than two complete trials, or all equally good.
    """
    import optuna

    values = {t.value for t in study.trials if t.state.name == "COMPLETE"}
    if len(values) < 2:
        return {}
    return dict(optuna.importance.get_param_importances(study, params=list(names)))
