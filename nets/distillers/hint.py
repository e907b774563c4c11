"""Hint learning: the student's features, adapted, approach the teacher's."""

from torch import Tensor
from torch.nn import functional as F

from nets.distillers.base import MapDistiller
from nets.outputs import Lesson


class Hint(MapDistiller):
    """Mean over the source maps of |adapter(F_s) - F_t|^2, averaged over channels and positions.

    Each teacher map is divided by its root mean square first, so that no map dominates by scale.

    Args:
        student_channels, teacher_channels, weight, maps: see `MapDistiller`.

    Source: Romero et al., "FitNets", ICLR 2015, eq. 3; Chen et al., NIPS 2017, sec. 3.4 (an adapter
    even where the channels agree).
    """

    def compare(self, i: int, student: Tensor, teacher: Tensor, lesson: Lesson) -> Tensor:
        """See `MapDistiller.compare`."""
        del i, lesson
        return F.mse_loss(student, at_unit_scale(teacher))


def at_unit_scale(features: Tensor) -> Tensor:
    """`[B, C, H, W]` with a root mean square of 1; all zeros stay so."""
    return features / features.square().mean().sqrt().clamp(min=1e-6)
