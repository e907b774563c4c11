"""Images, folders, videos and cameras as one stream of frames, and where drawn frames go."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from utils.data.images import IMAGE_SUFFIXES, read_image
from utils.files import whole

VIDEO_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm")
CAMERA = "camera"

# OpenCV and its FFmpeg write what they think of a file to standard error, a dozen lines of it and
# none of them with a name; we say what matters.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET
if hasattr(cv2, "setLogLevel"):  # OpenCV 4; 0 is silent
    cv2.setLogLevel(0)
else:
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


class Frame(NamedTuple):
    """An image and its name: a file name, or `000042` in a video.

    image: `[H, W, 3]` uint8 RGB.
    """

    name: str
    image: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Source:
    """A stream of frames.

    video: whether they belong together, at `fps` frames a second.
    """

    frames: Iterator[Frame]
    video: bool
    fps: float = 0.0


def open_source(source: str, *, skip_bad: bool = False) -> Source:
    """What `--source` names: an image, a folder, a video, or `camera:0`.

    Raises:
        FileNotFoundError: there is no such file or folder, or no image in it.
        ValueError: it is neither an image nor a video, or cannot be opened. An unreadable image in
            a folder is a ValueError when its turn comes, or a printed line with `skip_bad`.
    """
    path = Path(source)
    if source.partition(":")[0] == CAMERA and not path.exists():
        return open_camera(source)
    if path.is_dir():
        paths = sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
        if not paths:
            raise FileNotFoundError(f"{path}: no images in this folder")
        return Source(read_images(paths, skip_bad), video=False)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such image, folder or video")
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return open_video(str(path))
    return Source(iter([Frame(path.name, read_image(path))]), video=False)


def read_images(paths: list[Path], skip_bad: bool) -> Iterator[Frame]:
    """The frames of image files."""
    for path in paths:
        try:
            yield Frame(path.name, read_image(path))
        except ValueError as error:
            if not skip_bad:
                raise ValueError(f"{error}; repair the file or pass --skip-bad") from error
            print(f"left out: {error}")


def open_camera(name: str) -> Source:
    """The frames of `camera:NUMBER`; without a number, of the first camera."""
    number = name.partition(":")[2] or "0"
    if not (number.isascii() and number.isdecimal() and len(number) < 4):
        raise ValueError(f"--source {name}: {number!r} is no camera number; write camera:0")
    capture = cv2.VideoCapture(int(number))
    if not capture.isOpened():
        raise ValueError(f"--source {name}: there is no such camera, or another program has it")
    return frames_of(capture)


def open_video(path: str) -> Source:
    """The frames of a video file."""
    # Where FFmpeg cannot read a file no other reader can, but some print what they think of it.
    known = cv2.videoio_registry.getBackends()
    capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG if cv2.CAP_FFMPEG in known else cv2.CAP_ANY)
    if not capture.isOpened():
        raise ValueError(f"{path}: OpenCV cannot open this video; convert it to mp4 (H.264)")
    return frames_of(capture, path)


def frames_of(capture: cv2.VideoCapture, path: str = "") -> Source:
    """An opened video or camera as a stream of frames; `path` is that of a file."""
    return Source(read_video(capture, path), video=True, fps=frame_rate(capture))


def frame_rate(capture: cv2.VideoCapture) -> float:
    """Frames a second, 25 where a file or camera says nothing sensible."""
    fps = float(capture.get(cv2.CAP_PROP_FPS))
    return fps if 0 < fps <= 1000 else 25.0


def read_video(capture: cv2.VideoCapture, path: str = "") -> Iterator[Frame]:
    """Frames until the video ends; says in a line where a file promises more than it has."""
    number = 0
    try:
        while True:
            more, image = capture.read()
            if not more:
                promised = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if path else 0
                if number < promised:
                    print(f"warning: {path}: only {number} of {promised} frames can be read")
                return
            yield Frame(f"{number:06d}", np.ascontiguousarray(image[..., ::-1]).astype(np.uint8))
            number += 1
    finally:
        capture.release()


class ImageWriter(contextlib.ExitStack):
    """Writes each drawn image under its own name, as PNG where that is neither PNG nor JPEG."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.written: set[Path] = set()

    def write(self, name: str, image: npt.NDArray[np.uint8]) -> None:
        """Adds one image."""
        kept = Path(name).suffix.lower() in (".jpg", ".jpeg", ".png")
        path = self.folder / (name if kept else f"{name}.png")
        if path in self.written:  # a.bmp and a.bmp.png
            path = path.with_name(f"{path.stem}_{len(self.written)}.png")
        self.written.add(path)
        with whole(path) as unfinished:
            Image.fromarray(image).save(
                unfinished, "PNG" if path.suffix.lower() == ".png" else "JPEG"
            )


class VideoWriter(contextlib.ExitStack):
    """Writes drawn frames as `detections.mp4` into a folder.

    Raises, when it is closed:
        OSError: frames are missing, which OpenCV does not tell.
    """

    def __init__(self, folder: Path, source: Source) -> None:
        super().__init__()
        self.path, self.fps = folder / "detections.mp4", source.fps
        self.frames = 0
        self.writer: cv2.VideoWriter | None = None

    def write(self, name: str, image: npt.NDArray[np.uint8]) -> None:
        """Adds one frame; the first one decides the size."""
        del name
        if self.writer is None:
            height, width = image.shape[:2]
            codec = cv2.VideoWriter.fourcc(*"mp4v")
            self.writer = cv2.VideoWriter(str(self.path), codec, self.fps, (width, height))
            if not self.writer.isOpened():
                raise ValueError(f"{self.path}: OpenCV cannot write this video")
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
