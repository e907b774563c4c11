"""One VOC annotation file -> checked arrays."""

import difflib
import math
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

T = TypeVar("T")

BOX_TAGS = ("xmin", "ymin", "xmax", "ymax")


class Flaw(NamedTuple):
    """Something in an annotation that training refuses."""

    kind: str  # size, field, class, spelling, inverted or outside
    message: str
    number: int = 0  # the object it is about, counted from 1; 0: none of them

    def __str__(self) -> str:
        return f"object {self.number} {self.message}" if self.number else self.message


class Annotation(NamedTuple):
    """The M objects of one picture, in the order of the file.

    VOC counts pixels from 1 and includes both ends; `boxes` holds the continuous interval
    `[xmin - 1, ymin - 1, xmax, ymax]`, so a box of one pixel is 1 wide.
    """

    boxes: npt.NDArray[np.float32]  # [M, 4] xyxy in pixels, inside the picture
    labels: npt.NDArray[np.int64]  # [M] 1..K, places in the class list counted from 1
    difficult: npt.NDArray[np.bool_]  # [M]
    width: int  # pixels of the upright picture
    height: int


def no_objects(width: int, height: int) -> Annotation:
    """What is said of a picture on which nothing is."""
    nothing = np.zeros(0, np.int64)
    return Annotation(
        np.zeros((0, 4), np.float32), nothing, nothing.astype(np.bool_), width, height
    )


