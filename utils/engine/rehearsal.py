"""Passes over the first batch before training begins: nothing of them is left behind.

They tell how fast either arithmetic is on a CPU: bf16 where it has it and is faster with it.
"""

import math
import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn

from utils.engine.evaluation import channels_last
from utils.engine.task import Shown, Task
from utils.engine.trainer import Trainer
from utils.engine.updates import eagerly
from utils.runtime import device as devices
from utils.runtime.device import Precision, recorded_precision
from utils.runtime.distributed import is_main, most_of_processes, own_part

IMAGES = 4  # of the first batch
WARM_UP, MEASURED = 2, 3  # rounds, of a pass in either arithmetic
SECONDS = 5.0  # after which no further round begins
WORTH_IT = 1.05  # gain from which bf16 is chosen; below it measurements decide by chance


@contextmanager
def rehearsal(trainer: Trainer, most: float = math.inf) -> Iterator[Shown]:
    """The first batch as training will see it, with the task in training mode and not compiled.

    At the end there is no gradient, and buffers (the running statistics of norms) and random state
    are what they were.

    Args:
        trainer: new, or at the end of an epoch.
        most: how many images to take of those that go through the network at once.
    """
    task = trainer.task
    count = int(min(trainer.at_once, most))
    (batch,) = trainer.store.batches([own_part(trainer.order.indices(trainer.steps))[:count]])
    task.train()
    with (
        unchanged_buffers(task),
        torch.random.fork_rng(devices=[]),
        eagerly() if trainer.config.compile else nullcontext(),
    ):
        shown = trainer.shown(batch, trainer.steps)
        yield shown._replace(images=channels_last(shown.images))
    task.zero_grad(set_to_none=True)


@contextmanager
def unchanged_buffers(module: nn.Module) -> Iterator[None]:
    """Gives the buffers, such as the running statistics of norms, their values back at the end."""
    before = [(buffer, buffer.clone()) for buffer in module.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in before:
                buffer.copy_(value)


def choose_arithmetic(trainer: Trainer) -> str:
    """Lets a new run with `--amp auto` on a CPU compute in bf16 where that is faster.

    All processes compute alike: if one of their machines has no bf16, in float32.

    Returns:
        What was measured, such as `1.38x float32 here`; nothing where nothing was.
    """
    if not left_open(trainer) or most_of_processes(int(not devices.native_bf16())):
        return ""
    gain = bf16_gain(trainer)
    if gain >= WORTH_IT:
        trainer.precision = Precision(trainer.precision.device, torch.bfloat16)
        return f"{gain:.2f}x as fast as float32 here"
    return f"bfloat16 is {gain:.2f}x as fast here"


def keep_arithmetic(trainer: Trainer, content: Mapping[str, Any]) -> None:
    """Lets a resumed run go on in what its checkpoint says, without measuring again."""
    if left_open(trainer):
        record = content.get("arithmetic")
        trainer.precision = recorded_precision(record, trainer.precision.device)


def left_open(trainer: Trainer) -> bool:
    """Whether neither the settings nor the device decide."""
    return trainer.config.amp == "auto" and trainer.precision.device.type == "cpu"


def bf16_gain(trainer: Trainer) -> float:
    """How many times as fast as in float32 a pass forward and backward is in bf16.

    Some images of the first batch go through the task in both, by turns, so that whatever else the
    machine does slows both alike, and only this process's own time counts. Of several processes,
    all of which measure, it is what the main one found.
    """
    rounds: list[list[float]] = []
    with rehearsal(trainer, IMAGES) as batch:
        begun = time.perf_counter()
        while len(rounds) < WARM_UP + MEASURED:
            if most_of_processes(int(bool(rounds) and time.perf_counter() - begun > SECONDS)):
                break
            rounds.append([pass_seconds(trainer.task, batch, d) for d in (None, torch.bfloat16)])
    # A network that is too slow for them needs no warm-up either.
    plain, short = map(statistics.median, zip(*(rounds[WARM_UP:] or rounds[-1:]), strict=True))
    return most_of_processes(round(1000 * plain / short) if is_main() else 0) / 1000


def pass_seconds(task: Task, batch: Shown, dtype: torch.dtype | None) -> float:
    """How long a batch takes through the task and back, whatever other processes take."""
    started = time.process_time()
    with Precision(batch.images.device, dtype).autocast():
        loss = task(*batch)["loss"]
    loss.backward()
    return time.process_time() - started
