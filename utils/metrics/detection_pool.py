"""The evaluator's data: images, checked one by one, then pooled and ranked all together."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


class Image(NamedTuple):
    """Detections and objects of one image; boxes are xyxy in continuous pixels, labels 1..K."""

    boxes: Floats  # [D, 4]
    scores: Floats  # [D]
    labels: Ints  # [D]
    truth_boxes: Floats  # [M, 4]
    truth_labels: Ints  # [M]
    difficult: Bools  # [M]


class Pairs(NamedTuple):
    """Every detection beside every object of its image and class that it overlaps.

    In rising order of detection, then object.
    """

    detection: Ints  # [P], index
    object: Ints  # [P], index
    iou: Floats  # [P], in (0, 1]

    def where(self, keep: Bools) -> "Pairs":
        """The pairs for which `keep` `[P]` is true."""
        return Pairs(self.detection[keep], self.object[keep], self.iou[keep])


class Pool(NamedTuple):
    """All images: detections by class and falling score, objects by class and image."""

    scores: Floats  # [D]
    areas: Floats  # [D], square pixels
    places: Ints  # [D], rank among the detections of the same class and image, from 0
    bounds: Ints  # [K + 1], the detections of class k are bounds[k]:bounds[k + 1]
    object_classes: Ints  # [O], from 0
    object_areas: Floats  # [O], square pixels
    difficult: Bools  # [O]
    pairs: Pairs

    def objects_to_find(self, ignore: Bools) -> Ints:
        """`[K]`, how many objects each class has besides those to `ignore` `[O]`."""
        return np.bincount(self.object_classes[~ignore], minlength=len(self.bounds) - 1)

    def of_class(self, k: int) -> slice:
        """Where the detections of class k stand."""
        return slice(self.bounds[k], self.bounds[k + 1])


def pool_images(images: Sequence[Image], classes: int) -> Pool:
    """Rank all detections and pair them with the objects they may find.

    Detections with equal scores keep the order of the images, and within an image their own.
    """
    images = [_NO_IMAGE, *images]  # np.concatenate wants one array at least
    scores = np.concatenate([image.scores for image in images])
    labels = np.concatenate([image.labels for image in images])
    ranking = np.lexsort((-scores, labels))
    boxes = np.concatenate([image.boxes for image in images])[ranking]
    groups = _groups([image.labels for image in images])[ranking]
    places = np.empty_like(groups)
    places[np.argsort(groups, kind="stable")] = _count_up(np.bincount(groups))

    object_groups = _groups([image.truth_labels for image in images])
    order = np.argsort(object_groups, kind="stable")
    truth_boxes = np.concatenate([image.truth_boxes for image in images])[order]
    return Pool(
        scores=scores[ranking],
        areas=box_areas(boxes),
        places=places,
        bounds=np.searchsorted(labels[ranking], np.arange(1, classes + 2)),
        object_classes=np.concatenate([image.truth_labels for image in images])[order] - 1,
        object_areas=box_areas(truth_boxes),
        difficult=np.concatenate([image.difficult for image in images])[order],
        pairs=overlapping_pairs(boxes, groups, truth_boxes, object_groups[order]),
    )


def _groups(labels: Sequence[Ints]) -> Ints:
    """A number for each pair of class and image, rising by class and then by image."""
    image = np.repeat(np.arange(len(labels)), [len(of_image) for of_image in labels])
    return np.concatenate(labels) * len(labels) + image


def _count_up(counts: Ints) -> Ints:
    """0, 1, .. up to each of `counts`, one after the other: [2, 3] gives [0, 1, 0, 1, 2]."""
    starts = np.cumsum(counts) - counts
    return np.arange(counts.sum()) - np.repeat(starts, counts)


def box_areas(boxes: Floats) -> Floats:
    """`[N]` areas of `[N, 4]` xyxy boxes; an inverted one has area 0."""
    sides = (boxes[:, 2:] - boxes[:, :2]).clip(min=0)
    areas: Floats = sides[:, 0] * sides[:, 1]
    return areas


def overlapping_pairs(
    boxes: Floats, groups: Ints, object_boxes: Floats, object_groups: Ints
) -> Pairs:
    """The pairs of one group that overlap; pairs across groups are never formed.

    Args:
        boxes: `[D, 4]`, detections, xyxy in pixels; an inverted one overlaps nothing.
        groups: `[D]`, integers >= 0.
        object_boxes: `[O, 4]`, xyxy in pixels.
        object_groups: `[O]`, in rising order.
    """
    size = 1 + max(groups.max(initial=0), object_groups.max(initial=0))
    in_group = np.bincount(object_groups, minlength=size)
    counts = in_group[groups]
    detection = np.repeat(np.arange(len(boxes)), counts)
    first_object = (np.cumsum(in_group) - in_group)[groups]
    object_ = first_object[detection] + _count_up(counts)

    a, b = boxes[detection], object_boxes[object_]
    sides = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    overlaps = (sides > 0).all(axis=1)
    detection, object_ = detection[overlaps], object_[overlaps]
    intersection = sides[overlaps].prod(axis=1)
    union = box_areas(boxes)[detection] + box_areas(object_boxes)[object_] - intersection
    return Pairs(detection, object_, intersection / union)


def labelled_boxes(
    boxes: ArrayLike | Tensor,
    labels: ArrayLike | Tensor,
    classes: int,
    what: str,
    *,
    inverted: bool = False,
) -> tuple[Floats, Ints]:
    """Boxes `[N, 4]` and labels `[N]` as arrays.

    Raises:
        ValueError: `what` has a box that is not finite xyxy, or, unless `inverted` is true, one
            without x1 <= x2 and y1 <= y2, or not one label in 1..classes per box.
    """
    corners = _array(boxes)
    corners = corners.reshape(0, 4) if corners.size == 0 else corners
    if corners.ndim != 2 or corners.shape[1] != 4:
        raise ValueError(f"{what} boxes have shape {corners.shape}; give [N, 4]")
    good = np.isfinite(corners).all(axis=1)
    wanted = "finite xyxy"
    if not inverted:
        good &= (corners[:, 2:] >= corners[:, :2]).all(axis=1)
        wanted += ", x1 <= x2, y1 <= y2"
    if not good.all():
        i = good.argmin()
        raise ValueError(f"{what} {i} has box {corners[i].tolist()}; give {wanted}")
    numbers = finite(labels, len(corners), f"{what} labels")
    good = np.isin(numbers, np.arange(1, classes + 1))
    if not good.all():
        i = good.argmin()
        raise ValueError(
            f"{what} {i} has label {numbers[i]:g}, not in 1..{classes}; remove padding (label 0)"
        )
    return corners, numbers.astype(np.int64)


def finite(values: ArrayLike | Tensor, length: int, what: str) -> Floats:
    """`values` as an array `[length]`.

    Raises:
        ValueError: there are more or fewer, or one is not finite.
    """
    numbers = _array(values)
    if numbers.shape != (length,):
        raise ValueError(f"{what} have shape {numbers.shape}; give one per box, [{length}]")
    if not np.isfinite(numbers).all():
        i = np.isfinite(numbers).argmin()
        raise ValueError(f"{what} hold {numbers[i]} at {i}; give finite numbers")
    return numbers


def _array(values: ArrayLike | Tensor) -> Floats:
    """A copy, because callers may reuse their buffers."""
    if isinstance(values, Tensor):
        values = values.detach().to("cpu", torch.float64).numpy()
    return np.array(values, dtype=np.float64)


_NO_IMAGE = Image(
    boxes=np.zeros((0, 4)),
    scores=np.zeros(0),
    labels=np.zeros(0, dtype=np.int64),
    truth_boxes=np.zeros((0, 4)),
    truth_labels=np.zeros(0, dtype=np.int64),
    difficult=np.zeros(0, dtype=np.bool_),
)
