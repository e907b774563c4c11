"""Cross-head distillation: the student's maps must make sense to the teacher's heads."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nets.distillers.base import MapDistiller, above_0, divergence, one_of
from nets.multibox_loss import at_least_float32
from nets.outputs import Lesson, Outputs
from nets.rows import Rows, over_classes
from nets.ssd import cell_by_cell


class CrossHead(MapDistiller):
    """What the teacher's heads make of the student's adapted maps approaches the teacher's outputs.

    With x those cross-head predictions and t the teacher's own, over the priors of the chosen maps:

        T^2 / N * sum over all priors of KL(softmax(z_t / T) || softmax(z_x / T))
        + 1 / N * sum over positives of smooth L1 of o_x - o_t, summed over the 4 offsets

    The heads stay as they are: gradients flow through them to the student. Its own heads learn from
    objects alone, so the two never contradict each other. N is that of the losses.

    Args:
        student_channels, teacher_channels, weight, maps: see `MapDistiller`.
        temperature: T, above 0.
        boxes: compare the offsets, too.

    Raises:
        ValueError: an option is out of range.

    Source: Wang et al., "CrossKD: Cross-Head Knowledge Distillation for Object Detection", CVPR
    2024, sec. 3.2 and 3.3. Theirs enters the heads halfway; those of SSD are one convolution. Its
    losses take the place of their detectors'.
    """

    compares_priors = True

    def __init__(
        self,
        *,
        student_channels: Sequence[int],
        teacher_channels: Sequence[int],
        weight: float = 1.0,
        maps: Sequence[int] | None = None,
        temperature: float = 1.0,
        boxes: bool = True,
    ) -> None:
        super().__init__(
            student_channels=student_channels,
            teacher_channels=teacher_channels,
            weight=weight,
            maps=maps,
        )
        self.temperature = above_0("crosskd: temperature", temperature)
        self.boxes = one_of("crosskd: boxes", boxes, (True, False))

    def forward(self, student: Outputs, teacher: Outputs, lesson: Lesson) -> Tensor:
        """See `Distiller.forward`."""
        sources = dict(zip(self.maps, (s for s, _ in self.pairs(student, teacher)), strict=True))
        counts = lesson.teacher.priors_of_maps(teacher.features)

        def crossed(heads: nn.ModuleList, columns: int) -> Tensor:
            rows = [cell_by_cell(heads[k](source), columns) for k, source in sources.items()]
            return torch.cat(rows, dim=1)

        def own(values: Tensor) -> Tensor:
            parts = values.split(counts, dim=1)
            return torch.cat([parts[k] for k in sources], dim=1)

        logits = crossed(lesson.teacher.conf, teacher.logits.shape[-1])
        log_x, log_t = (
            over_classes(torch.log_softmax, at_least_float32(z) / self.temperature)
            for z in (logits, own(teacher.logits.detach()))
        )
        total = self.temperature**2 * divergence(log_x, log_t).sum()
        if self.boxes:
            rows = Rows(own(lesson.positive))
            offsets = crossed(lesson.teacher.loc, 4), own(teacher.offsets.detach())
            ours, theirs = (at_least_float32(rows.take(o)) for o in offsets)
            total = total + rows.total(F.smooth_l1_loss(ours, theirs, reduction="none").sum(-1))
        return total / lesson.divisor
