"""A run's folder: what it holds, whether it may be written to, and how to go on with it."""

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from utils.config import DistillConfig, TrainConfig, flag
from utils.engine.checkpoint import has_checkpoint, save_checkpoint
from utils.engine.log import METRICS, RunLog, draw_curves, read_metrics
from utils.engine.trainer import Trainer
from utils.files import check_folder, naming, whole
from utils.runtime.distributed import (
    barrier,
    is_main,
    most_of_processes,
    own_part,
    restarted,
)
from utils.show.draw import draw_batch
from utils.show.examples import View
from utils.show.report import cost, write_json
from utils.show.run_page import PAGE, read_run, run_page

LAST, BEST = "last.pth", "best.pth"
# Settings that may differ when a run is resumed: they decide where and how, not what is computed.
FREE = {"data", "classes", "logs", "name", "device", "workers", "cache", "skip_bad", "resume"}
FREE |= {"val_every", "log_every", "ledger_every", "preflight", "save_every", "profile", "compile"}
FREE |= {"accumulate", "memo", "memo_best_effort", "patience", "pseudo_pictures"}
FREE |= {"teacher_pretrained"}  # of stage 1, a run of its own
FREE |= {"recipe"}  # what it decides counts


def free_settings(config: TrainConfig) -> set[str]:
    """`FREE`, but for those that do decide what this run computes."""
    return FREE - (
        {"ledger_every"} if isinstance(config, DistillConfig) and config.share else set()
    )


def facts(trainer: Trainer) -> dict[str, Any]:
    """The arithmetic that a run's mAP is measured in, its training images, its network's cost."""
    order = trainer.order
    return {
        "arithmetic": trainer.precision.record(),
        "images": order.labelled,
        "unlabelled": order.unlabelled,
        "steps_per_epoch": order.steps,
        **cost(trainer.task.model),
    }


class RunFiles:
    """What a run writes into its folder; of several processes the main one alone writes.

    Args:
        folder: the run's folder; made where missing.
        description: what every file says about the run beside its settings, see `facts`.
        trainer: the run, new or loaded with an earlier state.
    """

    def __init__(self, folder: Path, description: dict[str, Any], trainer: Trainer) -> None:
        self.folder, self.trainer = folder, trainer
        self.content = {**description, "config": settings(trainer.config)}
        self.log: RunLog | None = None
        if is_main():
            with naming(folder):
                self.log = RunLog(folder, trainer.epoch, trainer.steps)
            write_json(folder / "config.json", self.content)

    def save(self) -> None:
        """Writes last.pth: everything as it is now."""
        if self.log:
            with naming(self.log.path):
                self.log.flush()
            model, training = self.trainer.model.state_dict(), self.trainer.state_dict()
            content = {**self.content, "model": model, "training": training}
            save_checkpoint(self.folder / LAST, content, keep_previous=True)

    def keep_if_best(self, metrics: dict[str, Any]) -> bool:
        """Writes best.pth where the mAP is the best so far, or nothing is validated.

        Returns:
            Whether it is; False in all but the main process.
        """
        # NaN (no object to find) is no reason to throw the first network away.
        best_so_far = is_main() and not metrics.get("mAP", math.inf) <= self.trainer.best
        if best_so_far:
            self.trainer.best = metrics.get("mAP", -math.inf)
            model = self.trainer.model.state_dict()
            best = {**self.content, "model": model, "metrics": metrics}
            save_checkpoint(self.folder / BEST, best)
        return best_so_far

    def write_epoch(self, metrics: dict[str, Any]) -> None:
        """Adds the row of the epoch that has just been closed."""
        trainer = self.trainer
        if self.log:
            with naming(self.log.path):
                self.log.write({"epoch": trainer.epoch, **metrics}, trainer.steps)

    def write_step(self, metrics: dict[str, float]) -> None:
        """Adds the row of the step that has just been done."""
        trainer = self.trainer
        if self.log:
            row = {f"step/{name}": value for name, value in metrics.items()}
            with naming(self.log.path):
                place = {"epoch": trainer.epoch + 1, "step": trainer.steps}
                self.log.write({**place, **row}, trainer.steps)

    def draw_first_batch(self, class_names: Sequence[str]) -> None:
        """Writes batch.png: what the network will see in the first step, the objects drawn in."""
        trainer = self.trainer
        if is_main():
            (batch,) = trainer.store.batches([own_part(trainer.order.indices(0))])
            shown = trainer.augmented(batch, 0)
            with whole(self.folder / "batch.png") as unfinished:
                picture = draw_batch(shown.images, shown.targets, class_names)
                Image.fromarray(picture).save(unfinished, "PNG")

    def draw(self, view: View | None) -> None:
        """Writes curves.png and report.html, with the pictures of `view`."""
        if is_main():
            with naming(self.folder / "curves.png"):
                draw_curves(self.folder)
            run_page([read_run(self.folder)], view).write(self.folder / PAGE)

    def close(self) -> None:
        """Writes what is buffered; the files are there when any process returns from this."""
        if self.log:
            self.log.close()
        barrier()


