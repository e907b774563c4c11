"""Average precision of a detector: by the rules of VOC 2007, of VOC 2010, and of COCO."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from utils.metrics.agreement import Boxes
from utils.metrics.average_precision import (
    COCO_RECALL_DEPTHS,
    VOC_AP,
    CocoTable,
    Match,
    coco_table,
    precision_recall,
    voc_match,
)
from utils.metrics.detection_pool import (
    Bools,
    Floats,
    Image,
    Ints,
    Pool,
    finite,
    labelled_boxes,
    pool_images,
)

# Square pixels, both ends included (pycocotools, Params.setDetParams).
COCO_AREAS = {"all": (0, 1e10), "s": (0, 32**2), "m": (32**2, 96**2), "l": (96**2, 1e10)}


class Result(NamedTuple):
    """AP in 0..1: of every class (nan where it has no objects), and the mean over the others."""

    mean: float
    per_class: dict[str, float]


class Evaluator:
    """Collects detections and objects image by image, and scores them all together.

    Of detections with equal scores that of the lower image id ranks first, within an image the one
    given first. So the order in which images arrive never matters.

    A detection whose box is inverted or empty is false, whatever the protocol: it is there, ranks
    by its score, has area 0 and hits nothing. The VOC devkit counts it so, because what the box and
    an object share is no wider than the box itself. (The COCO API strikes a box of negative area
    from the ranking, so that nonsense would cost nothing.) Objects must have x1 <= x2 and y1 <= y2.
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        """Label k is `class_names[k - 1]`.

        Raises:
            ValueError: a name occurs twice.
        """
        self.class_names = tuple(class_names)
        if len(set(self.class_names)) < len(self.class_names):
            raise ValueError(f"class names {self.class_names}: one occurs twice; name each once")
        self._images: dict[str, Image] = {}
        self._forget()

    def _forget(self) -> None:
        """Drop what was computed from the images so far."""
        self._pooled: Pool | None = None
        self._voc_matches: dict[float, Match] = {}
        self._coco_tables: dict[str, CocoTable] = {}

    def update(
        self,
        image_id: str,
        *,
        boxes: ArrayLike | Tensor,
        scores: ArrayLike | Tensor,
        labels: ArrayLike | Tensor,
        truth_boxes: ArrayLike | Tensor,
        truth_labels: ArrayLike | Tensor,
        difficult: ArrayLike | Tensor,
    ) -> None:
        """Add one image.

        Args:
            image_id: unique, such as VOC2007/000005.
            boxes: `[D, 4]`, detections, xyxy in continuous pixels, finite.
            scores: `[D]`, finite.
            labels: `[D]`, 1..K, without padding.
            truth_boxes: `[M, 4]`, objects, as `boxes`, with x1 <= x2 and y1 <= y2.
            truth_labels: `[M]`, 1..K.
            difficult: `[M]`, true for an object that need not be found.

        Raises:
            ValueError: the id was given before, lengths disagree, or a value breaks these rules.
        """
        if image_id in self._images:
            raise ValueError(f"image {image_id} is given twice; give each image once")
        classes = len(self.class_names)
        found, found_labels = labelled_boxes(
            boxes, labels, classes, f"image {image_id}: detection", inverted=True
        )
        truth, truth_classes = labelled_boxes(
            truth_boxes, truth_labels, classes, f"image {image_id}: object"
        )
        self._images[image_id] = Image(
            found,
            finite(scores, len(found), f"image {image_id}: scores"),
            found_labels,
            truth,
            truth_classes,
            finite(difficult, len(truth), f"image {image_id}: difficult flags") != 0,
        )
        self._forget()

    @property
    def detections(self) -> dict[str, tuple[Floats, Floats, Ints]]:
        """Image id -> boxes `[D, 4]`, scores `[D]`, labels `[D]`, as they were given."""
        return {i: (image.boxes, image.scores, image.labels) for i, image in self._images.items()}

    def images(self) -> Iterator[tuple[Boxes, Boxes, Bools]]:
        """Of each image its detections, its objects, and which of these `[M]` are difficult."""
        for image in self._images.values():
            sure = np.ones(len(image.truth_labels))
            objects = Boxes(image.truth_boxes, sure, image.truth_labels)
            yield Boxes(image.boxes, image.scores, image.labels), objects, image.difficult

    def result(self, protocol: str = "voc07", iou: float = 0.5) -> Result:
        """AP of every class, and their mean.

        Args:
            protocol: `voc07` is the mean over 11 recalls, `voc10` the area under the envelope,
                `coco` the mean over 101 recalls and the IoUs .50:.05:.95 at 100 detections per
                image and class. In `coco` a difficult object is ignored like one outside the area
                range: matched last, and neither it nor its detection counts.
            iou: the least IoU of a hit, in (0, 1]; of the VOC protocols only.

        Raises:
            ValueError: unknown protocol, `iou` out of range, or any `iou` but 0.5 with `coco`.
        """
        if protocol == "coco":
            if iou != 0.5:
                raise ValueError(f"coco averages over IoUs, not at {iou}; leave out iou")
            values = self._coco_table("all").precision.mean(axis=0)
        elif protocol in VOC_AP:
            values = self._voc_values(VOC_AP[protocol], iou)
        else:
            raise ValueError(f"protocol {protocol!r} is unknown; choose voc07, voc10 or coco")
        return Result(_mean(values), dict(zip(self.class_names, values.tolist(), strict=True)))

    def coco_summary(self) -> dict[str, float]:
        """COCO's twelve numbers in 0..1; nan where COCO says -1, for want of objects.

        AP, AP50, AP75; APs, APm, APl by area (to 32^2 square pixels, to 96^2, beyond); AR1, AR10,
        AR100 by detections allowed per image and class; ARs, ARm, ARl.
        """
        tables = {area: self._coco_table(area) for area in COCO_AREAS}
        precision, recall = tables["all"]
        numbers = {"AP": precision, "AP50": precision[0], "AP75": precision[5]}
        numbers |= {f"AP{area}": tables[area].precision for area in "sml"}
        numbers |= {f"AR{n}": of_n for n, of_n in zip(COCO_RECALL_DEPTHS, recall, strict=True)}
        numbers |= {f"AR{area}": tables[area].recall[-1] for area in "sml"}
        return {name: _mean(values) for name, values in numbers.items()}

    def precision_recall(self, class_name: str, iou: float = 0.5) -> tuple[Floats, Floats, Floats]:
        """The VOC curve of a class: precision, recall and score after each detection.

        Returns:
            Three arrays by falling score, without ignored detections; the recall of a class without
            objects is nan.

        Raises:
            ValueError: unknown class, or `iou` not in (0, 1].
        """
        if class_name not in self.class_names:
            raise ValueError(f"class {class_name!r} is unknown; choose from {self.class_names}")
        k = self.class_names.index(class_name)
        pool, match = self._pool(), self._voc_match(iou)
        of_class = pool.of_class(k)
        hit, ignored = match.hit[of_class], match.ignored[of_class]
        objects = pool.objects_to_find(pool.difficult)[k]
        return *precision_recall(hit, ignored, objects), pool.scores[of_class][~ignored]

    def _pool(self) -> Pool:
        if self._pooled is None:
            by_id = [self._images[image_id] for image_id in sorted(self._images)]
            self._pooled = pool_images(by_id, len(self.class_names))
        return self._pooled

    def _voc_match(self, iou: float) -> Match:
        if not 0 < iou <= 1:
            raise ValueError(f"iou {iou} is out of range; give one in (0, 1]")
        if iou not in self._voc_matches:
            pool = self._pool()
            match = voc_match(pool.pairs, pool.difficult, len(pool.scores), iou)
            self._voc_matches[iou] = match
        return self._voc_matches[iou]

    def _voc_values(self, ap: Callable[[Floats, Floats], float], iou: float) -> Floats:
        """AP of each class `[K]`, nan for a class without objects."""
        pool, (hit, ignored) = self._pool(), self._voc_match(iou)
        objects = pool.objects_to_find(pool.difficult)
        values = np.full(len(objects), np.nan)
        for k in np.flatnonzero(objects).tolist():
            of_class = pool.of_class(k)
            values[k] = ap(*precision_recall(hit[of_class], ignored[of_class], objects[k]))
        return values

    def _coco_table(self, area: str) -> CocoTable:
        if area not in self._coco_tables:
            self._coco_tables[area] = coco_table(self._pool(), *COCO_AREAS[area])
        return self._coco_tables[area]


def _mean(values: Floats) -> float:
    """The mean of those that are not nan; nan of none."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
