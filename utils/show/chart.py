"""Line charts for pages: SVG in the page's own colours, drawn in a millisecond."""

import math
from collections.abc import Callable, Mapping, Sequence

from utils.show.page import Markup, element, legend
from utils.show.style import SERIES

Point = tuple[float, float]

WIDTH, HEIGHT = 380, 230  # units of the drawing, which a page scales
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 10, 34
DOTTED = 40  # a line of fewer points shows each of them
MOST_POINTS = 400
# A first epoch of many times the rest would flatten it: from this ratio of the largest value to
# the median on the axis is logarithmic.
STEEP = 5.0


def lines(
    title: str,
    series: Mapping[str, Sequence[Point]],
    *,
    x_label: str = "",
    x_limits: Point | None = None,
    y_limits: Point | None = None,
    log: bool | None = None,
) -> Markup:
    """A chart of lines over a common axis, with its title above and its legend below.

    Args:
        title: of the chart.
        series: name -> (x, y) by rising x; points that are not finite are left out.
        x_label: what x is.
        x_limits: ends of the x axis; without, those of the data.
        y_limits: the same of y.
        log: whether y is logarithmic; None decides by the data, see `STEEP`.
    """
    known = {
        name: thinned([p for p in points if all(map(math.isfinite, p))])
        for name, points in series.items()
    }
    xs = [x for points in known.values() for x, _ in points]
    ys = [y for points in known.values() for _, y in points]
    log = steep(ys) if log is None else log
    across = Axis(x_limits or ends(xs), (LEFT, WIDTH - RIGHT))
    up = Axis(y_limits or ends(ys, log), (HEIGHT - BOTTOM, TOP), log=log)
    parts = [*frame(across, up, x_label)]
    for number, (name, points) in enumerate(known.items()):
        parts += drawn_line(number, name, [(across(x), up(y)) for x, y in points], points)
    picture = element(
        "svg", *parts, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=title, font_size=11
    )
    caption = element("figcaption", element("b", title), " (logarithmic)" if log else "")
    names = legend(list(known)) if len(known) > 1 else Markup()
    return element("figure", caption, picture, names)


class Axis:
    """Places of values along an axis, and its ticks.

    Args:
        limits: the values at its ends.
        place: where the ends are drawn.
        log: whether equal ratios are equally far apart; both limits are above 0 then.
    """

    def __init__(self, limits: Point, place: tuple[float, float], *, log: bool = False) -> None:
        self.limits, self.place = limits, place
        self.scale: Callable[[float], float] = math.log10 if log else float
        self.ticks = log_ticks(*limits) if log else linear_ticks(*limits)

    def __call__(self, value: float) -> float:
        low, high = map(self.scale, self.limits)
        share = (self.scale(value) - low) / (high - low)
        return round(self.place[0] + share * (self.place[1] - self.place[0]), 1)


def ends(values: Sequence[float], log: bool = False) -> Point:
    """The least and the largest value, apart from each other, with a little room; 0..1 of none."""
    if not values:
        return (0.1, 1.0) if log else (0.0, 1.0)
    low, high = min(values), max(values)
    if log:
        room = max((high / low) ** 0.04, 1.02)
        return low / room, high * room
    if low >= 0 and low < 0.3 * high:
        low = 0.0  # nearly there: what is small then looks small
    if low == high:
        return low - (abs(low) or 1.0) / 2, high + (abs(high) or 1.0) / 2
    return low, high + 0.03 * (high - low)


def linear_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers, 1, 2 or 5 times a power of ten apart, in low..high."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(s * power for s in (1, 2, 5, 10) if s * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [n * step for n in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten in low..high; of a short axis their doubles and fivefolds, too."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    factors = (1,) if last - first > 3 else (1, 2, 5)
    stride = max(1, (last - first) // 6)
    powers = range(first, last + 1, stride)
    return [f * 10.0**p for p in powers for f in factors if low <= f * 10.0**p <= high]


def steep(values: Sequence[float]) -> bool:
    """Whether a few large values would flatten the others."""
    if len(values) < 3 or min(values) <= 0:
        return False
    return max(values) > STEEP * sorted(values)[len(values) // 2]


def thinned(points: Sequence[Point]) -> list[Point]:
    """At most `MOST_POINTS` of them, evenly spread, the first and the last among them."""
    count = len(points)
    if count <= MOST_POINTS:
        return list(points)
    return [points[i * (count - 1) // (MOST_POINTS - 1)] for i in range(MOST_POINTS)]


def frame(across: Axis, up: Axis, x_label: str) -> list[Markup]:
    """The grid, its numbers, and what x is."""
    parts = []
    for tick in up.ticks:
        y = up(tick)
        parts.append(stroke([(LEFT, y), (WIDTH - RIGHT, y)], class_="grid"))
        parts.append(words(f"{tick:.4g}", LEFT - 5, y + 4, "end"))
    for tick in across.ticks:
        x = across(tick)
        parts.append(stroke([(x, HEIGHT - BOTTOM), (x, HEIGHT - BOTTOM + 4)], class_="grid"))
        parts.append(words(f"{tick:.4g}", x, HEIGHT - BOTTOM + 16, "middle"))
    parts.append(words(x_label, WIDTH - RIGHT, HEIGHT - 4, "end"))
    return parts


def drawn_line(
    number: int, name: str, places: Sequence[Point], values: Sequence[Point]
) -> list[Markup]:
    """A series: its line, and its points, which say their values, where they are few."""
    look: dict[str, object] = {"style": f"stroke:var(--c{number % SERIES})", "stroke_width": 2}
    if number >= SERIES:
        look["stroke_dasharray"] = "5 3"
    parts = [stroke(places, stroke_linejoin="round", **look)] if len(places) > 1 else []
    if len(places) < DOTTED:
        colour = f"var(--c{number % SERIES})"
        hollow = f"fill:var(--card);stroke:{colour}"  # as its mark in the legend
        fill = hollow if number >= SERIES else f"fill:{colour}"
        parts += [
            element(
                "circle",
                element("title", f"{name}: {x:.6g}, {y:.4g}"),
                cx=place[0], cy=place[1], r=2.6 if len(places) > 1 else 4.5, style=fill,
            )
            for place, (x, y) in zip(places, values, strict=True)
        ]  # fmt: skip
    return parts


def stroke(places: Sequence[Point], **look: object) -> Markup:
    """A line through some places."""
    points = " ".join(f"{x:g},{y:g}" for x, y in places)
    return element("polyline", points=points, fill="none", **look)


def words(text: str, x: float, y: float, anchor: str) -> Markup:
    """A text whose start, middle or end is at a place."""
    return element("text", text, x=x, y=y, text_anchor=anchor, class_="axis")