def run_folder(config: TrainConfig) -> Path:
    """The run's folder, unless it would overwrite a run or its inputs, or cannot be written to.

    Raises:
        FileExistsError, ValueError: see above.
    """
    folder = Path(config.logs) / config.name
    check_folder(folder, "--logs, --name:")
    if has_run(config) and not goes_on(config):
        raise FileExistsError(
            f"{folder} holds a run already; pass --resume to go on with it, or another --name"
        )
    for name in ("weights", "teacher", "classes"):
        path = Path(getattr(config, name, ""))
        if path.resolve() in ((folder / file).resolve() for file in (LAST, BEST)):
            raise ValueError(
                f"{flag(name)} {path} is where this run will write its own; choose another --name"
            )
    return folder


def has_run(config: TrainConfig) -> bool:
    """Whether the run has saved anything yet."""
    return has_checkpoint(Path(config.logs) / config.name / LAST)


def goes_on(config: TrainConfig) -> bool:
    """Whether to go on with what the run has saved.

    It does when --resume asks for it. A process that torchrun has started again after a failure
    acts as if it did, unless the folder holds a run with other settings: on that one the first
    attempt has failed already.
    """
    return config.resume or (restarted() and has_run(config) and is_run_of(config))


def is_run_of(config: TrainConfig) -> bool:
    """Whether the run's config.json has the very same settings, as far as they are given."""
    path = Path(config.logs) / config.name / "config.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["config"]
    except (OSError, ValueError, LookupError, TypeError):  # none, or damaged
        return False
    ours = settings(config)
    # By the recipe; a backbone that is not named is that of --weights.
    decided = {k: v for k, v in ours.items() if v is None or (k == "backbone" and not v)}
    return isinstance(found, dict) and found | decided == ours


def settings(config: TrainConfig) -> dict[str, Any]:
    """The settings of a run as its files have them."""
    return plain(dataclasses.asdict(config))


def plain(values: dict[str, Any]) -> dict[str, Any]:
    """Settings as JSON has them: tuples become lists."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


def validations(folder: Path) -> tuple[list[dict[str, Any]], int]:
    """The rows of a run that have an mAP, and the place of the best among them.

    Of equals it is the first, as `RunFiles.keep_if_best` has it.
    """
    rows = [row for row in read_metrics(folder / METRICS) if row.get("mAP") is not None]
    return rows, max(range(len(rows)), key=lambda i: rows[i]["mAP"], default=-1)


def is_over(folder: Path, config: TrainConfig, epoch: int) -> bool:
    """Whether training ends after so many epochs; the same in every process, which all must ask.

    The rows of metrics.jsonl decide, so a run that is resumed ends where it would have ended.
    """
    if epoch >= config.epochs or not config.patience:
        return epoch >= config.epochs
    lost = 0
    if is_main():
        rows, best = validations(folder)
        lost = int(len(rows) - 1 - best >= config.patience)
    return bool(most_of_processes(lost))


def kept(folder: Path, config: TrainConfig, epoch: int) -> str:
    """Which network best.pth of a run that has ended after so many epochs holds, and why."""
    if not config.val:
        return "kept: the last network (no validation split was named)"
    on = " ".join(config.val)
    rows, best = validations(folder)
    if not rows:
        return f"kept: the last network (no object in {on})"
    which = "best" if len(rows) > 1 else "the only"
    early = ""
    if epoch < config.epochs:
        early = (
            f"; ended after {epoch} of {config.epochs} epochs, for {config.patience} "
            f"validation{'s' if config.patience > 1 else ''} brought no better one (--patience)"
        )
    score = f"{100 * rows[best]['mAP']:.1f}"
    return f"kept: epoch {rows[best]['epoch']}, {which} voc07 {score} on {on}{early}"
