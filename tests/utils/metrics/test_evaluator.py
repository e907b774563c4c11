"""Evaluator against hand-worked values, slow loops, published numbers and pycocotools."""

import contextlib
import io
import math
from typing import Any

import numpy as np
import pytest
import torch

from utils.metrics.detection_pool import overlapping_pairs
from utils.metrics.evaluator import Evaluator

Images = dict[str, dict[str, np.ndarray]]


def image(
    detections: list[tuple[float, int, list[float]]],
    objects: list[tuple[int, list[float]]] | list[tuple[int, list[float], bool]],
) -> dict[str, Any]:
    """`update`'s arguments from (score, label, box) and (label, box[, difficult])."""
    return {
        "boxes": [box for _, _, box in detections],
        "scores": [score for score, _, _ in detections],
        "labels": [label for _, label, _ in detections],
        "truth_boxes": [item[1] for item in objects],
        "truth_labels": [item[0] for item in objects],
        "difficult": [len(item) == 3 for item in objects],
    }


def evaluator(images: dict[str, dict[str, Any]], classes: int = 1) -> Evaluator:
    made = Evaluator([f"class{k}" for k in range(1, classes + 1)])
    for image_id, arrays in images.items():
        made.update(image_id, **arrays)
    return made


# Four places far apart, and boxes there that overlap the place by a known IoU.
A, B, C, D = ([x, 0.0, x + 10, 10.0] for x in (0.0, 100.0, 200.0, 300.0))


def half(box: list[float]) -> list[float]:
    """IoU 0.5 with `box`: half of it."""
    return [box[0], box[1], box[2], box[1] + 5]


# Objects A, B, C. By falling score: hit A, false (nothing there), hit B, false (A again).
# Precision 1, 1/2, 2/3, 2/4 at recall 1/3, 1/3, 2/3, 2/3; C is never found.
FOUR_DETECTIONS = {
    "0": image([(0.9, 1, A), (0.8, 1, D), (0.7, 1, B), (0.6, 1, A)], [(1, A), (1, B)]),
    "1": image([], [(1, C)]),
}


