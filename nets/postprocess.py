"""From raw outputs to boxes with scores."""

from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import nms

from nets.multibox_loss import at_least_float32
from nets.outputs import Detections, Outputs
from nets.rows import over_classes
from utils.boxes import decode, iou

# Groups whose pairwise overlaps are computed at once on a GPU: 256 x 400 x 400 numbers, 160 MiB.
DENSE_GROUPS = 256
# So many times `per_image` candidates are looked at first.
FIRST = 5


class Limits(NamedTuple):
    """What `postprocess` keeps."""

    score: float = 0.01
    iou: float = 0.45
    per_class: int = 400
    per_image: int = 200


EVALUATED = Limits()  # what AP is measured on
SHOWN = Limits(score=0.5)  # what people look at


class Candidates(NamedTuple):
    """Scores above the threshold, by image; `[N]` each, boxes `[N, 4]` xyxy in image fractions."""

    image: Tensor
    label: Tensor
    scores: Tensor
    boxes: Tensor

    def at(self, which: Tensor) -> "Candidates":
        """Those at some positions, or where a mask holds."""
        return Candidates(*(values[which] for values in self))


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
    batch, _, columns = outputs.logits.shape
    candidates = find_candidates(outputs, priors, score_threshold)
    return best_detections(candidates, batch, columns - 1, iou_threshold, per_class, per_image)


def best_detections(
    everything: Candidates,
    batch: int,
    classes: int,
    iou_threshold: float = 0.45,
    per_class: int = 400,
    per_image: int = 200,
) -> Detections:
    """The candidates of `batch` images that suppression leaves; see `postprocess`.

    Args:
        everything: by image, then prior, then class.
        batch: B.
        classes: K.
        iou_threshold: of two boxes of a class that overlap by more, the lower score goes.
        per_class: candidates of a class before suppression.
        per_image: D, detections of an image after it.
    """

    def survivors(candidates: Candidates) -> Candidates:
        """Those that suppression leaves, by class."""
        group = candidates.image * classes + candidates.label - 1
        best = best_of_each(group, candidates.scores, batch * classes, per_class)
        kept, group = candidates.at(best), group[best]
        return kept.at(suppress(kept.boxes, kept.scores, group, batch * classes, iou_threshold))

    # A box goes because of a better one. So the best candidates of an image leave what they would
    # leave among all, and where that is `per_image` already, nobody asks for the others.
    least = least_of_best(everything.image, everything.scores, batch, FIRST * per_image)
    first = (everything.scores >= least[everything.image]).nonzero()[:, 0]
    found = survivors(everything.at(first))
    if len(first) < len(everything.image):
        few = found.image.bincount(minlength=batch) < per_image
        cut = everything.image.bincount(minlength=batch) > FIRST * per_image
        again = few & cut
        rest = survivors(everything.at(again[everything.image]))
        done = found.at(~again[found.image])
        found = Candidates(*(torch.cat(parts) for parts in zip(done, rest, strict=True)))
    return padded(found, batch, per_image)


def find_candidates(outputs: Outputs, priors: Tensor, score_threshold: float) -> Candidates:
    """Every score above the threshold, by image, then prior, then class."""
    scores = over_classes(torch.softmax, at_least_float32(outputs.logits))
    scores[..., 0] = 0  # the background is nothing to detect
    _, count, columns = scores.shape
    flat = scores.flatten()
    place = (flat > score_threshold).nonzero()[:, 0]
    row, label = place // columns, place % columns
    offsets = outputs.offsets.flatten(0, 1)[row].to(priors.dtype)
    boxes = decode(offsets, priors[row % count]).clamp_(0, 1)
    return Candidates(row // count, label, flat[place], boxes)


def padded(found: Candidates, batch: int, per_image: int) -> Detections:
    """The best `per_image` of each image; of equal scores the one that comes first."""
    found = found.at(best_of_each(found.image, found.scores, batch, per_image))
    place = rank_in_group(found.image, batch)
    result = Detections(
        found.boxes.new_zeros(batch, per_image, 4),
        found.scores.new_zeros(batch, per_image),
        found.label.new_zeros(batch, per_image),
    )
    values = (found.boxes, found.scores, found.label)
    for everywhere, here in zip(result, values, strict=True):
        everywhere[found.image, place] = here
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


def least_of_best(group: Tensor, scores: Tensor, groups: int, most: int) -> Tensor:
    """The least of the best `most` scores of each group; -1 where there are no more than these.

    Args:
        group: `[N]`, sorted, in 0..groups.
        scores: `[N]`, at least 0.
        groups: G.
        most: at least 1.

    Returns:
        `[G]`.
    """
    widest = int(group.bincount().max()) if len(group) else 0
    if widest <= most:
        return scores.new_full((groups,), -1)
    table = scores.new_full((groups, widest), -1)
    table[group, rank_in_group(group, groups)] = scores
    return table.topk(most, sorted=False).values.amin(1)


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
