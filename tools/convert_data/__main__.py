"""Brings a data set of COCO, YOLO, labelme or a table into a VOC devkit, then looks it over.

python -m tools.convert_data coco    instances.json IMAGES VOCdevkit/MYSET
python -m tools.convert_data coco    train=a.json val=b.json IMAGES VOCdevkit/MYSET
python -m tools.convert_data yolo    data.yaml VOCdevkit/MYSET     (or a folder: images/, labels/)
python -m tools.convert_data labelme FOLDER VOCdevkit/MYSET
python -m tools.convert_data csv     boxes.csv IMAGES VOCdevkit/MYSET

Pictures are linked unless --copy is given. Exit status: 0 fine; 1 training would refuse the set;
2 something is wrong with the source, and nothing was written.
"""

import argparse
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tools.check_data.__main__ import main as check_data
from tools.convert_data import coco, csv_rows, labelme, layout, yolo
from tools.convert_data.sound import check, listed
from tools.convert_data.source import Source
from tools.convert_data.splits import USUAL, give_splits
from utils.cli import Parser, run
from utils.files import check_folder


class Format(NamedTuple):
    """A kind of source: the paths it needs before the destination, and what reads them."""

    paths: str
    number: int  # of the paths; the first may be several where there are more
    read: Callable[[Sequence[str], argparse.Namespace], Source]  # paths, settings


FORMATS = {
    "coco": Format("JSON... IMAGES", 2, lambda paths, _: coco.read(paths[:-1], paths[-1])),
    "yolo": Format("DATA.yaml", 1, lambda paths, config: yolo.read(paths[0], config.classes)),
    "labelme": Format("FOLDER", 1, lambda paths, _: labelme.read(paths[0])),
    "csv": Format("FILE IMAGES", 2, lambda p, config: csv_rows.read(p[0], p[1], config.one_based)),
}


def main(arguments: Sequence[str] | None) -> None:
    """Source -> year folder -> what the data doctor says."""
    config = command_line(arguments)
    *paths, destination = config.paths
    year = Path(destination)
    check_destination(year)
    source = FORMATS[config.format].read(paths, config)
    problems = check(source, config.clip)
    for line in listed(problems):
        print(f"left out: {line}" if config.skip_bad else line)
    if problems and not config.skip_bad:
        raise ValueError(
            f"{paths[0]}: {len(problems)} problem(s), listed above; nothing was written; correct "
            "them, or leave these objects and images out with --skip-bad"
        )
    if not source.pictures:
        raise ValueError(f"{paths[0]}: no picture {'is left' if problems else 'is in there'}")
    shares = {"val": config.val, "test": config.test}
    drawn = give_splits(source.pictures, shares, config.seed)
    lists = layout.write(year, source.pictures, source.classes, config.copy)
    for note in source.notes:
        print(note)
    parts = ", ".join(f"{split} {count}" for split, count in lists.items())
    how = ", ".join(f"{name} {share:g}" for name, share in drawn.items())
    print(f"{year}: {parts}" + (f" (drawn by class: {how}; seed {config.seed})" if how else ""))
    look_over(year, lists, config.fast)


def command_line(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The settings; refuses a wrong number of paths, and parts that are none."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("format", choices=list(FORMATS), help="what the source is")
    parser.add_argument("paths", nargs="+", metavar="PATH", help="source, and destination last")
    parser.add_argument("--copy", action="store_true", help="copy the images, do not link to them")
    usual = ", ".join(f"{share:g} for {name}" for name, share in USUAL.items())
    for name in USUAL:
        parser.add_argument(
            f"--{name}",
            type=float,
            metavar="PART",
            help=f"draw this part of all images for {name}, each class alike "
            f"(a source without splits, and neither flag: {usual})",
        )
    parser.add_argument("--seed", type=int, default=0, help="decides the draw (default: 0)")
    parser.add_argument(
        "--classes", default="", help="class list of a YOLO folder without data.yaml"
    )
    parser.add_argument(
        "--one-based",
        action="store_true",
        help="the pixels of a table are VOC's: the first is 1, and the last is inside the box",
    )
    parser.add_argument(
        "--clip", action="store_true", help="cut boxes that reach out of their image at its border"
    )
    parser.add_argument(
        "--skip-bad", action="store_true", help="leave out what is wrong, and list it"
    )
    parser.add_argument(
        "--fast", action="store_true", help="do not decode the images when looking them over"
    )
    config = parser.parse_args(arguments)
    wanted = FORMATS[config.format]
    if len(config.paths) <= wanted.number or (
        len(config.paths) > wanted.number + 1 and "..." not in wanted.paths
    ):
        parser.error(f"write: {config.format} {wanted.paths} DEVKIT/NAME")
    for name in USUAL:
        share = getattr(config, name)
        if share is not None and not 0 <= share < 1:
            parser.error(f"--{name} must be in 0 .. 1, not {share}")
    if config.classes and config.format != "yolo":
        parser.error(f"--classes: {config.format} names its classes itself; leave it out")
    if config.one_based and config.format != "csv":
        parser.error(f"--one-based is for a table; {config.format} says itself where pixels begin")
    return config


def check_destination(year: Path) -> None:
    """Raises ValueError, before any work, for a folder that cannot be made."""
    if year.exists() or year.is_symlink():
        raise ValueError(f"{year} exists; choose another name or move it away")
    if year.name in ("", "..") or year.name != year.name.strip():
        raise ValueError(f"{year}: write DEVKIT/NAME, as VOCdevkit/MYSET")
    check_folder(year.parent, "the destination in")


def look_over(year: Path, lists: Mapping[str, int], fast: bool) -> None:
    """Has the data doctor look at the new folder, and says how to go on where it may."""
    page = str(year / "check.html")
    first, *others = [f"{year.name}/{split}" for split in lists if split != "trainval"]
    words = ["--data", str(year.parent), "--classes", str(year / "classes.txt"), "--train", first]
    words += ["--val", *others]
    print()
    check_data([*words, "--html", page, *(["--fast"] if fast else [])])
    training = words[: len(words) - len(others) + 1] if others else words[:-1]
    print(f"train on it: python train_teacher.py {shlex.join(training)}")


if __name__ == "__main__":
    run(main)
