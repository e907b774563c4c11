"""What can be wrong with a data set: kinds of faults, where they are, and pictures twice."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from utils.data.voc import Annotation

Box = tuple[float, float, float, float]


class Kind(NamedTuple):
    """A kind of fault; `fatal` where training refuses it, `remedy` is what to do."""

    title: str
    fatal: bool
    remedy: str


KINDS = {
    "list": Kind("list of ids unusable", True, "write one plain id a line, each once"),
    "shared": Kind("id in two training or two validation splits", True, "keep it in one"),
    "xml-missing": Kind("annotation missing", True, "add the file or drop the id"),
    "xml-malformed": Kind("annotation malformed", True, "write the file again"),
    "image-missing": Kind("image missing", True, "add the file or drop the id"),
    "image-unreadable": Kind("image unreadable", True, "fetch or save the file again"),
    "size": Kind("stated size wrong or missing", True, "correct <size>; then look at the boxes"),
    "field": Kind("field missing or no number", True, "correct the field"),
    "class": Kind("unknown class", True, "add it to the class list or rename it"),
    "spelling": Kind("class differs in case or spaces", True, "write it as in the class list"),
    "inverted": Kind("box inverted", True, "swap its ends"),
    "outside": Kind("box outside the image", True, "move or remove it"),
    "leak-id": Kind("id in training and validation", False, "drop it on one side"),
    "leak": Kind("image in training and validation", False, "drop it on one side"),
    "duplicate": Kind("image twice", False, "keep one; if annotations differ, the right one"),
    "repeated": Kind("object twice in an image", False, "remove one"),
    "tiny": Kind("box below a pixel of the input", False, "cut the image into tiles"),
    "clipped": Kind("box a pixel over the border", False, "none; VOC counts pixels from 1"),
    "no-objects": Kind("image without objects", False, "none if it is meant as background"),
    "only-difficult": Kind(
        "image with difficult objects only", False, "none, or --difficult train"
    ),
    "unused": Kind("class without objects", False, "find examples, or remove it from the list"),
}


class Fault(NamedTuple):
    """One thing wrong: where, and in words that name file and object."""

    kind: str  # of KINDS
    message: str
    split: str = ""
    image_id: str = ""  # <year folder>/<id>
    name: str = ""  # the class as the annotation or the class list has it
    other: str = ""  # image_id of the picture that is the same


class BadObject(NamedTuple):
    """An object with a fault, for a drawing; xyxy in pixels counted from 0, not inverted."""

    kind: str
    name: str
    box: Box


@dataclass
class Entry:
    """An id of a split and as much about its picture as can be known.

    `annotation` holds the sound objects, and is None where the picture's size is unknown.
    """

    split: str
    image_id: str
    image: Path | None = None
    annotation: Annotation | None = None
    digest: str = ""
    faults: list[Fault] = field(default_factory=list)
    bad_objects: list[BadObject] = field(default_factory=list)

    def add(self, kind: str, message: str, name: str = "") -> None:
        """Notes a fault of this entry."""
        self.faults.append(Fault(kind, message, self.split, self.image_id, name))


def compare_sides(sides: dict[str, list[Entry]]) -> Iterator[Fault]:
    """Pictures that are there more than once, within the two sides and across.

    Args:
        sides: the entries of `train` and of `val`.
    """
    where: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    same: dict[str, dict[str, Entry]] = defaultdict(dict)  # digest -> image_id -> entry
    side_of: dict[str, set[str]] = defaultdict(set)
    for side, entries in sides.items():
        for entry in entries:
            where[entry.image_id][side].append(entry.split)
            side_of[entry.image_id].add(side)
            if entry.digest:
                same[entry.digest].setdefault(entry.image_id, entry)
    for image_id, splits in where.items():
        for side, names in splits.items():
            if len(names) > 1:
                yield Fault(
                    "shared", f"{image_id} is in {' and '.join(names)} ({side})", names[1], image_id
                )
        if len(splits) > 1:
            listed = " and ".join(f"{names[0]} ({side})" for side, names in splits.items())
            yield Fault("leak-id", f"{image_id} is in {listed}", splits["val"][0], image_id)
    for group in same.values():
        first, *others = group.values()
        for other in others:
            leaks = side_of[first.image_id] != side_of[other.image_id]
            yield Fault(
                "leak" if leaks else "duplicate",
                f"{other.image_id} ({other.split}) is the same image as {first.image_id} "
                f"({first.split}){'' if agree(first, other) else '; their annotations differ'}",
                other.split,
                other.image_id,
                other=first.image_id,
            )


def agree(a: Entry, b: Entry) -> bool:
    """Whether two entries have the same sound objects, in any order."""
    if a.annotation is None or b.annotation is None:
        return a.annotation is b.annotation
    return objects_of(a.annotation) == objects_of(b.annotation)


def objects_of(annotation: Annotation) -> list[tuple[float, ...]]:
    """Label and box of each object, sorted."""
    pairs = zip(annotation.labels.tolist(), annotation.boxes.tolist(), strict=True)
    return sorted((label, *box) for label, box in pairs)
