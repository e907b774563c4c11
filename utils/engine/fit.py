"""A training run: from a task and its settings to the files of the network that is kept."""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import torch

from utils import recipes
from utils.config import TrainConfig
from utils.data.store import Store
from utils.engine.evaluation import look_beside
from utils.engine.interrupts import Stopped, StopSignals
from utils.engine.memo import Memo
from utils.engine.profiling import profile_steps
from utils.engine.rehearsal import choose_arithmetic
from utils.engine.runs.ending import is_over, kept
from utils.engine.runs.files import RunFiles, facts
from utils.engine.runs.folder import LAST, check_resumable, goes_on, run_folder
from utils.engine.runs.resume import resume
from utils.engine.stores import check_processes, describe_data, open_stores
from utils.engine.task import Task
from utils.engine.terminal import Progress, Stage, opening
from utils.engine.trainer import Trainer
from utils.metrics.evaluator import Evaluator
from utils.runtime import distributed
from utils.runtime.device import choose_precision, let_cudnn_try, memory_for
from utils.runtime.distributed import is_main
from utils.runtime.provenance import PROVENANCE, provenance
from utils.show.examples import View


def fit(
    task: Task,
    config: TrainConfig,
    class_names: Sequence[str],
    description: dict[str, Any],
    device: torch.device,
    look: Callable[[Trainer, Store | None], object] | None = None,
    teacher: str | Path = "",
    remember: Callable[[Store], Memo] | None = None,
    stage: Stage | None = None,
) -> Path:
    """Trains `task` on the splits of `config`; returns the path of the run's best.pth.

    With `--profile` it only profiles some steps, and returns the path of the trace. A new run is
    shown to `look` before its first step, with its validation images. `teacher` is the file that
    the task's teacher, if it has one, was read from; `remember` opens the memo of what it says;
    `stage` is what this is a part of, if of anything.

    Raises:
        FileExistsError: the run's folder holds another run.
        FileNotFoundError, ValueError: bad data or settings.
        FloatingPointError: the loss became infinite or NaN.
    """
    folder = run_folder(config)
    check_resumable(config)
    check_processes(config, task)
    if config.sync_bn:
        task.model = distributed.synchronise_norms(task.model, device)
    train_store, validation = open_stores(config, class_names, device)
    precision = choose_precision(device, config.amp)
    let_cudnn_try(device)
    origin = provenance(device, {"teacher": teacher, "weights": config.weights})
    description = {**description, PROVENANCE: origin}
    smaller = f"try --accumulate {2 * config.accumulate}, --cache ram, --amp bf16 or --backbone"
    with memory_for(config.batch_size, f"{smaller}, or lower it"), ExitStack() as stack:
        task = task.to(device)
        memo = stack.enter_context(closing(remember(train_store))) if remember else None
        trainer = Trainer(task, train_store, config, precision, memo)
        goes = goes_on(config) and not config.profile
        if goes:
            description = resume(trainer, folder, description)
        measured = "" if goes else choose_arithmetic(trainer)
        description |= facts(trainer)
        recipe = recipes.describe(config, trainer.config)
        data = describe_data(config, train_store, validation)
        print(opening(description, trainer, folder, data, recipe, measured), flush=True)
        if config.profile:
            print(profile_steps(trainer, folder))
            return folder / "trace.json"
        if look and not goes:
            look(trainer, validation)
        stage = stage or Stage("student" if task.others() else "network")
        train_epochs(trainer, validation, class_names, description, folder, stage)
    return folder / "best.pth"


