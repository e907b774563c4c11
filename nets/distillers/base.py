"""What all distillers have in common, and what those have that compare source maps."""

import math
from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nets.multibox_loss import at_least_float32
from nets.outputs import Lesson, Outputs

# What a distiller asks a teacher for: of all priors how likely an object is, and the boxes of the
# few that may show one; all logits and boxes; or what only the network can say, such as its maps.
OBJECTS, OUTPUTS, NETWORK = "objects", "outputs", "network"


class Distiller(nn.Module):
    """A loss between what a student and a teacher say of the same batch.

    Args:
        student_channels, teacher_channels: channels of each source map, finest first.
        weight: the factor its value gets in the total, at least 0; applied by the task, not here.

    Attributes:
        compares_maps: whether the source maps of both must have the same grids.
        compares_priors: whether both must have the same priors, so that heads can change places.
        asks_for: OBJECTS, OUTPUTS or NETWORK; how much a memo keeps, see `nets.memo`.

    Raises:
        ValueError: `weight` is negative or no number.
    """

    compares_maps: bool = False
    compares_priors: bool = False
    asks_for: str = OBJECTS

    def __init__(
        self,
        *,
        student_channels: Sequence[int],
        teacher_channels: Sequence[int],
        weight: float = 1.0,
    ) -> None:
        super().__init__()
        del student_channels, teacher_channels  # for those that compare maps
        self.weight = at_least_0("a distiller's weight", weight)

    def forward(self, student: Outputs, teacher: Outputs, lesson: Lesson) -> Tensor:
        """An unweighted scalar; its gradient reaches the student and the adapters alone."""
        raise NotImplementedError


class MapDistiller(Distiller):
    """The mean, over the chosen source maps, of what `compare` says of a pair of maps.

    Args:
        student_channels, teacher_channels, weight: see `Distiller`.
        maps: which source maps, counted from the finest, 0; None for all.

    Attributes:
        adapts: whether 1 x 1 convolutions bring the student's maps to the teacher's channels.
        adapters: one for each chosen map.

    Raises:
        ValueError: `maps` names none, one twice, or one that is not there.
    """

    compares_maps = True
    asks_for = NETWORK
    adapts: bool = True

    def __init__(
        self,
        *,
        student_channels: Sequence[int],
        teacher_channels: Sequence[int],
        weight: float = 1.0,
        maps: Sequence[int] | None = None,
    ) -> None:
        super().__init__(
            student_channels=student_channels, teacher_channels=teacher_channels, weight=weight
        )
        self.maps = chosen(maps, len(teacher_channels))
        self.channels = tuple(teacher_channels[k] for k in self.maps)
        self.adapters = nn.ModuleList(
            nn.Conv2d(student_channels[k], teacher_channels[k], 1) if self.adapts else nn.Identity()
            for k in self.maps
        )

    def forward(self, student: Outputs, teacher: Outputs, lesson: Lesson) -> Tensor:
        """See `Distiller.forward`; 0 where no chosen map has anything to say."""
        values = [
            self.compare(i, s, t, lesson) for i, (s, t) in enumerate(self.pairs(student, teacher))
        ]
        told = [value for value in values if value is not None]
        return torch.stack(told).mean() if told else student.logits.new_zeros(())

    def pairs(self, student: Outputs, teacher: Outputs) -> list[tuple[Tensor, Tensor]]:
        """The chosen maps of both, at least float32: the student's adapted, the teacher's fixed."""
        return [
            (
                at_least_float32(adapter(student.features[k])),
                at_least_float32(teacher.features[k].detach()),
            )
            for k, adapter in zip(self.maps, self.adapters, strict=True)
        ]

    def compare(self, i: int, student: Tensor, teacher: Tensor, lesson: Lesson) -> Tensor | None:
        """A scalar for the `i`-th chosen map, or None where such a map can say nothing.

        Args:
            i: counts the chosen maps.
            student: `[B, C, H, W]`, adapted.
            teacher: the same without a graph.
            lesson: see `Lesson`.
        """
        raise NotImplementedError


def divergence(log_s: Tensor, log_t: Tensor) -> Tensor:
    """KL(t || s) of each row of log probabilities, `[..., C]` twice -> `[...]`.

    Columns that are -inf in both add 0.
    """
    apart = (log_t - log_s).masked_fill(log_t.isneginf(), 0)
    return (log_t.exp() * apart).sum(-1)


def standardised(features: Tensor) -> Tensor:
    """`[B, C, H, W]` with zero mean and unit variance in each channel, over the batch; a constant
    channel becomes 0.
    """
    variance, mean = torch.var_mean(features, dim=(0, 2, 3), correction=0, keepdim=True)
    return (features - mean) * (variance + 1e-6).rsqrt()


def chosen(maps: Sequence[int] | None, count: int) -> tuple[int, ...]:
    """The numbers of the chosen ones of `count` source maps; raises ValueError for any other."""
    if maps is None:
        return tuple(range(count))
    fits = isinstance(maps, tuple | list) and all(type(k) is int and 0 <= k < count for k in maps)
    if not fits or not maps or len(set(maps)) != len(maps):
        raise ValueError(
            f"a distiller's maps must be different numbers from 0 (the finest) to {count - 1}, "
            f"such as (0, 1), not {maps!r}"
        )
    return tuple(maps)


def at_least_0(what: str, value: Any) -> float:
    """`value`; raises ValueError unless it is a number of at least 0."""
    if not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError(f"{what} must be a number of at least 0, not {value!r}")
    return value


def above_0(what: str, value: Any) -> float:
    """`value`; raises ValueError unless it is a number above 0."""
    if not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ValueError(f"{what} must be a number above 0, not {value!r}")
    return value


def one_of(what: str, value: Any, allowed: Collection[Any]) -> Any:
    """`value`; raises ValueError unless it is one of those."""
    if value not in allowed:
        listed = ", ".join(repr(known) for known in allowed)
        raise ValueError(f"{what} must be one of {listed}, not {value!r}")
    return value
