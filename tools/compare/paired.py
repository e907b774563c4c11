"""Statistics of paired runs: what few seeds can say, and what they cannot."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 10_000


class Difference(NamedTuple):
    """The paired difference of two variants, in the unit of their values.

    seeds: how many pairs there are.
    mean, sd: of the differences; sd is nan of a single pair.
    t, bootstrap: 95 % intervals of the mean as (low, high); nan of a single pair.
    """

    seeds: int
    mean: float
    sd: float
    t: tuple[float, float]
    bootstrap: tuple[float, float]

    @property
    def verdict(self) -> str:
        """In words: whether the t interval excludes zero."""
        low, high = self.t
        if self.seeds < 2:
            return "one seed says nothing about chance"
        if math.isnan(low):
            return "unknown: an AP is not defined, for want of objects"
        if low > 0:
            return "a significant gain"
        return "significantly worse" if high < 0 else "no significant difference"


def paired_difference(values: Mapping[int, float], baseline: Mapping[int, float]) -> Difference:
    """What a variant adds to the baseline, over the seeds that both have.

    Raises:
        ValueError: they share no seed.
    """
    shared = sorted(values.keys() & baseline.keys())
    if not shared:
        raise ValueError("the two share no seed; a paired comparison needs runs with equal seeds")
    differences = [values[seed] - baseline[seed] for seed in shared]
    return Difference(
        len(shared),
        float(np.mean(differences)),
        deviation(differences),
        t_interval(differences),
        bootstrap_interval(differences),
    )


def deviation(values: Sequence[float]) -> float:
    """The sample's standard deviation (n - 1); nan of fewer than two values."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


def t_interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the mean by Student's t; nan of fewer than two values.

    Of equal values it is their mean alone, where `scipy.stats.t.interval` knows no interval.
    """
    if len(values) < 2:
        return math.nan, math.nan
    from scipy import stats

    mean, quantile = float(np.mean(values)), stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)
    reach = float(quantile * stats.sem(values))
    return mean - reach, mean + reach


def bootstrap_interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % percentile interval of the mean over samples drawn with replacement, always the same.

    It assumes no distribution, but of few values it is too narrow; nan of fewer than two. Not BCa:
    its correction for skewness is estimated from the values left out one by one, which for a few
    seeds is noise, and for equal values nothing at all.
    """
    if len(values) < 2 or any(map(math.isnan, values)):
        return math.nan, math.nan
    from scipy import stats

    low, high = stats.bootstrap(
        (values,), np.mean, n_resamples=RESAMPLES, confidence_level=CONFIDENCE,
        method="percentile", rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    return float(low), float(high)
