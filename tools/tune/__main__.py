"""Searches the settings of distillation with short student runs; hopeless ones end early.

python -m tools.tune --out logs/tune --trials 30 -- --teacher logs/teacher/best.pth
    --train VOC2007/train --val VOC2007/val --backbone mobilenetv2 --epochs 6

What follows -- are flags of train_kd.py, for every trial. Tune on a validation split: a test split
that has chosen settings no longer tests. The same command goes on with a search that was stopped,
and started several times, also on several machines (--storage), it shares the work.
"""

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nets.inputs import check_inputs
from tools.extras import require
from tools.jobs import countdown, split_passed
from tools.tune import study as studies
from tools.tune.pictures import draw
from tools.tune.report import FAILED, INTERRUPTED, Trial, summary, write_report
from tools.tune.search import (
    KNOWN,
    check_training,
    common,
    defaults,
    search_ranges,
    trial_words,
    usual_search,
)
from tools.tune.trials import Ending, failure, follow, start_student
from utils.cli import parse_arguments, run
from utils.config import at_least, option
from utils.engine.interrupts import Stopped, StopSignals
from utils.show.report import duration

HOPELESS = 3  # failed trials, and none that did not fail, after which a command gives up


@dataclass(frozen=True)
class TuneConfig:
    """Searches the settings of distillation with short student runs. Flags of train_kd.py follow
    after --, e.g. -- --teacher logs/teacher/best.pth --val VOC2007/val --epochs 6. Tune on a
    validation split: a test split that has chosen settings no longer tests.
    """

    out: str = option("logs/tune", "folder for everything; its name is the study's")
    trials: int = option(0, "trials of the whole search, of all its processes; 0: see --minutes")
    minutes: float = option(
        0.0, "start no trial after so many minutes of this command; 0: no limit"
    )
    search: tuple[str, ...] = option(
        (),
        "settings to search; without: how loud each term is, and T and neg_w of soft targets, but "
        "for what is given after --; share.soft is what --share says of soft, which then beats its "
        "weight",
        tuple(KNOWN),
    )
    range: tuple[str, ...] = option((), "other ranges, as NAME=LOW:HIGH")
    storage: str = option("", "database that processes share, as a URL; default: SQLite in --out")
    startup: int = option(8, "complete trials before any is pruned, and before TPE chooses")
    seed: int = option(0, "decides which settings are tried")

    def __post_init__(self) -> None:
        """Refuses what no search can work with."""
        at_least(self, 0, "trials", "minutes", "seed")
        at_least(self, 1, "startup")
        if not self.trials and not self.minutes:
            raise ValueError("no budget; pass --trials 30, --minutes 60 or both")
        if len(set(self.search)) < len(self.search):
            raise ValueError(f"--search must name each setting once, not {list(self.search)}")


class Unfinished(Exception):  # noqa: N818  # the search goes on
    """A trial ended without a result; the study knows why."""


