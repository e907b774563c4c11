"""Hint learning: the student's features, adapted, approach the teacher's."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from nets.distillers.base import Distiller, adapters
from nets.outputs import Lesson, Outputs


class Hint(Distiller):
    """Mean over the source maps of |adapter(F_s) - F_t|^2, averaged over channels and positions.

    Each teacher map is divided by its root mean square first, so that no map dominates by scale.

    Source: Romero et al., "FitNets", ICLR 2015, eq. 3; Chen et al., NIPS 2017, sec. 3.4 (an adapter
    even where the channels agree).
    """

    def __init__(
        self,
        *,
        student_channels: Sequence[int],
        teacher_channels: Sequence[int],
        weight: float = 1.0,
    ) -> None:
        super().__init__(
            student_channels=student_channels, teacher_channels=teacher_channels, weight=weight
        )
        self.adapters = adapters(student_channels, teacher_channels)

    def forward(self, student: Outputs, teacher: Outputs, lesson: Lesson) -> Tensor:
        """See `Distiller.forward`."""
        del lesson
        distances = []
        for adapter, s, t in zip(self.adapters, student.features, teacher.features, strict=True):
            t = t.detach().float()
            t = t / t.square().mean().sqrt().clamp(min=1e-6)
            distances.append(F.mse_loss(adapter(s).float(), t))
        return torch.stack(distances).mean()
