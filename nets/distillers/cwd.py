"""Channel-wise distillation: where each channel looks, not how strongly."""

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from nets.distillers.base import MapDistiller, above_0, divergence
from nets.outputs import Lesson


class ChannelWise(MapDistiller):
    """tau^2 / C * sum over channels of KL(softmax(F_t / tau) || softmax(F_s / tau)) over positions.

    Averaged over the images and over the source maps of more than one cell.

    Args:
        student_channels, teacher_channels, weight, maps: see `MapDistiller`.
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
        maps: Sequence[int] | None = None,
        tau: float = 1.0,
    ) -> None:
        super().__init__(
            student_channels=student_channels,
            teacher_channels=teacher_channels,
            weight=weight,
            maps=maps,
        )
        self.tau = above_0("cwd: tau", tau)

    def compare(self, i: int, student: Tensor, teacher: Tensor, lesson: Lesson) -> Tensor | None:
        """See `MapDistiller.compare`."""
        del i, lesson
        if teacher[0, 0].numel() == 1:
            return None  # a softmax over one position is 1 whatever the feature is
        log_s = F.log_softmax(student.flatten(2) / self.tau, dim=-1)
        log_t = F.log_softmax(teacher.flatten(2) / self.tau, dim=-1)
        return self.tau**2 * divergence(log_s, log_t).mean()
