"""Which prior answers for which object."""

import torch
from torch import Tensor

from nets.outputs import Matches, Targets
from nets.rows import Rows, largest_place, looks_at_all
from utils.boxes import coordinates, cxcywh_to_xyxy, encode, iou


def match(targets: Targets, priors: Tensor, iou_threshold: float = 0.5) -> Matches:
    """Assigns objects to priors, a whole batch at once.

    Each object claims its best prior; of two objects with the same best prior the later one has it.
    Any other prior takes the object it overlaps most, if their IoU is at least `iou_threshold`.
    Padding and degenerate boxes (width or height not above 0, or not finite) claim nothing. Ties
    go to the lower index, so the result is the same on every device.

    An object with label -1 (a difficult one, say) is nobody's object: the priors that it would have
    had, and that no other object has, are ignored (label -1).

    Args:
        targets: boxes `[B, M, 4]` xyxy in image fractions, labels `[B, M]`; M may be 0.
        priors: `[P, 4]`, cxcywh in image fractions.
        iou_threshold: in 0..1.

    Returns:
        `Matches`, `[B, P, ...]`.

    Source: Liu et al., ECCV 2016, sec. 2.2 "Matching strategy".
    """
    boxes, labels = targets
    batch, objects = labels.shape
    corners = cxcywh_to_xyxy(priors).to(boxes.dtype)
    if objects == 0:
        nothing = labels.new_zeros(batch, len(priors))
        return Matches(nothing, boxes.new_zeros(batch, len(priors), 4), nothing)
    sound = (boxes[..., 2:] > boxes[..., :2]).all(-1) & boxes.isfinite().all(-1)
    real, ignored = sound & (labels > 0), sound & (labels < 0)
    boxes = boxes.masked_fill(~sound[..., None], 0)
    overlaps = iou(boxes, corners)  # [B, M, P]
    best_prior = largest_place(overlaps)

    chosen, positive = assign(overlaps, best_prior, real, iou_threshold)
    prior_labels = labels.gather(1, chosen).masked_fill_(~positive.mask, 0)
    if looks_at_all(labels.device) or ignored.any():
        _, taken = assign(overlaps, best_prior, ignored, iou_threshold)
        prior_labels.masked_fill_(taken.mask & ~positive.mask, -1)
    offsets = encode_matched(boxes, chosen, positive, priors.to(boxes.dtype))
    return Matches(prior_labels, offsets, chosen)


def assign(
    overlaps: Tensor, best_prior: Tensor, takes_part: Tensor, iou_threshold: float
) -> tuple[Tensor, Rows]:
    """The object of each prior.

    Args:
        overlaps: `[B, M, P]`, IoU of objects and priors.
        best_prior: `[B, M]`, the prior that each object overlaps most.
        takes_part: `[B, M]` bool, the objects to look at.
        iou_threshold: see `match`.

    Returns:
        objects `[B, P]`, numbers in 0..M - 1, and the priors that have one.
    """
    # 0 - 1 sorts below every true overlap, so the others are never anybody's best.
    shown = overlaps - (~takes_part)[..., None].to(overlaps.dtype)
    # The claims are written with a maximum over object numbers: the later object wins, and unlike
    # an indexed assignment the outcome does not depend on the order of execution.
    number = torch.arange(takes_part.shape[1], device=overlaps.device).expand_as(takes_part)
    claims = number.new_full((len(overlaps), overlaps.shape[2]), -1)
    claims.scatter_reduce_(1, best_prior, number.masked_fill(~takes_part, -1), "amax")
    claimed = claims >= 0
    taken = Rows(claimed | (shown.amax(dim=1) >= iou_threshold))
    return torch.where(claimed, claims, best_objects(shown, taken)), taken


def best_objects(overlaps: Tensor, asked: Rows) -> Tensor:
    """The object that each prior overlaps most; of priors that are not asked, any number.

    `[B, M, P]` -> `[B, P]`.
    """
    if asked.index is None:
        return overlaps.max(dim=1).indices
    batch, _, count = overlaps.shape
    image, prior = asked.index // count, asked.index % count
    best = overlaps[image, :, prior].argmax(dim=1)
    return asked.index.new_zeros(batch * count).index_copy_(0, asked.index, best).view(batch, -1)


def encode_matched(boxes: Tensor, objects: Tensor, positive: Rows, priors: Tensor) -> Tensor:
    """The offsets from each positive prior to its object, zero up to rounding elsewhere.

    Args:
        boxes: `[B, M, 4]` xyxy.
        objects: `[B, P]`, which box is whose.
        positive: the priors that have one.
        priors: `[P, 4]` cxcywh.

    Returns:
        `[B, P, 4]`, encoded.
    """
    if positive.index is not None:
        image, prior = positive.index // len(priors), positive.index % len(priors)
        found = encode(boxes[image, objects[image, prior]], priors[prior])
        dense = boxes.new_zeros(positive.mask.numel(), 4).index_copy_(0, positive.index, found)
        return dense.view(*objects.shape, 4)
    # Coordinates first, [4, B, P]: see `utils.boxes.coordinates`.
    columns = torch.stack(coordinates(boxes)).gather(2, objects.expand(4, -1, -1))
    # Encoding a prior's own box gives zeros: no log(0) from padding can reach a gradient.
    own = torch.stack(coordinates(cxcywh_to_xyxy(priors)))[:, None]
    chosen = torch.where(positive.mask, columns, own).movedim(0, -1)
    return encode(chosen, priors)
