"""Image files: named by a path, a folder, a pattern or a list."""

import glob
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from utils.data.images import IMAGE_SUFFIXES, read_image
from utils.data.media.source import Frame, Source, folders_of
from utils.files import read_text


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
    paths = []
    for number, line in enumerate(read_text(file).splitlines(), start=1):
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
    folders = frozenset().union(*map(folders_of, paths))
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
