"""One page for people: a single HTML file, light and dark, that loads nothing and runs nothing."""

import base64
import io
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from PIL import Image

from utils.files import write_whole
from utils.show.draw import Picture
from utils.show.style import SERIES, style

# Whatever a page holds, a browser may show the pictures in it and fetch nothing.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

BROAD = 1.7  # a picture so many times as wide as high takes two places


class Markup(str):
    """Text that is HTML already; any other text of a page is escaped."""

    __slots__ = ()


def html(text: str) -> Markup:
    """The text as HTML shows it."""
    return text if isinstance(text, Markup) else Markup(escape(text))


def element(tag: str, *content: str, **attributes: object) -> Markup:
    """`<tag name="value">content</tag>`; `class_` stands for class."""
    words = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for name, value in attributes.items()
    )
    return Markup(f"<{tag}{words}>{''.join(map(html, content))}</{tag}>")


class Page:
    """A page under construction: a headline, then cards.

    Args:
        title: of the page and of the browser's window.
        subtitle: what it is about, in a line.
    """

    def __init__(self, title: str, subtitle: str = "") -> None:
        self.title = title
        self.head = [element("h1", title)]
        if subtitle:
            self.head.append(element("div", subtitle, class_="faint"))
        self.sections: list[list[Markup]] = []

    def verdict(self, text: str, state: str = "") -> None:
        """What matters most, above all cards; where it is a judgement `good`, `odd` or `bad`."""
        self.head.append(element("div", text, class_=f"verdict {state}"))

    def section(self, title: str, *content: str) -> None:
        """A card with what the functions below have made; without a title it has no heading."""
        heading = [element("h2", title)] if title else []
        self.sections.append([*heading, *map(html, content)])

    def text(self) -> str:
        """The page as HTML."""
        cards = [element("section", *content) for content in self.sections]
        return (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
            f"<title>{escape(self.title)}</title><style>{style()}</style></head><body>"
            f"{''.join(self.head)}{''.join(cards)}</body></html>\n"
        )

    def write(self, path: str | Path) -> None:
        """Writes the page, whole or not at all."""
        write_whole(path, self.text())


def paragraph(text: str, kind: str = "") -> Markup:
    """A paragraph; `faint` for what explains, `bad`, `odd` or `good` for what judges."""
    return element("p", text, class_=kind) if kind else element("p", text)


def code(text: str, tag: str = "code") -> Markup:
    """A command as typed, or several in a `pre`: broken between words, not behind a flag's hyphens.

    A word that is longer than a line is broken anywhere.
    """
    parts = re.split(r"(\s+)", text)
    return element(tag, *(element("span", part) if part.strip() else part for part in parts))


def bullets(lines: Sequence[str]) -> Markup:
    """A list; nothing of nothing."""
    return element("ul", *(element("li", line) for line in lines)) if lines else Markup()


def folded(summary: str, *content: str) -> Markup:
    """What is shown when it is asked for."""
    return element("details", element("summary", summary), *content)


def tiles(values: Mapping[str, str]) -> Markup:
    """Large numbers with their names below."""
    shown = [element("div", element("b", value), name) for name, value in values.items()]
    return element("div", *shown, class_="tiles")


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, words: int = 1) -> Markup:
    """A table; its first `words` columns are text, the others numbers. Without a head of none."""

    def line(tag: str, cells: Sequence[str]) -> Markup:
        marks: list[dict[str, str]] = [{}] * words + [{"class_": "number"}] * (len(cells) - words)
        return element("tr", *(element(tag, c, **m) for c, m in zip(cells, marks, strict=False)))

    lines = [line("th", head)] if any(head) else []
    lines += [line("td", row) for row in rows]
    return element("div", element("table", *lines), class_="wide words" if words > 1 else "wide")


def key(number: int) -> Markup:
    """The mark of a series in a legend."""
    colour = f"var(--c{number % SERIES})"
    hollow = f"box-shadow:inset 0 0 0 2px {colour}"  # when the colours are used up
    look = hollow if number >= SERIES else f"background:{colour}"
    return element("span", class_="key", style=look)


def legend(names: Sequence[str]) -> Markup:
    """The names of series, with their colours."""
    shown = [element("span", key(i), name) for i, name in enumerate(names)]
    return element("div", *shown, class_="keys")


def image(picture: Picture, quality: int = 80) -> Markup:
    """A picture, `[H, W, 3]` uint8 RGB, inside the page."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality)
    data = base64.b64encode(file.getvalue()).decode()
    height, width = picture.shape[:2]
    return Markup(
        f'<img alt="" width="{width}" height="{height}" src="data:image/jpeg;base64,{data}">'
    )


def figure(pictures: Mapping[str, Picture], title: str, caption: str) -> Markup:
    """Pictures beside each other, each below its name, with a title and a caption for all."""
    shown = [
        element("div", *([element("span", name)] if name else []), image(picture))
        for name, picture in pictures.items()
    ]
    row = element("div", *shown, class_="row")
    words = element("figcaption", element("b", title), Markup("<br>"), caption)
    breadth = sum(1 + (p.shape[1] > BROAD * p.shape[0]) for p in pictures.values())
    return element("figure", row, words, style=f"--n:{breadth}")


def grid(kind: str, items: Sequence[Markup]) -> Markup:
    """`charts` or `pictures` side by side, as many as there is room for."""
    return element("div", *items, class_=kind)
