"""Peak memory of a training step, ours and torchvision's, each in a process of its own."""

import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from benchmarks import scenes
from benchmarks.timing import Row

BATCH = 4


def memory_rows() -> Iterator[Row]:
    """SSD300-VGG16 in float32; the peak above what the process held before the step."""
    ours, other = (
        float(
            subprocess.run(
                [sys.executable, "-m", "benchmarks.memory", which],
                check=True,
                capture_output=True,
                text=True,
            ).stdout
        )
        for which in ("ours", "torchvision")
    )
    yield Row(
        f"peak memory of a step (VGG16, batch {BATCH})", "torchvision SSD300", ours, other, ">= 1x",
        "MiB",
    )  # fmt: skip


def step(which: str) -> None:
    """One training step, forward and backward."""
    images = torch.rand(BATCH, 3, 300, 300)
    targets = scenes.random_targets(BATCH)
    if which == "ours":
        from nets.multibox_loss import MultiBoxLoss
        from nets.ssd import SSD300
        from nets.tasks import DetectionTask

        task = DetectionTask(SSD300("vgg16"), MultiBoxLoss(), {"conf": 1, "loc": 1}).train()
        print_peak(lambda: task(images * 255, targets)["loss"].backward())
    else:
        model = scenes.torchvision_ssd().train()
        listed = [
            {"boxes": boxes * 300, "labels": labels} for boxes, labels in zip(*targets, strict=True)
        ]
        print_peak(lambda: sum(model(list(images), listed).values()).backward())


def print_peak(work: Callable[[], object]) -> None:
    """Prints by how many MiB the process grew at most; Linux only."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    before = pages * resource.getpagesize() / 2**20
    work()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before)


if __name__ == "__main__":
    step(sys.argv[1])
