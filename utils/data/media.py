"""Images, folders, lists, videos, streams and cameras as one stream of frames."""

import glob
import http.client
import itertools
import os
import string
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from utils.data.images import IMAGE_SUFFIXES, read_image

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


def open_source(source: str, *, skip_bad: bool = False) -> Source:
    """What `--source` names.

    An image, a folder, a pattern (`street/*.jpg`, `**` for folders below), a text file with a path
    a line, a video, a URL of an image or a video stream, or `camera:0`.

    Raises:
        FileNotFoundError: there is no such file or folder, or no image in it.
        ValueError: it is neither an image nor a video, or cannot be opened. An unreadable image
            among several is a ValueError when its turn comes, or a printed line with `skip_bad`.
    """
    path = Path(source)
    if source.partition(":")[0] == CAMERA and not path.exists():
        return open_camera(source)
    if urllib.parse.urlsplit(source).scheme in STREAMS:
        return open_url(source)
    if path.is_file() and path.suffix.lower() in VIDEO_SUFFIXES:
        return open_video(str(path))
    return open_images(listed_paths(source), skip_bad)


def listed_paths(source: str) -> list[Path]:
    """The images that a path, a pattern or a text file stands for.

    Raises:
        FileNotFoundError, ValueError: see `open_source`.
    """
    path = Path(source)
    if path.is_dir():
        paths = sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
        deeper = sum(p.suffix.lower() in IMAGE_SUFFIXES for p in path.glob("*/**/*"))
        inside = f"{deeper} images are in folders inside it, which --source '{path}/**/*' takes"
        if not paths:
            known = inside if deeper else f"images are {', '.join(IMAGE_SUFFIXES)}"
            raise FileNotFoundError(f"{path}: no images in this folder; {known}")
        if deeper:
            print(f"{path}: {inside}")
        return paths
    if path.is_file() and path.suffix.lower() == ".txt":
        return paths_in(path)
    if path.is_file():
        return [path]
    if glob.has_magic(source):
        found = sorted(Path(p) for p in glob.glob(source, recursive=True))  # noqa: PTH207
        paths = [p for p in found if p.suffix.lower() in IMAGE_SUFFIXES]
        if not paths:
            raise FileNotFoundError(f"--source {source}: no image is called like that")
        return paths
    raise FileNotFoundError(f"{path}: no such image, folder or video")


def paths_in(file: Path) -> list[Path]:
    """The paths in a text file, one a line, as seen from here or from the file's folder.

    Raises:
        FileNotFoundError: one of them is missing, or there is none.
        ValueError: it is no text.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: not UTF-8 text ({error}); save it as UTF-8") from None
    paths = []
    for number, line in enumerate(lines, start=1):
        if name := line.strip():
            tries = (Path(name), file.parent / name)
            there = next((path for path in tries if path.is_file()), None)
            if there is None:
                raise FileNotFoundError(f"{file}: line {number}: {name}: no such image")
            paths.append(there)
    if not paths:
        raise FileNotFoundError(f"{file}: names no image; write one path a line")
    return paths


def open_images(paths: Sequence[Path], skip_bad: bool) -> Source:
    """The frames of image files."""
    folders = frozenset(path.parent.resolve() for path in paths)
    return Source(read_images(paths, skip_bad), video=False, folders=folders)


def read_images(paths: Sequence[Path], skip_bad: bool) -> Iterator[Frame]:
    """The frames of image files, each decoded when its turn comes."""
    for name, path in zip(frame_names(paths), paths, strict=True):
        try:
            yield Frame(name, read_image(path))
        except (ValueError, FileNotFoundError) as error:  # a link may lead nowhere
            if not skip_bad:
                raise type(error)(f"{error}; repair the file or pass --skip-bad") from error
            print(f"left out: {error}")


def frame_names(paths: Sequence[Path]) -> list[str]:
    """A name for each file: its own, with folders in front where two are called alike."""
    names = [path.name for path in paths]
    if len(set(names)) == len(names):
        return names
    full = [str(path.absolute()) for path in paths]
    top = os.path.commonpath([os.path.dirname(path) for path in full])  # noqa: PTH120
    names = [Path(path).relative_to(top).as_posix().replace("/", "-") for path in full]
    taken = set(names)
    for i, name in enumerate(names):
        if names.index(name) != i:  # one file twice, or a-b/c.jpg beside a/b-c.jpg
            stem, suffix = Path(name).stem, Path(name).suffix
            free = (f"{stem}-{number}{suffix}" for number in itertools.count(i))
            names[i] = next(other for other in free if other not in taken)
            taken.add(names[i])
    return names


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
    folders = frozenset([Path(path).parent.resolve()] if path else [])
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
