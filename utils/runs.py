"""From settings to data and a trained run; shared by both stages."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from utils import distributed
from utils.checkpoint import has_checkpoint
from utils.config import DataConfig, TrainConfig
from utils.device import choose_precision, memory_for
from utils.engine import LAST, Task, Trainer, fit, plain, resume
from utils.files import check_folder
from utils.profiling import profile_steps
from utils.store import Store
from utils.voc import Sample, read_split


def open_store(
    config: DataConfig,
    splits: Sequence[str],
    class_names: Sequence[str],
    device: torch.device,
    *,
    use_difficult: bool = False,
    fixed_objects: bool = False,
) -> Store:
    """Reads and checks the images of some splits; says what was left out and where images are.

    Raises:
        FileNotFoundError, ValueError: a file is missing or bad, see `utils.voc`.
    """
    samples = read_samples(config, splits, class_names)
    store = Store(
        samples,
        device,
        cache=config.cache,
        workers=config.workers,
        use_difficult=use_difficult,
        fixed_objects=fixed_objects,
    )
    print(f"{' '.join(splits)}: {len(store)} images, {store.reason}")
    return store


def read_samples(
    config: DataConfig, splits: Sequence[str], class_names: Sequence[str]
) -> list[Sample]:
    """`utils.voc.read_split` by the settings of a run; prints what was left out."""
    samples, skipped = read_split(config.data, splits, class_names, skip_bad=config.skip_bad)
    for line in skipped:
        print(f"left out: {line}")
    if skipped:
        print(f"left out: {len(skipped)} of {len(samples) + len(skipped)} images of {splits}")
    if not samples:
        raise ValueError(f"{config.data}: no usable image in {' '.join(splits)}")
    return samples


def train(
    task: Task,
    config: TrainConfig,
    class_names: Sequence[str],
    description: dict[str, Any],
    device: torch.device,
    look: Callable[[Trainer, Store | None], object] | None = None,
) -> Path:
    """Trains `task` on the splits of `config`; returns the path of the run's best.pth.

    With `--profile` it only profiles some steps, and returns the path of the trace. A new run is
    shown to `look` before its first step, with its validation images.

    Raises:
        FileExistsError: the run's folder holds another run.
        FileNotFoundError, ValueError: bad data or settings.
        FloatingPointError: the loss became infinite or NaN.
    """
    folder = run_folder(config)
    check_processes(config, task)
    if config.sync_bn:
        task.model = distributed.synchronise_norms(task.model, device)
    train_store = open_store(
        config,
        config.train,
        class_names,
        device,
        use_difficult=config.use_difficult,
        fixed_objects=config.compile,
    )
    if config.batch_size > len(train_store):
        raise ValueError(
            f"--batch-size {config.batch_size} is larger than the training set "
            f"({len(train_store)} images)"
        )
    validation = (
        open_store(config, config.val, class_names, device, use_difficult=config.use_difficult)
        if config.val
        else None
    )
    precision = choose_precision(device, config.amp)
    with memory_for(config.batch_size, "lower it, or try --cache ram, --amp bf16 or --backbone"):
        trainer = Trainer(task.to(device), train_store, config, precision)
        if config.profile:
            print(profile_steps(trainer, folder))
            return folder / "trace.json"
        if goes_on(config):
            resume(trainer, folder, description)
        elif look:
            look(trainer, validation)
        fit(trainer, validation, class_names, description, folder)
    return folder / "best.pth"


def run_folder(config: TrainConfig) -> Path:
    """The run's folder, unless it would overwrite a run or cannot be written to.

    Raises:
        FileExistsError, ValueError: see above.
    """
    folder = Path(config.logs) / config.name
    check_folder(folder, "--logs, --name:")
    if has_run(config) and not goes_on(config):
        raise FileExistsError(
            f"{folder} holds a run already; pass --resume to go on with it, or another --name"
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
    return config.resume or (distributed.restarted() and has_run(config) and is_run_of(config))


def is_run_of(config: TrainConfig) -> bool:
    """Whether the run's config.json has the very same settings."""
    path = Path(config.logs) / config.name / "config.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["config"]
    except (OSError, ValueError, LookupError, TypeError):  # none, or damaged
        return False
    return bool(found == plain(dataclasses.asdict(config)))


def check_processes(config: TrainConfig, task: Task) -> None:
    """Raises ValueError unless the batch suits the processes that share it."""
    processes = distributed.world_size()
    if config.batch_size % processes:
        raise ValueError(
            f"--batch-size {config.batch_size} does not divide by the {processes} processes that "
            "share it; choose a multiple"
        )
    if config.profile and processes > 1:
        raise ValueError("--profile is for one process; start it without torchrun")
    together = config.batch_size if config.sync_bn else config.batch_size // processes
    if together == 1 and any(isinstance(m, nn.BatchNorm2d) for m in task.modules()):
        raise ValueError(
            f"--batch-size {config.batch_size} cannot train batch norm, whose statistics on the "
            "1 x 1 source map need two images in each process; use at least "
            f"{2 * processes}, or --backbone vgg16"
        )
