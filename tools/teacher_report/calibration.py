"""Whether a detector's scores mean what they say: of the detections scored 0.7, are 70 % right?"""

from typing import Any, NamedTuple

import numpy as np

from utils.metrics.detection_pool import Bools, Floats
from utils.metrics.evaluator import Evaluator

BINS = 10
# AP asks for detections down to a score of 0.01: a hundred an image, nearly all of them false, that
# nobody would act on. They would decide the calibration error alone; it counts from here on.
LEAST_SCORE = 0.3


class Reliability(NamedTuple):
    """Detections in bins of equal width over 0..1; nan where a bin is empty.

    number: `[bins]`, of detections.
    score: `[bins]`, the mean score.
    precision: `[bins]`, the share that is right.
    """

    number: Floats
    score: Floats
    precision: Floats

    @property
    def error(self) -> float:
        """Expected calibration error: |score - precision| of the bins, weighted by their numbers.

        Source: Naeini et al., "Obtaining Well Calibrated Probabilities Using Bayesian Binning",
        AAAI 2015; of detections: Kueppers et al., "Multivariate Confidence Calibration for Object
        Detection", CVPR workshops 2020.
        """
        return self._mean(np.abs(self.score - self.precision))

    @property
    def excess(self) -> float:
        """Mean score less precision over all: above 0 is overconfident."""
        return self._mean(self.score - self.precision)

    def _mean(self, values: Floats) -> float:
        used = self.number > 0
        return float(np.average(values[used], weights=self.number[used])) if used.any() else np.nan


def reliability(scores: Floats, hits: Bools, bins: int = BINS) -> Reliability:
    """Sorts detections into bins.

    Args:
        scores: `[D]` in 0..1; a score on a border belongs to the bin above it, 1 to the last.
        hits: `[D]`, whether each is right.
        bins: how many.
    """
    place = np.minimum((scores * bins).astype(np.int64), bins - 1)
    number, score, precision = (
        np.bincount(place, weights=values, minlength=bins).astype(np.float64)
        for values in (np.ones(len(scores)), scores, hits)
    )
    divisor = np.where(number > 0, number, np.nan)
    return Reliability(number, score / divisor, precision / divisor)


def detection_reliability(evaluator: Evaluator, least_score: float = 0.0) -> Reliability:
    """Score against precision (VOC, IoU 0.5) of an evaluator's detections from `least_score` on.

    Detections of difficult objects count neither way.
    """
    scores, hits = [np.zeros(0)], [np.zeros(0, np.bool_)]
    for name in evaluator.class_names:
        precision, _, of_class = evaluator.precision_recall(name)
        # The curve's precision is hits so far / rank: its steps are the hits.
        so_far = np.rint(precision * np.arange(1, len(precision) + 1))
        sure = of_class >= least_score
        scores.append(of_class[sure])
        hits.append((np.diff(so_far, prepend=0) > 0)[sure])
    return reliability(np.concatenate(scores), np.concatenate(hits))


def calibration(evaluator: Evaluator) -> dict[str, Any]:
    """A detector's calibration as JSON has it.

    Returns:
        `error`, `excess` and `detections` of those scored `LEAST_SCORE` or more; `bins` of all
        detections, each named by its lower end: `{"0.7": {"number", "score", "precision"}}`.
    """
    sure, every = (detection_reliability(evaluator, least) for least in (LEAST_SCORE, 0.0))
    columns = zip(*(column.tolist() for column in every), strict=True)
    bins = {
        f"{i / BINS:.1f}": {"number": int(number), "score": score, "precision": precision}
        for i, (number, score, precision) in enumerate(columns)
    }
    detections = int(sure.number.sum())
    return {"error": sure.error, "excess": sure.excess, "detections": detections, "bins": bins}