class TestHandWorked:
    def test_voc07(self):
        # Best precision 1 at recalls 0, .1, .2, .3 (1/3 > .3000..04), 2/3 at .4, .5, .6, 0 above.
        result = evaluator(FOUR_DETECTIONS).result("voc07")
        assert result.mean == pytest.approx((4 * 1 + 3 * 2 / 3) / 11)
        assert result.per_class == {"class1": result.mean}

    def test_voc10(self):
        # Precision 1 over the first third of recall, 2/3 over the second.
        assert evaluator(FOUR_DETECTIONS).result("voc10").mean == pytest.approx(1 / 3 + 2 / 9)

    def test_coco(self):
        # All hits have IoU 1, so all ten thresholds agree: of the recalls 0, .01, .., 1 there are
        # 34 up to .33 at precision 1, and 33 from .34 to .66 at 2/3.
        summary = evaluator(FOUR_DETECTIONS).coco_summary()
        ap = (34 * 1 + 33 * 2 / 3) / 101
        assert [summary["AP"], summary["AP50"], summary["AP75"]] == pytest.approx([ap, ap, ap])
        # The best detection of image 0 finds 1 of the 3 objects, the best ten find 2.
        assert summary["AR1"] == pytest.approx(1 / 3)
        assert summary["AR10"] == summary["AR100"] == pytest.approx(2 / 3)
        # All boxes have 100 square pixels.
        assert summary["APs"] == summary["AP"]
        assert math.isnan(summary["APm"])
        assert math.isnan(summary["ARl"])

    def test_coco_averages_over_ious(self):
        # IoU exactly .5 is a hit at .50 and at none of .55 to .95.
        made = evaluator({"0": image([(0.9, 1, half(A))], [(1, A)])})
        assert made.result("coco").mean == pytest.approx(1 / 10)
        assert made.coco_summary()["AP50"] == pytest.approx(1)
        assert made.coco_summary()["AP75"] == 0

    def test_precision_recall(self):
        precision, recall, scores = evaluator(FOUR_DETECTIONS).precision_recall("class1")
        np.testing.assert_allclose(precision, [1, 1 / 2, 2 / 3, 2 / 4])
        np.testing.assert_allclose(recall, [1 / 3, 1 / 3, 2 / 3, 2 / 3])
        np.testing.assert_array_equal(scores, [0.9, 0.8, 0.7, 0.6])

    def test_iou_equal_to_the_threshold_is_a_hit(self):
        made = evaluator({"0": image([(0.9, 1, half(A))], [(1, A)])})
        assert made.result("voc10", iou=0.5).mean == 1
        assert made.result("voc10", iou=0.51).mean == 0

    def test_voc_looks_at_the_best_object_only_and_coco_at_the_best_free_one(self):
        # Both detections overlap A most. VOC: the second is false, the right-hand object is missed.
        # COCO: the second takes what is left.
        right = [2.0, 0.0, 12.0, 10.0]  # 8 x 10 shared with A: IoU 80 / 120
        made = evaluator({"0": image([(0.9, 1, A), (0.8, 1, A)], [(1, A), (1, right)])})
        assert made.result("voc10").mean == pytest.approx(1 / 2)
        assert made.coco_summary()["AP50"] == pytest.approx(1)

    def test_voc_prefers_the_first_of_equals(self):
        # Two equal objects, one of them difficult: the order in the file decides.
        counts = evaluator({"0": image([(0.9, 1, A)], [(1, A), (1, A, True)])})
        ignored = evaluator({"0": image([(0.9, 1, A)], [(1, A, True), (1, A)])})
        assert counts.result("voc10").mean == 1
        assert ignored.result("voc10").mean == 0

    def test_coco_prefers_the_last_of_equals(self):
        # 8 of 10 columns shared with either: IoU 80 / 120 twice. It takes the right-hand object and
        # leaves A, which the second detection needs (its IoU with the other is 60 / 140).
        right, middle = [4.0, 0.0, 14.0, 10.0], [2.0, 0.0, 12.0, 10.0]
        detections = [(0.9, 1, middle), (0.8, 1, A)]
        made = evaluator({"0": image(detections, [(1, A), (1, right)])})
        assert made.coco_summary()["AP50"] == pytest.approx(1)
        made = evaluator({"0": image(detections, [(1, right), (1, A)])})
        assert made.coco_summary()["AP50"] == pytest.approx(51 / 101)

    def test_coco_takes_the_largest_iou(self):
        # IoU .9 with `high`, 1 with A: the first detection takes A and leaves `high` to the second,
        # whichever object comes first.
        high, low = [0.0, 0.0, 10.0, 9.0], [0.0, 0.0, 10.0, 5.0]  # IoU of these two is 5 / 9
        for objects in ([(1, A), (1, high)], [(1, high), (1, A)]):
            made = evaluator({"0": image([(0.9, 1, A), (0.8, 1, low)], objects)})
            # At .55 `low` still reaches `high` (5 / 9), but A (5 / 10) only at .50.
            assert made.result("coco").mean == pytest.approx((2 * 1 + 8 * 51 / 101) / 10)

    def test_eleven_points_are_float_arithmetic(self):
        # Recall of exactly 3 of 10 stays below 0.30000000000000004: precision 1 at 0, .1, .2 only.
        places = [[100.0 * i, 0.0, 100.0 * i + 10, 10.0] for i in range(10)]
        found = [(0.9, 1, place) for place in places[:3]]
        made = evaluator({"0": image(found, [(1, place) for place in places])})
        assert made.result("voc07").mean == pytest.approx(3 / 11)


