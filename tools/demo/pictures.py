"""The README's pictures, out of a demonstration that has been run.

python -m tools.demo.pictures
"""

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from utils.cli import parse_arguments, run
from utils.config import option

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
# So that it shows a page and does nothing else, above all nothing with a network.
QUIET = [
    f"--{word}"
    for word in (
        *("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-sync"),
        *("disable-background-networking", "disable-component-update", "hide-scrollbars"),
    )
]
WIDTH, HEIGHT = 1100, 1500  # of the window, in which the page begins
ROWS = 3  # images of the side-by-side picture that are shown, of six


@dataclass(frozen=True)
class PicturesConfig:
    """Two small pictures: what the networks see side by side, and how the page begins."""

    demo: str = option("logs/demo", "folder of the demonstration")
    out: str = option("docs/pictures", "where the pictures go")


def main(arguments: Sequence[str] | None) -> None:
    """Writes side_by_side.jpg and report.jpg."""
    config = parse_arguments(PicturesConfig, arguments)
    demo, out = Path(config.demo), Path(config.out)
    page = demo / "report.html"
    if not page.is_file():
        raise FileNotFoundError(f"{page}: no such page; run `python -m tools.demo` before")
    out.mkdir(parents=True, exist_ok=True)
    with Image.open(demo / "side_by_side.png") as whole:
        shown = whole.convert("RGB").crop((0, 0, whole.width, whole.height * ROWS // 6))
        save(shown, out / "side_by_side.jpg")
    with tempfile.TemporaryDirectory() as folder:
        save(photograph(page, Path(folder)), out / "report.jpg")


def find_browser() -> str | None:
    """Where Chromium is, if it is installed."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def photograph(page: Path, folder: Path) -> Image.Image:
    """The beginning of a page as headless Chromium shows it.

    Raises:
        ValueError: there is no Chromium, or it fails.
    """
    if not (browser := find_browser()):
        raise ValueError("the page's picture needs Chromium, which is not installed")
    picture = folder / "page.png"
    words = [*QUIET, f"--user-data-dir={folder / 'profile'}", f"--window-size={WIDTH},{HEIGHT}"]
    words += [f"--screenshot={picture}", page.resolve().as_uri()]
    done = subprocess.run([browser, *words], capture_output=True, text=True, timeout=60)
    if not picture.is_file():
        raise ValueError(f"{browser} made no picture of {page}: {done.stderr.strip()[-300:]}")
    with Image.open(picture) as shown:
        copy: Image.Image = shown.convert("RGB")
    return copy


def save(picture: Image.Image, path: Path) -> None:
    """Writes a JPEG that is at most as wide as a README is shown."""
    if picture.width > WIDTH:
        size = (WIDTH, round(picture.height * WIDTH / picture.width))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    picture.save(path, quality=80, optimize=True)
    print(f"written: {path}, {path.stat().st_size // 1024} kB")


if __name__ == "__main__":
    run(main)
