"""A small set with every oddity that is no fault, written in each format by code of its own."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

Box = tuple[float, float, float, float]


class Known(NamedTuple):
    """What a picture shows: `(class, xyxy in continuous pixels, difficult)` of each object."""

    size: tuple[int, int]
    objects: list[tuple[str, Box, bool]]


# Fractional boxes, one of half a pixel, one that touches all borders; no objects; two kinds of
# files; the same name in two folders.
KNOWN: Mapping[str, Known] = {
    "a/one.jpg": Known((64, 48), [("cat", (3.25, 4.5, 20.75, 30.125), False)]),
    "a/two.png": Known(
        (40, 90), [("dog", (0, 0, 40, 90), False), ("cat", (7.1, 8.2, 7.6, 9.3), True)]
    ),
    "b/one.bmp": Known((33, 33), []),
    "b/red car.jpg": Known((50, 40), [("big dog", (10, 10, 30, 20), False)] * 1),
}
# The ids that these get.
IDS = {
    "a/one.jpg": "a-one",
    "a/two.png": "two",
    "b/one.bmp": "b-one",
    "b/red car.jpg": "red_car",
}


def save_picture(path: Path, size: tuple[int, int], orientation: int = 1) -> None:
    """Noise of `size` width x height as it is stored."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(len(str(path.name)))
    pixels = rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(pixels).save(path, **({"exif": exif} if orientation > 1 else {}))


def save_pictures(folder: Path) -> None:
    for name, known in KNOWN.items():
        save_picture(folder / name, known.size)


def coco(names: Mapping[str, Known] = KNOWN) -> dict[str, list[dict[str, object]]]:
    """Category ids with gaps and out of order, one of them without an object."""
    ids = {"cat": 17, "dog": 3, "big dog": 90, "bird": 5}
    images, annotations = [], []
    for number, (name, known) in enumerate(names.items(), start=100):
        width, height = known.size
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        for label, (x1, y1, x2, y2), difficult in known.objects:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": ids[label],
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": int(difficult),
                }
            )
    categories = [{"id": number, "name": name} for name, number in ids.items()]
    return {"images": images, "annotations": annotations, "categories": categories}


def write_coco(folder: Path, content: object = None) -> Path:
    path = folder / "instances.json"
    path.write_text(json.dumps(coco() if content is None else content, indent=1), "utf-8")
    return path


def write_labelme(folder: Path) -> None:
    for name, known in KNOWN.items():
        shapes = [
            {
                "label": label,
                "points": [[x2, y1], [x1, y2]],  # from any corner to the opposite one
                "shape_type": "rectangle",
                "flags": {"difficult": difficult},
            }
            for label, (x1, y1, x2, y2), difficult in known.objects
        ]
        content = {
            "imagePath": name.rpartition("/")[2],
            "imageWidth": known.size[0],
            "imageHeight": known.size[1],
            "shapes": shapes,
        }
        (folder / name).with_suffix(".json").write_text(json.dumps(content, indent=1), "utf-8")


def write_csv(folder: Path, heading: str = "image,xmin,ymin,xmax,ymax,label,difficult") -> Path:
    lines = [heading]
    for name, known in KNOWN.items():
        lines += [
            f"{name},{x1},{y1},{x2},{y2},{label},{difficult:d}"
            for label, (x1, y1, x2, y2), difficult in known.objects
        ] or [f"{name},,,,,,"]
    path = folder / "boxes.csv"
    path.write_text("\n".join(lines), "utf-8")
    return path


def write_yolo(folder: Path) -> Path:
    """`images/{train,val}`; the first two train, the others validate. Nothing is difficult."""
    names = ["cat", "dog", "big dog"]
    for number, (name, known) in enumerate(KNOWN.items()):
        split = "train" if number < 2 else "val"
        save_picture(folder / "images" / split / name, known.size)
        label = (folder / "labels" / split / name).with_suffix(".txt")
        label.parent.mkdir(parents=True, exist_ok=True)
        w, h = known.size
        lines = [
            f"{names.index(label_)} {(x1 + x2) / 2 / w:.9f} {(y1 + y2) / 2 / h:.9f} "
            f"{(x2 - x1) / w:.9f} {(y2 - y1) / h:.9f}"
            for label_, (x1, y1, x2, y2), _ in known.objects
        ]
        label.write_text("\n".join(lines), "utf-8")
    path = folder / "data.yaml"
    listed = "".join(f"  {i}: {name}\n" for i, name in enumerate(names))
    path.write_text(f"path: .\ntrain: images/train\nval: images/val\nnames:\n{listed}", "utf-8")
    return path
