"""Charts of values in named rows: every one a dot, with a mean, an interval, a line to compare."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from utils.show.chart import BOTTOM, RIGHT, TOP, WIDTH, Axis, ends, stroke, words
from utils.show.page import Markup, element, legend
from utils.show.style import SERIES

NAMES = 126  # units of the drawing that the names of rows take
HIGH = 24  # of a row
LONGEST = 20  # letters of a name; its title has the rest


class Row(NamedTuple):
    """A row of a chart.

    values: what is shown as dots: (series, value); values that are not finite are left out.
    mean: a mark across the row.
    ends: of a line along it, an interval for instance.
    colour: of mean and line; a name of `utils.show.style.COLOURS`.
    """

    values: Sequence[tuple[int, float]] = ()
    mean: float | None = None
    ends: tuple[float, float] | None = None
    colour: str = "faint"

    def numbers(self) -> list[float]:
        """Everything finite in it."""
        marks = [*(value for _, value in self.values), self.mean, *(self.ends or ())]
        return [mark for mark in marks if mark is not None and math.isfinite(mark)]


def dots(
    title: str,
    rows: Mapping[str, Row],
    *,
    x_label: str = "",
    series: Sequence[str] = (),
    line: float | None = None,
) -> Markup:
    """A chart with its title above and the legend of its series, if it names any, below.

    Args:
        title: of the chart.
        rows: name -> what is in the row, from the top.
        x_label: what the values are.
        series: names of the series that the dots' numbers speak of.
        line: a value that all rows are compared with.
    """
    numbers = [number for row in rows.values() for number in row.numbers()]
    numbers += [] if line is None else [line]
    height = TOP + BOTTOM + HIGH * len(rows)
    low, high = ends(numbers)
    room = 0.03 * (high - low)
    across = Axis((low - room, high + room), (NAMES, WIDTH - RIGHT))
    bottom = height - BOTTOM
    parts = []
    for tick in across.ticks:
        parts.append(stroke([(across(tick), TOP), (across(tick), bottom)], class_="grid"))
        parts.append(words(f"{tick:.4g}", across(tick), bottom + 14, "middle"))
    parts.append(words(x_label, WIDTH - RIGHT, height - 4, "end"))
    if line is not None:
        look = {"style": "stroke:var(--ink)", "stroke_dasharray": "4 3"}
        parts.append(stroke([(across(line), TOP), (across(line), bottom)], **look))
    for place, (name, row) in enumerate(rows.items()):
        parts += drawn_row(name, row, across, TOP + HIGH * (place + 0.5))
    picture = element(
        "svg", *parts, viewBox=f"0 0 {WIDTH} {height:g}", role="img", aria_label=title, font_size=11
    )
    caption = element("figcaption", element("b", title))
    return element("figure", caption, picture, legend(series) if series else Markup())


def drawn_row(name: str, row: Row, across: Axis, y: float) -> list[Markup]:
    """The name, the line, the mean and the dots of a row."""
    short = name if len(name) <= LONGEST else f"{name[: LONGEST - 1].rstrip()}…"
    label = element("text", element("title", name), short, x=NAMES - 8, y=y + 4, text_anchor="end")
    parts, colour = [label], f"stroke:var(--{row.colour})"
    if row.ends and all(map(math.isfinite, row.ends)):
        places = [(across(end), y) for end in row.ends]
        parts.append(stroke(places, style=colour, stroke_width=3, stroke_opacity=0.6))
    for series, value in row.values:
        if math.isfinite(value):
            dot = {"cx": across(value), "cy": y, "r": 4, "fill_opacity": 0.75}
            look = f"fill:var(--c{series % SERIES})"
            said = element("title", f"{name}: {value:.4g}")
            parts.append(element("circle", said, **dot, style=look))
    if row.mean is not None and math.isfinite(row.mean):
        x = across(row.mean)
        parts.append(stroke([(x, y - 8), (x, y + 8)], style=colour, stroke_width=3))
    return parts
