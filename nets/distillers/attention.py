"""Attention transfer: the student looks where the teacher looks; needs no adapter."""

import torch
from torch import Tensor
from torch.nn import functional as F

from nets.distillers.base import Distiller
from nets.outputs import Lesson, Outputs


class AttentionTransfer(Distiller):
    """Mean over the source maps of |Q_s - Q_t|^2, Q the normalised sum over channels of F^2.

    The single cell of the last map has no attention to transfer and adds 0.

    Source: Zagoruyko and Komodakis, "Paying More Attention to Attention", ICLR 2017, eq. 2.
    """

    def forward(self, student: Outputs, teacher: Outputs, lesson: Lesson) -> Tensor:
        """See `Distiller.forward`."""
        del lesson
        distances = [
            (attention(s) - attention(t.detach())).square().sum(-1).mean()
            for s, t in zip(student.features, teacher.features, strict=True)
        ]
        return torch.stack(distances).mean()


def attention(features: Tensor) -> Tensor:
    """`[B, C, H, W]` -> `[B, H * W]` of Euclidean length 1."""
    return F.normalize(features.float().square().mean(1).flatten(1), dim=1)
