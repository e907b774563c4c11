"""Images, folders, lists, videos, streams and cameras as one stream of frames."""

import urllib.parse
from pathlib import Path

from utils.data.media.files import listed_paths, open_images
from utils.data.media.source import Frame, Source
from utils.data.media.streams import (
    CAMERA,
    STREAMS,
    VIDEO_SUFFIXES,
    open_camera,
    open_url,
    open_video,
)

__all__ = ["Frame", "Source", "open_source"]


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
