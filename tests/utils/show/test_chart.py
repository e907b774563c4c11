"""Line charts: where a value lies, which numbers stand at the axes, what is left out."""

import math
import re

import pytest

from utils.show.chart import (
    MOST_POINTS,
    Axis,
    ends,
    linear_ticks,
    lines,
    log_ticks,
    steep,
    thinned,
)


def test_places_of_values() -> None:
    up = Axis((0.0, 10.0), (200.0, 0.0))
    assert [up(v) for v in (0, 2.5, 10)] == [200, 150, 0]
    ratio = Axis((1.0, 100.0), (0.0, 100.0), log=True)
    assert [ratio(v) for v in (1, 10, 100)] == [0, 50, 100]


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0, 6, [0, 1, 2, 3, 4, 5, 6]),
        (1, 232, [50, 100, 150, 200]),
        (-0.3, 0.3, [-0.3, -0.2, -0.1, 0, 0.1, 0.2, 0.3]),
    ],
)
def test_round_numbers(low: float, high: float, ticks: list[float]) -> None:
    assert linear_ticks(low, high) == pytest.approx(ticks)


def test_round_ratios() -> None:
    assert log_ticks(0.9, 60) == pytest.approx([1, 2, 5, 10, 20, 50])
    assert log_ticks(1e-6, 1) == pytest.approx([1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1])


def test_ends_of_an_axis() -> None:
    assert ends([]) == (0, 1)
    assert ends([5.0, 5.0]) == (2.5, 7.5)
    assert ends([0.0]) == (-0.5, 0.5)
    assert ends([1.0, 10.0])[0] == 0  # small beside the largest: from 0 on
    assert ends([9.0, 10.0])[0] == 9
    low, high = ends([1.0, 100.0], log=True)
    assert 0 < low < 1 < 100 < high


def test_a_first_epoch_that_flattens_the_rest_asks_for_a_logarithm() -> None:
    assert steep([50.0, 9, 8, 7, 6])
    assert not steep([10.0, 9, 8, 7])
    assert not steep([50.0, 9, 8, 0])  # no logarithm
    assert not steep([50.0, 1.0])  # no rest


def test_a_chart_has_its_series_and_leaves_out_what_is_not_finite() -> None:
    series = {"a": [(1, 1.0), (2, math.nan), (3, 3.0)], "b": [(1, 2.0)], "empty": []}
    text = lines("title", series, x_label="epoch")
    assert len(re.findall("<circle", text)) == 3
    assert re.findall(r"<title>(.*?)</title>", text) == ["a: 1, 1", "a: 3, 3", "b: 1, 2"]
    assert text.count('class="key"') == 3
    assert text.count("stroke:var(--c0)") == 1  # one point is no line
    assert "stroke:var(--c1)" not in text
    assert "logarithmic" not in text
    assert "logarithmic" in lines("t", {"a": [(i, 100 / i**3) for i in range(1, 9)]})
    assert 'class="key"' not in lines("t", {"a": [(1, 1.0)]})


def test_long_series_are_thinned_to_their_ends() -> None:
    points = [(float(i), 0.0) for i in range(10 * MOST_POINTS)]
    few = thinned(points)
    assert len(few) == MOST_POINTS
    assert (few[0], few[-1]) == (points[0], points[-1])
    assert thinned(points[:5]) == points[:5]


def test_more_series_than_colours_are_dashed() -> None:
    many = {str(i): [(0, float(i)), (1, float(i))] for i in range(10)}
    text = lines("many", many)
    assert text.count("stroke-dasharray") == 2
    assert text.count("fill:var(--card);stroke") == 4  # of two points each
    assert text.count("box-shadow:inset") == 2  # in the legend
