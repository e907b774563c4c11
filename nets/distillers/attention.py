"""Attention transfer: the student looks where the teacher looks; needs no adapter."""

from torch import Tensor
from torch.nn import functional as F

from nets.distillers.base import MapDistiller
from nets.outputs import Lesson


class AttentionTransfer(MapDistiller):
    """Mean over the source maps of |Q_s - Q_t|^2, Q the normalised sum over channels of F^2.

    The single cell of the last map has no attention to transfer and adds 0.

    Args:
        student_channels, teacher_channels, weight, maps: see `MapDistiller`.

    Source: Zagoruyko and Komodakis, "Paying More Attention to Attention", ICLR 2017, eq. 2.
    """

    adapts = False

    def compare(self, i: int, student: Tensor, teacher: Tensor, lesson: Lesson) -> Tensor:
        """See `MapDistiller.compare`."""
        del i, lesson
        return (attention(student) - attention(teacher)).square().sum(-1).mean()


def attention(features: Tensor) -> Tensor:
    """`[B, C, H, W]` -> `[B, H * W]` of Euclidean length 1."""
    return F.normalize(features.square().mean(1).flatten(1), dim=1)
