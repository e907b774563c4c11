"""What every format is read into: pictures with their objects, before anything is checked."""

import json
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from typing import Any, NamedTuple

from utils.data.images import IMAGE_SUFFIXES
from utils.files import read_text

Box = tuple[float, float, float, float]

# What sets call their parts -> what a VOC devkit calls them.
SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}


class Object(NamedTuple):
    """An object as its source has it; `where` names it for people: `labels/7.txt: line 3`."""

    where: str
    name: str
    box: Box  # xyxy, continuous and counted from 0; pixels, or fractions of the picture
    difficult: bool = False


@dataclass
class Picture:
    """A picture file and its objects."""

    path: Path
    name: str  # its path in the set, which its id is made of
    where: str  # the file that speaks of it
    splits: list[str] = field(default_factory=list)  # of train, val, test; none: to be made
    objects: list[Object] = field(default_factory=list)
    size: tuple[float, float] | None = None  # width, height in pixels as the source states them
    fractions: bool = False  # the boxes' unit


@dataclass
class Source:
    """A whole set; `problems` names what cannot be read, `notes` what is worth knowing.

    `elsewhere`: pictures that are not where the source says, see `Finder`.
    """

    pictures: list[Picture] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    elsewhere: dict[str, Path] = field(default_factory=dict)


class Finder:
    """Finds the picture that a file speaks of: at the path it gives, else by its name alone.

    `elsewhere` has what was found in other folders than its path names, by that path: it may be
    another picture.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder}: no such folder of images")
        self.folder = folder
        self.by_name: dict[str, list[Path]] | None = None
        self.elsewhere: dict[str, Path] = {}

    def __call__(self, name: str, *folders: Path) -> Path:
        """The picture called `name` in the first of some folders that has it; else below its own.

        Args:
            name: a path as seen from one of them.
            folders: in which to look; without any, its own.

        Raises:
            ValueError: it is not there, or several files below the folder have its name.
        """
        plain = PureWindowsPath(name).as_posix()  # understands both kinds of slashes
        for folder in folders or (self.folder,):
            if plain and (folder / plain).is_file():
                return folder / plain
        if self.by_name is None:
            self.by_name = defaultdict(list)
            for path in images_below(self.folder):
                self.by_name[path.name].append(path)
        found = self.by_name.get(plain.rpartition("/")[2], [])
        if len(found) > 1:
            raise ValueError(f"{name!r} is in {found[0].parent} and in {found[1].parent}")
        if not found:
            raise ValueError(f"there is no image {name!r} in {self.folder}")
        if "/" in plain:
            self.elsewhere[plain] = found[0]
        return found[0]


def images_below(folder: Path) -> list[Path]:
    """The pictures of a folder and those below it, sorted."""
    return files_below(folder, IMAGE_SUFFIXES)


def files_below(folder: Path, suffixes: Iterable[str]) -> list[Path]:
    """The files with one of some suffixes, in a folder and those below it, sorted.

    Links to folders are followed, but not round in circles, nor to what is below `folder` anyway.
    """
    wanted, found, root = set(suffixes), [], folder.resolve()
    for place, folders, files in os.walk(folder, followlinks=True):
        above = {p.resolve() for p in (Path(place), *Path(place).parents)}
        paths = {name: Path(place, name) for name in folders}
        folders[:] = [
            name
            for name, path in paths.items()
            if path.resolve() not in above
            and not (path.is_symlink() and path.resolve().is_relative_to(root))
        ]
        found += [Path(place, file) for file in files if Path(file).suffix.lower() in wanted]
    return sorted(found)


def relative_name(path: Path, folder: Path) -> str:
    """`path` as seen from `folder` where it lies in there, else its name."""
    inside = path.is_relative_to(folder)
    return path.relative_to(folder).as_posix() if inside else path.name


def split_named(parts: Iterable[str]) -> list[str]:
    """The split that a folder in a path is named after; none where no folder is."""
    return [SPLITS[part.lower()] for part in parts if part.lower() in SPLITS][:1]


def truth(value: Any, what: str = "difficult") -> bool:
    """A yes or no as tables and JSON files have it: 1, true, "yes", "0", ...; nothing is no.

    Raises:
        ValueError: it is neither.
    """
    word = "" if value is None else str(value).strip().lower()
    known = {"": False} | dict.fromkeys(("true", "t", "yes", "y"), True)
    known |= dict.fromkeys(("false", "f", "no", "n"), False)
    if word in known:
        return known[word]
    try:
        return float(word) != 0
    except ValueError:
        raise ValueError(f"{what} {value!r} is neither yes nor no; write 1 or 0") from None


def extent(points: Sequence[Sequence[Any]]) -> Box:
    """The box around `[x, y]` points.

    Raises:
        ValueError, TypeError: there is no point, or something is no number.
    """
    if not points:
        raise ValueError("has no points")
    xs, ys = [float(x) for x, _ in points], [float(y) for _, y in points]
    return min(xs), min(ys), max(xs), max(ys)


def read_json(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds.

    Raises:
        FileNotFoundError, ValueError: it is not there, no JSON, or not an object.
    """
    try:
        content = json.loads(read_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path}: malformed JSON: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: holds a {type(content).__name__}, not an object")
    return content


def rows_of(content: dict[str, Any], key: str, where: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The numbered objects of a list in a JSON object, counted from 1.

    Raises:
        ValueError: the list is missing, or has something else in it.
    """
    rows = content.get(key)
    if not isinstance(rows, list):
        raise ValueError(f"{where}: has no list {key!r}")
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise ValueError(f"{where}: entry {number} of {key!r} is no object: {row!r:.60}")
        yield number, row


def stated_size(row: dict[str, Any], width: str, height: str) -> tuple[float, float] | None:
    """The size in pixels that a JSON object states; None where it does not.

    Raises:
        ValueError, TypeError: it is no number.
    """
    if row.get(width) is None or row.get(height) is None:
        return None
    size = float(row[width]), float(row[height])
    return size if any(size) else None
