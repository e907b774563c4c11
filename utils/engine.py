"""A training run, from its start or from where it stopped, to its end; and the files it writes."""

import dataclasses
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from utils import ledger
from utils.checkpoint import load_newest, save_checkpoint
from utils.distributed import barrier, is_main
from utils.evaluation import Detected, channels_last, evaluate
from utils.files import naming
from utils.interrupts import Stopped, StopSignals
from utils.log import RunLog, draw_curves
from utils.report import write_json
from utils.store import Store
from utils.task import Task
from utils.trainer import Trainer
from utils.training_state import check_training

__all__ = ["Detected", "Task", "Trainer", "channels_last", "evaluate", "fit", "resume"]

LAST = "last.pth"
# Settings that may differ when a run is resumed: they decide where and how, not what is computed.
FREE = {"data", "classes", "logs", "name", "device", "workers", "cache", "skip_bad", "resume"}
FREE |= {"val_every", "log_every", "ledger_every", "preflight", "save_every", "profile", "compile"}


class RunFiles:
    """What a run writes into its folder; of several processes the main one alone writes.

    Args:
        folder: the run's folder; made where missing.
        content: what every file says about network and settings.
        trainer: the run, new or loaded with an earlier state.
    """

    def __init__(self, folder: Path, content: dict[str, Any], trainer: Trainer) -> None:
        self.folder, self.content, self.trainer = folder, content, trainer
        self.log: RunLog | None = None
        if is_main():
            with naming(folder):
                self.log = RunLog(folder, start=trainer.epoch)
            write_json(folder / "config.json", content)

    def save(self) -> None:
        """Writes last.pth: everything as it is now."""
        if is_main():
            model, training = self.trainer.model.state_dict(), self.trainer.state_dict()
            content = {**self.content, "model": model, "training": training}
            save_checkpoint(self.folder / LAST, content, keep_previous=True)

    def keep_if_best(self, metrics: dict[str, Any]) -> None:
        """Writes best.pth where the mAP is the best so far."""
        # NaN (no object to find) is no reason to throw the first network away.
        if is_main() and not metrics.get("mAP", math.inf) <= self.trainer.best:
            self.trainer.best = metrics.get("mAP", -math.inf)
            model = self.trainer.model.state_dict()
            best = {**self.content, "model": model, "metrics": metrics}
            save_checkpoint(self.folder / "best.pth", best)

    def write_metrics(self, metrics: dict[str, Any]) -> None:
        """Adds the line of the epoch that has just been closed."""
        if self.log:
            with naming(self.log.path):
                self.log.write(self.trainer.epoch, metrics)
            print(summary(self.trainer.epoch, self.trainer.config.epochs, metrics))

    def draw(self) -> None:
        """Writes curves.png."""
        if is_main():
            with naming(self.folder / "curves.png"):
                draw_curves(self.folder)

    def close(self) -> None:
        """Writes what is buffered; the files are there when any process returns from this."""
        if self.log:
            self.log.close()
        barrier()


