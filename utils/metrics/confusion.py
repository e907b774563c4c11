"""Which classes a detector takes for which, the background among them."""

import numpy as np
import torch

from utils.boxes import iou
from utils.metrics.agreement import HIT, Boxes
from utils.metrics.detection_pool import Ints
from utils.metrics.evaluator import Evaluator


def confusion(evaluator: Evaluator, score: float) -> Ints:
    """How often an object of one class was detected as another.

    The surest detection comes first. It takes a free object that it overlaps by `HIT`: of its own
    class where there is one, else the one it overlaps most. Difficult objects, and what finds them,
    are left out.

    Args:
        evaluator: has been told detections and objects.
        score: detections below it are left out.

    Returns:
        `[K + 1, K + 1]`: row, the object's class; column, the detection's; 0 is the background: an
        object that was not found, or a detection of nothing.
    """
    table = np.zeros((len(evaluator.class_names) + 1,) * 2, np.int64)
    for found, objects, difficult in evaluator.images():
        kept = found.where(found.scores >= score)
        order = np.argsort(-kept.scores, kind="stable")
        taken = taken_objects(kept.where(order), objects)
        for label, j in zip(kept.labels[order].tolist(), taken, strict=True):
            if j is None or not difficult[j]:
                table[0 if j is None else objects.labels[j], label] += 1
        for j in set(range(len(objects.labels))) - set(taken):
            table[objects.labels[j], 0] += not difficult[j]
    return table


def taken_objects(found: Boxes, objects: Boxes) -> list[int | None]:
    """The object that each detection takes, those that come first choosing first."""
    overlaps = iou(torch.from_numpy(found.boxes), torch.from_numpy(objects.boxes)).numpy()
    taken: list[int | None] = []
    for row, label in zip(overlaps, found.labels, strict=True):
        free = [j for j in np.flatnonzero(row >= HIT).tolist() if j not in taken]
        own = [j for j in free if objects.labels[j] == label]
        taken.append(max(own or free, key=lambda j: row[j], default=None))
    return taken
