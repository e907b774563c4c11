"""How far two lists of detections of one image, or detections and its objects, say the same."""

from typing import NamedTuple

import numpy as np
import torch

from utils.boxes import iou
from utils.metrics.detection_pool import Floats, Ints

HIT = 0.5  # IoU from which two boxes of a class are one thing, as in VOC's AP


class Boxes(NamedTuple):
    """What is said of an image; of objects every score is 1."""

    boxes: Floats  # [D, 4] xyxy
    scores: Floats  # [D] in 0..1
    labels: Ints  # [D] 1..K

    def where(self, keep: np.ndarray) -> "Boxes":
        """Those for which `keep` `[D]` is true."""
        return Boxes(self.boxes[keep], self.scores[keep], self.labels[keep])


class Agreement(NamedTuple):
    """How far two lists say the same.

    share: 0..1, what both say over what either says, each box weighted with its score: the weighted
        Jaccard index. Two lists that say nothing agree.
    both, first, second: how many boxes are in both, only in the first, only in the second.
    """

    share: float
    both: int
    first: int
    second: int


def agreement(first: Boxes, second: Boxes) -> Agreement:
    """Pairs boxes of one class that overlap by `HIT`, the closest first, each once.

    Source of the index: Ruzicka 1958; sum of minima over sum of maxima of the weights.
    """
    pairs = matched(first, second)
    common = sum(min(first.scores[i], second.scores[j]) for i, j in pairs)
    total = first.scores.sum() + second.scores.sum() - common
    share = float(common / total) if total > 0 else 1.0
    count = len(pairs)
    return Agreement(share, count, len(first.scores) - count, len(second.scores) - count)


def matched(first: Boxes, second: Boxes) -> list[tuple[int, int]]:
    """The pairs of `agreement`, as positions in the two lists."""
    overlaps = iou(torch.from_numpy(first.boxes), torch.from_numpy(second.boxes)).numpy()
    overlaps = np.where(first.labels[:, None] == second.labels[None, :], overlaps, 0.0)
    pairs: list[tuple[int, int]] = []
    for flat in np.argsort(-overlaps, axis=None, kind="stable").tolist():
        i, j = divmod(flat, overlaps.shape[1])
        if overlaps[i, j] < HIT:
            break
        if all(i != a and j != b for a, b in pairs):
            pairs.append((i, j))
    return pairs


def without_difficult(found: Boxes, objects: Boxes, difficult: np.ndarray) -> tuple[Boxes, Boxes]:
    """Detections and objects without the difficult objects `[M]` and what has found one of them."""
    on_difficult = {i for i, j in matched(found, objects) if difficult[j]}
    kept = np.array([i not in on_difficult for i in range(len(found.scores))], dtype=bool)
    return found.where(kept), objects.where(~difficult)
