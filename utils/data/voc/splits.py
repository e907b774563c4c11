"""`VOC2007/trainval` -> the ids in its list."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

from utils.files import read_text
from utils.suggest import meant


def split_file(devkit: Path, split: str) -> tuple[Path, Path]:
    """`VOC2007/trainval` -> the year's folder and the list of ids."""
    parts = inside(split, "the split").parts
    if len(parts) != 2:
        raise ValueError(
            f"the split {split!r} is not <folder of the devkit>/<split>, as VOC2007/trainval"
        )
    if not devkit.is_dir():
        raise FileNotFoundError(f"{devkit}: no such folder; --data takes a folder as VOCdevkit")
    year = devkit / parts[0]
    if not year.is_dir():
        there = sorted(path.name for path in devkit.iterdir() if (path / "ImageSets").is_dir())
        raise FileNotFoundError(
            f"{year}: no such folder{meant(year.name, there)}; {devkit} has {few(there)}"
        )
    list_file = year / "ImageSets" / "Main" / f"{parts[1]}.txt"
    if not list_file.is_file():
        there = [path.stem for path in list_file.parent.glob("*.txt")]
        there.sort(key=lambda name: ("_" in name, name))  # VOC's lists by class come last
        near = meant(list_file.stem, there)
        raise FileNotFoundError(
            f"{list_file}: no such split{near}; {year} has {few(there)}; a split is a list of "
            "names of pictures without their suffixes"
        )
    return year, list_file


def checked_ids(list_file: Path) -> Iterator[str]:
    """The ids of a split, once each, none of which leaves the devkit."""
    ids = listed_ids(list_file)
    if not ids:
        raise ValueError(f"{list_file}: the split is empty; write one id a line")
    repeated = [name for name, count in Counter(ids).items() if count > 1]
    if repeated:
        raise ValueError(f"{list_file}: repeats the id {few(repeated)}; keep one line of each")
    for bare_id in ids:
        yield str(inside(bare_id, f"{list_file}: the id"))


def listed_ids(list_file: Path) -> list[str]:
    """The lines of a split's list, as they are; not checked.

    VOC's lists by class have a flag -1, 0 or 1 behind each id, left out. Where only some lines end
    like that it is no flag: `photo 1` is a file name, too.
    """
    lines = [line.strip() for line in read_text(list_file).splitlines() if line.strip()]
    parts = [line.rsplit(maxsplit=1) for line in lines]
    flagged = all(len(words) == 2 and words[1] in ("-1", "0", "1") for words in parts)
    return [words[0] for words in parts] if flagged else lines


def inside(name: str, what: str) -> PurePosixPath:
    """The relative path `name`, on any system sure to stay below the folder it is joined to."""
    windows = PureWindowsPath(name)  # understands both kinds of slashes, and drives
    if windows.anchor or ".." in windows.parts:
        raise ValueError(f"{what} {name!r} leaves the devkit; write a plain name")
    return PurePosixPath(name)


def few(names: Sequence[str], limit: int = 8) -> str:
    """Some names, and how many more there are."""
    shown = ", ".join(names[:limit]) or "none"
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"
