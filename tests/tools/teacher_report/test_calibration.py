"""Scores against precision, by hand."""

import numpy as np
import pytest

from tools.teacher_report.calibration import (
    LEAST_SCORE,
    calibration,
    detection_reliability,
    reliability,
)
from utils.metrics.evaluator import Evaluator


def test_calibration_error_by_hand() -> None:
    # Bin .6: scores .6 and .7 (below .7, that is .69), one right of two: |.645 - .5| = .145.
    # Bin .9: scores .9, 1 and 1, all right: |.9667 - 1| = .0333. The others are empty.
    # Error (2 * .145 + 3 * .0333) / 5 = .078; excess (2 * .145 - 3 * .0333) / 5 = .038.
    found = reliability(np.array([0.6, 0.69, 0.9, 1.0, 1.0]), np.array([1, 0, 1, 1, 1], bool))
    assert found.number.tolist() == [0, 0, 0, 0, 0, 0, 2, 0, 0, 3]
    assert found.score[[6, 9]] == pytest.approx([0.645, 2.9 / 3])
    assert found.precision[[6, 9]].tolist() == [0.5, 1]
    assert np.isnan(found.precision[:6]).all()
    assert found.error == pytest.approx(0.078)
    assert found.excess == pytest.approx(0.038)


def test_scores_that_mean_what_they_say_have_no_error() -> None:
    # 1 of 4 at .25, 3 of 4 at .75.
    scores, hits = np.repeat([0.25, 0.75], 4), np.array([1, 0, 0, 0, 1, 1, 1, 0], bool)
    found = reliability(scores, hits)
    assert (found.error, found.excess) == (0, 0)
    # Turned round: .75 - .25 = .5 too much in one half, .5 too little in the other.
    assert reliability(1 - scores, hits).error == pytest.approx(0.5)
    assert reliability(1 - scores, hits).excess == 0


def test_nothing_has_no_error() -> None:
    found = reliability(np.zeros(0), np.zeros(0, bool))
    assert np.isnan(found.error)
    assert np.isnan(found.excess)


def evaluator() -> Evaluator:
    """Two classes; `dog` has no object. Boxes a and b are far apart."""
    a, b, c = [0, 0, 10, 10], [50, 50, 60, 60], [80, 80, 90, 90]
    judged = Evaluator(["cat", "dog"])
    judged.update(
        "1",
        boxes=[a, a, b, c, b],
        scores=[0.95, 0.85, 0.75, 0.55, 0.35],
        labels=[1, 1, 1, 1, 2],
        truth_boxes=[a, c],
        truth_labels=[1, 1],
        difficult=[False, True],
    )
    judged.update(
        "2",
        boxes=[b, b],
        scores=[0.45, 0.2],
        labels=[1, 1],
        truth_boxes=[b],
        truth_labels=[1],
        difficult=[False],
    )
    return judged


def test_detections_are_judged_as_voc_judges_them() -> None:
    # .95 hits, .85 is a second one of it, .75 hits nothing, .55 hits a difficult object and does
    # not count, .35 is a dog where there is none, .45 hits in the other image, .2 doubles that.
    found = detection_reliability(evaluator())
    assert found.number.tolist() == [0, 0, 1, 1, 1, 0, 0, 1, 1, 1]
    assert found.precision[[2, 3, 4, 7, 8, 9]].tolist() == [0, 0, 1, 0, 0, 1]
    assert detection_reliability(evaluator(), 0.5).number.sum() == 3


def test_json_has_all_bins_and_the_error_of_sure_detections() -> None:
    report = calibration(evaluator())
    assert LEAST_SCORE == 0.3
    assert report["detections"] == 5  # without .55 and .2
    # |.95 - 1| + .85 + .75 + |.45 - 1| + .35, over 5
    assert report["error"] == pytest.approx((0.05 + 0.85 + 0.75 + 0.55 + 0.35) / 5)
    assert report["excess"] == pytest.approx((-0.05 + 0.85 + 0.75 - 0.55 + 0.35) / 5)
    assert list(report["bins"])[:3] == ["0.0", "0.1", "0.2"]
    assert report["bins"]["0.2"]["number"] == 1
