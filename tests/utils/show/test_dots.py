"""Charts of named rows: what is drawn, and what is not finite is left out."""

import math
import re
from xml.etree import ElementTree

import pytest

from utils.show.dots import Row, dots, side_by_side


def test_rows_have_names_dots_means_and_intervals() -> None:
    rows = {
        "alone": Row([(0, 20.0), (0, 22.0), (1, math.nan)], mean=21.0, colour="ink"),
        "a <very> long name of a variant": Row(mean=1.0, ends=(-1.0, 3.0), colour="good"),
        "one seed": Row(mean=math.nan, ends=(math.nan, math.nan)),
    }
    text = dots("title", rows, x_label="points", line=0.0).figure(("teacher", "student"))
    assert text.count("<circle") == 2
    assert text.count('class="key"') == 2
    assert "long name of<" not in text  # 20 letters and no more
    assert "a &lt;very&gt; long name…" in text
    assert "<title>a &lt;very&gt; long name of a variant</title>" in text
    assert text.count("stroke:var(--good)") == 2  # the interval and the mean
    assert text.count("stroke:var(--ink)") == 2  # the mean, and the line at 0
    assert "nan" not in text
    assert 'class="key"' not in dots("t", {"a": Row([(0, 1.0)])}).figure()
    assert dots("empty", {}).figure().startswith("<figure>")


def test_places_grow_with_values() -> None:
    text = dots("t", {"a": Row([(0, 1.0), (0, 2.0), (0, 3.0)])}).figure()
    x = [float(value) for value in re.findall(r'cx="([\d.]+)"', text)]
    assert x == sorted(x)
    assert x[1] - x[0] == pytest.approx(x[2] - x[1], abs=0.2)


def test_a_file_is_a_picture_of_its_own() -> None:
    rows = {"a <b>": Row([(0, 1.0), (0, 2.0)], mean=1.5, colour="ink")}
    drawing = dots("every seed", rows, x_label="points")
    text = side_by_side([drawing, drawing])
    root = ElementTree.fromstring(text)
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    assert (width, height) == (2 * 380 + 24, drawing.height + 48)
    assert text.count("<circle") == 4
    assert text.count("every seed") == 2
    used = set(re.findall(r"var\((--\w+)\)", text))
    assert used <= set(re.findall(r"(--\w+):", text))
    assert "prefers-color-scheme: dark" in text