class TestDifficult:
    def test_detection_of_a_difficult_object_is_ignored(self):
        # Best score on the difficult A, twice; then a hit on B. Ignored ones leave precision 1.
        made = evaluator(
            {"0": image([(0.9, 1, A), (0.8, 1, A), (0.7, 1, B)], [(1, A, True), (1, B)])}
        )
        assert made.result("voc07").mean == pytest.approx(1)
        assert made.result("voc10").mean == pytest.approx(1)
        precision, _, scores = made.precision_recall("class1")
        assert precision.tolist() == [1]
        assert scores.tolist() == [0.7]

    def test_coco_ignores_it_once(self):
        # COCO: A takes the first detection only; the second is false. Precision 1/2 at B's hit.
        made = evaluator(
            {"0": image([(0.9, 1, A), (0.8, 1, A), (0.7, 1, B)], [(1, A, True), (1, B)])}
        )
        assert made.result("coco").mean == pytest.approx(1 / 2)

    def test_coco_prefers_an_object_that_counts(self):
        # The detection overlaps the difficult A by 1 and `half(A)` by .5, and takes the latter.
        made = evaluator({"0": image([(0.9, 1, A)], [(1, A, True), (1, half(A))])})
        assert made.coco_summary()["AP50"] == pytest.approx(1)
        assert made.result("voc10").mean == 0

    def test_only_difficult_objects_is_no_objects(self):
        made = evaluator({"0": image([(0.9, 1, A), (0.8, 2, B)], [(1, A, True), (2, B)])}, 2)
        for protocol in ("voc07", "voc10", "coco"):
            result = made.result(protocol)
            assert math.isnan(result.per_class["class1"])
            assert result.mean == result.per_class["class2"] == pytest.approx(1)


class TestEdges:
    @pytest.mark.parametrize("protocol", ["voc07", "voc10", "coco"])
    def test_nothing_at_all_is_nan(self, protocol):
        for images in ({}, {"0": image([], [])}, {"0": image([(0.9, 1, A)], [])}):
            made = evaluator(images)
            assert math.isnan(made.result(protocol).mean)
            assert math.isnan(made.result(protocol).per_class["class1"])
            assert all(math.isnan(number) for number in made.coco_summary().values())

    @pytest.mark.parametrize("protocol", ["voc07", "voc10", "coco"])
    def test_no_detection_is_zero(self, protocol):
        assert evaluator({"0": image([], [(1, A)])}).result(protocol).mean == 0

    @pytest.mark.parametrize("protocol", ["voc07", "voc10", "coco"])
    def test_degenerate_boxes_match_nothing(self, protocol):
        point = [5.0, 5.0, 5.0, 5.0]
        made = evaluator({"0": image([(0.9, 1, point)], [(1, A), (1, point)])})
        assert made.result(protocol).mean == 0

    @pytest.mark.parametrize("box", [[8, 2, 2, 8], [2, 8, 8, 2], [8, 8, 2, 2], [10, 0, 0, 10]])
    def test_an_inverted_box_is_a_false_detection(self, box):
        # It lies in A and outranks the hit: precision 0, then 1/2 at recall 1.
        made = evaluator({"0": image([(0.9, 1, box), (0.8, 1, A)], [(1, A)])})
        assert made.result("voc07").mean == pytest.approx(1 / 2)
        assert made.result("voc10").mean == pytest.approx(1 / 2)
        assert made.result("coco").mean == pytest.approx(1 / 2)
        assert made.coco_summary()["APs"] == pytest.approx(1 / 2)  # A and area 0 are both small
        precision, recall, _ = made.precision_recall("class1")
        assert (precision.tolist(), recall.tolist()) == ([0, 0.5], [0, 1])
        assert made.detections["0"][0].tolist() == [box, A]

    def test_curve_without_objects(self):
        precision, recall, scores = evaluator({"0": image([(0.9, 1, A)], [])}).precision_recall(
            "class1"
        )
        assert precision.tolist() == [0]
        assert np.isnan(recall).all()
        assert scores.tolist() == [0.9]

    def test_tensors_of_any_type(self):
        made = Evaluator(["class1"])
        made.update(
            "0",
            boxes=torch.tensor([A], dtype=torch.bfloat16, requires_grad=True),
            scores=torch.tensor([0.5], dtype=torch.float16),
            labels=torch.tensor([1], dtype=torch.int32),
            truth_boxes=torch.tensor([A]),
            truth_labels=torch.tensor([1]),
            difficult=torch.tensor([False]),
        )
        assert made.result("voc10").mean == 1

    def test_arrays_are_copied(self):
        boxes = np.array([A])
        made = Evaluator(["class1"])
        made.update("0", **(image([(0.9, 1, A)], [(1, A)]) | {"boxes": boxes}))
        boxes += 1000
        assert made.result("voc10").mean == 1

    def test_update_after_result_counts(self):
        made = evaluator({"0": image([(0.9, 1, A)], [(1, A)])})
        before = [made.result(p).mean for p in ("voc07", "voc10", "coco")]
        made.update("1", **image([], [(1, A)]))
        after = [made.result(p).mean for p in ("voc07", "voc10", "coco")]
        assert before == pytest.approx([1, 1, 1])
        assert after == pytest.approx([6 / 11, 1 / 2, 51 / 101])


