"""Prior boxes: the grid of default boxes that every prediction is relative to."""

from math import sqrt
from typing import NamedTuple

import torch
from torch import Tensor

from utils.boxes import cxcywh_to_xyxy, xyxy_to_cxcywh
from utils.data.augment import IMAGE_SIZE

DEFAULT_LAYOUT = "paper"


class Layout(NamedTuple):
    """How a network tiles the image with priors.

    grids: cells along a side of each source map, finest first.
    steps: distance of neighbouring cells, in pixels of the 300 x 300 input.
    sizes: side of the small square of each map in pixels; one more than grids, the last one closes
        the last map's geometric mean.
    ratios: aspect ratios of each map besides the two squares; each also serves as its inverse.
    clip: which numbers of a prior are clipped to 0..1: `cxcywh` or `xyxy`, all four of that form,
        or `wh`, its width and height.
    """

    grids: tuple[int, ...]
    steps: tuple[float, ...]
    sizes: tuple[float, ...]
    ratios: tuple[tuple[int, ...], ...]
    clip: str = "cxcywh"

    @property
    def per_cell(self) -> tuple[int, ...]:
        """Priors of one cell of each map."""
        return tuple(2 + 2 * len(ratios) for ratios in self.ratios)


# Liu et al. 2016, sec. 2.2 and 3.1, with the numbers of the authors' VOC configuration
# (weiliu89/caffe, branch ssd: ssd_pascal.py). Clipped as in the PyTorch ports whose weights
# circulate (amdegroot/ssd.pytorch: prior_box.py, `clip` True); the authors do not (`clip` False).
PAPER = Layout(
    grids=(38, 19, 10, 5, 3, 1),
    steps=(8, 16, 32, 64, 100, 300),
    sizes=(30, 60, 111, 162, 213, 264, 315),
    ratios=((2,), (2, 3), (2, 3), (2, 3), (2,), (2,)),
)
# bubbliiiing/ssd-pytorch cuts priors at the image's border and spreads them evenly over it.
BUBBLIIIING = PAPER._replace(steps=tuple(IMAGE_SIZE / g for g in PAPER.grids), clip="xyxy")

LAYOUTS = {
    "paper": PAPER,
    # torchvision.models.detection.ssd; sizes as in the authors' COCO configuration.
    "torchvision": PAPER._replace(sizes=(21, 45, 99, 153, 207, 261, 315), clip="wh"),
    "bubbliiiing": BUBBLIIIING,
    # Its MobileNetV2 starts at stride 16: 3000 priors.
    "bubbliiiing_mobilenetv2": BUBBLIIIING._replace(
        grids=(19, 10, 5, 3, 2, 1),
        steps=tuple(IMAGE_SIZE / g for g in (19, 10, 5, 3, 2, 1)),
        ratios=((2, 3),) * 6,
    ),
}


def layout_named(name: str) -> Layout:
    """The layout called `name`.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in LAYOUTS:
        raise ValueError(f"no prior layout {name!r}; choose one of {', '.join(LAYOUTS)}")
    return LAYOUTS[name]


def prior_boxes(layout: str = DEFAULT_LAYOUT) -> Tensor:
    """The priors of a named layout, map by map, row by row, cell by cell.

    Args:
        layout: a key of `LAYOUTS`; `paper` has 8732 priors, `bubbliiiing_mobilenetv2` 3000.

    Returns:
        `[P, 4]` float32, cxcywh in image fractions. In each cell: the square s_k, the square
        sqrt(s_k s_{k+1}), then for each ratio r the boxes (s_k sqrt(r), s_k / sqrt(r)) and its
        transpose.

    Raises:
        ValueError: `layout` is unknown.

    Source: Liu et al., ECCV 2016, sec. 2.2 "Choosing scales and aspect ratios for default boxes".
    """
    tiling = layout_named(layout)
    maps = []
    for k, (grid, step, ratios) in enumerate(
        zip(tiling.grids, tiling.steps, tiling.ratios, strict=True)
    ):
        small, between = tiling.sizes[k], sqrt(tiling.sizes[k] * tiling.sizes[k + 1])
        shapes = [(small, small), (between, between)]
        for ratio in ratios:
            wide = (small * sqrt(ratio), small / sqrt(ratio))
            shapes += [wide, wide[::-1]]
        centres = (torch.arange(grid, dtype=torch.float64) + 0.5) * step
        cy, cx = torch.meshgrid(centres, centres, indexing="ij")
        cells = torch.stack((cx, cy), dim=-1).view(-1, 1, 2).expand(-1, len(shapes), 2)
        size = torch.tensor(shapes, dtype=torch.float64).expand(len(cells), -1, 2)
        maps.append(torch.cat((cells, size), dim=-1).view(-1, 4))
    priors = torch.cat(maps) / IMAGE_SIZE
    if tiling.clip == "xyxy":
        return xyxy_to_cxcywh(cxcywh_to_xyxy(priors).clamp(0, 1)).float()
    # The ports clip the stored numbers: boxes keep reaching over the border, only a width or height
    # above 1 is cut, and a centre beyond the last row (grid 10 spans 320 pixels).
    clipped = priors if tiling.clip == "cxcywh" else priors[:, 2:]
    clipped.clamp_(0, 1)
    return priors.float()
