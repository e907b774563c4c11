"""Masked generative distillation: from parts of the student's map the teacher's whole is made."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nets.distillers.base import MapDistiller, at_least_0, one_of, standardised
from nets.multibox_loss import at_least_float32
from nets.outputs import Lesson

LOW = 0xFFFFFFFF  # the 32 bits that are worked on; products of theirs by less than 2^31 fit int64


class MaskedGenerative(MapDistiller):
    """Mean over the source maps of |G(M * F_s) - F_t|^2, averaged over channels and positions.

    F_s is the adapted student map, M is 0 in a random part of the cells, the same ones for all
    channels, and G two 3 x 3 convolutions with a ReLU between them. M follows from the image's row
    and the map alone.

    The authors add up what is averaged here: their weight alpha, for maps of C x H x W, is alpha *
    C * H * W of ours.

    Args:
        student_channels, teacher_channels, weight, maps: see `MapDistiller`.
        mask: the part of the cells that is hidden, in [0, 1).
        align: bring the student's maps to the teacher's channels first.
        norm: compare maps with zero mean and unit variance in each channel.

    Raises:
        ValueError: an option is out of range; without `align`, the channels differ.

    Source: Yang et al., "Masked Generative Distillation", ECCV 2022, sec. 3.1 and 3.2.
    """

    def __init__(
        self,
        *,
        student_channels: Sequence[int],
        teacher_channels: Sequence[int],
        weight: float = 1.0,
        maps: Sequence[int] | None = None,
        mask: float = 0.65,
        align: bool = True,
        norm: bool = False,
    ) -> None:
        super().__init__(
            student_channels=student_channels,
            teacher_channels=teacher_channels,
            weight=weight,
            maps=maps,
        )
        self.mask = at_least_0("mgd: mask", mask)
        if mask >= 1:
            raise ValueError(f"mgd: mask must be below 1, or nothing is left to see, not {mask}")
        if not one_of("mgd: align", align, (True, False)):
            for k in self.maps:
                if student_channels[k] != teacher_channels[k]:
                    raise ValueError(
                        f"mgd: align=False needs equal channels, but source map {k} has "
                        f"{student_channels[k]} in the student and {teacher_channels[k]} in the "
                        "teacher; leave it out"
                    )
            self.adapters = nn.ModuleList(nn.Identity() for _ in self.maps)
        self.norm = one_of("mgd: norm", norm, (True, False))
        self.generators = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, channels, 3, padding=1),
                nn.ReLU(inplace=True),
                nn.Conv2d(channels, channels, 3, padding=1),
            )
            for channels in self.channels
        )

    def compare(self, i: int, student: Tensor, teacher: Tensor, lesson: Lesson) -> Tensor:
        """See `MapDistiller.compare`."""
        batch, _, height, width = student.shape
        chance = uniform(lesson.rows, self.maps[i], height * width).view(batch, 1, height, width)
        made = at_least_float32(self.generators[i](student * (chance >= self.mask)))
        if self.norm:
            made, teacher = standardised(made), standardised(teacher)
        return F.mse_loss(made, teacher)


def uniform(rows: Tensor, stream: int, count: int) -> Tensor:
    """Numbers in [0, 1) that look random and follow from a row's number and the stream alone.

    They are the same on every device, in every batch, process and order, and nothing waits.

    Args:
        rows: `[B]` int64.
        stream: which of a row's sequences, 0 .. 2^31 - 1.
        count: how long, below 2^31.

    Returns:
        `[B, count]` float32, multiples of 2^-24.

    Source: Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011 (a counter and a
    mixing function); the steps between numbers are those of Knuth's multiplicative hashing.
    """
    start = mixed(((rows >> 32) & LOW) ^ stream)
    start = mixed((rows & LOW) ^ start)
    step = torch.arange(count, device=rows.device) * 0x9E3779B1
    return (mixed((start[:, None] + step) & LOW) >> 8) * 2.0**-24


def mixed(bits: Tensor) -> Tensor:
    """A permutation of 0 .. 2^32 - 1, int64, in which every bit of the input moves half of all.

    Source: Wellons, "Prospecting for Hash Functions", 2018; multipliers below 2^31, so that no
    product overflows.
    """
    bits = ((bits ^ (bits >> 16)) * 0x21F0AAAD) & LOW
    bits = ((bits ^ (bits >> 15)) * 0x735A2D97) & LOW
    return bits ^ (bits >> 15)
