"""What frames come from, whatever it is."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Frame(NamedTuple):
    """An image and its name: a file name, or `000042` in a video.

    image: `[H, W, 3]` uint8 RGB.
    """

    name: str
    image: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Source:
    """A stream of frames.

    name: of a video, what files about it are called after.
    video: whether the frames belong together, at `fps` frames a second.
    live: whether they come when they come: from a camera or a stream.
    folders: where its files are.
    """

    frames: Iterator[Frame]
    video: bool
    name: str = ""
    fps: float = 0.0
    live: bool = False
    folders: frozenset[Path] = frozenset()


def folders_of(path: Path) -> frozenset[Path]:
    """Where a file lies, and where the file lies that it is perhaps a link to."""
    return frozenset((path.parent.resolve(), path.resolve().parent))
