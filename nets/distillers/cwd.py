"""Channel-wise distillation: where each channel looks, not how strongly."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from nets.distillers.base import Distiller, adapters
from nets.outputs import Lesson, Outputs


class ChannelWise(Distiller):
    """tau^2 / C * sum over channels of KL(softmax(F_t / tau) || softmax(F_s / tau)) over positions.

    Averaged over the images and over the source maps of more than one cell.

    Args:
        student_channels, teacher_channels, weight: see `Distiller`.
        tau: temperature of the softmax over positions, above 0.

    Source: Shu et al., "Channel-wise Knowledge Distillation for Dense Prediction", ICCV 2021,
    eq. 5.
    """

    def __init__(
        self,
        *,
        student_channels: Sequence[int],
        teacher_channels: Sequence[int],
        weight: float = 1.0,
        tau: float = 1.0,
    ) -> None:
        super().__init__(
            student_channels=student_channels, teacher_channels=teacher_channels, weight=weight
        )
        if not isinstance(tau, int | float) or not 0 < tau < math.inf:
            raise ValueError(f"cwd: tau must be a number above 0, not {tau!r}")
        self.tau = tau
        self.adapters = adapters(student_channels, teacher_channels)

    def forward(self, student: Outputs, teacher: Outputs, lesson: Lesson) -> Tensor:
        """See `Distiller.forward`."""
        del lesson
        divergences = []
        for adapter, s, t in zip(self.adapters, student.features, teacher.features, strict=True):
            if t[0, 0].numel() == 1:
                continue  # a softmax over one position is 1 whatever the feature is
            log_s = F.log_softmax(adapter(s).float().flatten(2) / self.tau, dim=-1)
            log_t = F.log_softmax(t.detach().float().flatten(2) / self.tau, dim=-1)
            divergence = (log_t.exp() * (log_t - log_s)).sum(-1)
            divergences.append(self.tau**2 * divergence.mean())
        return torch.stack(divergences).mean()