def train_epochs(
    trainer: Trainer,
    validation: Store | None,
    class_names: Sequence[str],
    description: dict[str, Any],
    folder: Path,
    stage: Stage,
) -> None:
    """Trains to the end of the schedule, or of the patience.

    Writes into `folder` at the start of a new run `batch.png`, after every epoch `last.pth` and a
    row of metrics.jsonl, and after every validation `curves.png`, `report.html` (with what the best
    network of this process detects) and, where the mAP is the best so far, `best.pth`. `last.pth`
    is also written every `save_every` steps, before a validation, and when a signal asks for the
    end; a row of metrics.jsonl also every `log_every` steps. In whichever of these states a process
    is killed, resuming leads to the same weights and metrics.

    Args:
        trainer: new, or loaded with an earlier state.
        validation: images to validate on; without any, best.pth is the last network.
        class_names: names of the classes 1..K.
        description: what a checkpoint says about the network, see `nets.saved`, and the `facts`.
        folder: the run's folder.
        stage: what of a piece of work this is; its name is the network's in pictures.

    Raises:
        Stopped: a signal came and everything is saved.
    """
    config = trainer.config
    files = RunFiles(folder, description, trainer)
    view: View | None = None
    progress = Progress(trainer, stage)
    signals = StopSignals(f"the same command with --resume goes on from {folder / LAST}")

    def after_step() -> None:
        """Writes and saves when it is time to, and ends training when a signal has come."""
        progress.step()
        if trainer.steps % config.log_every == 0:
            files.write_step(trainer.latest())
        stop = signals.noted_anywhere()
        due = config.save_every > 0 and trainer.position % config.save_every == 0
        if stop or (due and trainer.position < trainer.steps_per_epoch):
            trainer.read()  # weights after a loss that is not finite must not be saved
            files.save()
        if stop:
            raise Stopped(stop, signals.remedy)

    with closing(progress), signals:
        if not trainer.steps:
            files.draw_first_batch(class_names)
        ended = is_over(folder, config, trainer.epoch)
        if ended and not files.drawn():  # it was stopped while it drew
            files.draw(view)
        while not ended:
            metrics = train_epoch(trainer, after_step)
            done = trainer.epoch + 1
            validated = done == config.epochs or (config.val_every and done % config.val_every == 0)
            evaluator = Evaluator(class_names)
            if validated:
                if validation:
                    files.save()
                    with signals.at_once():
                        metrics |= validate(trainer, validation, evaluator)
                kept_one = files.keep_if_best(metrics)
                if validation and (kept_one or not view):
                    title = f"{' '.join(config.val)}, epoch {done}"
                    view = View(title, validation.samples, {stage.name: evaluator})
            trainer.next_epoch()
            files.write_epoch(metrics)
            if is_main():
                progress.epoch(metrics)
            files.save()
            ended = is_over(folder, config, done)
            if validated:
                with signals.at_once():
                    if view and validation and ended:
                        others = look_beside(
                            trainer.task.others(), validation, class_names,
                            trainer.precision, trainer.at_once,
                        )  # fmt: skip
                        view.networks.update(others)
                    files.draw(view)
    files.close()
    print(kept(folder, config, trainer.epoch))


def train_epoch(trainer: Trainer, after_step: Callable[[], None]) -> dict[str, float]:
    """Trains what is left of an epoch's steps; returns what its row of metrics says of them."""
    started, before = time.perf_counter(), trainer.steps
    means = trainer.train_steps(after_step)
    images = (trainer.steps - before) * trainer.config.batch_size
    return {
        **{f"train/{name}": value for name, value in means.items()},
        **trainer.watched(),
        # Unknown where the run had been stopped after the epoch's last step.
        **({"images_per_second": images / (time.perf_counter() - started)} if images else {}),
        "lr": trainer.last_lr,
    }


def validate(trainer: Trainer, store: Store, evaluator: Evaluator) -> dict[str, float]:
    """What the row of metrics says of a validation; the evaluator is told what was detected.

    Raises:
        FloatingPointError: a loss is infinite or NaN; an mAP may be NaN.
    """
    scores = trainer.validate(store, evaluator)
    losses = {name: value for name, value in scores.items() if name != "mAP"}
    if not all(map(math.isfinite, losses.values())):
        terms = ", ".join(f"{name} {value:g}" for name, value in losses.items())
        raise FloatingPointError(
            f"the validation loss after epoch {trainer.epoch + 1} is not finite: {terms}; lower "
            "--lr; best.pth is of an earlier epoch"
        )
    return {name if name == "mAP" else f"val/{name}": value for name, value in scores.items()}
