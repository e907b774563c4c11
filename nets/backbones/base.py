"""What every backbone has in common, and where its ImageNet weights come from."""

from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from torch import Tensor, nn

# torchvision's, as `utils.data.augment.IMAGENET_MEAN`, on the 0..255 scale.
IMAGENET_STD = (58.395, 57.12, 57.375)

# The widest networks in print (ResNet-50 x 4, Chen et al., "A Simple Framework for Contrastive
# Learning", 2020); memory grows with the square, so a typing error would take all of it.
WIDEST = 4.0

WITHOUT = "pass --no-pretrained, or --no-teacher-pretrained for a teacher that is trained first"


class Backbone(nn.Module):
    """An image in, the finest source maps out.

    channels: channels of each map it returns, finest first.
    grids: cells along a side of each; a prefix of the layout's grids. SSD300 adds the rest.
    extras: (squeeze, output) channels of the extra maps that SSD300 may add, in order; `extra`
        makes their layers.
    batch_norm: whether the extra layers are normalised as the backbone is.
    attentions: what its maps go through at last, see `nets.backbones.attention`; mostly empty.
    """

    channels: tuple[int, ...]
    grids: tuple[int, ...]
    extras: tuple[tuple[int, int], ...] = ((256, 512), (128, 256), (128, 256), (128, 256))
    batch_norm: bool = True

    def __init__(self) -> None:
        super().__init__()
        self.attentions = nn.ModuleList()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """`[B, 3, 300, 300]`, normalised -> one `[B, C, H, W]` for each of `channels`."""
        raise NotImplementedError

    def attended(self, *maps: Tensor) -> tuple[Tensor, ...]:
        """The maps with attention, where there is any."""
        if not self.attentions:
            return maps
        return tuple(attend(x) for attend, x in zip(self.attentions, maps, strict=True))

    def extra(self, channels: int, squeeze: int, out: int, grids: tuple[int, int]) -> nn.Module:
        """The layer from a map of `channels` on the first of `grids` to `out` on the second."""
        # Stride 2 halves a grid with padding; stride 1 shrinks it by 2 without (paper, fig. 2).
        stride = 1 if grids[1] == grids[0] - 2 else 2
        return Extra(channels, squeeze, out, stride=stride, batch_norm=self.batch_norm)


class Extra(nn.Sequential):
    """1 x 1 squeeze, then 3 x 3 to a smaller grid; ReLU after both, batch norm where asked."""

    def __init__(
        self, channels: int, squeeze: int, out: int, *, stride: int, batch_norm: bool
    ) -> None:
        layers: list[nn.Module] = []
        for convolution in (
            nn.Conv2d(channels, squeeze, 1, bias=not batch_norm),
            nn.Conv2d(squeeze, out, 3, stride, padding=stride - 1, bias=not batch_norm),
        ):
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            if convolution.bias is not None:
                nn.init.zeros_(convolution.bias)
            layers.append(convolution)
            if batch_norm:
                layers.append(nn.BatchNorm2d(convolution.out_channels))
            layers.append(nn.ReLU(inplace=True))
        super().__init__(*layers)


def imagenet_state(weights: Any) -> dict[str, Tensor]:
    """The state dict of a torchvision weights enum, from torch.hub's cache or the network.

    Raises:
        ValueError: it is not in the cache and cannot be downloaded.
    """
    cache = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(weights.url).path).name
    try:
        state: dict[str, Tensor] = weights.get_state_dict(progress=True, check_hash=True)
    except (OSError, RuntimeError) as error:
        # RuntimeError is torch.hub's hash mismatch, or an unreadable file already in the cache.
        raise ValueError(
            f"cannot get the ImageNet weights {cache.name} ({error}); put the file at {cache} "
            f"by hand, or {WITHOUT}"
        ) from error
    return state


def check_width(name: str, width: float, pretrained: bool) -> None:
    """Refuses a width multiplier that is not in (0, `WIDEST`], or that has no ImageNet weights.

    Raises:
        ValueError: see above.
    """
    number = isinstance(width, int | float) and not isinstance(width, bool)
    if not number or not 0 < width <= WIDEST:
        raise ValueError(f"{name}: width must be above 0 and at most {WIDEST}, not {width!r}")
    if pretrained and width != 1:
        raise ValueError(
            f"{name}(width={width}) has no ImageNet weights, only width 1.0 has; {WITHOUT}"
        )


def divisible_by_8(channels: float) -> int:
    """The nearest multiple of 8, at least 8; what vector units like."""
    return max(8, round(channels / 8) * 8)
