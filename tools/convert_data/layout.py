"""Writes a VOC year folder: pictures, an annotation for each, lists and classes."""

import os
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from xml.sax.saxutils import escape

from tqdm import tqdm

from tools.convert_data.source import Object, Picture

ORDER = ("train", "val", "test")


def write(
    destination: Path, pictures: Sequence[Picture], classes: Sequence[str], copy: bool
) -> dict[str, int]:
    """Writes the folder, whole or not at all.

    Args:
        destination: `<devkit>/<year folder>`; it must not be there.
        pictures: checked, with their splits; sizes and boxes in pixels.
        classes: in the order of their labels.
        copy: copy the pictures instead of linking to them.

    Returns:
        The splits with the numbers of their pictures.

    Raises:
        OSError: something cannot be written; or links cannot be made on this system.
    """
    unfinished = destination.with_name(destination.name + ".tmp")
    unfinished.parent.mkdir(parents=True, exist_ok=True)
    try:
        unfinished.mkdir()
    except FileExistsError:
        raise ValueError(
            f"{unfinished} is left of a conversion that was killed, or of one in progress; "
            "remove it"
        ) from None
    try:
        lists = _fill(unfinished, pictures, copy)
        (unfinished / "classes.txt").write_text("".join(f"{c}\n" for c in classes), "utf-8")
        unfinished.rename(destination)
    except BaseException:
        shutil.rmtree(unfinished)
        raise
    return lists


def _fill(year: Path, pictures: Sequence[Picture], copy: bool) -> dict[str, int]:
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (year / folder).mkdir(parents=True)
    lists: dict[str, list[str]] = {}
    ids = ids_of([picture.name for picture in pictures])
    pairs = zip(ids, pictures, strict=True)
    for image_id, picture in tqdm(pairs, "writing", len(ids), leave=False, disable=None):
        name = image_id + picture.path.suffix
        target = year / "JPEGImages" / name
        if copy:
            shutil.copyfile(picture.path, target)
        else:
            _link(target, picture.path.resolve())
        text = annotation(name, picture)
        (year / "Annotations" / f"{image_id}.xml").write_text(text, "utf-8")
        for split in picture.splits:
            lists.setdefault(split, []).append(image_id)
    lists = {split: lists[split] for split in ORDER if split in lists}
    if "train" in lists and "val" in lists:
        lists["trainval"] = list(dict.fromkeys(lists["train"] + lists["val"]))
    for split, members in lists.items():
        path = year / "ImageSets" / "Main" / f"{split}.txt"
        path.write_text("".join(f"{image_id}\n" for image_id in sorted(members)), "utf-8")
    return {split: len(members) for split, members in lists.items()}


def _link(target: Path, source: Path) -> None:
    try:
        target.symlink_to(source)
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(
            f"{target}: no link can be made here ({os.strerror(error.errno).lower()}); pass --copy"
        ) from error


def ids_of(names: Sequence[str]) -> list[str]:
    """An id for each picture of a set, given its path in there.

    It is the file's name without its suffix where that is the only one, else the path with `-` for
    `/`; and numbered, where even these are equal. White space, which ends an id in result files,
    becomes `_`. No two differ in case alone, for some file systems would take them for one.
    """
    plain = ["_".join(PurePosixPath(name).with_suffix("").as_posix().split()) for name in names]
    stems = [name.rpartition("/")[2] for name in plain]
    often = Counter(stem.casefold() for stem in stems)
    ids, taken = [], set[str]()
    for name, stem in zip(plain, stems, strict=True):
        base = stem if often[stem.casefold()] == 1 else name.replace("/", "-")
        unique, number = base, 1
        while unique.casefold() in taken:
            number += 1
            unique = f"{base}-{number}"
        taken.add(unique.casefold())
        ids.append(unique)
    return ids


def annotation(filename: str, picture: Picture) -> str:
    """A VOC annotation: pixels counted from 1 with both ends, to four digits behind the point."""
    assert picture.size is not None
    width, height = picture.size
    lines = [
        "<annotation>",
        f"\t<filename>{escape(filename)}</filename>",
        f"\t<size><width>{width:g}</width><height>{height:g}</height><depth>3</depth></size>",
        *(line for item in picture.objects for line in _object(item)),
        "</annotation>",
    ]
    return "\n".join([*lines, ""])


def _object(item: Object) -> list[str]:
    left, top, right, bottom = item.box
    ends = {"xmin": left + 1, "ymin": top + 1, "xmax": right, "ymax": bottom}
    written = "".join(f"<{tag}>{round(value, 4):.12g}</{tag}>" for tag, value in ends.items())
    return [
        "\t<object>",
        f"\t\t<name>{escape(item.name)}</name>",
        f"\t\t<difficult>{item.difficult:d}</difficult>",
        f"\t\t<bndbox>{written}</bndbox>",
        "\t</object>",
    ]