def fit(
    trainer: Trainer,
    validation: Store | None,
    class_names: Sequence[str],
    description: dict[str, Any],
    folder: Path,
) -> None:
    """Trains to the end of the schedule.

    Writes into `folder` after every epoch `last.pth` and a line of metrics.jsonl, and after every
    validation `curves.png` and, where the mAP is the best so far, `best.pth`. `last.pth` is also
    written every `save_every` steps, before a validation, and when a signal asks for the end. In
    whichever of these states a process is killed, resuming leads to the same weights and metrics.

    Args:
        trainer: new, or loaded with an earlier state.
        validation: images to validate on; without any, best.pth is the last network.
        class_names: names of the classes 1..K.
        description: what a checkpoint says about the network, see `nets.saved`.
        folder: the run's folder.

    Raises:
        Stopped: a signal came and everything is saved.
    """
    config = trainer.config
    settings = plain(dataclasses.asdict(config))
    files = RunFiles(folder, {**description, "config": settings}, trainer)
    signals = StopSignals(f"the same command with --resume goes on from {folder / LAST}")

    def after_step() -> None:
        """Saves when it is time to, and ends training when a signal has come."""
        stop = signals.noted_anywhere()
        due = config.save_every > 0 and trainer.position % config.save_every == 0
        if stop or (due and trainer.position < trainer.steps_per_epoch):
            trainer.read()  # weights after a loss that is not finite must not be saved
            files.save()
        if stop:
            raise Stopped(stop, signals.remedy)

    with signals:
        while trainer.epoch < config.epochs:
            started, steps = time.perf_counter(), trainer.steps_per_epoch - trainer.position
            metrics = {f"train/{k}": v for k, v in trainer.train_steps(after_step).items()}
            metrics |= trainer.watched()
            seconds = time.perf_counter() - started
            metrics["images_per_second"] = steps * config.batch_size / seconds
            metrics["lr"] = trainer.last_lr
            done = trainer.epoch + 1
            validated = done == config.epochs or (config.val_every and done % config.val_every == 0)
            if validated:
                if validation:
                    files.save()
                    with signals.at_once():
                        scores = trainer.validate(validation, class_names)
                    refuse_bad_losses(scores, done)
                    metrics |= {k if k == "mAP" else f"val/{k}": v for k, v in scores.items()}
                files.keep_if_best(metrics)
            trainer.next_epoch()
            files.write_metrics(metrics)
            files.save()
            if validated:
                files.draw()
    files.close()


def refuse_bad_losses(scores: dict[str, float], epoch: int) -> None:
    """Raises FloatingPointError where a validation loss is infinite or NaN; an mAP may be NaN."""
    losses = {name: value for name, value in scores.items() if name != "mAP"}
    if not all(map(math.isfinite, losses.values())):
        terms = ", ".join(f"{name} {value:g}" for name, value in losses.items())
        raise FloatingPointError(
            f"the validation loss after epoch {epoch} is not finite: {terms}; lower --lr; best.pth "
            "is of an earlier epoch"
        )


def resume(trainer: Trainer, folder: Path, description: dict[str, Any]) -> None:
    """Loads a run's last.pth, or the one before where that is damaged, into a new trainer.

    Raises:
        FileNotFoundError, ValueError: there is none, it is damaged, or it is of another network.
    """
    content, path = load_newest(folder / LAST)
    if not isinstance(content.get("config"), dict):
        raise ValueError(f"{path}: has no settings; give a last.pth that a training wrote")
    settings = plain(dataclasses.asdict(trainer.config))
    compared = [(key, content.get(key), value) for key, value in description.items()]
    compared += [
        (key, content["config"].get(key), value)
        for key, value in settings.items()
        if key not in FREE
    ]
    for key, theirs, ours in compared:
        if theirs != ours:
            raise ValueError(
                f"{path}: its {key} is {theirs!r}, this run's {ours!r}; resume with the settings "
                "it was started with"
            )
    try:
        check_training(content["training"], trainer.state_dict())
        trainer.load_state_dict(content["training"])
    except Exception as error:  # what is in a file may be anything
        why = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(
            f"{path}: its training state does not fit these settings ({why[:300]}); resume with "
            "the settings it was started with"
        ) from error
    barrier()  # until then another process may be reading
    if is_main() and path.name != LAST:
        path.replace(folder / LAST)  # or the next save would put the damaged one in its place


def plain(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings as JSON has them: tuples become lists."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in settings.items()}


def summary(epoch: int, epochs: int, metrics: dict[str, Any]) -> str:
    """`epoch 3/50  train/loss 4.210 ...` for the terminal."""
    shown = [
        f"{k} {v:.4g}"
        for k, v in metrics.items()
        if not k.endswith("positives") and not k.startswith(ledger.PREFIX)
    ]
    return f"epoch {epoch}/{epochs}  " + "  ".join([*shown, ledger.describe(metrics)]).rstrip()
