"""The page builder: escaping, colours that everybody can read, and what a browser makes of it."""

from pathlib import Path

import numpy as np
import pytest

from tests.browser import check_page
from utils.show.chart import lines
from utils.show.page import (
    Markup,
    Page,
    bullets,
    code,
    element,
    figure,
    folded,
    grid,
    html,
    paragraph,
    table,
    tiles,
)
from utils.show.style import COLOURS, SERIES, style

SURFACES = ("paper", "card", "line")


def luminance(colour: str) -> float:
    """Relative luminance of `#rrggbb`, WCAG 2.2."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(a: str, b: str) -> float:
    """Contrast ratio, 1..21, WCAG 2.2."""
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_that_of_the_standard() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)  # WCAG's near miss


@pytest.mark.parametrize("side", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("name", [name for name in COLOURS if name not in SURFACES])
def test_every_colour_is_legible(name: str, side: int) -> None:
    for surface in ("paper", "card"):
        assert contrast(COLOURS[name][side], COLOURS[surface][side]) >= 4.5


def test_series_have_colours_of_their_own() -> None:
    for side in (0, 1):
        assert len({COLOURS[f"c{i}"][side] for i in range(SERIES)}) == SERIES == 8
    assert COLOURS["paper"][0] in style()
    assert COLOURS["paper"][1] in style().partition("prefers-color-scheme: dark")[2]


def test_text_is_escaped_once_and_markup_is_not() -> None:
    assert html('<a> & "b"') == "&lt;a&gt; &amp; &quot;b&quot;"
    assert html(html("<a>")) == "&lt;a&gt;"
    assert element("b", "<", Markup("<i>"), title='"') == '<b title="&quot;">&lt;<i></b>'
    evil = "</style><script>alert(1)</script>"
    page = Page(evil, evil)
    page.verdict(evil)
    page.section(evil, paragraph(evil), bullets([evil]), folded(evil, evil), tiles({evil: evil}))
    page.section("", table((evil,), [(evil,)]), lines(evil, {evil: [(0, 1), (1, 2)]}, x_label=evil))
    picture = np.zeros((2, 2, 3), np.uint8)
    page.section("", grid("pictures", [figure({evil: picture}, evil, evil)]))
    text = page.text()
    assert "<script" not in text
    assert text.count("</style>") == 1


def test_commands_break_between_words_alone() -> None:
    assert code("a --b") == "<code><span>a</span> <span>--b</span></code>"
    assert code("a\n <b", "pre") == "<pre><span>a</span>\n <span>&lt;b</span></pre>"
    assert code("") == "<code></code>"


def test_tables_align_words_and_numbers() -> None:
    text = table(("class", "AP"), [("cat", "1")])
    assert "<th>class</th>" in text
    assert '<td class="number">1</td>' in text
    assert '<td class="number">' not in table(("", ""), [("a", "b")], words=2)
    assert "<th>" not in table(("", ""), [("a", "b")])
    assert bullets([]) == ""


def test_a_browser_shows_the_page_as_it_is(tmp_path: Path) -> None:
    page = Page("A page", "about nothing")
    page.verdict("fine", "good")
    rows = [("a/very/long/path/" * 12, *(str(i) for i in range(20)))]
    page.section("Wide", table(["", *map(str, range(20))], rows))
    page.section("Words", table(("", ""), [("command", "python " + "--flag=" * 60)], words=2))
    page.section("Charts", grid("charts", [lines("a", {"b": [(0, 1.0), (1, 2.0)]})] * 3))
    picture = np.full((40, 60, 3), 99, np.uint8)
    shown = figure({"objects": picture, "teacher": picture, "student": picture}, "an image", "so")
    page.section("Pictures", grid("pictures", [shown] * 2))
    page.write(tmp_path / "page.html")
    check_page(tmp_path / "page.html", tmp_path, images=6)
