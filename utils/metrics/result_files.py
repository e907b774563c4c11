"""VOC result files: a text file per class, a detection per line.

A line is `image_id score xmin ymin xmax ymax` in VOC pixels, 1-based and inclusive: a box over the
first two columns of an image is xmin 1, xmax 2 there, and x1 = 0, x2 = 2 in this program.
"""

import math
from collections.abc import Mapping, Sequence
from decimal import Context, Decimal
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from utils.files import write_whole
from utils.metrics.detection_pool import Floats, Ints, finite, labelled_boxes

# Decimal, because in binary (0.1 + 1) - 1 is not 0.1; 400 digits hold 1 + x for every float64 x.
_EXACT = Context(prec=400)
_ONE = Decimal(1)


def save_detections(
    folder: Path | str,
    class_names: Sequence[str],
    detections: Mapping[str, tuple[ArrayLike | Tensor, ArrayLike | Tensor, ArrayLike | Tensor]],
) -> None:
    """Write `comp4_det_test_<class>.txt` for every class, atomically; without detections, empty.

    `load_detections` gives back the very same float64 numbers, so evaluating the files changes no
    digit of the mAP.

    Args:
        folder: made if missing.
        class_names: label k is `class_names[k - 1]`.
        detections: image id -> boxes `[D, 4]` (xyxy, continuous pixels), scores `[D]`,
            labels `[D]` (1..K); `Evaluator.detections` is one.

    Raises:
        ValueError: an image id is empty or holds white space, a class name cannot be part of a
            file name, or a box, score or label is not as above.

    Source: Everingham et al., VOC devkit documentation, "Detection Task", results file format.
    """
    paths = class_files(folder, class_names)
    lines: list[list[str]] = [[] for _ in class_names]
    for image_id in sorted(detections):
        check_id(image_id)
        what = f"image {image_id}: detection"
        boxes, scores, labels = detections[image_id]
        boxes, labels = labelled_boxes(boxes, labels, len(class_names), what, inverted=True)
        scores = finite(scores, len(boxes), f"{what} scores")
        columns = (boxes.tolist(), scores.tolist(), labels.tolist())
        for (x1, y1, x2, y2), score, label in zip(*columns, strict=True):
            numbers = f"{score!r} {_one_based(x1)} {_one_based(y1)} {x2!r} {y2!r}"
            lines[label - 1].append(f"{image_id} {numbers}\n")
    Path(folder).mkdir(parents=True, exist_ok=True)
    for path, of_class in zip(paths, lines, strict=True):
        write_whole(path, "".join(of_class))


def load_detections(
    folder: Path | str, class_names: Sequence[str]
) -> dict[str, tuple[Floats, Floats, Ints]]:
    """Read the files that `save_detections`, or another program, wrote.

    Inverted and empty boxes are kept: they are false detections, see
    `utils.metrics.evaluator.Evaluator`. Prints how many there are, and where the first is.

    Args:
        folder: holds `comp4_det_test_<class>.txt` for every class; a file may be empty.
        class_names: label k is `class_names[k - 1]`.

    Returns:
        Image id -> boxes `[D, 4]` (xyxy, continuous pixels), scores `[D]`, labels `[D]`; by class,
        then in the order of the file. Images without detections are missing.

    Raises:
        FileNotFoundError: a class has no file.
        ValueError: a line without six columns, or with a number that is none or not finite.
    """
    rows: dict[str, list[tuple[float, ...]]] = {}
    no_area: list[str] = []
    for label, path in enumerate(class_files(folder, class_names), start=1):
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing; every class needs a file, if an empty one")
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: no text in UTF-8 ({error.reason}); convert it") from error
        for number, line in enumerate(lines, start=1):
            try:
                image_id, detection = _parse(line)
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: {error}") from None
            rows.setdefault(image_id, []).append((*detection, label))
            _, x1, y1, x2, y2 = detection
            if x2 <= x1 or y2 <= y1:
                no_area.append(f"{path}, line {number}")
    if no_area:
        print(
            f"boxes that are inverted or empty, and so false detections: {len(no_area)}; the first "
            f"is in {no_area[0]}"
        )
    table = {image_id: np.array(of_image) for image_id, of_image in rows.items()}
    return {i: (t[:, 1:5], t[:, 0], t[:, 5].astype(np.int64)) for i, t in table.items()}


def result_ids(image_ids: Sequence[str]) -> dict[str, str]:
    """What each image is called in result files: `000005`, as the VOC devkit and its lists do.

    Where splits of several years share a number, `VOC2007/000005` tells them apart.
    """
    short = {image_id: image_id.partition("/")[2] or image_id for image_id in image_ids}
    return short if len(set(short.values())) == len(short) else {i: i for i in image_ids}


def check_id(image_id: str) -> None:
    """Raises ValueError for a name that cannot stand in a line of a result file."""
    if image_id.split() != [image_id]:
        raise ValueError(f"image id {image_id!r} is empty or holds white space; rename the image")


def _parse(line: str) -> tuple[str, tuple[float, ...]]:
    """Image id, and score, x1, y1, x2, y2."""
    columns = line.split()
    if len(columns) != 6:
        raise ValueError(
            f"{len(columns)} columns in {line.strip()!r}; give image_id score xmin ymin xmax ymax"
        )
    image_id, score, xmin, ymin, xmax, ymax = columns
    try:
        numbers = (float(score), _zero_based(xmin), _zero_based(ymin), float(xmax), float(ymax))
        all_finite = all(map(math.isfinite, numbers))
    except (ValueError, ArithmeticError):
        all_finite = False
    if not all_finite:
        raise ValueError(f"{' '.join(columns[1:])!r} is not five finite numbers; mend or drop it")
    return image_id, numbers


def _one_based(coordinate: float) -> str:
    return str(_EXACT.add(Decimal(repr(coordinate)), _ONE))


def _zero_based(text: str) -> float:
    return float(_EXACT.subtract(Decimal(text), _ONE))


def class_files(folder: Path | str, class_names: Sequence[str]) -> list[Path]:
    """The result file of each class.

    Raises:
        ValueError: a class name cannot be part of a file name.
    """
    for name in class_names:
        if Path(name).name != name or "\0" in name:
            raise ValueError(f"class name {name!r} cannot be part of a file name; rename it")
    return [Path(folder) / f"comp4_det_test_{name}.txt" for name in class_names]
