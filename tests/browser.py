"""A page opened in a browser: what it shows, and what it complains about."""

import json
import re
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

from tools.demo.pictures import QUIET, find_browser

# Added to a copy of the page, which runs nothing itself.
SCRIPT = """<script>addEventListener("load", () => {
  const images = [...document.images], asked = performance.getEntriesByType("resource");
  console.log("FACTS " + JSON.stringify({
    images: images.length,
    loaded: images.filter(i => i.complete && i.naturalWidth > 0).length,
    requests: asked.map(e => e.name.slice(0, 80)).filter(n => !n.startsWith("data:")),
    overflow: Math.max(0, document.documentElement.scrollWidth - innerWidth),
    paper: getComputedStyle(document.body).backgroundColor,
  }));
});</script>"""


class Opened(NamedTuple):
    """What a browser says of a page; `console` is what it complains about."""

    images: int
    loaded: int
    requests: list[str]
    overflow: int  # pixels that do not fit the window's width
    paper: str
    console: list[str]
    picture: Path


def opened(page: Path, folder: Path, *, width: int = 1280, dark: bool = False) -> Opened:
    """Opens a page in headless Chromium; the test is skipped where there is none."""
    if not (browser := find_browser()):
        pytest.skip("no Chromium")
    text = page.read_text("utf-8")
    assert "default-src 'none'" in text
    folder.mkdir(exist_ok=True)
    copy, picture = folder / "copy.html", folder / f"{page.stem}-{width}-{dark}.png"
    text = text.replace("default-src 'none'", "default-src 'none'; script-src 'unsafe-inline'")
    copy.write_text(text.replace("</head>", f"{SCRIPT}</head>"), "utf-8")
    words = [f"--user-data-dir={folder / 'profile'}", f"--window-size={width},1600"]
    words += [f"--screenshot={picture}"]
    words += ["--blink-settings=preferredColorScheme=0"] if dark else []
    done = subprocess.run(
        [browser, *QUIET, "--enable-logging=stderr", *words, copy.as_uri()],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    console = re.findall(r'CONSOLE[^"]*"(.*)", source:', done.stderr)
    facts = [line.removeprefix("FACTS ") for line in console if line.startswith("FACTS ")]
    assert len(facts) == 1, done.stderr
    rest = [line for line in console if not line.startswith("FACTS ")]
    return Opened(**json.loads(facts[0]), console=rest, picture=picture)


def check_page(page: Path, folder: Path, images: int) -> None:
    """A page has at least so many pictures, fits a screen and a telephone, and asks for nothing."""
    papers = set()
    for width, dark in ((1280, False), (390, True)):
        seen = opened(page, folder, width=width, dark=dark)
        assert seen.images == seen.loaded >= images
        assert not seen.requests
        assert not seen.console
        assert seen.overflow == 0, f"{seen.overflow} pixels beyond {width}"
        papers.add(seen.paper)
    assert len(papers) == 2  # light and dark
