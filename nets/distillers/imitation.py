"""Fine-grained imitation: hints only where priors overlap objects."""

from collections.abc import Sequence

import torch
from torch import Tensor

from nets.distillers.base import MapDistiller, at_least_0
from nets.distillers.hint import at_unit_scale
from nets.outputs import Lesson, Outputs
from utils.boxes import cxcywh_to_xyxy, iou


class FineGrained(MapDistiller):
    """Mean over the source maps of |adapter(F_s) - F_t|^2 in the cells near objects.

    A cell is near an object if one of its priors overlaps it by more than `threshold` times what
    the best of all priors, on any map, overlaps it by. So each object is imitated on the maps that
    have priors of its size. The mean is over channels and the near cells of the batch (of this
    process); a map without any adds 0. Teacher maps are scaled as by `hint`.

    Args:
        student_channels, teacher_channels, weight, maps: see `MapDistiller`.
        threshold: in [0, 1); 0 takes every cell that an object touches.

    Raises:
        ValueError: `threshold` is out of range.

    Source: Wang et al., "Distilling Object Detectors with Fine-grained Feature Imitation", CVPR
    2019, sec. 3.2 and 3.3 (there over one map; half of its sum over channels).
    """

    def __init__(
        self,
        *,
        student_channels: Sequence[int],
        teacher_channels: Sequence[int],
        weight: float = 1.0,
        maps: Sequence[int] | None = None,
        threshold: float = 0.5,
    ) -> None:
        super().__init__(
            student_channels=student_channels,
            teacher_channels=teacher_channels,
            weight=weight,
            maps=maps,
        )
        self.threshold = at_least_0("imitation: threshold", threshold)
        if threshold >= 1:
            raise ValueError(f"imitation: threshold must be below 1, not {threshold}")

    def forward(self, student: Outputs, teacher: Outputs, lesson: Lesson) -> Tensor:
        """See `Distiller.forward`."""
        near = near_objects(lesson, self.threshold)
        parts = near.split(lesson.teacher.priors_of_maps(teacher.features), dim=1)
        values = []
        for k, (s, t) in zip(self.maps, self.pairs(student, teacher), strict=True):
            batch, _, height, width = t.shape
            cells = parts[k].view(batch, 1, height, width, -1).any(-1)
            apart = (s - at_unit_scale(t)).square().mean(1, keepdim=True)
            values.append(apart.masked_fill(~cells, 0).sum() / cells.sum().clamp(min=1))
        return torch.stack(values).mean()


def near_objects(lesson: Lesson, threshold: float) -> Tensor:
    """Which priors overlap an object by more than `threshold` times its best; `[B, P]` bool."""
    boxes, labels = lesson.targets
    overlaps = iou(boxes.float(), cxcywh_to_xyxy(lesson.priors))  # [B, M, P]
    near = overlaps > threshold * overlaps.amax(dim=2, keepdim=True)
    return (near & (labels > 0)[..., None]).any(dim=1)
