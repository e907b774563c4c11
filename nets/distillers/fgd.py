"""Focal and global distillation: objects and background apart, where the teacher looks, and what
the map as a whole says.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nets.distillers.base import MapDistiller, above_0, at_least_0
from nets.multibox_loss import at_least_float32
from nets.outputs import Lesson, Targets


class FocalGlobal(MapDistiller):
    """Mean over the source maps, and the images, of four sums over positions p and channels c.

        alpha * sum of O(p) S_t(p) C_t(c) (F_t - F_s)^2      objects
        beta  * sum of B(p) S_t(p) C_t(c) (F_t - F_s)^2      background
        gamma * (sum of |S_t - S_s| + sum of |C_t - C_s|)    attention
        lam   * sum of (R_t(F_t) - R_s(F_s))^2               relation

    F_s is the adapted student map. O is 1 / (cells of the object) in the cells that an object
    touches, of several the smallest; B is 1 / (number of other cells) in the others. S, one number
    a position with mean 1, and C, one a channel with mean 1, are softmaxes of the mean of |F| /
    temperature over channels and over positions. R are `Context` blocks, which train along.

    The last two grow with the map, as the authors' do. They add up their maps; here is the mean.

    Args:
        student_channels, teacher_channels, weight, maps: see `MapDistiller`.
        temperature: above 0.
        alpha, beta, gamma, lam: at least 0; the authors' for RetinaNet.

    Raises:
        ValueError: an option is out of range.

    Source: Yang et al., "Focal and Global Knowledge Distillation for Detectors", CVPR 2022, eq. 2
    to 12.
    """

    def __init__(
        self,
        *,
        student_channels: Sequence[int],
        teacher_channels: Sequence[int],
        weight: float = 1.0,
        maps: Sequence[int] | None = None,
        temperature: float = 0.5,
        alpha: float = 1e-3,
        beta: float = 5e-4,
        gamma: float = 5e-4,
        lam: float = 5e-6,
    ) -> None:
        super().__init__(
            student_channels=student_channels,
            teacher_channels=teacher_channels,
            weight=weight,
            maps=maps,
        )
        self.temperature = above_0("fgd: temperature", temperature)
        self.alpha, self.beta = at_least_0("fgd: alpha", alpha), at_least_0("fgd: beta", beta)
        self.gamma, self.lam = at_least_0("fgd: gamma", gamma), at_least_0("fgd: lam", lam)
        self.of_student, self.of_teacher = (
            nn.ModuleList(Context(channels) for channels in self.channels) for _ in range(2)
        )

    def compare(self, i: int, student: Tensor, teacher: Tensor, lesson: Lesson) -> Tensor:
        """See `MapDistiller.compare`."""
        (where_s, what_s), (where_t, what_t) = (self.attention(f) for f in (student, teacher))
        objects, background = focus(lesson.targets, *teacher.shape[-2:])
        weights = (self.alpha * objects + self.beta * background) * where_t * what_t
        focal = weights * (teacher - student).square()
        looks = (where_t - where_s).abs().sum() + (what_t - what_s).abs().sum()
        relation = (self.of_teacher[i](teacher) - self.of_student[i](student)).square()
        total: Tensor = focal.sum() + self.gamma * looks + self.lam * relation.sum()
        return total / len(teacher)

    def attention(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """`[B, C, H, W]` -> S, `[B, 1, H, W]`, and C, `[B, C, 1, 1]`; each has mean 1."""
        strength = features.abs() / self.temperature
        where, what = strength.mean(1).flatten(1), strength.mean((2, 3))
        s, c = (x.shape[1] * F.softmax(x, dim=1) for x in (where, what))
        return s.view_as(features[:, :1]), c[:, :, None, None]


class Context(nn.Module):
    """A map plus what it says as a whole: R(F) = F + W2 ReLU(LN(W1 sum_p softmax_p(w F) F)).

    W2 starts at 0, so that R(F) = F.

    Source: Cao et al., "GCNet", ICCV workshops 2019, as Yang et al. 2022, eq. 11, use it.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(1, channels // 2)
        self.look = nn.Conv2d(channels, 1, 1)
        self.transform = nn.Sequential(
            nn.Conv2d(channels, hidden, 1),
            nn.LayerNorm((hidden, 1, 1)),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, channels, 1),
        )
        nn.init.kaiming_normal_(self.look.weight)
        for parameter in self.transform[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, features: Tensor) -> Tensor:
        """`[B, C, H, W]` -> the same shape, at least float32."""
        shares = F.softmax(at_least_float32(self.look(features)).flatten(2), dim=-1)
        context = (features.flatten(2) * shares).sum(-1)[:, :, None, None]
        return features + at_least_float32(self.transform(context))


def focus(targets: Targets, height: int, width: int) -> tuple[Tensor, Tensor]:
    """O and B of `FocalGlobal`, each `[B, 1, H, W]`."""
    boxes = targets.boxes.float()

    def touched(low: Tensor, high: Tensor, count: int) -> Tensor:
        cells = torch.arange(count, device=boxes.device)
        return (low[..., None] * count < cells + 1) & (high[..., None] * count > cells)

    x1, y1, x2, y2 = boxes.unbind(-1)
    across, down = touched(x1, x2, width), touched(y1, y2, height)  # [B, M, W] and [B, M, H]
    real = (targets.labels > 0)[..., None]
    size = (across.sum(-1) * down.sum(-1)).clamp(min=1)[..., None, None]
    each = (down[..., None] & (across & real)[..., None, :]) / size
    nothing = each.new_zeros(len(boxes), 1, height, width)  # where there is no object at all
    objects = torch.cat((each, nothing), dim=1).amax(1, keepdim=True)
    others = (objects == 0).float()
    return objects, others / others.sum((2, 3), keepdim=True).clamp(min=1)
