"""Average precision as pure functions of arrays: match, rank, integrate.

Detections come *ranked*: by class, then by falling score. A match says of each detection whether it
is a hit and whether it is ignored, that is struck from the ranking; any other is a false positive.
"""

from typing import NamedTuple

import numpy as np

from utils.metrics.detection_pool import Bools, Floats, Ints, Pairs, Pool

# Not decimal fractions but what everybody's published numbers were computed with: the fourth is
# 0.30000000000000004, and a recall of exactly 3/10 does not reach it.
VOC07_RECALLS: Floats = np.arange(0.0, 1.1, 0.1)
COCO_RECALLS: Floats = np.linspace(0.0, 1.0, 101)
COCO_IOUS: Floats = np.linspace(0.5, 0.95, 10)
COCO_MAX_DETECTIONS = 100
COCO_RECALL_DEPTHS = (1, 10, COCO_MAX_DETECTIONS)


class Match(NamedTuple):
    """`hit` and `ignored`: `[..., D]`, never both true for one detection."""

    hit: Bools
    ignored: Bools


def voc_match(pairs: Pairs, difficult: Bools, detections: int, iou: float) -> Match:
    """Match by the VOC devkit's rules.

    A detection is judged by its best-overlapping object alone (the first of equals), free or not.
    Below `iou` it is false; on a difficult object it is ignored; else the best-ranked detection of
    an object is its hit and all others are false.

    Args:
        pairs: of ranked detections.
        difficult: `[O]`.
        detections: D, how many there are.
        iou: the least IoU of a hit.

    Returns:
        `hit` and `ignored`, `[D]`.

    Source: Everingham et al., VOCdevkit, VOCevaldet.m.
    """
    detection, object_, overlap = pairs.where(pairs.iou >= iou)
    by_overlap = np.lexsort((-overlap, detection))
    detection, best = np.unique(detection[by_overlap], return_index=True)
    object_ = object_[by_overlap][best]
    _, earliest = np.unique(object_, return_index=True)
    hit, ignored = np.zeros((2, detections), dtype=np.bool_)
    hit[detection[earliest]] = True
    ignored[detection] = difficult[object_]
    return Match(hit & ~ignored, ignored)


def coco_match(pairs: Pairs, ignore: Bools, places: Ints) -> Match:
    """Match by the COCO API's rules, at all of `COCO_IOUS` at once.

    By falling score each detection takes, of the objects of its class and image that are still free
    and reach the threshold, the one with the largest IoU (the last of equals); an ignored object
    only when no other is left, and then the detection is ignored too.

    The loop runs over places, not images: the r-th detections of all images and classes choose at
    once, which they can because no two of them share an object.

    Args:
        pairs: of ranked detections.
        ignore: `[O]`, the objects that must not be found.
        places: `[D]`, rank among the detections of the same class and image, from 0.

    Returns:
        `hit` and `ignored`, `[T, D]` with T the thresholds.

    Source: pycocotools 2.0, COCOeval.evaluateImg.
    """
    choosers, choices, overlaps = _preferences(pairs.where(pairs.iou >= COCO_IOUS[0]), ignore)
    free = np.ones((len(ignore), len(COCO_IOUS)), dtype=np.bool_)
    hit, ignored = np.zeros((2, len(COCO_IOUS), len(places)), dtype=np.bool_)
    for place in range(COCO_MAX_DETECTIONS):
        rows = np.flatnonzero(places[choosers] == place)
        # A row's choices stand in order of preference: the first open one is taken.
        open_ = free[choices[rows]] & (overlaps[rows, :, None] >= COCO_IOUS)
        row, threshold = np.nonzero(open_.any(axis=1))
        taken = choices[rows[row], open_.argmax(axis=1)[row, threshold]]
        free[taken, threshold] = False
        hit[threshold, choosers[rows[row]]] = ~ignore[taken]
        ignored[threshold, choosers[rows[row]]] = ignore[taken]
    return Match(hit, ignored)