# The example of github.com/rafaelpadilla/Object-Detection-Metrics (MIT): x, y, width, height in
# inclusive pixels, of 7 images with 15 objects and 24 detections of one class.
PERSON_OBJECTS = {
    "00001": [(25, 16, 38, 56), (129, 123, 41, 62)],
    "00002": [(123, 11, 43, 55), (38, 132, 59, 45)],
    "00003": [(16, 14, 35, 48), (123, 30, 49, 44), (99, 139, 47, 47)],
    "00004": [(53, 42, 40, 52), (154, 43, 31, 34)],
    "00005": [(59, 31, 44, 51), (48, 128, 34, 52)],
    "00006": [(36, 89, 52, 76), (62, 58, 44, 67)],
    "00007": [(28, 31, 55, 63), (58, 67, 50, 58)],
}
PERSON_DETECTIONS = {
    "00001": [(0.88, 5, 67, 31, 48), (0.70, 119, 111, 40, 67), (0.80, 124, 9, 49, 67)],
    "00002": [(0.71, 64, 111, 64, 58), (0.54, 26, 140, 60, 47), (0.74, 19, 18, 43, 35)],
    "00003": [
        (0.18, 109, 15, 77, 39),
        (0.67, 86, 63, 46, 45),
        (0.38, 160, 62, 36, 53),
        (0.91, 105, 131, 47, 47),
        (0.44, 18, 148, 40, 44),
    ],
    "00004": [
        (0.35, 83, 28, 28, 26),
        (0.78, 28, 68, 42, 67),
        (0.45, 87, 89, 25, 39),
        (0.14, 10, 155, 60, 26),
    ],
    "00005": [
        (0.62, 50, 38, 28, 46),
        (0.44, 95, 11, 53, 28),
        (0.95, 29, 131, 72, 29),
        (0.23, 29, 163, 72, 29),
    ],
    "00006": [(0.45, 43, 48, 74, 38), (0.84, 17, 155, 29, 35), (0.43, 95, 110, 25, 42)],
    "00007": [(0.48, 16, 20, 101, 88), (0.95, 33, 116, 37, 49)],
}


@pytest.mark.parametrize(
    ("iou", "area", "eleven_points"),
    [
        (0.1, 0.3371980676, 0.3333333333),
        (0.3, 0.2456866804, 0.2683982683),
        (0.5, 0.0222222222, 0.0303030303),
        (0.75, 0.0, 0.0),
    ],
)
def test_published_person_example(iou, area, eleven_points):
    # The values that review_object_detection_metrics asserts in tests/test_eval_pascal.py. The one
    # of 11 points at IoU .1 needs 0.6000000000000001 > 9/15.
    def box(x: int, y: int, w: int, h: int) -> list[float]:
        return [x, y, x + w + 1, y + h + 1]

    made = evaluator(
        {
            i: image(
                [(score, 1, box(*xywh)) for score, *xywh in PERSON_DETECTIONS[i]],
                [(1, box(*xywh)) for xywh in PERSON_OBJECTS[i]],
            )
            for i in PERSON_OBJECTS
        }
    )
    assert made.result("voc10", iou).mean == pytest.approx(area, abs=1e-10)
    assert made.result("voc07", iou).mean == pytest.approx(eleven_points, abs=1e-10)


