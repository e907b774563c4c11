"""The images of a run, and whether batches of them can be trained on."""

from collections.abc import Sequence

import torch
from torch import nn

from utils.config import TrainConfig
from utils.data.store import Store, described, open_store
from utils.engine.task import Task
from utils.runtime import distributed


def open_stores(
    config: TrainConfig, class_names: Sequence[str], device: torch.device
) -> tuple[Store, Store | None]:
    """The images to train on, at least one batch, and those to validate on, where there are any."""
    difficult = config.difficult
    train = open_store(
        config,
        config.train,
        class_names,
        device,
        difficult=difficult,
        fixed_objects=config.compile,
        unlabelled=config.unlabelled_splits,
        say=False,
    )
    labelled = config.batch_size - config.unlabelled_images
    if labelled > train.labelled:
        raise ValueError(
            f"--batch-size {config.batch_size} is larger than the training set "
            f"({train.labelled} images)"
            if not config.unlabelled_images
            else f"--batch-size {config.batch_size} takes {labelled} labelled images, and the "
            f"training set has {train.labelled}; lower it, or raise --unlabelled-fraction"
        )
    if not (train.targets.labels[: train.labelled] > 0).any():
        raise ValueError(
            f"--train {' '.join(config.train)}: no object to learn in {train.labelled} images; is "
            "this the split, and --classes its list?"
        )
    if not config.val:
        return train, None
    return train, open_store(
        config, config.val, class_names, device, difficult=difficult, say=False
    )


def describe_data(config: TrainConfig, train: Store, validation: Store | None) -> str:
    """What is trained on, and what chooses the best network."""
    chosen = f" {' '.join(config.val)}: {len(validation)}" if validation else ": none"
    return f"{described(config.train, train)}; validation{chosen}"


def check_processes(config: TrainConfig, task: Task) -> None:
    """Raises ValueError unless the batch suits the processes, and the parts, that share it."""
    processes, parts = distributed.world_size(), config.accumulate
    if config.batch_size % (processes * parts):
        sharing = [f"{processes} processes"] * (processes > 1)
        sharing += [f"{parts} parts of --accumulate"] * (parts > 1)
        raise ValueError(
            f"--batch-size {config.batch_size} does not divide by the {' and '.join(sharing)} that "
            f"share it; choose a multiple of {processes * parts}"
        )
    if config.profile and processes > 1:
        raise ValueError("--profile is for one process; start it without torchrun")
    together = config.batch_size // parts // (1 if config.sync_bn else processes)
    trained = (m for m in task.modules() if m.training)  # a teacher is not
    if together == 1 and any(isinstance(m, nn.BatchNorm2d) for m in trained):
        raise ValueError(
            f"--batch-size {config.batch_size} cannot train batch norm, whose statistics on the "
            "1 x 1 source map need two images in each process and part; use at least "
            f"{2 * processes * parts}, or --backbone vgg16"
        )