def parse_xml(path: Path) -> ET.Element:
    """The root of an annotation file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no XML, its root is not `annotation`, or it declares a document type,
            through which entities could expand without bound or reach other files.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such annotation")
    parser = ET.XMLParser(target=_PlainTreeBuilder())
    try:
        parser.feed(path.read_bytes())
        root: ET.Element = parser.close()
    except (ET.ParseError, ValueError, LookupError) as error:  # LookupError: unknown encoding
        raise ValueError(f"{path}: malformed XML: {error}") from None
    if root.tag != "annotation":
        raise ValueError(f"{path}: the root element is <{root.tag}>, not <annotation>")
    return root


def annotation_from_xml(
    root: ET.Element, class_names: Sequence[str], image_size: tuple[int, int], path: Path
) -> Annotation:
    """What the file says about a picture whose upright size is known.

    A box may overstep the picture by one pixel, as sets that count from 0 do; it is clipped.

    Args:
        root: of `parse_xml`.
        class_names: K names; the first has label 1.
        image_size: `(width, height)` in pixels; the file must agree, or say 0 x 0 for unknown.
        path: names the file in errors.

    Raises:
        ValueError: a field is missing or no number, a box is inverted, empty or outside the
            picture, a class is not in the list, or the sizes disagree.
    """
    annotation, flaws = sound_objects(root, class_names, image_size)
    if flaws:
        raise ValueError(f"{path}: {flaws[0]}")
    return annotation


def sound_objects(
    root: ET.Element, class_names: Sequence[str], image_size: tuple[int, int]
) -> tuple[Annotation, list[Flaw]]:
    """`annotation_from_xml` that refuses nothing: the objects without a flaw, and all flaws."""
    flaws: list[Flaw] = []

    def attempt(number: int, read: Callable[..., T], *arguments: Any) -> T | None:
        try:
            return read(*arguments)
        except _RefusedError as error:
            flaw = Flaw(error.kind, str(error), number)
            if flaws[-1:] != [flaw]:  # a missing <bndbox> is missed on both axes
                flaws.append(flaw)
            return None

    attempt(0, _check_size, root, image_size)
    boxes, labels, difficult = [], [], []
    for number, element in enumerate(root.findall("object"), start=1):
        label = attempt(number, _label, element, class_names)
        x = attempt(number, _interval, element, "x", image_size[0])
        y = attempt(number, _interval, element, "y", image_size[1])
        hard = attempt(number, _difficult, element)
        if label is not None and x is not None and y is not None and hard is not None:
            labels.append(label)
            boxes.append((x[0], y[0], x[1], y[1]))
            difficult.append(hard)
    annotation = Annotation(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(labels, np.int64),
        np.array(difficult, np.bool_),
        *image_size,
    )
    return annotation, flaws


def written_box(element: ET.Element) -> tuple[float, float, float, float] | None:
    """xmin, ymin, xmax, ymax of an object as they are in the file; None unless all are numbers."""
    try:
        bndbox = _bndbox(element)
        left, top, right, bottom = (_number(bndbox, tag) for tag in BOX_TAGS)
    except _RefusedError:
        return None
    return left, top, right, bottom


def stated_size(root: ET.Element) -> tuple[float, float]:
    """The width and height in pixels that an annotation gives its picture.

    Raises:
        ValueError: they are missing or no numbers.
    """
    size = root.find("size")
    if size is None:
        raise _RefusedError("size", "<size> is missing")
    return _number(size, "width"), _number(size, "height")


class _RefusedError(ValueError):
    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class _PlainTreeBuilder(ET.TreeBuilder):
    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:  # noqa: ARG002
        raise ValueError("a DOCTYPE is not allowed, for it can declare entities; remove it")


def _check_size(root: ET.Element, image_size: tuple[int, int]) -> None:
    said = stated_size(root)
    if said not in ((0, 0), image_size):
        raise _RefusedError(
            "size",
            f"<size> says {said[0]:g}x{said[1]:g}, but the upright image is "
            f"{image_size[0]}x{image_size[1]} (width x height)",
        )


def _label(element: ET.Element, class_names: Sequence[str]) -> int:
    name = element.findtext("name")
    if not name:
        raise _RefusedError("field", "has no <name>")
    if name in class_names:
        return class_names.index(name) + 1
    for known in class_names:
        if "".join(known.split()).lower() == "".join(name.split()).lower():
            raise _RefusedError(
                "spelling",
                f"has class {name!r}, which differs from {known!r} in the class list only in case "
                "or spaces; write both alike",
            )
    close = difflib.get_close_matches(name, class_names)
    some = ", ".join(class_names[:5]) + (", ..." if len(class_names) > 5 else "")
    hint = f"close to it: {', '.join(close)}" if close else f"this one has {some}"
    raise _RefusedError(
        "class",
        f"has class {name!r}, which is not in the class list: give --classes that of this data set "
        f"({hint})",
    )


def _bndbox(element: ET.Element) -> ET.Element:
    bndbox = element.find("bndbox")
    if bndbox is None:
        raise _RefusedError("field", "has no <bndbox>")
    return bndbox


def _interval(element: ET.Element, axis: str, length: int) -> tuple[float, float]:
    """1-based inclusive `min`, `max` -> a continuous interval inside `[0, length]`."""
    bndbox = _bndbox(element)
    low, high = _number(bndbox, f"{axis}min"), _number(bndbox, f"{axis}max")
    if high <= low - 1:  # equal ends are a box one pixel wide, fractional ones perhaps of less
        raise _RefusedError("inverted", f"has {axis}max {high:g} <= {axis}min {low:g}")
    side = "width" if axis == "x" else "height"
    for name, value in (("min", low), ("max", high)):
        if not 0 <= value <= length + 1:
            raise _RefusedError(
                "outside", f"has {axis}{name} {value:g} outside of 1..{length}, the {side}"
            )
    low, high = max(low - 1, 0), min(high, length)
    if high <= low:
        raise _RefusedError("outside", f"lies outside of the image, whose {side} is {length}")
    return low, high


def _difficult(element: ET.Element) -> bool:
    text = (element.findtext("difficult") or "0").strip()
    if text not in ("0", "1"):
        raise _RefusedError("field", f"has <difficult> {text!r}, not 0 or 1")
    return text == "1"


def _number(element: ET.Element, tag: str) -> float:
    text = element.findtext(tag)
    if text is None:
        raise _RefusedError("field", f"has no <{tag}>")
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise _RefusedError("field", f"has <{tag}> {text!r}, not a finite number")
    return value
