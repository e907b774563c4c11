"""Statistics of paired runs against published tables and by hand."""

import math

import pytest

from tools.compare.paired import bootstrap_interval, paired_difference, t_interval, t_quantile


@pytest.mark.parametrize(
    ("freedom", "published"),  # two-sided 95 %, as printed in every table of Student's t
    [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (9, 2.262), (29, 2.045), (120, 1.980)],
)
def test_quantiles_are_those_of_the_tables(freedom: int, published: float) -> None:
    assert t_quantile(freedom) == pytest.approx(published, abs=6e-4)


def test_other_confidences() -> None:
    assert t_quantile(4, 0.99) == pytest.approx(4.604, abs=6e-4)


def test_a_difference_by_hand() -> None:
    # Differences 1, 2, 3 (seed 7 has no partner): mean 2, sd 1, t interval 2 -+ 4.303 / sqrt 3.
    difference = paired_difference({0: 11, 1: 22, 2: 33, 7: 99}, {2: 30, 1: 20, 0: 10})
    assert (difference.seeds, difference.mean, difference.sd) == (3, 2, 1)
    assert difference.t == pytest.approx((2 - 2.4843, 2 + 2.4843), abs=1e-3)
    # Of 27 samples one is (1, 1, 1), another (3, 3, 3): 2.5 % of the means lie at the very ends.
    assert difference.bootstrap == (1, 3)
    assert difference.verdict == "no significant difference"


@pytest.mark.parametrize(
    ("differences", "verdict"),
    [
        ((2.0, 2.1, 1.9), "a significant gain"),
        ((-2.0, -2.1, -1.9), "significantly worse"),
        ((2.0, -2.0, 0.1), "no significant difference"),
        ((9.0,), "one seed says nothing about chance"),
        ((math.nan, math.nan), "unknown: an AP is not defined, for want of objects"),
    ],
)
def test_verdicts(differences: tuple[float, ...], verdict: str) -> None:
    baseline = dict.fromkeys(range(len(differences)), 30.0)
    values = {seed: 30.0 + d for seed, d in enumerate(differences)}
    assert paired_difference(values, baseline).verdict == verdict


def test_the_bootstrap_agrees_with_t_on_many_values() -> None:
    values = [math.sin(7 * i) for i in range(400)]
    for a, b in zip(t_interval(values), bootstrap_interval(values), strict=True):
        assert a == pytest.approx(b, abs=0.006)
    assert bootstrap_interval(values) == bootstrap_interval(values)


def test_too_few_runs() -> None:
    assert all(map(math.isnan, t_interval([1.0])))
    assert all(map(math.isnan, bootstrap_interval([1.0])))
    with pytest.raises(ValueError, match="share no seed"):
        paired_difference({0: 1.0}, {1: 1.0})
