"""Charts of values in named rows: every one a dot, with a mean, an interval, a line to compare."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from utils.show.chart import BOTTOM, RIGHT, TOP, WIDTH, Axis, ends, stroke, words
from utils.show.page import Markup, element, legend
from utils.show.style import DRAWN, SERIES, palette

NAMES = 126  # units of the drawing that the names of rows take
HIGH = 24  # of a row
EDGE = 12  # around a file's drawings
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


class Drawing(NamedTuple):
    """What is in a chart, `WIDTH` units wide and so many high; it goes into a page, or a file."""

    title: str
    parts: Sequence[Markup]
    height: float

    def figure(self, series: Sequence[str] = ()) -> Markup:
        """It in a page, its title above and the legend of its series, if it names any, below."""
        size = f"0 0 {WIDTH} {self.height:g}"
        look = {"viewBox": size, "role": "img", "aria_label": self.title, "font_size": 11}
        caption = element("figcaption", element("b", self.title))
        picture = element("svg", *self.parts, **look)
        return element("figure", caption, picture, legend(series) if series else Markup())


def side_by_side(drawings: Sequence[Drawing]) -> str:
    """Drawings with their titles as an SVG file, light and dark as pages are."""
    width = WIDTH * len(drawings) + 2 * EDGE
    height = max(drawing.height for drawing in drawings) + HIGH + 2 * EDGE
    parts = [element("rect", width=width, height=f"{height:g}", style="fill:var(--card)")]
    for number, drawing in enumerate(drawings):
        title = element("text", drawing.title, y=11, font_weight=600)
        below = element("g", *drawing.parts, transform=f"translate(0 {HIGH})")
        place = f"translate({EDGE + WIDTH * number} {EDGE})"
        parts.append(element("g", title, below, transform=place))
    look = {"viewBox": f"0 0 {width} {height:g}", "width": 1.3 * width, "font_size": 11}
    sheet = element("style", Markup(palette() + DRAWN))
    words = {"xmlns": "http://www.w3.org/2000/svg", "font_family": "system-ui, sans-serif"}
    return element("svg", sheet, *parts, **words, **look) + "\n"


def dots(
    title: str, rows: Mapping[str, Row], *, x_label: str = "", line: float | None = None
) -> Drawing:
    """A chart of rows.

    Args:
        title: of the chart.
        rows: name -> what is in the row, from the top.
        x_label: what the values are.
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
    return Drawing(title, parts, height)


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