def random_images(seed: int, classes: int = 3, count: int = 8, most: int = 14) -> Images:
    """Scenes full of ties: coordinates in quarter pixels, ten scores, doubled boxes."""
    rng = np.random.default_rng(seed)
    images = {}
    for i in range(count):
        n = int(rng.integers(0, 6))
        sides = np.repeat(
            rng.choice([6.0, 8.0, 20.0, 32.0, 50.0, 96.0, 120.0], (n // 2 + 1, 2)), 2, axis=0
        )[:n]
        corner = rng.integers(0, 80, (n, 2)).astype(float)
        truth = np.concatenate([corner, corner + sides], axis=1)
        truth_labels = rng.integers(1, classes + 1, n)
        for j in range(1, n, 2):  # every second object crowds the one before
            truth[j] = truth[j - 1] + np.tile(rng.integers(-8, 9, 2) / 2, 2)
            truth_labels[j] = truth_labels[j - 1]
        d = int(rng.integers(0, most))
        near = rng.integers(0, n, d) if n else np.zeros(0, dtype=int)
        scale = np.tile(sides[near], 2) * rng.choice([0.0, 0.05, 0.2], (len(near), 1))
        boxes = truth[near] + np.round(4 * scale * rng.normal(size=(len(near), 4))) / 4
        boxes = np.concatenate(
            [np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])], axis=1
        )
        other = rng.integers(1, classes + 1, len(near))
        images[f"{i:03d}"] = {
            "boxes": boxes,
            "scores": rng.integers(0, 10, len(near)) / 10,
            "labels": np.where(rng.random(len(near)) < 0.8, truth_labels[near], other),
            "truth_boxes": truth,
            "truth_labels": truth_labels,
            "difficult": rng.random(n) < 0.25,
        }
    return images


def slow_iou(a: np.ndarray, b: np.ndarray) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return float(shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared))


def slow_voc(images: Images, label: int, threshold: float) -> tuple[float, float]:
    """11-point AP and area AP of one class, loop by loop as VOCevaldet.m has it."""
    ranked = []
    for image_id in sorted(images):
        arrays = images[image_id]
        for j in np.flatnonzero(arrays["labels"] == label):
            ranked.append((arrays["scores"][j], image_id, arrays["boxes"][j]))
    ranked.sort(key=lambda item: -item[0])
    objects = sum(
        int(((arrays["truth_labels"] == label) & ~arrays["difficult"]).sum())
        for arrays in images.values()
    )
    if objects == 0:
        return math.nan, math.nan
    claimed: set[tuple[str, int]] = set()
    hits = falses = 0
    curve = []
    for _, image_id, box in ranked:
        best, which = -math.inf, -1
        for j in np.flatnonzero(images[image_id]["truth_labels"] == label):
            overlap = slow_iou(box, images[image_id]["truth_boxes"][j])
            if overlap > best:
                best, which = overlap, int(j)
        if best >= threshold:
            if not images[image_id]["difficult"][which]:
                if (image_id, which) in claimed:
                    falses += 1
                else:
                    claimed.add((image_id, which))
                    hits += 1
        else:
            falses += 1
        curve.append((hits / objects, hits / max(hits + falses, 1)))
    eleven = 0.0
    for t in np.arange(0, 1.1, 0.1):
        eleven += max((p for r, p in curve if r >= t), default=0.0) / 11
    recalls = [0.0, *(r for r, _ in curve), 1.0]
    precisions = [0.0, *(p for _, p in curve), 0.0]
    for i in range(len(precisions) - 2, -1, -1):
        precisions[i] = max(precisions[i], precisions[i + 1])
    area = sum((recalls[i] - recalls[i - 1]) * precisions[i] for i in range(1, len(recalls)))
    return eleven, area


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("iou", [0.3, 0.5, 0.75])
def test_voc_equals_slow_loops(seed, iou):
    images = random_images(seed)
    made = evaluator(images, classes=3)
    eleven, area = made.result("voc07", iou).per_class, made.result("voc10", iou).per_class
    for label in (1, 2, 3):
        expected = slow_voc(images, label, iou)
        got = (eleven[f"class{label}"], area[f"class{label}"])
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_inverted_boxes_are_as_false_as_empty_ones(seed):
    """By the devkit's loops, and by every protocol as if they were points."""
    images = random_images(seed)
    rng = np.random.default_rng(seed)
    points = {}
    for image_id, arrays in images.items():
        boxes = arrays["boxes"]
        x, y = rng.random((2, len(boxes))) < 0.2
        boxes[x] = boxes[x][:, [2, 1, 0, 3]]
        boxes[y] = boxes[y][:, [0, 3, 2, 1]]
        flat = boxes.copy()
        flat[x | y] = 5.0
        points[image_id] = arrays | {"boxes": flat}
    made = evaluator(images, 3)
    np.testing.assert_array_equal(all_numbers(made), all_numbers(evaluator(points, 3)))
    for label in (1, 2, 3):
        got = (made.result(p).per_class[f"class{label}"] for p in ("voc07", "voc10"))
        np.testing.assert_allclose(list(got), slow_voc(images, label, 0.5), rtol=0, atol=1e-12)


