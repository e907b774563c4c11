"""What a run writes into its folder, and when."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from utils.engine.runs.checkpoint import save_checkpoint
from utils.engine.runs.folder import BEST, LAST, settings
from utils.engine.runs.log import RunLog, draw_curves
from utils.engine.trainer import Trainer
from utils.files import naming, whole
from utils.runtime.distributed import barrier, is_main, own_part
from utils.show.draw import draw_batch
from utils.show.examples import View
from utils.show.report import cost, write_json
from utils.show.run_page import PAGE, read_run, run_page


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

    def drawn(self) -> bool:
        """Whether the page, which `draw` writes last, is there and no older than last.pth."""
        page = self.folder / PAGE
        return page.exists() and page.stat().st_mtime >= (self.folder / LAST).stat().st_mtime

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
