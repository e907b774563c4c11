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
    """95 % interval of the mean by Student's t; nan of fewer than two values."""
    count = len(values)
    if count < 2:
        return math.nan, math.nan
    mean, reach = float(np.mean(values)), t_quantile(count - 1) * deviation(values) / count**0.5
    return mean - reach, mean + reach


def t_quantile(freedom: int, confidence: float = CONFIDENCE) -> float:
    """The t with P(|T| < t) = `confidence` for T of Student's distribution; to about 1e-6.

    With T = sqrt(n) tan(a), the density of the angle a is proportional to cos(a)^(n - 1).
    """
    angles = np.linspace(0, math.pi / 2, 200_001)
    density = np.cos(angles) ** (freedom - 1)
    area = np.concatenate(([0.0], np.cumsum((density[1:] + density[:-1]) / 2)))
    angle = float(np.interp(confidence, area / area[-1], angles))
    return math.sqrt(freedom) * math.tan(angle)


def bootstrap_interval(values: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """95 % percentile interval of the mean over samples drawn with replacement.

    It assumes no distribution, but of few values it is too narrow; nan of fewer than two.
    """
    if len(values) < 2:
        return math.nan, math.nan
    drawn = np.random.default_rng(seed).choice(values, (RESAMPLES, len(values)))
    low, high = np.quantile(drawn.mean(1), ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
    return float(low), float(high)