def pycocotools_stats(images: Images, classes: int) -> np.ndarray:
    """The twelve numbers of the COCO API, nan instead of -1."""
    coco = pytest.importorskip("pycocotools.coco")
    cocoeval = pytest.importorskip("pycocotools.cocoeval")

    class Eval(cocoeval.COCOeval):  # type: ignore[misc, name-defined]
        def _prepare(self) -> None:
            super()._prepare()  # sets "ignore" from "iscrowd"
            for objects in self._gts.values():
                for item in objects:
                    item["ignore"] = item["difficult"]

    def row(number: int, box: np.ndarray, label: int) -> dict[str, Any]:
        x1, y1, x2, y2 = box.tolist()
        bbox = [x1, y1, x2 - x1, y2 - y1]
        return {"image_id": number, "category_id": int(label), "bbox": bbox}

    objects: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for number, image_id in enumerate(sorted(images)):
        i = images[image_id]
        for box, label, difficult in zip(
            i["truth_boxes"], i["truth_labels"], i["difficult"], strict=True
        ):
            item = row(number, box, label)
            area = item["bbox"][2] * item["bbox"][3]
            extra = {"id": len(objects) + 1, "area": area, "iscrowd": 0}
            objects.append(item | extra | {"difficult": int(difficult)})
        for box, label, score in zip(i["boxes"], i["labels"], i["scores"], strict=True):
            found.append(row(number, box, label) | {"score": float(score)})
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco.COCO()
        truth.dataset = {
            "info": {},
            "images": [{"id": number} for number in range(len(images))],
            "categories": [{"id": label} for label in range(1, classes + 1)],
            "annotations": objects,
        }
        truth.createIndex()
        run = Eval(truth, truth.loadRes(found), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return np.where(run.stats == -1, np.nan, run.stats)


COCO_NAMES = [
    "AP",
    "AP50",
    "AP75",
    "APs",
    "APm",
    "APl",
    "AR1",
    "AR10",
    "AR100",
    "ARs",
    "ARm",
    "ARl",
]


@pytest.mark.parametrize(
    ("seed", "classes", "most"),
    [*((seed, 3, 14) for seed in range(40)), *((seed, 1, 400) for seed in range(100, 106))],
)
def test_coco_equals_pycocotools(seed, classes, most):
    # With `most` 400 many images hold more than the 100 detections that count.
    images = random_images(seed, classes, most=most)
    summary = evaluator(images, classes).coco_summary()
    assert list(summary) == COCO_NAMES
    expected = pycocotools_stats(images, classes)
    np.testing.assert_allclose(list(summary.values()), expected, rtol=0, atol=1e-9)
    mean = evaluator(images, classes).result("coco").mean
    np.testing.assert_allclose(mean, expected[0], rtol=0, atol=1e-9)


def all_numbers(made: Evaluator) -> list[float]:
    voc = [number for p in ("voc07", "voc10") for number in made.result(p).per_class.values()]
    return [*voc, *made.result("coco").per_class.values(), *made.coco_summary().values()]


class TestLaws:
    def test_order_of_images_does_not_matter(self):
        images = random_images(7)
        backwards = dict(reversed(images.items()))
        np.testing.assert_array_equal(
            all_numbers(evaluator(images, 3)), all_numbers(evaluator(backwards, 3))
        )

    def test_classes_are_evaluated_apart(self):
        images = random_images(8)
        to = np.array([0, 3, 1, 2])
        renamed = {
            i: a | {"labels": to[a["labels"]], "truth_labels": to[a["truth_labels"]]}
            for i, a in images.items()
        }
        for protocol in ("voc07", "voc10", "coco"):
            before = evaluator(images, 3).result(protocol)
            after = evaluator(renamed, 3).result(protocol)
            assert after.mean == pytest.approx(before.mean, abs=1e-15)
            for label in (1, 2, 3):
                np.testing.assert_equal(
                    after.per_class[f"class{to[label]}"], before.per_class[f"class{label}"]
                )

    def test_only_the_order_of_scores_matters(self):
        images = random_images(9)
        stretched = {i: a | {"scores": np.exp(9 * a["scores"]) - 50} for i, a in images.items()}
        np.testing.assert_array_equal(
            all_numbers(evaluator(images, 3)), all_numbers(evaluator(stretched, 3))
        )

    def test_truth_as_detections_is_perfect(self):
        images = {
            i: a
            | {
                "boxes": a["truth_boxes"],
                "labels": a["truth_labels"],
                "scores": np.ones(len(a["truth_labels"])),
            }
            for i, a in random_images(10).items()
        }
        made = evaluator(images, 3)
        for protocol in ("voc07", "voc10", "coco"):
            assert made.result(protocol).mean == pytest.approx(1)

    def test_detections_are_given_back(self):
        images = random_images(11)
        given_back = evaluator(images, 3).detections
        assert list(given_back) == list(images)
        for i, (boxes, scores, labels) in given_back.items():
            np.testing.assert_array_equal(boxes, images[i]["boxes"])
            np.testing.assert_array_equal(scores, images[i]["scores"])
            np.testing.assert_array_equal(labels, images[i]["labels"])


def test_pairs_share_a_group_and_overlap():
    # Detection 0 meets objects 0 and 1 of its group: IoU 1 and 8 x 10 / 120. Detection 1 lies right
    # of them, detection 2 touches object 2, detection 3 has no object in its group.
    shifted = [2.0, 0.0, 12.0, 10.0]
    pairs = overlapping_pairs(
        np.array([A, B, [0.0, 10.0, 10.0, 20.0], A]),
        np.array([1, 1, 2, 3]),
        np.array([A, shifted, A]),
        np.array([1, 1, 2]),
    )
    assert pairs.detection.tolist() == [0, 0]
    assert pairs.object.tolist() == [0, 1]
    assert pairs.iou.tolist() == pytest.approx([1, 80 / 120])


class TestRefusals:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"scores": [0.9, 0.8]}, r"image 7: scores have shape \(2,\)"),
            ({"scores": [math.nan]}, "image 7: scores hold nan at 0"),
            ({"labels": []}, "detection labels have shape"),
            ({"labels": [0]}, "detection 0 has label 0, not in 1..1; remove padding"),
            ({"labels": [1.5]}, "detection 0 has label 1.5"),
            ({"truth_labels": [2]}, "object 0 has label 2"),
            ({"truth_labels": [1, 1]}, "object labels have shape"),
            ({"difficult": []}, "difficult flags have shape"),
            ({"boxes": [[0, 0, math.inf, 1]]}, r"detection 0 has box \[0.0, 0.0, inf, 1.0\]"),
            ({"truth_boxes": [[5, 0, 4, 1]]}, "object 0 has box .*; give finite xyxy"),
            ({"boxes": [0, 0, 1, 1]}, r"detection boxes have shape \(4,\); give \[N, 4\]"),
        ],
    )
    def test_bad_arrays(self, change, message):
        made = Evaluator(["class1"])
        with pytest.raises(ValueError, match=message):
            made.update("7", **(image([(0.9, 1, A)], [(1, A)]) | change))
        made.update("7", **image([(0.9, 1, A)], [(1, A)]))  # a refused image leaves no trace

    def test_image_twice(self):
        made = evaluator({"7": image([], [])})
        with pytest.raises(ValueError, match="image 7 is given twice"):
            made.update("7", **image([], []))

    def test_class_twice(self):
        with pytest.raises(ValueError, match="occurs twice"):
            Evaluator(["cat", "cat"])

    def test_unknown_protocol(self):
        with pytest.raises(ValueError, match="'voc12' is unknown; choose voc07, voc10 or coco"):
            evaluator({}).result("voc12")

    @pytest.mark.parametrize("iou", [0, 1.1, math.nan, 50])
    def test_iou_out_of_range(self, iou):
        with pytest.raises(ValueError, match="out of range"):
            evaluator({}).result("voc07", iou)

    def test_coco_takes_no_iou(self):
        with pytest.raises(ValueError, match="averages over IoUs"):
            evaluator({}).result("coco", 0.75)

    def test_unknown_class(self):
        with pytest.raises(ValueError, match="'dog' is unknown"):
            evaluator({}).precision_recall("dog")
