"""Which prior answers for which object."""

import torch
from torch import Tensor

from nets.outputs import Matches, Targets
from utils.boxes import coordinates, cxcywh_to_xyxy, encode, iou


def match(targets: Targets, priors: Tensor, iou_threshold: float = 0.5) -> Matches:
    """Assigns objects to priors, a whole batch at once.

    Each object claims its best prior; of two objects with the same best prior the later one has it.
    Any other prior takes the object it overlaps most, if their IoU is at least `iou_threshold`.
    Padding and degenerate boxes (width or height not above 0, or not finite) claim nothing. Ties
    go to the lower index, so the result is the same on every device.

    Args:
        targets: boxes `[B, M, 4]` xyxy in image fractions, labels `[B, M]`; M may be 0.
        priors: `[P, 4]`, cxcywh in image fractions.
        iou_threshold: in 0..1.

    Returns:
        `Matches` with labels `[B, P]` and offsets `[B, P, 4]`.

    Source: Liu et al., ECCV 2016, sec. 2.2 "Matching strategy".
    """
    boxes, labels = targets
    batch, objects = labels.shape
    corners = cxcywh_to_xyxy(priors)
    if objects == 0:
        return Matches(
            labels.new_zeros(batch, len(priors)), corners.new_zeros(batch, len(priors), 4)
        )
    usable = (labels > 0) & (boxes[..., 2:] > boxes[..., :2]).all(-1) & boxes.isfinite().all(-1)
    boxes = boxes.masked_fill(~usable[..., None], 0)
    # 0 - 1 sorts below every true overlap, so an unusable object is never anybody's best.
    overlaps = iou(boxes, corners).sub_((~usable)[..., None].to(boxes.dtype))  # [B, M, P]
    best_overlap, best_object = overlaps.max(dim=1)  # of each prior, [B, P]

    # The claims are written with a maximum over object numbers: the later object wins, and unlike
    # an indexed assignment the outcome does not depend on the order of execution.
    number = torch.arange(objects, device=labels.device).expand(batch, -1)
    claims = labels.new_full((batch, len(priors)), -1)
    claims.scatter_reduce_(1, overlaps.argmax(dim=2), number.masked_fill(~usable, -1), "amax")
    claimed = claims >= 0
    chosen = torch.where(claimed, claims, best_object)
    positive = claimed | (best_overlap >= iou_threshold)

    prior_labels = labels.gather(1, chosen).masked_fill_(~positive, 0)
    # Coordinates first, [4, B, P]: see `utils.boxes.coordinates`.
    columns = torch.stack(coordinates(boxes)).gather(2, chosen.expand(4, -1, -1))
    # Encoding a prior's own box gives zeros: no log(0) from padding can reach a gradient.
    own = torch.stack(coordinates(corners.to(boxes.dtype)))[:, None]
    chosen_boxes = torch.where(positive, columns, own).movedim(0, -1)
    return Matches(prior_labels, encode(chosen_boxes, priors.to(boxes.dtype)))
