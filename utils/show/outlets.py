"""Where drawn frames go: image files, a video, files of single objects, a window."""

import contextlib
import math
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from utils.files import whole

Picture = npt.NDArray[np.uint8]
WINDOW = "detections: q ends"


class ImageWriter(contextlib.ExitStack):
    """Writes each drawn image under its own name, as PNG where that is neither PNG nor JPEG."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.written: set[Path] = set()

    def write(self, name: str, image: Picture) -> None:
        """Adds one image."""
        kept = Path(name).suffix.lower() in (".jpg", ".jpeg", ".png")
        path = self.folder / (name if kept else f"{name}.png")
        if path in self.written:  # a.bmp and a.bmp.png
            path = path.with_name(f"{path.stem}_{len(self.written)}.png")
        self.written.add(path)
        with whole(path) as unfinished:
            save_image(image, unfinished, path.suffix)


class VideoWriter(contextlib.ExitStack):
    """Writes drawn frames into a video.

    Raises, when it is closed:
        OSError: frames are missing, which OpenCV does not tell.
    """

    def __init__(self, path: Path, fps: float) -> None:
        super().__init__()
        self.path, self.fps = path, fps
        self.frames = 0
        self.writer: cv2.VideoWriter | None = None

    def write(self, name: str, image: Picture) -> None:
        """Adds one frame; the first one decides the size."""
        del name
        if self.writer is None:
            height, width = image.shape[:2]
            codec = cv2.VideoWriter.fourcc(*"mp4v")
            self.writer = cv2.VideoWriter(
                str(self.path), codec, writable_rate(self.fps), (width, height)
            )
            if not self.writer.isOpened():
                raise ValueError(
                    f"{self.path}: OpenCV cannot write a video of {width}x{height} at {self.fps:g} "
                    "frames a second; give single images"
                )
            self.push(self.finish)
        self.writer.write(np.ascontiguousarray(image[..., ::-1]))
        self.frames += 1

    def finish(self, kind: type[BaseException] | None, *_: object) -> None:
        """Completes the file; looks at it unless something has gone wrong already."""
        assert self.writer is not None
        self.writer.release()
        if kind is None:
            capture = cv2.VideoCapture(str(self.path))
            found = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
            capture.release()
            if found < self.frames:
                raise OSError(
                    f"{self.path}: only {max(0, found)} of {self.frames} frames could be written; "
                    "free some space, or choose another --out"
                )


def writable_rate(fps: float) -> float:
    """The rate nearest to `fps`, 1000 at most, that MPEG-4 holds: as OpenCV has it, with up to
    three decimals, of which the clock counts the last, to 65535 in a second at most.
    """
    rates = ((round(fps, digits), digits) for digits in (3, 2, 1, 0))
    return next(rate for rate, digits in rates if rate * 10**digits <= 65535)


class Crops:
    """Writes each object into a file of its own, named by class, score and image."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.written: set[Path] = set()
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, name: str, image: Picture, detections: Sequence[Mapping[str, Any]]) -> None:
        """Writes what an image shows: `cat_0.93_street_1.jpg`, all pixels that the box touches.

        Args:
            name: of the image.
            image: `[H, W, 3]`.
            detections: each a `class`, a `score`, and a `box`, xyxy in pixels.
        """
        height, width = image.shape[:2]
        stem, suffix = Path(name).stem, Path(name).suffix.lower()
        suffix = ".png" if suffix == ".png" else ".jpg"
        for number, one in enumerate(detections, start=1):
            left, top = (max(0, math.floor(v)) for v in one["box"][:2])
            right, bottom = (math.ceil(v) for v in one["box"][2:])
            right, bottom = min(right, width), min(bottom, height)
            if right <= left or bottom <= top:
                continue  # a box without a pixel
            plain = "".join(c if c.isalnum() else "-" for c in one["class"])
            path = self.folder / f"{plain}_{one['score']:.2f}_{stem}_{number}{suffix}"
            if path in self.written:  # of street.bmp and street.jpg
                path = path.with_name(f"{path.stem}_{len(self.written)}{suffix}")
            self.written.add(path)
            with whole(path) as unfinished:
                save_image(image[top:bottom, left:right], unfinished, suffix)


class Window(contextlib.ExitStack):
    """Shows drawn frames; q, Escape or closing it ends.

    Raises:
        ValueError: there is no display.
    """

    def __init__(self, video: bool) -> None:
        super().__init__()
        if not has_display():
            raise ValueError("--show: there is no display here; leave it out and look into --out")
        # The Qt inside OpenCV complains in ten lines that it came without fonts; it shows none.
        os.environ.setdefault("QT_LOGGING_RULES", "default.warning=false")
        self.video = video
        self.callback(cv2.destroyAllWindows)

    def show(self, image: Picture) -> bool:
        """Shows a frame; an image until a key is pressed. Returns whether to go on."""
        cv2.imshow(WINDOW, np.ascontiguousarray(image[..., ::-1]))
        while True:
            key = cv2.waitKey(1 if self.video else 50) & 0xFF
            if key in (ord("q"), 27) or cv2.getWindowProperty(WINDOW, cv2.WND_PROP_VISIBLE) < 1:
                return False
            if self.video or key != 0xFF:
                return True


def has_display() -> bool:
    """Whether a window can be opened. OpenCV ends the whole process where not, so another tries."""
    if sys.platform.startswith("linux") and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    ):
        return False
    probe = [sys.executable, "-c", "import cv2; cv2.namedWindow('a'); cv2.waitKey(1)"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


def save_image(image: Picture, path: Path, suffix: str) -> None:
    """Writes an image as PNG or JPEG, whatever the path is called."""
    Image.fromarray(image).save(path, "PNG" if suffix.lower() == ".png" else "JPEG")
