"""Box arithmetic: corner and centre forms, IoU, and the SSD offset encoding.

Boxes are `xyxy` (left, top, right, bottom) or `cxcywh` (centre, width, height). Every function
keeps the unit it is given, pixels or image fractions.
"""

from typing import NamedTuple

import torch
from torch import Tensor

# Liu et al.'s Caffe code (`prior_variance`): centre offsets are divided by 0.1, log sizes by 0.2,
# so that all four regression targets have about unit variance.
VARIANCES = (0.1, 0.2)


class Targets(NamedTuple):
    """The objects of a batch, padded to the largest number of objects M of an image.

    boxes: `[B, M, 4]` float, xyxy; image fractions for networks and losses, pixels in a store.
    labels: `[B, M]` int64; 0 is padding, 1..K are classes, -1 is an object to be ignored: what
        finds it is neither taught nor punished.
    """

    boxes: Tensor
    labels: Tensor

    def to(self, device: torch.device, *, non_blocking: bool = False) -> "Targets":
        """The same objects on `device`."""
        return Targets(*(x.to(device, non_blocking=non_blocking) for x in self))


class Detections(NamedTuple):
    """What an image shows, best first, padded with label 0 and score 0.

    boxes: `[B, D, 4]` xyxy, image fractions, clipped to the image.
    scores: `[B, D]` in 0..1.
    labels: `[B, D]` int64; 1..K.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor


def cxcywh_to_xyxy(boxes: Tensor) -> Tensor:
    """`[..., 4]` (centre x, centre y, width, height) -> `[..., 4]` (left, top, right, bottom)."""
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat((centre - half, centre + half), dim=-1)


def xyxy_to_cxcywh(boxes: Tensor) -> Tensor:
    """`[..., 4]` (left, top, right, bottom) -> `[..., 4]` (centre x, centre y, width, height)."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return torch.cat(((low + high) / 2, high - low), dim=-1)


def area(boxes: Tensor) -> Tensor:
    """`[..., 4]` xyxy -> `[...]`; an inverted box has area 0."""
    width, height = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).unbind(-1)
    return width * height


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of every pair of boxes.

    Args:
        a: `[..., M, 4]`, xyxy.
        b: `[..., P, 4]`, xyxy, same unit; leading dimensions broadcast with those of `a`.

    Returns:
        `[..., M, P]` in 0..1; 0 where both boxes are empty, never NaN.
    """
    ax1, ay1, ax2, ay2 = coordinates(a.unsqueeze(-2))
    bx1, by1, bx2, by2 = coordinates(b.unsqueeze(-3))
    # In place: on a CPU new memory for as many pairs costs more than the arithmetic.
    width = torch.minimum(ax2, bx2).sub_(torch.maximum(ax1, bx1)).clamp_(min=0)
    overlap = torch.minimum(ay2, by2).sub_(torch.maximum(ay1, by1)).clamp_(min=0).mul_(width)
    union = (area(a)[..., :, None] + area(b)[..., None, :]).sub_(overlap)
    return overlap.div_(union.clamp_(min=torch.finfo(union.dtype).tiny))


def encode(boxes: Tensor, priors: Tensor) -> Tensor:
    """The offsets that lead from `priors` to `boxes`; the inverse of `decode`.

    Args:
        boxes: `[..., P, 4]`, xyxy, one box for each prior; width and height > 0.
        priors: `[P, 4]`, cxcywh, same unit, width and height > 0.

    Returns:
        `[..., P, 4]`, encoded, dimensionless: `((cx - pcx) / pw / 0.1, (cy - pcy) / ph / 0.1,
        log(w / pw) / 0.2, log(h / ph) / 0.2)`.

    Raises:
        ValueError: the two disagree on P.

    Source: Liu et al., ECCV 2016, sec. 2.2; variances 0.1, 0.2 from the authors' Caffe code.
    """
    _check_count("boxes", boxes, priors)
    x1, y1, x2, y2 = coordinates(boxes)
    cx, cy, w, h = coordinates(priors)
    columns = (
        ((x1 + x2) / 2 - cx) / w / VARIANCES[0],
        ((y1 + y2) / 2 - cy) / h / VARIANCES[0],
        torch.log((x2 - x1) / w) / VARIANCES[1],
        torch.log((y2 - y1) / h) / VARIANCES[1],
    )
    # On a CPU twice as fast as stacking along the last dimension.
    return torch.stack(columns).movedim(0, -1).contiguous()


def decode(offsets: Tensor, priors: Tensor) -> Tensor:
    """The boxes that `offsets` describe; the inverse of `encode`.

    Args:
        offsets: `[..., P, 4]`, encoded, dimensionless.
        priors: `[P, 4]`, cxcywh in image fractions, w and h > 0.

    Returns:
        `[..., P, 4]`, xyxy in image fractions, not clipped.

    Raises:
        ValueError: the two disagree on P.

    Source: Liu et al., ECCV 2016, sec. 2.2; variances 0.1, 0.2 from the authors' Caffe code.
    """
    _check_count("offsets", offsets, priors)
    centre = priors[..., :2] + offsets[..., :2] * VARIANCES[0] * priors[..., 2:]
    size = priors[..., 2:] * torch.exp(offsets[..., 2:] * VARIANCES[1])
    return cxcywh_to_xyxy(torch.cat((centre, size), dim=-1))


def coordinates(boxes: Tensor) -> tuple[Tensor, ...]:
    """The four columns of `[..., 4]`, each contiguous: vector units cannot stride over boxes."""
    return boxes.movedim(-1, 0).contiguous().unbind(0)


def _check_count(name: str, values: Tensor, priors: Tensor) -> None:
    if values.shape[-2] != priors.shape[-2]:
        raise ValueError(
            f"{name} has {values.shape[-2]} rows for {priors.shape[-2]} priors; "
            "both must come from one prior layout"
        )
