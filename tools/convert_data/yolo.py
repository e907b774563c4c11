"""YOLO's folders: `images/` beside `labels/`, a line an object: class, then fractions.

Four numbers are the centre, width and height of a box; six or more are the points of a polygon,
unless data.yaml says with `kpt_shape` that key points stand behind each box.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tools.convert_data.source import (
    Box,
    Object,
    Picture,
    Source,
    extent,
    images_below,
    relative_name,
    split_named,
)
from tools.extras import require
from utils.data.voc import read_classes
from utils.files import read_text

SPLIT_KEYS = ("train", "val", "test")


def read(data: str, classes: str = "") -> Source:
    """Reads the set that a data.yaml describes, or the one in a folder of `images` and `labels`.

    The splits are those of the file; of a folder those that its parts are named after. A picture
    without a label file, or with an empty one, has no objects.

    Args:
        data: data.yaml, or a folder.
        classes: class list of a folder that has neither data.yaml nor classes.txt.

    Raises:
        FileNotFoundError, ValueError: something is missing, or is no such file.
    """
    path = Path(data)
    if path.is_dir() and (path / "data.yaml").is_file():
        path /= "data.yaml"
    if path.is_dir():
        pictures, names, behind = *_of_folder(path, classes), 0
    else:
        if classes:
            raise ValueError(f"--classes {classes}: {path} names the classes; leave it out")
        pictures, names, behind = _of_yaml(path)
    source = Source(list(pictures.values()), [name for _, name in sorted(names.items())])
    labelled = 0
    for picture in source.pictures:
        labels = label_file(picture.path)
        if labels.is_file():
            labelled += 1
            _read_labels(labels, names, behind, picture, source)
    if not labelled:
        first = f", such as {label_file(source.pictures[0].path)}" if source.pictures else ""
        raise FileNotFoundError(f"{data}: there is no label file{first}")
    if labelled < len(source.pictures):
        count = len(source.pictures) - labelled
        source.notes.append(f"{count} image(s) without a label file: taken as without objects")
    if lost := _labels_alone(source):
        source.notes.append(
            f"{len(lost)} label file(s) without an image of the set, such as {lost[0]}: not taken"
        )
    return source


def _labels_alone(source: Source) -> list[Path]:
    """The label files beside those of the pictures that belong to none of them."""
    known = {label_file(picture.path) for picture in source.pictures}
    there = {path for folder in {file.parent for file in known} for path in folder.glob("*.txt")}
    return sorted(path for path in there - known if path.name != "classes.txt")


def label_file(image: Path) -> Path:
    """`.../images/train/7.jpg` -> `.../labels/train/7.txt`; without such a folder, beside it."""
    parts = list(image.parts)
    if "images" in parts[:-1]:
        parts[len(parts) - 2 - parts[-2::-1].index("images")] = "labels"
    return Path(*parts).with_suffix(".txt")


def _of_folder(folder: Path, classes: str) -> tuple[dict[Path, Picture], dict[int, str]]:
    lists = [folder / "classes.txt", folder / "labels/classes.txt"]
    found = Path(classes) if classes else next((path for path in lists if path.is_file()), None)
    if found is None:
        raise FileNotFoundError(
            f"{folder}: has neither data.yaml nor classes.txt; pass --classes FILE, one name a line"
        )
    root = folder / "images" if (folder / "images").is_dir() else folder
    pictures = {}
    for path in images_below(root):
        name = relative_name(path, root)
        pictures[path] = Picture(path, name, str(path), split_named(name.split("/")[:-1]))
    if not pictures:
        raise FileNotFoundError(f"{root}: no images in this folder")
    for picture in pictures.values():
        picture.fractions = True
    return pictures, dict(enumerate(read_classes(found)))


def _of_yaml(path: Path) -> tuple[dict[Path, Picture], dict[int, str], int]:
    """The pictures, the names, and how many numbers of key points there are behind a box."""
    content = _parsed(path)
    names = _names(content.get("names"), path)
    root = path.parent / str(content.get("path") or "")
    if not root.is_dir():
        root = path.parent  # its makers' folder for all data sets is not known here
    pictures: dict[Path, Picture] = {}
    for split in SPLIT_KEYS:
        places = content.get(split) or []
        for place in places if isinstance(places, list) else [places]:
            for image in _images(str(place), root, f"{path}: {split}"):
                name = relative_name(image, root)
                picture = pictures.setdefault(image, Picture(image, name, str(path)))
                picture.splits += [split] if split not in picture.splits else []
                picture.fractions = True
    if not pictures:
        raise ValueError(f"{path}: names no images; it needs a line such as train: images/train")
    return pictures, names, _key_points(content.get("kpt_shape"), path)


def _key_points(shape: Any, path: Path) -> int:
    if shape is None:
        return 0
    try:
        points, numbers = (int(n) for n in shape)
    except (TypeError, ValueError):
        raise ValueError(f"{path}: kpt_shape is {shape!r:.80}; write [17, 3]") from None
    return points * numbers


def _parsed(path: Path) -> dict[str, Any]:
    text = read_text(path)
    require("convert", "yaml")
    import yaml

    try:
        # Everything stays text: the classes `no` and `07` are no false and no 7.
        content = yaml.load(text, yaml.BaseLoader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ValueError(f"{path}: malformed YAML: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: holds no keys; it needs names, train and val")
    return content


def _names(names: Any, path: Path) -> dict[int, str]:
    """The class names by their numbers."""
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not names or not isinstance(names, dict):
        raise ValueError(f"{path}: has no names of classes; add names: [cat, dog]")
    try:
        return {int(number): str(name).strip() for number, name in names.items()}
    except ValueError as error:
        raise ValueError(f"{path}: names has a number that is none: {error}") from None


def _images(place: str, root: Path, where: str) -> Iterator[Path]:
    """The pictures of a folder, or of a text file of paths."""
    tries = [root / place, root / place.removeprefix("../")]  # the latter in files of exporters
    found = next((path for path in tries if path.exists()), None)
    if found is None:
        raise FileNotFoundError(f"{where} names {tries[0]}, which is missing")
    if found.is_dir():
        images = images_below(found)
        if not images:
            raise FileNotFoundError(f"{where} names {found}, where no images are")
        yield from images
        return
    for number, line in enumerate(read_text(found).splitlines(), start=1):
        if line.strip():
            tries = [folder / line.strip() for folder in (found.parent, root, Path())]
            image = next((path for path in tries if path.is_file()), None)
            if image is None:
                raise FileNotFoundError(f"{found}: line {number}: there is no {tries[0]}")
            yield image


def _read_labels(
    path: Path, names: dict[int, str], behind: int, picture: Picture, source: Source
) -> None:
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        where = f"{path}: line {number}"
        try:
            label, *values = _numbers(line)
            if label not in names:
                raise ValueError(f"class {label:g} has no name; there are {len(names)}")
            if behind:
                if len(values) != 4 + behind:
                    said = f"not a box and the {behind} of kpt_shape"
                    raise ValueError(f"{len(values)} numbers behind the class are {said}")
                values = values[:4]
            picture.objects.append(Object(where, names[int(label)], _box(values)))
        except ValueError as error:
            source.problems.append(f"{where}: {error}")


def _numbers(line: str) -> list[float]:
    try:
        return [float(word) for word in line.split()]
    except ValueError:
        raise ValueError(f"{line.strip()!r:.80} is no line of numbers") from None


def _box(values: list[float]) -> Box:
    if len(values) == 4:
        x, y, width, height = values
        return x - width / 2, y - height / 2, x + width / 2, y + height / 2
    if len(values) < 6 or len(values) % 2:
        raise ValueError(f"{len(values)} numbers behind the class are neither a box nor a polygon")
    return extent([values[i : i + 2] for i in range(0, len(values), 2)])
