"""A table of boxes, one a line: any columns with a heading, or two well-known forms without one."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tools.convert_data.source import (
    SPLITS,
    Finder,
    Object,
    Picture,
    Source,
    relative_name,
    truth,
)
from utils.files import read_text

# What columns are called, in lower case and without `_` and spaces; the first name is ours.
COLUMNS = {
    "image": ("image", "filename", "file", "imageid", "imagename", "imagepath", "path"),
    "label": ("label", "class", "labelname", "classname", "name", "category"),
    "xmin": ("xmin", "x1", "left"),
    "ymin": ("ymin", "y1", "top"),
    "xmax": ("xmax", "x2", "right"),
    "ymax": ("ymax", "y2", "bottom"),
    "width": ("width", "imagewidth"),
    "height": ("height", "imageheight"),
    "difficult": ("difficult", "iscrowd", "isgroupof"),
    "split": ("split", "subset", "set"),
}
NEEDED = ("image", "xmin", "ymin", "xmax", "ymax", "label")
ENDS = NEEDED[1:5]
# Of a table without a heading: image,x1,y1,x2,y2,label, and Google's set,path,label, four corners.
PLAIN = ("image", "xmin", "ymin", "xmax", "ymax", "label")
GOOGLE = ("split", "image", "label", "xmin", "ymin", "", "", "xmax", "ymax", "", "")


class Row(NamedTuple):
    """A line of the table by the names of its columns; `where` names it."""

    where: str
    cells: dict[str, str]


def read(file: str, images: str, one_based: bool = False) -> Source:
    """Reads a table; a line with a picture and no box stands for a picture without objects.

    Coordinates are continuous pixels counted from 0, or fractions where hardly any is above 1.

    Args:
        file: the table.
        images: the folder of its pictures.
        one_based: they are VOC's: the first pixel is 1, and the last one is inside the box.

    Raises:
        FileNotFoundError, ValueError: something is missing, or is no such table.
    """
    path = Path(file)
    find = Finder(Path(images))
    source = Source()
    rows = list(_rows(path, source))
    if not rows:
        raise ValueError(f"{path}: has no line with a picture")
    fractions = _fractions(rows)
    if fractions and one_based:
        raise ValueError(
            f"{path}: coordinates are not above 1, so they are fractions of the picture; "
            "leave out --one-based"
        )
    pictures: dict[str, Picture | None] = {}  # None: a problem of its own, told once
    for row in rows:
        name = row.cells["image"]
        if name not in pictures:
            try:
                pictures[name] = _picture(row, find, fractions)
            except ValueError as error:
                source.problems.append(f"{row.where}: {error}")
                pictures[name] = None
        picture = pictures[name]
        try:
            if picture:
                _agree(row, picture)
        except ValueError as error:
            source.problems.append(f"{row.where}: {error}")
            continue
        if picture is None or not any(row.cells[end] for end in ENDS):
            continue
        try:
            left, top, right, bottom = (_number(row.cells[end], end) for end in ENDS)
            difficult = truth(row.cells.get("difficult"))
            box = (left - one_based, top - one_based, right, bottom)
            picture.objects.append(Object(row.where, row.cells["label"], box, difficult))
        except ValueError as error:
            source.problems.append(f"{row.where}: {error}")
    source.pictures = [picture for picture in pictures.values() if picture is not None]
    names = {o.name for picture in source.pictures for o in picture.objects}
    source.classes = sorted(names - {""})  # an object without a name is a problem of its own
    source.elsewhere = find.elsewhere
    if fractions:
        unit = "fractions of the picture, since few borders, or none, are beyond 1"
    elif one_based:
        unit = "VOC's pixels: the first is 1, the last is inside"
    else:
        unit = "pixels from 0; if they come from VOC's XML, where the first is 1, pass --one-based"
    source.notes.append(f"{path}: coordinates are taken as {unit}")
    return source


def _rows(path: Path, source: Source) -> Iterator[Row]:
    text = read_text(path)
    first = text.partition("\n")[0]
    separator = max(",;\t", key=first.count)
    lines = csv.reader(text.splitlines(), delimiter=separator)
    columns: list[str] | None = None
    try:
        for cells in lines:
            if not any(cell.strip() for cell in cells):
                continue
            if columns is None:
                columns, heading = _columns(cells, path)
                if heading:
                    continue
            where = f"{path}: line {lines.line_num}"
            if len(cells) != len(columns):
                said = f"{len(cells)} cells, but the table has {len(columns)} columns"
                source.problems.append(f"{where}: {said}")
                continue
            row = {name: cell.strip() for name, cell in zip(columns, cells, strict=True) if name}
            row |= {end: "" for end in (*ENDS, "difficult") if row.get(end, "").lower() == "nan"}
            if not row["image"]:
                source.problems.append(f"{where}: names no picture")
                continue
            yield Row(where, row)
    except csv.Error as error:
        raise ValueError(f"{path}: line {lines.line_num}: {error}") from None


def _columns(cells: list[str], path: Path) -> tuple[list[str], bool]:
    """Our names of the columns, empty for what is of no use, and whether the line is a heading."""
    keys = ["".join(cell.lower().replace("_", " ").split()) for cell in cells]
    known = {name: ours for ours, names in COLUMNS.items() for name in names}
    columns = [known.get(key, "") for key in keys]
    if set(NEEDED) <= set(columns):
        for name in set(columns) - {""}:
            if columns.count(name) > 1:
                raise ValueError(f"{path}: two columns are the {name}; remove one")
        return columns, True
    if len(cells) == len(GOOGLE) and keys[0] in (*SPLITS, "unassigned"):
        return list(GOOGLE), False
    if len(cells) == len(PLAIN) and all(_is_number(cell) or not cell for cell in cells[1:5]):
        return list(PLAIN), False
    missing = ", ".join(name for name in NEEDED if name not in columns)
    raise ValueError(
        f"{path}: line 1 names no column {missing}; write a heading image,xmin,ymin,xmax,ymax,label"
    )


def _picture(row: Row, find: Finder, fractions: bool) -> Picture:
    name = row.cells["image"]
    try:
        path = find(name)
    except ValueError:
        if "." in name.rpartition("/")[2]:
            raise
        path = find(f"{name}.jpg")  # Open Images leaves the suffix out
    name = relative_name(path, find.folder)
    return Picture(path, name, row.where, _split(row), size=_size(row), fractions=fractions)


def _agree(row: Row, picture: Picture) -> None:
    """Takes the split and the size of a further line of a picture where no line before has them.

    Raises:
        ValueError: it has others.
    """
    splits, size = _split(row), _size(row)
    picture.splits, picture.size = picture.splits or splits, picture.size or size
    if splits and splits != picture.splits:
        raise ValueError(f"is in {splits[0]}, but {picture.where} in {picture.splits[0]}")
    if size and size != picture.size:
        raise ValueError(f"states another size than {picture.where}")


def _split(row: Row) -> list[str]:
    split = row.cells.get("split", "").lower()
    if split not in (*SPLITS, "", "unassigned"):
        raise ValueError(f"{split!r} is no split; write train, val or test")
    return [SPLITS[split]] if split in SPLITS else []


def _size(row: Row) -> tuple[float, float] | None:
    if not row.cells.get("width") or not row.cells.get("height"):
        return None
    return _number(row.cells["width"], "width"), _number(row.cells["height"], "height")


def _number(cell: str, column: str) -> float:
    try:
        return float(cell)
    except ValueError:
        raise ValueError(f"{column} {cell!r} is no number") from None


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _fractions(rows: Sequence[Row]) -> bool:
    """Whether coordinates are fractions: most right and lower borders are not beyond 1.

    Most, so that no single one that oversteps its picture decides for the whole table.
    """
    borders = [row.cells[end] for row in rows for end in ("xmax", "ymax")]
    small = [float(border) <= 1 for border in borders if _is_number(border)]
    return 2 * sum(small) > len(small) if small else True
