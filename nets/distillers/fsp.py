"""Flow of the solution procedure: how features of one map go with those of the next."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from nets.distillers.base import MapDistiller
from nets.outputs import Lesson, Outputs


class FlowOfSolution(MapDistiller):
    """Mean over consecutive source maps of |G_s - G_t|^2, averaged over its entries and the images.

    G of maps F and F' on a grid of H x W is the mean over positions of F(c) * F'(c'), for every
    pair of channels; the finer map is max-pooled to the coarser grid first. Adapters bring the
    student to the teacher's channels, without which G would have another shape.

    Args:
        student_channels, teacher_channels, weight: see `MapDistiller`.
        maps: at least two source maps, see `MapDistiller`.

    Raises:
        ValueError: `maps` names a single one.

    Source: Yim et al., "A Gift from Knowledge Distillation", CVPR 2017, eq. 1 and 2, all lambda
    equal.
    """

    def __init__(
        self,
        *,
        student_channels: Sequence[int],
        teacher_channels: Sequence[int],
        weight: float = 1.0,
        maps: Sequence[int] | None = None,
    ) -> None:
        super().__init__(
            student_channels=student_channels,
            teacher_channels=teacher_channels,
            weight=weight,
            maps=maps,
        )
        if len(self.maps) < 2:
            raise ValueError(f"fsp compares pairs of source maps; maps names one, {self.maps}")

    def forward(self, student: Outputs, teacher: Outputs, lesson: Lesson) -> Tensor:
        """See `Distiller.forward`."""
        del lesson
        return torch.stack(
            [
                F.mse_loss(gram(s1, s2), gram(t1, t2))
                for (s1, t1), (s2, t2) in pairwise(self.pairs(student, teacher))
            ]
        ).mean()


def gram(a: Tensor, b: Tensor) -> Tensor:
    """`[B, C, H, W]` and `[B, D, h, w]` -> `[B, C, D]`, in the maps' own precision."""
    a, b = pooled(a, b.shape[-1]), pooled(b, a.shape[-1])
    # Squares of features of 300 are more than half precision holds.
    with torch.autocast(a.device.type, enabled=False):
        products: Tensor = a.flatten(2) @ b.flatten(2).transpose(1, 2)
    return products / a[0, 0].numel()


def pooled(features: Tensor, side: int) -> Tensor:
    """`[B, C, H, H]`, max-pooled to a grid of `side` where that is coarser."""
    stride = -(-features.shape[-1] // side)
    if stride == 1:
        return features
    features = F.max_pool2d(features, stride, ceil_mode=True)
    assert features.shape[-1] == side, features.shape
    return features
