"""From raw outputs to boxes with scores."""

import torch
from torch import Tensor
from torchvision.ops import nms

from nets.multibox_loss import log_probabilities
from nets.outputs import Detections, Outputs
from utils.boxes import decode, iou

# Groups whose pairwise overlaps are computed at once on a GPU: 256 x 400 x 400 numbers, 160 MiB.
DENSE_GROUPS = 256


def postprocess(
    outputs: Outputs,
    priors: Tensor,
    score_threshold: float = 0.01,
    iou_threshold: float = 0.45,
    per_class: int = 400,
    per_image: int = 200,
) -> Detections:
    """What each image of a batch shows.

    Softmax; the best `per_class` priors of each class whose score is above the threshold; decoded
    and clipped boxes; non-maximum suppression class by class; the best `per_image` of what is left.
    Of equal scores that of the lower class, then of the lower prior, is the better one.

    Args:
        outputs: logits `[B, P, K + 1]`, offsets `[B, P, 4]`.
        priors: `[P, 4]`, cxcywh in image fractions.
        score_threshold: scores must be above it.
        iou_threshold: of two boxes that overlap by more, the lower score goes.
        per_class: candidates of a class before suppression.
        per_image: D, detections of an image after it.

    Returns:
        `Detections`, `[B, per_image, ...]`, by falling score; boxes xyxy in image fractions.

    Source: Liu et al., ECCV 2016, sec. 3.5 "Inference time": 0.01, 0.45 and 200; candidates 400 as
    in the authors' Caffe code.
    """
    everything = log_probabilities(outputs.logits).exp().transpose(1, 2)[..., 1:]
    batch, _, classes = everything.shape
    image, prior, column = (everything > score_threshold).nonzero(as_tuple=True)
    scores, group = everything[image, prior, column], image * classes + column
    best = best_of_each(group, scores, batch * classes, per_class)
    group, prior, scores = group[best], prior[best], scores[best]
    image, label = group // classes, group % classes + 1
    boxes = decode(outputs.offsets[image, prior].to(priors.dtype), priors[prior]).clamp(0, 1)

    alive = suppress(boxes, scores, group, batch * classes, iou_threshold)
    boxes, scores, image, label = boxes[alive], scores[alive], image[alive], label[alive]
    best = best_of_each(image, scores, batch, per_image)
    boxes, scores, image, label = boxes[best], scores[best], image[best], label[best]

    place = rank_in_group(image, batch)
    result = Detections(
        boxes.new_zeros(batch, per_image, 4),
        scores.new_zeros(batch, per_image),
        label.new_zeros(batch, per_image),
    )
    for padded, values in zip(result, (boxes, scores, label), strict=True):
        padded[image, place] = values
    return result


def rank_in_group(group: Tensor, groups: int) -> Tensor:
    """The place of each element of `[N]` sorted group numbers within its group, from 0."""
    start = torch.searchsorted(group, torch.arange(groups, device=group.device))
    return torch.arange(len(group), device=group.device) - start[group]


def best_of_each(group: Tensor, scores: Tensor, groups: int, most: int) -> Tensor:
    """Positions of the best `most` elements of each group, by group, then by falling score."""
    order = scores.argsort(descending=True, stable=True)
    order = order[group[order].argsort(stable=True)]
    return order[rank_in_group(group[order], groups) < most]


def suppress(
    boxes: Tensor, scores: Tensor, group: Tensor, groups: int, iou_threshold: float
) -> Tensor:
    """Non-maximum suppression within each group.

    Args:
        boxes: `[N, 4]` xyxy.
        scores: `[N]`, falling within each group.
        group: `[N]`, sorted, in 0..groups.
        groups: number of groups.
        iou_threshold: of two boxes of a group that overlap by more, the later one goes.

    Returns:
        `[N]` bool: what survives.
    """
    alive = torch.zeros_like(group, dtype=torch.bool)
    if boxes.is_cuda:
        used, inverse, counts = group.unique_consecutive(return_inverse=True, return_counts=True)
        place = rank_in_group(group, groups)
        padded = boxes.new_zeros(len(used), int(counts.max()) if len(used) else 0, 4)
        padded[inverse, place] = boxes
        kept = [suppress_dense(part, iou_threshold) for part in padded.split(DENSE_GROUPS)]
        return torch.cat(kept)[inverse, place] if kept else alive
    # On a CPU a loop over slices beats every batched form: most pairs need not be looked at.
    counts = group.unique_consecutive(return_counts=True)[1]
    parts = zip(*(x.split(counts.tolist()) for x in (boxes, scores)), strict=True)
    survivors = [nms(*part, iou_threshold) for part in parts]
    starts = (counts.cumsum(0) - counts).tolist()
    for start, places in zip(starts, survivors, strict=True):
        places += start
    if survivors:
        alive[torch.cat(survivors)] = True
    return alive


def suppress_dense(boxes: Tensor, iou_threshold: float) -> Tensor:
    """`[G, N, 4]` xyxy by falling score -> `[G, N]` bool, what survives; no loop over boxes.

    A box goes when a better one *that stays* overlaps it. Starting from "all stay", the rule is
    applied to all boxes at once until nothing changes. The best box is right from the start, and
    each round makes at least the next one right; in practice a few rounds do.
    """
    better = torch.ones(boxes.shape[1], boxes.shape[1], dtype=torch.bool, device=boxes.device)
    overlaps = (iou(boxes, boxes) > iou_threshold) & better.triu(1)
    alive = torch.ones(boxes.shape[:2], dtype=torch.bool, device=boxes.device)
    while True:
        after = ~(overlaps & alive[..., None]).any(1)
        if torch.equal(after, alive):
            return alive
        alive = after