def _preferences(pairs: Pairs, ignore: Bools) -> tuple[Ints, Ints, Floats]:
    """The detections `[N]` in `pairs`, their objects in order of preference `[N, C]`, and the IoUs.

    Rows with fewer than C objects are filled up with IoU 0, which reaches no threshold.
    """
    order = np.lexsort((-pairs.object, -pairs.iou, ignore[pairs.object], pairs.detection))
    choosers, starts, counts = np.unique(pairs.detection, return_index=True, return_counts=True)
    cell = (
        np.repeat(np.arange(len(choosers)), counts),
        np.arange(len(order)) - np.repeat(starts, counts),
    )
    shape = (len(choosers), counts.max(initial=1))
    choices = np.zeros(shape, dtype=np.int64)
    choices[cell] = pairs.object[order]
    overlaps = np.zeros(shape)
    overlaps[cell] = pairs.iou[order]
    return choosers, choices, overlaps


def precision_recall(hit: Bools, ignored: Bools, objects: int) -> tuple[Floats, Floats]:
    """Precision and recall after each detection of one class that is not ignored.

    Args:
        hit: `[D]`, by falling score.
        ignored: `[D]`.
        objects: how many there are to find.

    Returns:
        Two arrays, shorter than D by the ignored; the recall of no objects is nan.
    """
    hits = np.cumsum(hit[~ignored])
    return hits / np.arange(1, len(hits) + 1), hits / (objects or np.nan)


def envelope(precision: Floats) -> Floats:
    """At each place the best precision there or further down the ranking."""
    highest: Floats = np.maximum.accumulate(precision[::-1])[::-1]
    return highest


def interpolated_ap(precision: Floats, recall: Floats, points: Floats) -> float:
    """Mean over `points` of the best precision at recall >= point; 0 where recall ends before."""
    at_least = np.searchsorted(recall, points, side="left")
    return float(np.append(envelope(precision), 0.0)[at_least].mean())


def area_ap(precision: Floats, recall: Floats) -> float:
    """Area under the monotone envelope of the precision-recall curve, as VOC has it since 2010."""
    return float((np.diff(recall, prepend=0.0) * envelope(precision)).sum())


def eleven_point_ap(precision: Floats, recall: Floats) -> float:
    """Mean of the best precision at recall >= 0, .1, .., 1, as VOC had it until 2009."""
    return interpolated_ap(precision, recall, VOC07_RECALLS)


VOC_AP = {"voc07": eleven_point_ap, "voc10": area_ap}


class CocoTable(NamedTuple):
    """COCO's numbers before they are averaged; nan for a class without objects."""

    precision: Floats  # [T, K], average precision by IoU threshold and class
    recall: Floats  # [3, T, K], recall of the best 1, 10 and 100 detections per image and class


def coco_table(pool: Pool, smallest: float, largest: float) -> CocoTable:
    """COCO's evaluation of the objects whose area is in `smallest`..`largest` square pixels.

    Other objects, and difficult ones, are ignored, and so are unmatched detections of other areas.

    Source: pycocotools 2.0, COCOeval.evaluateImg and COCOeval.accumulate.
    """
    ignore = pool.difficult | (pool.object_areas < smallest) | (pool.object_areas > largest)
    hit, ignored = coco_match(pool.pairs, ignore, pool.places)
    ignored |= ~hit & ((pool.areas < smallest) | (pool.areas > largest))
    ignored |= pool.places >= COCO_MAX_DETECTIONS
    objects = pool.objects_to_find(ignore)
    precision = np.full((len(COCO_IOUS), len(objects)), np.nan)
    recall = np.full((len(COCO_RECALL_DEPTHS), *precision.shape), np.nan)
    for k in np.flatnonzero(objects).tolist():
        of_class = pool.of_class(k)
        for t in range(len(COCO_IOUS)):
            curve = precision_recall(hit[t, of_class], ignored[t, of_class], objects[k])
            precision[t, k] = interpolated_ap(*curve, COCO_RECALLS)
        for d, depth in enumerate(COCO_RECALL_DEPTHS):
            shallow = hit[:, of_class] & (pool.places[of_class] < depth)
            recall[d, :, k] = shallow.sum(axis=1) / objects[k]
    return CocoTable(precision, recall)
