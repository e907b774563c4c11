"""Makes a small data set in VOC's layout, so that everything can be tried without a download.

python -m tools.demo.drawn_set --out VOCdevkit --train 600 --val 50 --test 200 --seed 0
"""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from tools.demo.drawing import SHAPES, Picture, draw_picture
from utils.cli import parse_arguments, run
from utils.config import option

CLASS_NAMES = tuple(SHAPES)
SPLITS = ("train", "val", "test")
MARKER = "made_by_drawn_set.json"


@dataclass(frozen=True)
class DrawnConfig:
    """Draws a small data set in VOC's layout."""

    out: str = option("VOCdevkit", "the devkit to write to")
    train: int = option(600, "pictures in train")
    val: int = option(50, "pictures in val")
    test: int = option(200, "pictures in test")
    seed: int = option(0, "decides the pictures")


def make_drawn_set(
    devkit: str | Path, *, train: int, val: int, test: int, seed: int = 0
) -> tuple[str, ...]:
    """Draws pictures of five classes into `<devkit>/VOC2007`, with `classes.txt` beside them.

    A picture depends on (seed, split, its place in the split) alone, so that sets of other sizes
    share pictures. One installation always writes the same bytes; another version of Pillow's
    libjpeg may encode the same picture differently.

    Args:
        devkit: the folder to make or extend; pictures of an earlier call are overwritten.
        train: how many pictures, 0 or more.
        val: the same; `trainval` is `train` and `val` together.
        test: the same.
        seed: 0 or more.

    Returns:
        The class names, in the order of their labels from 1 on.

    Raises:
        FileExistsError: `<devkit>/VOC2007` is there and was made by somebody else.
        ValueError: a count or the seed is negative, or no picture is asked for.
    """
    counts = dict(zip(SPLITS, (train, val, test), strict=True))
    for name, value in {**counts, "seed": seed}.items():
        if value < 0:
            raise ValueError(f"{name} is {value}; it must be 0 or more")
    if not any(counts.values()):
        raise ValueError("train, val and test are all 0; ask for a picture")
    year = Path(devkit) / "VOC2007"
    _claim(year, {**counts, "seed": seed})
    for split_number, (split, count) in enumerate(counts.items()):
        for index in range(count):
            rng = np.random.Generator(np.random.PCG64([seed, split_number, index]))
            _write_picture(year, f"{split}_{index:05d}", draw_picture(rng))
    _write_lists(year, counts)
    return CLASS_NAMES


def _claim(year: Path, settings: dict[str, int]) -> None:
    """Makes the folders; the marker comes first, so that a broken-off run can be repeated."""
    if year.exists() and not (year / MARKER).is_file():
        raise FileExistsError(
            f"{year} is there and was not made by this tool; move it away or change --out"
        )
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (year / folder).mkdir(parents=True, exist_ok=True)
    _write_text(year / MARKER, json.dumps(settings) + "\n")


def _write_picture(year: Path, image_id: str, picture: Picture) -> None:
    jpeg = io.BytesIO()
    # Full colour resolution: halved, it would blur the textures.
    Image.fromarray(picture.pixels).save(jpeg, "JPEG", quality=92, subsampling=0)
    (year / "JPEGImages" / f"{image_id}.jpg").write_bytes(jpeg.getvalue())
    _write_text(year / "Annotations" / f"{image_id}.xml", _annotation(image_id, picture))


def _annotation(image_id: str, picture: Picture) -> str:
    height, width = picture.owner.shape
    lines = [
        "<annotation>",
        "\t<folder>VOC2007</folder>",
        f"\t<filename>{image_id}.jpg</filename>",
        f"\t<size><width>{width}</width><height>{height}</height><depth>3</depth></size>",
    ]
    for name, (xmin, ymin, xmax, ymax), difficult in picture.objects:
        lines += [
            "\t<object>",
            f"\t\t<name>{name}</name>",
            f"\t\t<difficult>{difficult:d}</difficult>",
            f"\t\t<bndbox><xmin>{xmin}</xmin><ymin>{ymin}</ymin>"
            f"<xmax>{xmax}</xmax><ymax>{ymax}</ymax></bndbox>",
            "\t</object>",
        ]
    return "\n".join([*lines, "</annotation>", ""])


def _write_lists(year: Path, counts: dict[str, int]) -> None:
    ids = {split: [f"{split}_{i:05d}\n" for i in range(count)] for split, count in counts.items()}
    ids["trainval"] = ids["train"] + ids["val"]
    for split, lines in ids.items():
        _write_text(year / "ImageSets" / "Main" / f"{split}.txt", "".join(lines))
    _write_text(year / "classes.txt", "".join(f"{name}\n" for name in CLASS_NAMES))


def _write_text(path: Path, text: str) -> None:
    path.write_bytes(text.encode())  # bytes: no system turns the line ends into its own


def main(arguments: Sequence[str] | None) -> None:
    """Settings -> pictures."""
    config = parse_arguments(DrawnConfig, arguments)
    counts = {split: getattr(config, split) for split in SPLITS}
    make_drawn_set(config.out, **counts, seed=config.seed)
    print(f"{config.out}/VOC2007: {sum(counts.values())} pictures drawn")


if __name__ == "__main__":
    run(main)
