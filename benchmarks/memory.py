"""Peak memory of a training step, ours and torchvision's, each in a process of its own."""

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import nn

from benchmarks import scenes
from benchmarks.timing import Row
from nets.multibox_loss import MultiBoxLoss
from nets.ssd import SSD300
from nets.tasks import DetectionTask

BATCH = 4


def memory_rows(threads: int) -> Iterator[Row]:
    """SSD300-VGG16 in float32; the peak above what the process held before the step."""
    # Large blocks go back to the system at once: what glibc keeps for later use would count, and
    # differs by a tenth from run to run.
    exact = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}
    environment = {**os.environ, **exact, "OMP_NUM_THREADS": str(threads)}
    ours, other = (
        float(
            subprocess.run(
                [sys.executable, "-m", "benchmarks.memory", which],
                check=True,
                stdout=subprocess.PIPE,
                env=environment,
            ).stdout
        )
        for which in ("ours", "torchvision")
    )
    work = f"peak memory of a step (VGG16, batch {BATCH})"
    yield Row("peak memory", work, "torchvision SSD300", ours, other, "MiB")


def step(which: str) -> None:
    """One training step, forward and backward, after one that pages code in."""
    images = torch.rand(BATCH, 3, 300, 300)
    targets = scenes.random_targets(BATCH)
    model: nn.Module
    if which == "ours":
        images *= 255  # torchvision takes 0..1
        model = DetectionTask(SSD300("vgg16"), MultiBoxLoss(), {"conf": 1, "loc": 1}).train()

        def work() -> None:
            model(images, targets)["loss"].backward()
    else:
        model = scenes.torchvision_ssd().train()
        listed = [
            {"boxes": boxes * 300, "labels": labels} for boxes, labels in zip(*targets, strict=True)
        ]

        def work() -> None:
            sum(model(list(images), listed).values()).backward()

    work()
    model.zero_grad(set_to_none=True)
    print(growth(work))


def growth(work: Callable[[], object]) -> float:
    """By how many MiB the process grows at most; Linux with glibc only."""
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # or memory that was freed would count as held before
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM, the peak
    before = status("VmRSS")
    work()
    return status("VmHWM") - before


def status(field: str) -> float:
    """A field of /proc/self/status in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


if __name__ == "__main__":
    step(sys.argv[1])
