"""Statistics of paired runs against published tables and by hand."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from tools.compare.paired import bootstrap_interval, deviation, paired_difference, t_interval

VALUES = [math.sin(7 * i) for i in range(12)]
RESULTS = sorted((Path(__file__).parents[3] / "benchmarks/results").glob("*/comparison.json"))


@pytest.mark.parametrize(
    ("freedom", "published"),  # two-sided 95 %, as printed in every table of Student's t
    [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (9, 2.262), (29, 2.045), (120, 1.980)],
)
def test_quantiles_are_those_of_the_tables(freedom: int, published: float) -> None:
    values = [float(i) for i in range(freedom + 1)]
    low, high = t_interval(values)
    assert (low + high) / 2 == pytest.approx(freedom / 2)
    reach = published * deviation(values) / len(values) ** 0.5
    assert (high - low) / 2 == pytest.approx(reach, rel=3e-4)


def test_the_t_interval_holds_95_percent_of_the_density() -> None:
    # With T = sqrt(n) tan(a) the density of the angle a is proportional to cos(a)^(n - 1).
    low, high = t_interval(VALUES)
    n = len(VALUES) - 1
    t = (high - low) / 2 / (deviation(VALUES) / len(VALUES) ** 0.5)
    angles = np.linspace(0, math.pi / 2, 100_001)
    density = np.cos(angles) ** (n - 1)
    inside = density[angles <= math.atan(t / n**0.5)].sum() / density.sum()
    assert inside == pytest.approx(0.95, abs=1e-4)


def test_a_difference_by_hand() -> None:
    # Differences 1, 2, 3 (seed 7 has no partner): mean 2, sd 1, t interval 2 -+ 4.303 / sqrt 3.
    difference = paired_difference({0: 11, 1: 22, 2: 33, 7: 99}, {2: 30, 1: 20, 0: 10})
    assert (difference.seeds, difference.mean, difference.sd) == (3, 2, 1)
    assert difference.t == pytest.approx((2 - 2.4843, 2 + 2.4843), abs=1e-3)
    # Of 27 samples one is (1, 1, 1), another (3, 3, 3): 2.5 % of the means lie at the very ends.
    assert difference.bootstrap == (1, 3)
    assert difference.verdict == "no significant difference"


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.parent.name)
def test_what_was_published_comes_out_again(path: Path) -> None:
    variants = json.loads(path.read_text())["variants"]
    compared = [row for row in variants.values() if "difference" in row]
    assert compared
    for row in compared:
        again = paired_difference(row["seeds"], variants["alone"]["seeds"])
        assert again.verdict == row["verdict"]
        for name, far in (("t", 1e-6), ("bootstrap", 0.5)):  # null: of one seed
            written = [math.nan if end is None else end for end in row["difference"][name]]
            assert list(getattr(again, name)) == pytest.approx(written, abs=far, nan_ok=True)


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


def test_the_bootstrap_draws_with_replacement() -> None:
    drawn = np.random.default_rng(1).choice(VALUES, (100_000, len(VALUES))).mean(1)
    expected = np.quantile(drawn, (0.025, 0.975))
    assert bootstrap_interval(VALUES) == pytest.approx(expected, abs=0.02)
    assert bootstrap_interval(VALUES) == bootstrap_interval(VALUES)


def test_the_bootstrap_agrees_with_t_on_many_values() -> None:
    values = [math.sin(7 * i) for i in range(400)]
    for a, b in zip(t_interval(values), bootstrap_interval(values), strict=True):
        assert a == pytest.approx(b, abs=0.006)


def test_equal_values_are_their_own_interval() -> None:
    for value in (0.0, 2.0):
        assert t_interval([value] * 3) == bootstrap_interval([value] * 3) == (value, value)
    same = paired_difference({0: 31.0, 1: 32.0}, {0: 31.0, 1: 32.0})
    assert same.verdict == "no significant difference"


def test_an_undefined_value_leaves_no_interval() -> None:
    for interval in (t_interval, bootstrap_interval):
        assert all(map(math.isnan, interval([1.0, math.nan, 2.0])))


def test_too_few_runs() -> None:
    assert all(map(math.isnan, t_interval([1.0])))
    assert all(map(math.isnan, bootstrap_interval([1.0])))
    with pytest.raises(ValueError, match="share no seed"):
        paired_difference({0: 1.0}, {1: 1.0})
