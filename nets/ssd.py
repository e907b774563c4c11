"""SSD300: a backbone, extra layers down to 1 x 1, and one pair of convolutional heads a source."""

import copy
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from nets.backbones import BACKBONES, Backbone
from nets.backbones.base import IMAGENET_STD
from nets.foreign.bubbliiiing import FOREIGN_BACKBONES
from nets.outputs import Outputs
from nets.priors import DEFAULT_LAYOUT, LAYOUTS, layout_named, prior_boxes
from utils import spec
from utils.data.augment import IMAGE_SIZE, IMAGENET_MEAN


class SSD300(nn.Module):
    """Single-shot detector for 300 x 300 images.

    Args:
        backbone: a spec, `vgg16` or `mobilenetv2(width=0.35)`; see `nets.backbones.BACKBONES`.
        classes: number of classes without background, at least 1.
        layout: the prior layout; see `nets.priors.LAYOUTS`.
        pretrained: start the backbone from ImageNet weights.

    Attributes:
        channels: channels of each source map, finest first.
        per_cell: priors of one cell of each.
        pruned: it has fewer channels than its spec says, see `nets.saved.pruned`.
        priors: `[P, 4]` buffer, cxcywh in image fractions.
        mean, std: `[3, 1, 1]` buffers on the 0..255 scale; the network normalises its input itself.

    Raises:
        ValueError: unknown backbone, option or layout, or `classes` below 1.

    Source: Liu et al., "SSD: Single Shot MultiBox Detector", ECCV 2016, sec. 2.1 and 3.
    """

    priors: Tensor
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: str = "vgg16",
        classes: int = 20,
        *,
        layout: str = DEFAULT_LAYOUT,
        pretrained: bool = False,
    ) -> None:
        super().__init__()
        if classes < 1:
            raise ValueError(f"SSD300 needs at least one class, not {classes}")
        tiling = layout_named(layout)
        self.spec, self.classes, self.layout = backbone, classes, layout
        self.per_cell = tiling.per_cell
        self.pruned = False
        known = BACKBONES | FOREIGN_BACKBONES
        self.backbone: Backbone = spec.build(backbone, known, "backbone", pretrained=pretrained)
        extras = extra_layers(self.backbone, tiling.grids)
        self.extras = nn.ModuleList(extras)
        added = (out for _, out in self.backbone.extras[: len(extras)])
        channels = (*self.backbone.channels, *added)
        self.conf, self.loc = (
            new_heads(channels, self.per_cell, columns) for columns in (classes + 1, 4)
        )
        # Priors follow from the layout; mean and std belong to the weights and are saved with them.
        self.register_buffer("priors", prior_boxes(layout), persistent=False)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1))

    def forward(self, images: Tensor) -> Outputs:
        """What the network sees in a batch.

        Args:
            images: `[B, 3, 300, 300]` float, RGB, 0..255.

        Returns:
            `Outputs`; P = 8732 for the layout `paper`.
        """
        assert images.shape[-2:] == (IMAGE_SIZE, IMAGE_SIZE), images.shape
        sources = self.sources(images)
        logits, offsets = (
            torch.cat(
                [
                    cell_by_cell(head(source), columns)
                    for head, source in zip(heads, sources, strict=True)
                ],
                dim=1,
            )
            for heads, columns in ((self.conf, self.classes + 1), (self.loc, 4))
        )
        return Outputs(sources, logits, offsets)

    def sources(self, images: Tensor) -> tuple[Tensor, ...]:
        """The source maps that the heads look at, finest first; arguments as for `forward`."""
        maps = list(self.backbone(self.normalised(images)))
        for extra in self.extras:
            maps.append(extra(maps[-1]))
        return tuple(maps)

    def normalised(self, images: Tensor) -> Tensor:
        """The images with about zero mean and unit variance, as the backbone's weights want them.

        Both are repeated for a row of the images, in their layout: so a CPU takes a row at a time,
        and with `[3, 1, 1]` the three numbers of a pixel.
        """
        row = torch.zeros_like(images[:1, :, :1])
        return (images - (row + self.mean)).div_(row + self.std)

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of each source map, finest first."""
        return tuple(head.in_channels for head in self.conf if isinstance(head, nn.Conv2d))

    def priors_of_maps(self, features: Sequence[Tensor]) -> list[int]:
        """How many priors there are on each of its source maps `[B, C, H, W]`."""
        pairs = zip(self.per_cell, features, strict=True)
        return [per_cell * feature[0, 0].numel() for per_cell, feature in pairs]


def new_heads(channels: Sequence[int], per_cell: Sequence[int], columns: int) -> nn.ModuleList:
    """One convolution a source map that says `columns` numbers of each of its priors.

    They begin by saying next to nothing, so that training does not: with the authors' initial
    weights (Xavier) the first answers of a network that starts from scratch are loud and wrong, and
    to take them back costs a third of twelve epochs.

    Source: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, sec. 4.1 (Gaussian
    weights of 0.01); measured in docs/training.md.
    """
    heads = [
        nn.Conv2d(c, n * columns, 3, padding=1) for c, n in zip(channels, per_cell, strict=True)
    ]
    for head in heads:
        nn.init.normal_(head.weight, std=0.01)
        assert head.bias is not None
        nn.init.zeros_(head.bias)
    return nn.ModuleList(heads)


def cell_by_cell(predicted: Tensor, columns: int) -> Tensor:
    """`[B, priors * columns, H, W]` of a head -> `[B, H * W * priors, columns]`."""
    return predicted.permute(0, 2, 3, 1).reshape(predicted.shape[0], -1, columns)


def extra_layers(backbone: Backbone, grids: tuple[int, ...]) -> list[nn.Module]:
    """The layers that lead from the backbone's last map through the remaining grids.

    Raises:
        ValueError: the backbone's maps are not the first ones of the layout, or it has too few
            extras.
    """
    if not serves(backbone, grids):
        asked = [name for name, layout in LAYOUTS.items() if layout.grids == grids]
        known = [name for name, layout in LAYOUTS.items() if serves(backbone, layout.grids)]
        raise ValueError(
            f"a backbone with grids {backbone.grids} cannot serve the layout "
            f"{' or '.join(asked) or 'without a name'}, whose grids are {grids}; "
            f"it serves {', '.join(known) or 'none'}; to learn from a teacher of another layout, "
            "pass --match-priors"
        )
    layers: list[nn.Module] = []
    channels, last = backbone.channels[-1], len(backbone.grids) - 1
    for step, (squeeze, out) in zip(pairwise(grids[last:]), backbone.extras, strict=False):
        layers.append(backbone.extra(channels, squeeze, out, step))
        channels = out
    return layers


def serves(backbone: Backbone, grids: tuple[int, ...]) -> bool:
    """Whether the backbone's maps and as many extras as are left have these grids."""
    have = len(backbone.grids)
    return backbone.grids == grids[:have] and len(backbone.extras) >= len(grids) - have