class Search:
    """One process's part in a study.

    Args:
        config: how to search.
        words: the flags of train_kd.py.
        signals: open; a noted signal ends trial and search.
    """

    def __init__(self, config: TuneConfig, words: Sequence[str], signals: StopSignals) -> None:
        self.config, self.words, self.signals = config, words, signals
        self.out = Path(config.out)
        self.ranges = search_ranges(config.search or usual_search(words), config.range)
        self.training = check_training(words, self.ranges)
        check_inputs(self.training)
        self.out.mkdir(parents=True, exist_ok=True)
        default = defaults(self.training, self.ranges)
        shared = common(self.training, self.ranges)
        with self.lock():
            self.study = studies.open_study(self.out, config.storage, shared, config.startup)
            studies.enqueue_default(self.study, default)
        self.failures = 0
        self.started, self.before = time.monotonic(), len(self.counted())

    def lock(self) -> AbstractContextManager[None]:
        """Held while something is done that two processes must not do at once."""
        return studies.alone(self.out / "lock.db")

    def go_on(self) -> None:
        """Runs trials until the budget is used up or a signal has come."""
        while self.has_budget() and not self.signals.noted:
            self.study.optimize(self.objective, n_trials=1, catch=(Unfinished,))
            self.write_table()

    def has_budget(self) -> bool:
        """Whether to start another trial."""
        studies.notice_dead_workers(self.study)
        counted = self.counted()
        if self.failures >= HOPELESS and all(t.state == FAILED for t in counted):
            return False
        minutes = (time.monotonic() - self.started) / 60
        in_time = not self.config.minutes or minutes < self.config.minutes
        return in_time and (not self.config.trials or len(counted) < self.config.trials)

    def counted(self) -> list[Trial]:
        """The trials that use up the budget."""
        return [t for t in studies.trials_of(self.study) if t.state != INTERRUPTED]

    def objective(self, trial: Any) -> float:
        """Trains a student; returns its best validation mAP.

        Raises:
            optuna.TrialPruned: it was worse than the median of the others.
            Unfinished: it failed, or a signal came.
        """
        settings = studies.suggest(
            self.study, trial, self.ranges, self.config.seed, self.config.startup
        )
        folder = self.folder(trial)
        shown = " ".join(f"{name} {value:g}" for name, value in settings.items())
        print(f"trial {trial.number}: {shown}", flush=True)
        started = time.monotonic()

        def report(epoch: int, score: float) -> bool:
            trial.report(score, epoch)
            early = self.training.epochs / 3 <= epoch < self.training.epochs
            # The default is what the best is compared with.
            return early and not trial.user_attrs.get("default") and bool(trial.should_prune())

        words = trial_words(self.words, self.training.epochs)
        process = start_student(words, settings, folder)
        ending = follow(process, folder, report, lambda: bool(self.signals.noted))
        score, outcome = self.judge(trial, folder, ending)
        took = duration(time.monotonic() - started)
        print(f"trial {trial.number}: {outcome}, {took}{self.left()}")
        if ending.asked == "pruned":
            import optuna

            raise optuna.TrialPruned
        if score is None:
            raise Unfinished(outcome)
        return score

    def left(self) -> str:
        """`; 3 of 10, 12 min left`, this trial among the 3; nothing where no number is set."""
        done = len(self.counted())
        if not self.before < done <= self.config.trials:
            return ""
        return f"; {countdown(self.started, self.before, done, self.config.trials)}"

    def folder(self, trial: Any) -> Path:
        """The trial's folder; that of an interrupted trial becomes that of the one that goes on."""
        folder = self.out / f"trial-{trial.number:04d}"
        before = trial.user_attrs.get("continues")
        if before and (self.out / before).is_dir():
            (self.out / before).rename(folder)
        return folder

    def judge(self, trial: Any, folder: Path, ending: Ending) -> tuple[float | None, str]:
        """The trial's result, None without one, and what to say of it."""
        best = max(ending.scores.values(), default=None)
        reached = "no mAP yet" if best is None else f"mAP {100 * best:.2f} %"
        if ending.asked == "pruned":
            return None, f"pruned after epoch {max(ending.scores)}, {reached}"
        if ending.status == 0 and best is not None:
            return best, reached
        if ending.asked == "stopped":
            frozen = self.study.trials[trial.number]
            studies.try_again(self.study, frozen, continues=folder.name)
            return None, f"interrupted, {reached}"
        self.failures += 1
        message = failure(ending.status, folder)
        trial.set_user_attr("error", message)
        return None, f"failed: {message}"

    def write_table(self) -> None:
        """Writes what the study knows by now."""
        with self.lock():
            shares = studies.importances(self.study, list(self.ranges))
            trials = studies.trials_of(self.study)
            write_report(self.out, trials, self.ranges, shares, self.words)

    def finish(self) -> None:
        """Draws the pictures and prints what the search has found.

        Raises:
            ValueError: every trial failed.
        """
        trials = studies.trials_of(self.study)
        if {t.state for t in trials} - {INTERRUPTED} == {FAILED}:
            messages = [t.message for t in trials if t.state == FAILED]
            raise ValueError(
                f"all trials failed ({len(messages)}), the first with: {messages[0]}; correct "
                "that, then the same command goes on"
            )
        with self.lock():
            pictures = draw(self.out, self.study, list(self.ranges))
        print(summary(trials, self.words))
        drawn = f"; pictures: {', '.join(pictures)}" if pictures else ""
        print(f"table: {self.out / 'trials.md'}, trials.json{drawn}")


def main(arguments: Sequence[str] | None) -> None:
    """Settings -> trials -> table, pictures and the best command."""
    own, words = split_passed(arguments)
    config = parse_arguments(TuneConfig, own, __doc__)
    require("tune", "optuna")
    with StopSignals(f"the same command goes on with {config.out}") as signals:
        search = Search(config, words, signals)
        search.go_on()
        if signals.noted:
            raise Stopped(signals.noted, signals.remedy)
        search.finish()


if __name__ == "__main__":
    run(main)
