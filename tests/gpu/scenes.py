"""The same batch, outputs and tasks for every test of a GPU; made on a CPU, moved where wanted."""

import copy
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from nets.distillers import DISTILLERS
from nets.multibox_loss import MultiBoxLoss
from nets.multibox_loss_kd import MultiBoxLoss_KD
from nets.outputs import Outputs, Targets
from nets.ssd import SSD300
from nets.tasks import DetectionTask, DistillTask

CLASSES = 5
STUDENT, TEACHER = "resnet18(width=0.125)", "resnet18(width=0.25)"


def objects(batch: int = 4, most: int = 6) -> Targets:
    """Boxes of all sizes in fractions, some difficult, some padding; the last image has none."""
    rng = torch.Generator().manual_seed(1)
    size = 0.05 + 0.6 * torch.rand(batch, most, 2, generator=rng)
    low = torch.rand(batch, most, 2, generator=rng) * (1 - size)
    labels = torch.randint(1, CLASSES + 1, (batch, most), generator=rng)
    labels[0, -2:], labels[1, 1], labels[-1] = 0, -1, 0
    return Targets(torch.cat((low, low + size), -1), labels)


def outputs(seed: int, priors: int = 8732, batch: int = 4) -> Outputs:
    """What a network might say; in float64, so that rounding decides no order of neighbours."""
    rng = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, priors, CLASSES + 1, generator=rng, dtype=torch.float64)
    logits[..., 0] += 3
    offsets = torch.randn(batch, priors, 4, generator=rng, dtype=torch.float64) / 2
    return Outputs((), logits, offsets)


def moved(x: Outputs, device: torch.device) -> Outputs:
    """A copy on `device` that takes gradients."""
    return Outputs((), *(copy.deepcopy(v).to(device).requires_grad_() for v in x[1:]))


def pictures(batch: int = 4, side: int = 320) -> tuple[Tensor, Tensor, Targets]:
    """uint8 images of several sizes, these sizes, and objects in pixels."""
    rng = torch.Generator().manual_seed(2)
    coarse = torch.rand(batch, 3, 10, 10, generator=rng) * 255
    images = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bicubic")
    sizes = torch.tensor([[320.0, 240], [240, 320], [320, 320], [250, 201]])[:batch]
    inside = torch.arange(side)
    rows, columns = inside < sizes[:, :1], inside < sizes[:, 1:]
    shown = (rows[:, None, :, None] & columns[:, None, None, :]) * images.clamp(0, 255)
    boxes, labels = objects(batch)
    return shown.byte(), sizes, Targets(boxes * sizes.flip(-1).repeat(1, 2)[:, None], labels)


def alone() -> DetectionTask:
    """A student without a teacher."""
    torch.manual_seed(3)
    return DetectionTask(SSD300(STUDENT, CLASSES), MultiBoxLoss(), {"conf": 1.0, "loc": 1.0})


def distilled(
    *names: str, layout: str = "paper", shares: dict[str, float] | None = None
) -> DistillTask:
    """A student of the layout `paper` with the distillers `names`, and a teacher on any priors."""
    torch.manual_seed(3)
    student, teacher = SSD300(STUDENT, CLASSES), SSD300(TEACHER, CLASSES, layout=layout)
    distillers = {
        name: DISTILLERS[name](student_channels=student.channels, teacher_channels=teacher.channels)
        for name in names
    }
    weights = {"soft": 0.3, "conf": 0.7, "l2": 0.5, "loc": 1.0} | dict.fromkeys(names, 1.0)
    criterion = MultiBoxLoss_KD(temperature=2.0)
    cross = layout != "paper"
    return DistillTask(
        student, teacher, criterion, weights, distillers, match_priors=cross, shares=shares
    )


TASKS: dict[str, Callable[[], DetectionTask]] = {
    "alone": alone,
    "distilled": distilled,
    "on other priors": lambda: distilled(layout="bubbliiiing"),
    "with shares": partial(distilled, "cwd", shares={"soft": 0.4, "cwd": 0.2}),
    **{name: partial(distilled, name) for name in DISTILLERS},
}
