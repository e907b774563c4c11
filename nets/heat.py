"""Where a network sees a class: the scores of all priors, painted where the priors sit."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from nets.detect import as_shown
from nets.priors import Layout, layout_named
from nets.saved.exported import Exported
from nets.ssd import SSD300

HEAT_SIDE = 76  # cells of a map that is returned along a side: two for each of the finest grid


@torch.no_grad()
def heat_of_images(
    model: SSD300 | Exported, images: Sequence[npt.NDArray[np.uint8]], labels: Sequence[int]
) -> list[npt.NDArray[np.float32]]:
    """How sure the network is of some classes, place by place, before anything is suppressed.

    Args:
        model: in evaluation mode.
        images: B of them, `[H, W, 3]` uint8 RGB each.
        labels: the classes, 1..K; of several the surest counts.

    Returns:
        `[HEAT_SIDE, HEAT_SIDE]` each, scores 0..1 over the whole image.

    Raises:
        ValueError: an exported network keeps its scores to itself.
    """
    if isinstance(model, Exported):
        raise ValueError("an exported network tells no scores of its priors; give the checkpoint")
    logits = model(as_shown(images, model.priors.device)).logits
    return list(heat(logits, labels, layout_named(model.layout)).cpu().numpy())


def heat(logits: Tensor, labels: Sequence[int], layout: Layout) -> Tensor:
    """The largest score at each place: of some classes, over all priors of all grids.

    A prior stands for its cell; between the cells' centres scores are interpolated.

    Args:
        logits: `[B, P, K + 1]`, class 0 is the background.
        labels: the classes, 1..K.
        layout: of the P priors.

    Returns:
        `[B, HEAT_SIDE, HEAT_SIDE]`, 0..1.
    """
    scores = logits.float().softmax(-1)[..., list(labels)].amax(-1)
    sizes = [g * g * n for g, n in zip(layout.grids, layout.per_cell, strict=True)]
    maps = []
    for grid, of_map in zip(layout.grids, scores.split(sizes, dim=1), strict=True):
        cells = of_map.reshape(len(scores), 1, grid, grid, -1).amax(-1)
        maps.append(F.interpolate(cells, HEAT_SIDE, mode="bilinear", align_corners=False))
    return torch.cat(maps, 1).amax(1)
