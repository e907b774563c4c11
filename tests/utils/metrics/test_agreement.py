"""How far two lists of boxes say the same: known values and laws."""

import numpy as np
import pytest

from utils.metrics.agreement import Boxes, agreement, matched, without_difficult


def boxes(*rows: tuple[float, float, float, float, float, int]) -> Boxes:
    """Rows of x1, y1, x2, y2, score, label."""
    table = np.array(rows, float).reshape(-1, 6)
    return Boxes(table[:, :4], table[:, 4], table[:, 5].astype(np.int64))


A, B, FAR = (0, 0, 10, 10), (20, 0, 30, 10), (50, 50, 60, 60)


def test_by_hand() -> None:
    objects = boxes((*A, 1, 1), (*B, 1, 2))
    found = boxes((*A, 0.8, 1), (*B, 0.6, 1), (*FAR, 0.4, 2))  # B under the wrong name
    says = agreement(found, objects)
    # Common: 0.8. Either: 2 of the objects + 1.8 of the detections - 0.8 = 3.
    assert says.share == pytest.approx(0.8 / 3)
    assert (says.both, says.first, says.second) == (1, 2, 1)


def test_each_box_is_taken_once_and_the_closest_first() -> None:
    near, nearer = (0, 0, 10, 8), (0, 0, 10, 9)  # IoU 0.8 and 0.9 with A
    found = boxes((*near, 0.9, 1), (*nearer, 0.5, 1))
    assert matched(found, boxes((*A, 1, 1))) == [(1, 0)]
    assert matched(boxes((0, 0, 10, 5, 1, 1)), boxes((*A, 1, 1))) == [(0, 0)]  # 0.5 is enough
    assert matched(boxes((0, 0, 10, 4.9, 1, 1)), boxes((*A, 1, 1))) == []


def test_the_order_of_the_two_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 20, (9, 2))
    table = np.hstack([corners, corners + rng.uniform(4, 9, (9, 2))])
    one, two = (
        Boxes(table + rng.uniform(-1, 1, (9, 4)), rng.random(9), rng.integers(1, 3, 9))
        for _ in range(2)
    )
    ours, theirs = agreement(one, two), agreement(two, one)
    assert 0 < ours.share < 1
    assert ours.share == pytest.approx(theirs.share)
    assert (ours.first, ours.second) == (theirs.second, theirs.first)
    assert agreement(one, one).share == pytest.approx(1)


def test_nothing_agrees_with_nothing_alone() -> None:
    assert agreement(boxes(), boxes()).share == 1
    assert agreement(boxes(), boxes((*A, 1, 1))) == (0, 0, 0, 1)
    assert agreement(boxes((*A, 0.5, 1)), boxes()) == (0, 0, 1, 0)


def test_difficult_objects_and_what_found_them_do_not_count() -> None:
    objects = boxes((*A, 1, 1), (*B, 1, 1))
    found, there = without_difficult(
        boxes((*A, 0.9, 1), (*B, 0.9, 1), (*FAR, 0.9, 1)), objects, np.array([False, True])
    )
    assert found.boxes.tolist() == [list(A), list(FAR)]
    assert there.boxes.tolist() == [list(A)]
