"""Output distillation: what the teacher says of every prior, louder where it sees an object."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from nets.distillers.base import OUTPUTS, Distiller, above_0, divergence, one_of
from nets.multibox_loss import at_least_float32
from nets.outputs import Lesson, Outputs
from nets.rows import over_classes

KINDS = ("kl", "l2", "bce")


class ObjectnessScaled(Distiller):
    """Mean over all priors of all images of w * (d(logits) + |o_s - o_t|^2 / 4).

    w is the teacher's objectness, 1 - p_t(background): most priors show background, and what the
    teacher says of their class and box is noise. o are the encoded offsets. d is one of

        kl   T^2 * KL(softmax(z_t / T) || softmax(z_s / T))
        l2   mean over columns of (z_s - z_t)^2
        bce  mean over columns of the cross-entropy of sigmoid(z_s) under sigmoid(z_t); not 0 where
             both agree, but its gradient is

    Args:
        student_channels, teacher_channels, weight: see `Distiller`.
        kind: d.
        temperature: T of `kl`, above 0; 20 unless given.
        scaled: weigh with w; without, w is 1: `kind="l2"` is the plain mean squared error.
        boxes: compare the offsets, too.

    Raises:
        ValueError: an option is out of range.

    Source: Mehta and Ozturk, "Object Detection at 200 Frames Per Second", ECCV 2018 workshops,
    "objectness scaled distillation" (there for YOLO, whose objectness is a number of its own).
    """

    def __init__(
        self,
        *,
        student_channels: Sequence[int],
        teacher_channels: Sequence[int],
        weight: float = 1.0,
        kind: str = "kl",
        temperature: float | None = None,
        scaled: bool = True,
        boxes: bool = True,
    ) -> None:
        super().__init__(
            student_channels=student_channels, teacher_channels=teacher_channels, weight=weight
        )
        self.kind = one_of("objectness: kind", kind, KINDS)
        if temperature is not None and kind != "kl":
            raise ValueError(f"objectness: temperature is of kind='kl', not of kind={kind!r}")
        self.temperature = above_0(
            "objectness: temperature", 20.0 if temperature is None else temperature
        )
        self.scaled = one_of("objectness: scaled", scaled, (True, False))
        self.boxes = one_of("objectness: boxes", boxes, (True, False))
        if boxes or kind != "kl":
            self.asks_for = OUTPUTS  # each prior's box counts, and not only odds but the logits

    def forward(self, student: Outputs, teacher: Outputs, lesson: Lesson) -> Tensor:
        """See `Distiller.forward`."""
        del lesson
        logits = at_least_float32(teacher.logits.detach())
        distance = self.distance(at_least_float32(student.logits), logits)
        if self.boxes:
            offsets = at_least_float32(teacher.offsets.detach())
            apart = at_least_float32(student.offsets) - offsets
            distance = distance + apart.square().mean(-1)
        if self.scaled:
            distance = distance * (1 - over_classes(torch.softmax, logits)[..., 0])
        return distance.mean()

    def distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        """D of each prior, `[B, P, K + 1]` twice -> `[B, P]`."""
        if self.kind == "l2":
            return (student - teacher).square().mean(-1)
        if self.kind == "bce":
            columns = F.binary_cross_entropy_with_logits(
                student, teacher.sigmoid(), reduction="none"
            )
            return columns.mean(-1)
        log_s, log_t = (
            over_classes(torch.log_softmax, z / self.temperature) for z in (student, teacher)
        )
        return self.temperature**2 * divergence(log_s, log_t)
