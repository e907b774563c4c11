"""What each distiller costs: a step with it over the same step without any."""

from collections.abc import Iterator

import torch

from benchmarks import scenes
from benchmarks.timing import Row, compare
from nets.distillers import DISTILLERS
from nets.multibox_loss_kd import MultiBoxLoss_KD
from nets.ssd import SSD300
from nets.tasks import DistillTask
from utils.engine.evaluation import channels_last

WEIGHTS = {"soft": 0.3, "conf": 0.7, "l2": 0.5, "loc": 1.0}


def distillers(
    teacher: str = "resnet18(width=0.25)",
    student: str = "resnet18(width=0.125)",
    batch: int = 8,
    repeats: int = 5,
) -> Iterator[Row]:
    """A distillation step, forward and backward, with each distiller in turn."""
    networks = [SSD300(spec).to(memory_format=torch.channels_last) for spec in (student, teacher)]
    images = channels_last(torch.rand(batch, 3, 300, 300) * 255)
    targets = scenes.random_targets(batch)
    channels = {
        "student_channels": networks[0].channels,
        "teacher_channels": networks[1].channels,
    }

    def task(*names: str) -> DistillTask:
        made = {name: DISTILLERS[name](**channels) for name in names}
        weights = WEIGHTS | dict.fromkeys(names, 1.0)
        return DistillTask(*networks, MultiBoxLoss_KD(), weights, made)

    def step(of: DistillTask) -> None:
        of.zero_grad()
        of(images, targets)["loss"].backward()

    plain = task()
    for name in DISTILLERS:
        with_it = task(name)
        yield compare(
            f"distiller {name}",
            f"step with {name}, {teacher} -> {student} ({batch})",
            lambda with_it=with_it: step(with_it),
            "step without it",
            lambda: step(plain),
            repeats=repeats,
        )