def with_classes(model: SSD300, classes: int) -> SSD300:
    """`model` for other classes: its weights, but for new heads that classify."""
    other = copy.deepcopy(model)
    other.classes = classes
    other.conf = new_heads(model.channels, model.per_cell, classes + 1)
    return other


def load_weights(model: SSD300, state: dict[str, Tensor]) -> None:
    """Copies every entry of `state` into `model`, or none.

    Raises:
        ValueError: entries are missing, left over, of another shape or no finite numbers; the
            first three are named.
    """
    own = model.state_dict()
    misfits = {key: misfit(state[key], own[key]) for key in own if key in state}
    differences = [
        *(f"{key} is missing" for key in own if key not in state),
        *(f"{key} is unknown" for key in state if key not in own),
        *(f"{key} {fault}" for key, fault in misfits.items() if fault),
    ]
    if differences:
        listed = "; ".join(differences[:3])
        more = f" and {len(differences) - 3} more" if len(differences) > 3 else ""
        raise ValueError(
            f"the weights are not those of {model.spec} with {model.classes} classes: "
            f"{listed}{more}"
        )
    model.load_state_dict(state)


def misfit(value: Any, own: Tensor) -> str:
    """Why `value` cannot be copied into `own`; empty where it can."""
    if not isinstance(value, Tensor) or value.layout is not torch.strided or value.is_quantized:
        return "is no plain tensor"
    if value.shape != own.shape:
        return f"is {tuple(value.shape)} instead of {tuple(own.shape)}"
    if value.is_floating_point() != own.is_floating_point() or value.is_complex() or value.is_meta:
        return f"has {value.dtype} on {value.device} instead of {own.dtype}"
    return "" if value.isfinite().all() else "holds infinite values or NaN"
