"""What a backbone may add to its source maps: factors that say which channels and places matter."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SqueezeExcitation(nn.Module):
    """Each channel times a factor in 0..1 that follows from the means of all channels.

    Source: Hu et al., "Squeeze-and-Excitation Networks", CVPR 2018, eq. 2 to 4, reduction 16.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.excite = bottleneck(channels)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C, H, W]` -> the same shape."""
        factors: Tensor = self.excite(x.mean((2, 3), keepdim=True)).sigmoid()
        return x * factors


class BlockAttention(nn.Module):
    """Channels times a factor from their means and maxima, then positions likewise (CBAM).

    Source: Woo et al., "CBAM: Convolutional Block Attention Module", ECCV 2018, eq. 1 to 3,
    reduction 16, a 7 x 7 convolution.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.excite = bottleneck(channels)
        self.look = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C, H, W]` -> the same shape."""
        mean, peak = x.mean((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
        x = x * (self.excite(mean) + self.excite(peak)).sigmoid()
        places = torch.cat((x.mean(1, keepdim=True), x.amax(1, keepdim=True)), dim=1)
        factors: Tensor = self.look(places).sigmoid()
        return x * factors


class CoordinateAttention(nn.Module):
    """Each value times a factor of its channel and row and one of its channel and column.

    Source: Hou et al., "Coordinate Attention for Efficient Mobile Network Design", CVPR 2021, eq. 4
    to 9, reduction 32.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(8, channels // 32)
        self.squeeze = nn.Sequential(
            nn.Conv2d(channels, hidden, 1, bias=False), nn.BatchNorm2d(hidden)
        )
        self.rows, self.columns = (nn.Conv2d(hidden, channels, 1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C, H, W]` -> the same shape."""
        height, width = x.shape[2:]
        means = torch.cat((x.mean(3), x.mean(2)), dim=2)[..., None]  # [B, C, H + W, 1]
        rows, columns = F.hardswish(self.squeeze(means)).split((height, width), dim=2)
        factors: Tensor = self.rows(rows).sigmoid() * self.columns(columns.mT).sigmoid()
        return x * factors


ATTENTIONS: dict[str, Callable[[int], nn.Module]] = {
    "se": SqueezeExcitation,
    "cbam": BlockAttention,
    "ca": CoordinateAttention,
}


def bottleneck(channels: int, reduction: int = 16) -> nn.Sequential:
    """Two layers over the channels of a single cell, narrow in between."""
    hidden = max(1, channels // reduction)
    return nn.Sequential(
        nn.Conv2d(channels, hidden, 1), nn.ReLU(inplace=True), nn.Conv2d(hidden, channels, 1)
    )


def check_attention(kind: str | None) -> None:
    """Raises ValueError where there is no such kind; before weights are downloaded."""
    if kind is not None and kind not in ATTENTIONS:
        known = ", ".join(repr(name) for name in ATTENTIONS)
        raise ValueError(f"a backbone's attention must be one of {known}, not {kind!r}")


def attentions(kind: str | None, channels: Sequence[int]) -> nn.ModuleList:
    """One module of this kind for each map, see `check_attention`; none at all for None."""
    if kind is None:
        return nn.ModuleList()
    return nn.ModuleList(ATTENTIONS[kind](c) for c in channels)
