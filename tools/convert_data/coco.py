"""COCO's instances.json: boxes `[x, y, width, height]` in pixels counted from 0, continuous."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tools.convert_data.masks import box_of_mask
from tools.convert_data.source import (
    SPLITS,
    Box,
    Finder,
    Object,
    Picture,
    Source,
    read_json,
    relative_name,
    rows_of,
    stated_size,
    truth,
)


def read(files: Sequence[str], images: str) -> Source:
    """Reads `instances.json`, or several with their splits: `train=a.json val=b.json`.

    A picture is looked for in `images`, beside its JSON file, and by its name anywhere below
    `images`. Crowds are difficult objects. The classes come in the order of their ids.

    Raises:
        FileNotFoundError, ValueError: a file or the folder is missing, or is no such file.
    """
    source = Source()
    find = Finder(Path(images))
    names: dict[str, None] = {}  # an ordered set
    for word in files:
        split, _, path = word.partition("=")
        if split not in SPLITS.values():
            split, path = "", word
            if "=" in word and not Path(word).is_file():
                raise ValueError(f"{word}: write train=FILE, val=FILE or test=FILE, or FILE alone")
        names |= dict.fromkeys(_read_file(Path(path), split, find, source).values())
    source.classes = list(names)
    source.elsewhere = find.elsewhere
    return source


def _read_file(path: Path, split: str, find: Finder, source: Source) -> dict[Any, str]:
    """Adds a file's pictures to `source`; returns the names of the categories by their ids."""
    content = read_json(path)
    pictures: dict[Any, Picture] = {}
    lost: set[Any] = set()  # images that are problems of their own, their objects not
    for number, row in rows_of(content, "images", path):
        where = f"{path}: image {row.get('id', f'number {number}')}"
        try:
            name = str(row["file_name"])
            picture = Picture(
                file := find(name, find.folder, path.parent),
                relative_name(file, find.folder),
                where,
                [split] if split else [],
                size=stated_size(row, "width", "height"),
            )
            # Nobody knows of which of the two the annotations speak.
            if twin := pictures.pop(row["id"], None):
                source.problems.append(f"{where} ({twin.name}): another image has this id, too")
            if twin or row["id"] in lost:
                raise ValueError(f"{name}: another image has this id, too")
            pictures[row["id"]] = picture
        except (KeyError, TypeError, ValueError) as error:
            source.problems.append(f"{where}: {_said(error)}")
            if _plain(row.get("id")) is not None:
                lost.add(row["id"])
    categories: dict[Any, str] = {}
    for number, row in rows_of(content, "categories", path):
        try:
            name = str(row["name"]).strip()
            if categories.setdefault(row["id"], name) != name:
                raise ValueError(
                    f"{path}: category {row['id']} is {categories[row['id']]!r} and {name!r}; give "
                    "each an id of its own"
                )
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path}: category number {number}: {_said(error)}") from None
    categories = dict(sorted(categories.items(), key=lambda item: _place(item[0])))
    for number, row in rows_of(content, "annotations", path):
        where = f"{path}: annotation {row.get('id', f'number {number}')}"
        image, category = _plain(row.get("image_id")), _plain(row.get("category_id"))
        if image in lost:
            continue
        try:
            if image not in pictures:
                raise ValueError(f"image_id {row.get('image_id')} is no image of the file")
            if category not in categories:
                raise ValueError(f"category_id {row.get('category_id')} is no category of the file")
            found = Object(
                where, categories[category], _box(row), truth(row.get("iscrowd"), "iscrowd")
            )
            pictures[image].objects.append(found)
        except (KeyError, TypeError, ValueError) as error:
            source.problems.append(f"{where}: {_said(error)}")
    source.pictures += pictures.values()
    return categories


def _box(row: dict[str, Any]) -> Box:
    """The box of an annotation; of one that has a mask alone, the box around that."""
    if not row.get("bbox"):
        return box_of_mask(row.get("segmentation"))
    try:
        left, top, width, height = (float(value) for value in row["bbox"])
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"has the bbox {row['bbox']!r:.80}, not four numbers") from None
    return left, top, left + width, top + height


def _plain(key: Any) -> Any:
    """What may be looked up: a broken file may have lists for ids."""
    return key if isinstance(key, int | float | str) else None


def _place(key: Any) -> tuple[bool, Any]:
    return (False, key) if isinstance(key, int) else (True, str(key))


def _said(error: Exception) -> str:
    return f"has no {error}" if isinstance(error, KeyError) else str(error)
