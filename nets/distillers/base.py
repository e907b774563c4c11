"""What every feature-level distiller has in common."""

import math
from collections.abc import Sequence

from torch import Tensor, nn

from nets.outputs import Lesson, Outputs


class Distiller(nn.Module):
    """A loss between the source maps of a student and of a teacher.

    Args:
        student_channels, teacher_channels: channels of each source map, finest first.
        weight: the factor its value gets in the total, at least 0; applied by the task, not here.

    Raises:
        ValueError: `weight` is negative or no number.
    """

    def __init__(
        self,
        *,
        student_channels: Sequence[int],
        teacher_channels: Sequence[int],
        weight: float = 1.0,
    ) -> None:
        super().__init__()
        if not isinstance(weight, int | float) or not 0 <= weight < math.inf:
            raise ValueError(f"a distiller's weight must be a number of at least 0, not {weight!r}")
        assert len(student_channels) == len(teacher_channels)
        self.weight = weight

    def forward(self, student: Outputs, teacher: Outputs, lesson: Lesson) -> Tensor:
        """An unweighted scalar; its gradient reaches the student and the adapters alone."""
        raise NotImplementedError


def adapters(student_channels: Sequence[int], teacher_channels: Sequence[int]) -> nn.ModuleList:
    """1 x 1 convolutions that bring each student map to the teacher's number of channels."""
    return nn.ModuleList(
        nn.Conv2d(s, t, 1) for s, t in zip(student_channels, teacher_channels, strict=True)
    )
