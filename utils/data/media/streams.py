"""Videos, cameras, and what is behind a URL."""

import http.client
import os
import string
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from utils.data.images import IMAGE_SUFFIXES, read_image
from utils.data.media.source import Frame, Source, folders_of

VIDEO_SUFFIXES = (
    ".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts",
    ".ogv", ".ts", ".webm", ".wmv",
)  # fmt: skip
CAMERA = "camera"
STREAMS = ("http", "https", "rtsp", "rtsps", "rtmp")

# OpenCV and its FFmpeg write what they think of a file to standard error, a dozen lines of it and
# none of them with a name; we say what matters.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET
if hasattr(cv2, "setLogLevel"):  # OpenCV 4; 0 is silent
    cv2.setLogLevel(0)
else:
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def open_url(url: str) -> Source:
    """The image behind a URL, or the frames of a stream."""
    parts = urllib.parse.urlsplit(url)
    path = Path(urllib.parse.unquote(parts.path))
    if parts.scheme.startswith("http") and path.suffix.lower() in IMAGE_SUFFIXES:
        return Source(iter([Frame(path.name, fetched(url))]), video=False)
    capture = cv2.VideoCapture(url, cv2.CAP_FFMPEG)
    if not capture.isOpened():
        raise ValueError(f"--source {url}: nothing there that can be played; check the address")
    known = path.suffix.lower() in VIDEO_SUFFIXES  # a file that is somewhere else
    name = path.stem or "".join(c if c.isalnum() else "-" for c in parts.hostname or "stream")
    frames = read_video(capture, url if known else "", "; download it, and name the file")
    return Source(frames, True, name, frame_rate(capture), live=not known)


def fetched(url: str) -> npt.NDArray[np.uint8]:
    """The picture at a URL.

    Raises:
        ValueError: it cannot be fetched or decoded.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image"
        try:
            # As a browser does it: spaces and umlauts are written in bytes.
            address = urllib.parse.quote(url, safe=string.punctuation)
            with urllib.request.urlopen(address, timeout=30) as answer:
                path.write_bytes(answer.read())
        except (OSError, http.client.HTTPException, ValueError) as error:  # URLError is the first
            said = getattr(error, "reason", error)
            raise ValueError(f"--source {url}: cannot be fetched ({said})") from None
        try:
            return read_image(path)
        except ValueError as error:
            raise ValueError(str(error).replace(str(path), f"--source {url}")) from None


def open_camera(name: str) -> Source:
    """The frames of `camera:NUMBER`; without a number, of the first camera."""
    number = name.partition(":")[2] or "0"
    if not (number.isascii() and number.isdecimal() and len(number) < 4):
        raise ValueError(f"--source {name}: {number!r} is no camera number; write camera:0")
    capture = cv2.VideoCapture(int(number))
    if not capture.isOpened():
        raise ValueError(f"--source {name}: there is no such camera, or another program has it")
    return frames_of(capture, f"{CAMERA}{number}", live=True)


def open_video(path: str) -> Source:
    """The frames of a video file."""
    # Where FFmpeg cannot read a file no other reader can, but some print what they think of it.
    known = cv2.videoio_registry.getBackends()
    capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG if cv2.CAP_FFMPEG in known else cv2.CAP_ANY)
    if not capture.isOpened():
        raise ValueError(f"{path}: OpenCV cannot open this video; convert it to mp4 (H.264)")
    return frames_of(capture, Path(path).stem, path)


def frames_of(
    capture: cv2.VideoCapture, name: str, path: str = "", *, live: bool = False
) -> Source:
    """An opened video or camera as a stream of frames; `path` is that of a file."""
    folders = folders_of(Path(path)) if path else frozenset()
    frames = read_video(capture, path)
    return Source(frames, True, name, frame_rate(capture), live, folders)


def frame_rate(capture: cv2.VideoCapture) -> float:
    """Frames a second, 25 where a file or camera says nothing sensible."""
    fps = float(capture.get(cv2.CAP_PROP_FPS))
    return fps if 0 < fps <= 1000 else 25.0


def read_video(capture: cv2.VideoCapture, path: str = "", remedy: str = "") -> Iterator[Frame]:
    """Frames until the video ends; says in a line where a file promises more than it has.

    A server that cannot begin in the middle of a file may give none of them.
    """
    number = 0
    try:
        while True:
            more, image = capture.read()
            if not more:
                promised = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if path else 0
                if number < promised:
                    found = f"only {number} of {promised} frames can be read"
                    print(f"warning: {path}: {found}{remedy}")
                return
            yield Frame(f"{number:06d}", np.ascontiguousarray(image[..., ::-1]).astype(np.uint8))
            number += 1
    finally:
        capture.release()
