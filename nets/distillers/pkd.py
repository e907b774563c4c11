"""Pearson distillation: the student's channels rise and fall with the teacher's, at any scale."""

from torch import Tensor
from torch.nn import functional as F

from nets.distillers.base import MapDistiller, standardised
from nets.outputs import Lesson


class Pearson(MapDistiller):
    """Mean over the source maps, and their channels, of 1 - r, r the correlation with the teacher.

    r is taken over all positions of all images of the batch (of this process). It is computed as
    half the squared distance of maps with zero mean and unit variance in each channel, which is
    1 - r. Neither the teacher's scale nor a loud channel decides.

    Args:
        student_channels, teacher_channels, weight, maps: see `MapDistiller`.

    Source: Cao et al., "PKD: General Distillation Framework for Object Detectors via Pearson
    Correlation Coefficient", NeurIPS 2022, sec. 3 and its algorithm.
    """

    def compare(self, i: int, student: Tensor, teacher: Tensor, lesson: Lesson) -> Tensor:
        """See `MapDistiller.compare`."""
        del i, lesson
        return F.mse_loss(standardised(student), standardised(teacher)) / 2
