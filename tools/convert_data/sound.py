"""Looks at every picture and box of a source: what a VOC devkit can say, and what is wrong."""

import math
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from tools.convert_data.source import Box, Object, Picture, Source
from utils.data.images import image_size, orientation
from utils.data.voc import check_names

# How far a box may overstep its picture, in pixels, before that is taken for a mistake.
SLACK = 1.0


def check(source: Source, clip: bool = False) -> list[str]:
    """Leaves in `source` what is sound, its boxes in pixels of the upright picture, inside of it.

    Args:
        source: as read; its pictures get `size`, width and height of the upright file.
        clip: cut boxes at the border however far they overstep it.

    Returns:
        What is wrong, a line each: those of `source.problems` and those found here.

    Raises:
        ValueError: the classes cannot be told apart, or none is left.
    """
    used = {o.name for picture in source.pictures for o in picture.objects}
    unused = [name for name in source.classes if name.lower() == "background" and name not in used]
    source.classes = [name for name in source.classes if name not in unused]
    check_names(source.classes, "the source", "class")
    problems = list(source.problems)
    sound: list[Picture] = []
    twins = _there_twice(source)
    turned = 0
    for picture in tqdm(source.pictures, "looking", leave=False, disable=None):
        try:
            check_name(picture.name)
            if other := twins.get(id(picture)):
                raise ValueError(f"{picture.path} is there twice, see {other.where}")
            width, height = image_size(picture.path)
            frame = _frame(picture, (width, height))
        except (ValueError, FileNotFoundError) as error:
            where = picture.where.encode("utf-8", "backslashreplace").decode()  # may be printed
            problems.append(f"{where}: {error}")
            continue
        turned += frame != 1
        objects = []
        for item in picture.objects:
            box, fault = _sound_box(picture, item, (width, height), frame, clip)
            if fault:
                problems.append(f"{item.where}: {fault}")
            else:
                objects.append(item._replace(box=box))
        picture.objects, picture.size, picture.fractions = objects, (width, height), False
        sound.append(picture)
    if source.elsewhere:
        name, path = next(iter(source.elsewhere.items()))
        source.notes.append(
            f"{len(source.elsewhere)} image(s) are not where the source says and were found by "
            f"their names alone, such as {name}: {path}; look at some of them"
        )
    if turned:
        source.notes.append(
            f"{turned} image(s) with an EXIF rotation are stated unrotated: their boxes were "
            "turned along; look at some of them"
        )
    source.pictures = sound
    return problems


def _there_twice(source: Source) -> dict[int, Picture]:
    """Of pictures (their `id`) that are not to be taken, which one has their file, too.

    The first is taken. Where one of them was only thought to be in that file nobody knows which,
    so none is.
    """
    of_file: dict[Path, list[Picture]] = defaultdict(list)
    for picture in source.pictures:
        of_file[picture.path.resolve()].append(picture)
    guessed = {path.resolve() for path in source.elsewhere.values()}
    twins: dict[int, Picture] = {}
    for path, (first, *others) in of_file.items():
        twins |= {id(other): first for other in others}
        if others and path in guessed:
            twins[id(first)] = others[0]
    return twins


def check_name(name: str) -> None:
    """Raises ValueError for a file name that a list or an annotation cannot hold."""
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name):
        raise ValueError(f"the name {name!r} is not plain text in UTF-8; rename the file")


def _frame(picture: Picture, size: tuple[int, int]) -> int:
    """The EXIF orientation that the boxes still need; 1 where they lie in the upright picture.

    Raises:
        ValueError: the source states a size that is not the picture's.
    """
    if picture.size is None or picture.size == size:
        return 1
    stored = orientation(picture.path)
    if stored >= 5 and picture.size == size[::-1]:
        return stored
    said, has = (f"{w:g}x{h:g}" for w, h in (picture.size, size))
    raise ValueError(f"is stated as {said}, but {picture.path} is {has} (width x height)")


def upright(box: Box, frame: int, size: tuple[int, int]) -> Box:
    """A box of the picture as it is stored, after the EXIF rotation or mirroring.

    Args:
        box: xyxy in pixels.
        frame: EXIF orientation, 1, or 5 to 8, which swap the sides.
        size: `(width, height)` of the upright picture.
    """
    left, top, right, bottom = box
    width, height = size
    if frame == 1:
        return box
    x, y = (top, bottom), (left, right)  # transposed, orientation 5
    if frame in (6, 7):
        x = width - bottom, width - top
    if frame in (7, 8):
        y = height - right, height - left
    return x[0], y[0], x[1], y[1]


def _sound_box(
    picture: Picture, item: Object, size: tuple[int, int], frame: int, clip: bool
) -> tuple[Box, str]:
    """The box in pixels inside the upright picture, and what is wrong with it."""
    box, sides = item.box, size * 2
    if not item.name or "\n" in item.name or not item.name.isprintable():
        return box, f"has the class {item.name!r}; give it a name"
    if not all(map(math.isfinite, box)):
        return box, f"has a box that is not finite: {_shown(box)}"
    if picture.fractions:
        left, top, right, bottom = (v * side for v, side in zip(box, sides, strict=True))
        box = left, top, right, bottom
    box = upright(box, frame, size)
    left, top, right, bottom = box
    if right <= left or bottom <= top:
        kind = "inverted" if right < left or bottom < top else "empty"
        return box, f"has an {kind} box: {_shown(box)}"
    beyond = max(-left, -top, right - size[0], bottom - size[1])
    left, top, right, bottom = (min(max(v, 0.0), side) for v, side in zip(box, sides, strict=True))
    inside = left, top, right, bottom
    said = f"{_shown(box)} of {size[0]}x{size[1]}"
    if right <= left or bottom <= top:
        return box, f"lies outside of its picture: {said}"
    if beyond > SLACK and not clip:
        return box, f"oversteps its picture by {beyond:.4g} pixels: {said}; --clip cuts it there"
    return inside, ""


def _shown(box: Sequence[float]) -> str:
    return " ".join(f"{value:.6g}" for value in box)


def listed(problems: Sequence[str], longest: int = 100) -> Iterator[str]:
    """The first problems, and how many more there are."""
    yield from problems[:longest]
    if len(problems) > longest:
        yield f"and {len(problems) - longest} more"
