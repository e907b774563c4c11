"""The exported file beside PyTorch on real images: the same detections, or the first difference.

The two add up the same numbers in another order, so their last digits differ, and a comparison
that hangs on the last digit may end otherwise. Such a close call is no difference; it is counted.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from nets.detect import detect
from nets.outputs import Detections, Targets
from nets.postprocess import Limits, find_candidates, postprocess
from nets.saved.exported import Exported
from nets.ssd import SSD300
from utils.boxes import iou
from utils.data.augment import resize
from utils.data.store import Store
from utils.engine.evaluation import evaluate
from utils.metrics.evaluator import Evaluator
from utils.runtime.device import Precision

TOLERANCE = 1e-4


class Found(NamedTuple):
    """The detections of one image, best first: `[N, 4]`, `[N]`, `[N]`."""

    boxes: Tensor
    scores: Tensor
    labels: Tensor

    def at(self, which: Tensor) -> "Found":
        """Some of them."""
        return Found(*(values[which] for values in self))


class Agreement(NamedTuple):
    """What a check has seen: how much, and where it was close."""

    images: int
    detections: int
    close: list[str]


@torch.no_grad()
def check(
    model: SSD300,
    exported: Exported,
    store: Store,
    limits: Limits,
    class_names: Sequence[str],
    batch_size: int,
) -> Agreement:
    """Shows every image of a split to both.

    Raises:
        ValueError: they differ; names the image and the first difference.
    """
    count, close = 0, []
    order = torch.arange(len(store)).split(batch_size)
    for batch in tqdm(store.batches(order), "check", len(order), leave=False):
        images, _ = resize(batch.images, batch.sizes, batch.targets)
        images = images.round() if exported.takes_bytes else images
        outputs = model(images)
        ours = postprocess(outputs, model.priors, limits.score, limits.iou)
        theirs = exported.detect(images, limits)
        candidates = find_candidates(outputs, model.priors, limits.score - TOLERANCE)
        for i, index in enumerate(batch.indices.tolist()):
            two = (real(ours, i), real(theirs, i))
            count += len(two[0].labels)
            image = store.samples[index].image_id
            of_image = candidates.at(candidates.image == i)
            before = Found(of_image.boxes, of_image.scores, of_image.label)
            reasons = compare(*two, before, limits, class_names, image)
            close += [f"{image}: {reason}" for reason in reasons]
    return Agreement(len(store), count, close)


def precision_of(
    model: SSD300 | Exported,
    store: Store,
    limits: Limits,
    class_names: Sequence[str],
    batch_size: int,
) -> tuple[float, float]:
    """Mean AP of what a network detects in a split, VOC07's and COCO's, in 0..1."""
    evaluator = Evaluator(class_names)

    def predict(images: Tensor, targets: Targets) -> tuple[dict[str, Tensor], Detections]:
        del targets
        return {}, detect(model, images, limits)

    evaluate(predict, store, evaluator, Precision(store.device), batch_size)
    return evaluator.result("voc07").mean, evaluator.result("coco").mean


def real(found: Detections, i: int) -> Found:
    """The detections of image `i` without padding."""
    return Found(*(values[i][found.labels[i] > 0] for values in found))


def compare(
    ours: Found,
    theirs: Found,
    candidates: Found,
    limits: Limits,
    class_names: Sequence[str],
    image: str,
) -> list[str]:
    """Why each detection that only one of the two has is a close call.

    Args:
        ours: what PyTorch shows in an image.
        theirs: what the file shows in it.
        candidates: PyTorch's before suppression; whatever the file shows is one of them.
        limits: of post-processing.
        class_names: of the labels 1..K.
        image: its id, for the error.

    Raises:
        ValueError: one of them is none.
    """
    matched = partners(ours, theirs)
    alone = [("PyTorch", ours, theirs, i) for i in (matched < 0).nonzero()[:, 0].tolist()]
    others = set(range(len(theirs.labels))) - set(matched.tolist())
    alone += [("the file", theirs, ours, i) for i in others]
    alone.sort(key=lambda one: -float(one[1].scores[one[3]]))
    reasons, excused = [], [ours.at(torch.tensor([], dtype=torch.long))]
    for who, mine, other, i in alone:
        one = mine.at(torch.tensor([i]))
        kept = Found(*(torch.cat(parts) for parts in zip(ours, theirs, strict=True)))
        before = Found(*(torch.cat(parts) for parts in zip(*excused, strict=True)))
        known = other is theirs or int(partners(one, candidates)) >= 0
        cut = last_score(candidates, one.labels, limits.per_class)
        reason = known and why_close(one, kept, before, other, cut, limits)
        name = class_names[int(one.labels) - 1]
        if not reason:
            raise ValueError(
                f"{image}: {who} has {name} {float(one.scores):.6f} at {numbers(one.boxes[0])}, "
                f"the other one has {nearest(one, other)}"
            )
        reasons.append(f"only {who} has {name} {float(one.scores):.6f}: {reason}")
        excused.append(one)
    return reasons


def partners(ours: Found, theirs: Found) -> Tensor:
    """`[N]`: which of `theirs` is the same as each of `ours`, each taken once; -1 for none."""
    same = ours.labels[:, None] == theirs.labels
    same &= (ours.scores[:, None] - theirs.scores).abs() <= TOLERANCE
    same &= (ours.boxes[:, None] - theirs.boxes).abs().amax(-1) <= TOLERANCE
    matched = torch.full((len(ours.labels),), -1)
    for i, row in enumerate(same):
        free = row.nonzero()[:, 0]
        if len(free):
            matched[i] = free[0]
            same[:, free[0]] = False
    return matched


def why_close(
    one: Found, kept: Found, excused: Found, other: Found, cut: float, limits: Limits
) -> str:
    """Which comparison the last digits decide, of those that let `one` in; empty: none of them.

    Args:
        one: the detection that one side alone has.
        kept: what either side has.
        excused: close calls with better scores.
        other: the side that does not have it.
        cut: the score of the last candidate of its class.
        limits: of post-processing.
    """
    score = float(one.scores)
    if abs(score - limits.score) <= TOLERANCE:
        return f"its score is at the threshold of {limits.score:g}"
    if abs(score - cut) <= TOLERANCE:
        return f"its score is that of the last of the {limits.per_class} candidates of its class"
    if len(other.labels) == limits.per_image and score <= float(other.scores[-1]) + TOLERANCE:
        return f"its score is that of the last of the image's {limits.per_image}"
    suppressors = kept.at(could_suppress(one, kept))
    overlaps = iou(one.boxes.double(), suppressors.boxes.double())[0]
    at = (overlaps - limits.iou).abs() <= TOLERANCE
    if at.any():
        return f"it overlaps a better one by {float(overlaps[at][0]):.6f}"
    equal = (suppressors.scores - score).abs() <= TOLERANCE
    if (equal & (overlaps > limits.iou) & (overlaps < 1)).any():
        return "it overlaps one of the same score, and the better one stays"
    before = excused.at(could_suppress(one, excused))
    if (iou(one.boxes, before.boxes) > limits.iou - TOLERANCE).any():
        return "it overlaps another close call"
    return ""


def last_score(candidates: Found, label: Tensor, per_class: int) -> float:
    """The lowest score of a class that suppression looks at."""
    scores = candidates.scores[candidates.labels == label]
    return float(scores.topk(per_class).values[-1]) if len(scores) > per_class else 0.0


def could_suppress(one: Found, those: Found) -> Tensor:
    """Which of `those` are of its class and not certainly worse."""
    return (those.labels == one.labels) & (those.scores >= one.scores - TOLERANCE)


def nearest(one: Found, other: Found) -> str:
    """What a side has of this class at this place."""
    there = other.at(other.labels == one.labels)
    if not len(there.labels):
        return "nothing of this class"
    best = there.at(iou(one.boxes, there.boxes).argmax(1))
    return f"{float(best.scores):.6f} at {numbers(best.boxes[0])} nearest to it"


def numbers(box: Tensor) -> str:
    """A box for people."""
    return f"({', '.join(f'{x:.5f}' for x in box.tolist())})"
