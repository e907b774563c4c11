"""Which class is taken for which: a scene worked by hand."""

import numpy as np

from utils.metrics.confusion import confusion
from utils.metrics.evaluator import Evaluator

A, B = [0.0, 0.0, 10.0, 10.0], [20.0, 0.0, 30.0, 10.0]
HARD = [0.0, 20.0, 10.0, 30.0]
NEAR_A = [0.0, 0.0, 10.0, 8.0]  # IoU 80 / 100 with A
NOWHERE = [50.0, 50.0, 60.0, 60.0]


def told(*images: tuple[list, list]) -> Evaluator:
    """Detections `(label, score, box)` and objects `(label, difficult, box)` of each image."""
    evaluator = Evaluator(["cat", "dog"])
    for number, (found, objects) in enumerate(images):
        evaluator.update(
            str(number),
            boxes=np.array([d[2] for d in found]).reshape(-1, 4),
            scores=[d[1] for d in found],
            labels=[d[0] for d in found],
            truth_boxes=np.array([o[2] for o in objects]).reshape(-1, 4),
            truth_labels=[o[0] for o in objects],
            difficult=[o[1] for o in objects],
        )
    return evaluator


def test_hits_misses_mistakes_and_ghosts() -> None:
    evaluator = told(
        (
            [(1, 0.9, A), (1, 0.8, NEAR_A), (1, 0.7, B), (2, 0.6, NOWHERE), (2, 0.2, B)],
            [(1, False, A), (2, False, B)],
        ),
        ([], [(2, False, A)]),
        ([(1, 0.9, HARD)], [(2, True, HARD), (1, True, NOWHERE)]),  # difficult: nothing counts
    )
    # Cat A is a hit. NEAR_A finds it taken: a cat of nothing, as the dog NOWHERE is a dog of
    # nothing. Dog B was taken for a cat. The dog of the second image was not found.
    assert confusion(evaluator, 0.3).tolist() == [[0, 1, 1], [0, 1, 0], [1, 1, 0]]
    # The dog of 0.2 comes after the cat of 0.7 that has taken B.
    assert confusion(evaluator, 0.1).tolist() == [[0, 1, 2], [0, 1, 0], [1, 1, 0]]


def test_half_an_overlap_is_enough() -> None:
    half, less = [0.0, 0.0, 10.0, 5.0], [0.0, 0.0, 10.0, 4.9]  # IoU 50 / 100 and 49 / 100 with A
    assert confusion(told(([(1, 0.9, half)], [(1, False, A)])), 0.3)[1, 1] == 1
    assert confusion(told(([(1, 0.9, less)], [(1, False, A)])), 0.3)[1, 1] == 0


def test_an_object_of_the_own_class_goes_first() -> None:
    # Two objects in one place: the dog is closer, but what says cat takes the cat.
    evaluator = told(([(1, 0.9, A), (2, 0.8, A)], [(2, False, A), (1, False, NEAR_A)]))
    assert confusion(evaluator, 0.3).tolist() == [[0, 0, 0], [0, 1, 0], [0, 0, 1]]


def test_everything_is_counted_once() -> None:
    rng = np.random.default_rng(0)

    def boxes(count: int) -> list[list[float]]:
        corner = rng.integers(0, 20, (count, 2))
        return np.hstack((corner, corner + rng.integers(5, 15, (count, 2)))).astype(float).tolist()

    found = [(int(rng.integers(1, 3)), float(rng.random()), box) for box in boxes(40)]
    objects = [(int(rng.integers(1, 3)), False, box) for box in boxes(30)]
    table = confusion(told((found, objects)), 0.0)
    assert table[1:].sum(1).tolist() == [sum(o[0] == k for o in objects) for k in (1, 2)]
    assert table[:, 1:].sum(0).tolist() == [sum(d[0] == k for d in found) for k in (1, 2)]
