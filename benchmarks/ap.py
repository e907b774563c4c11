"""AP of as many detections as VOC2007 test gives: 4952 images x 200 detections x 20 classes."""

from collections.abc import Iterator
from contextlib import redirect_stdout
from importlib.util import find_spec
from io import StringIO
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.scenes import NAMES
from benchmarks.timing import Row, medians, stopwatch
from utils.metrics.evaluator import Evaluator

IMAGES, DETECTIONS, OBJECTS = 4952, 200, 3
Numbers = npt.NDArray[Any]


def image(rng: np.random.Generator) -> tuple[Numbers, Numbers, Numbers, Numbers, Numbers]:
    """Detections around the objects and elsewhere, as a detector gives them."""
    size = rng.uniform(20, 250, (OBJECTS, 2))
    low = rng.uniform(0, 250, (OBJECTS, 2))
    truth, truth_labels = np.hstack((low, low + size)), rng.integers(1, len(NAMES) + 1, OBJECTS)
    near = rng.integers(0, OBJECTS, DETECTIONS)
    boxes = truth[near] + rng.normal(0, 25, (DETECTIONS, 4))
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
    labels = np.where(
        rng.random(DETECTIONS) < 0.3,
        truth_labels[near],
        rng.integers(1, len(NAMES) + 1, DETECTIONS),
    )
    return boxes, rng.random(DETECTIONS), labels, truth, truth_labels


def ap_rows() -> Iterator[Row]:
    """Ours beside faster-coco-eval and pycocotools; tables in, numbers out."""
    rng = np.random.default_rng(0)
    images = [image(rng) for _ in range(IMAGES)]

    def filled() -> Evaluator:
        evaluator = Evaluator(NAMES)
        for i, (boxes, scores, labels, truth, truth_labels) in enumerate(images):
            evaluator.update(
                str(i),
                boxes=boxes,
                scores=scores,
                labels=labels,
                truth_boxes=truth,
                truth_labels=truth_labels,
                difficult=np.zeros(OBJECTS, bool),
            )
        return evaluator

    ready = iter([filled() for _ in range(2 * (1 + 3))])

    def voc() -> None:
        evaluator = next(ready)
        evaluator.result("voc07")
        evaluator.result("voc10")

    def coco() -> None:
        next(ready).coco_summary()

    for module in ("faster_coco_eval", "pycocotools"):
        if find_spec(module) is None:
            print(f"{module} is not installed (pip install -e '.[bench]'); its rows are left out")
            return
    other = coco_evaluation("faster_coco_eval", "COCOeval_faster", images)
    clocks = map(stopwatch, (voc, coco, other))
    by_voc, by_coco, faster = medians(*clocks, repeats=3)
    name = "faster-coco-eval (COCO, 12 numbers)"
    yield Row("AP by VOC", "AP: voc07 + voc10", name, by_voc, faster)
    yield Row("AP by COCO", "AP: COCO, 12 numbers", name, by_coco, faster)
    slow = stopwatch(coco_evaluation("pycocotools", "COCOeval", images))()
    yield Row("AP beside pycocotools", "AP: COCO, 12 numbers", "pycocotools", by_coco, slow)


def coco_evaluation(module: str, class_name: str, images: list[tuple[Numbers, ...]]) -> Any:
    """A function that evaluates the same boxes with a COCO library, its data loaded already."""
    from importlib import import_module

    library = import_module(module)
    coco = library if hasattr(library, "COCO") else import_module(f"{module}.coco")
    annotations, results = [], []
    for i, (boxes, scores, labels, truth, truth_labels) in enumerate(images):
        for box, label in zip(xywh(truth), truth_labels.tolist(), strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": i,
                    "category_id": label,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                }
            )
        for box, label, score in zip(xywh(boxes), labels.tolist(), scores.tolist(), strict=True):
            results.append({"image_id": i, "category_id": label, "bbox": box, "score": score})
    with redirect_stdout(StringIO()):
        truth_set = coco.COCO()
        truth_set.dataset = {
            "images": [{"id": i} for i in range(len(images))],
            "categories": [{"id": k + 1, "name": name} for k, name in enumerate(NAMES)],
            "annotations": annotations,
        }
        truth_set.createIndex()
        result_set = truth_set.loadRes(results)
    home = library if hasattr(library, class_name) else import_module(f"{module}.cocoeval")
    evaluation = getattr(home, class_name)

    def run() -> None:
        with redirect_stdout(StringIO()):
            instance = evaluation(truth_set, result_set, "bbox")
            instance.evaluate()
            instance.accumulate()
            instance.summarize()

    return run


def xywh(boxes: Numbers) -> list[list[float]]:
    """The boxes `[N, 4]` xyxy as COCO's x, y, width, height."""
    return np.hstack((boxes[:, :2], boxes[:, 2:] - boxes[:, :2])).tolist()
