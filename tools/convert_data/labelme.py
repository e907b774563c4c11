"""labelme's folder: one JSON file beside each picture."""

import math
from pathlib import Path
from typing import Any

from tools.convert_data.source import (
    Box,
    Finder,
    Object,
    Picture,
    Source,
    extent,
    files_below,
    images_below,
    read_json,
    relative_name,
    rows_of,
    split_named,
    stated_size,
    truth,
)


def read(folder: str) -> Source:
    """Reads a folder and those below it; parts named train, val and test are the splits.

    Rectangles, polygons, circles and masks become boxes. A shape is difficult where its key or its
    flag `difficult` says so. Pictures without a JSON file are not taken: nobody has looked at them.

    Raises:
        FileNotFoundError: there is no such folder, or no JSON in it.
    """
    root = Path(folder)
    find = Finder(root)
    files = files_below(root, (".json",))
    if not files:
        raise FileNotFoundError(f"{root}: no labelme files (*.json) in this folder")
    source = Source()
    for path in files:
        try:
            source.pictures.append(_read_file(path, find, source))
        except (TypeError, ValueError) as error:
            said = str(error)
            source.problems.append(said if said.startswith(str(path)) else f"{path}: {said}")
    names = {o.name for p in source.pictures for o in p.objects}
    source.classes = sorted(names - {""})  # an object without a name is a problem of its own
    source.elsewhere = find.elsewhere
    seen = {picture.path.resolve() for picture in source.pictures}
    unseen = len({path.resolve() for path in images_below(root)} - seen)
    if unseen:
        source.notes.append(f"{unseen} image(s) without a JSON file: not taken")
    return source


def _read_file(path: Path, find: Finder, source: Source) -> Picture:
    content = read_json(path)
    shapes = list(rows_of(content, "shapes", path))
    try:
        name = str(content.get("imagePath") or path.with_suffix(".jpg").name)
        image = find(name, path.parent, find.folder)  # labelme's paths begin beside the JSON file
    except ValueError:
        # Renamed together with its JSON file.
        same = [p for p in images_below(path.parent) if p.with_suffix(".json") == path]
        if len(same) != 1:
            raise
        image = same[0]
    picture = Picture(
        image,
        name := relative_name(image, find.folder),
        str(path),
        split_named(name.split("/")[:-1]),
        size=stated_size(content, "imageWidth", "imageHeight"),
    )
    for number, shape in shapes:
        where = f"{path}: shape {number}"
        try:
            flags = shape.get("flags") or {}
            difficult = truth(shape.get("difficult")) or truth(flags.get("difficult"))
            name = str(shape.get("label") or "").strip()
            picture.objects.append(Object(where, name, _box(shape), difficult))
        except (AttributeError, TypeError, ValueError) as error:
            source.problems.append(f"{where}: {error}")
    return picture


def _box(shape: dict[str, Any]) -> Box:
    kind, points = shape.get("shape_type") or "polygon", shape.get("points")
    if not isinstance(points, list):
        raise ValueError("has no list of points")
    if kind == "circle":
        (x, y), (edge_x, edge_y) = ((float(a), float(b)) for a, b in points)
        radius = math.hypot(edge_x - x, edge_y - y)
        return x - radius, y - radius, x + radius, y + radius
    if kind not in ("rectangle", "polygon", "mask", "rotation"):
        raise ValueError(f"is a {kind}, which surrounds nothing; draw a rectangle")
    return extent(points)
