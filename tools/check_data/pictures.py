"""A data set drawn: its worst cases, and of each class a picture as it should be."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, zip_longest
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tools.check_data.faults import KINDS, Box, Entry, Fault
from tools.check_data.statistics import Reach
from utils.data.images import read_image
from utils.show.draw import Picture, draw_boxes, fitted

LONGEST_SIDE = 300  # pixels of a picture on the page
# Kinds of which a picture shows nothing, or nothing worth the place.
NOT_DRAWN = (
    *("xml-missing", "xml-malformed", "image-unreadable"),
    *("clipped", "no-objects", "only-difficult"),
)
MOST_LONELY = 8  # pictures of objects without a prior
MOST_SAMPLES = 6  # pictures of nothing in particular
GREY, GAP = 128, 4
# Of a box outside the image so much is shown, as a part of the image's side.
MARGIN = 0.25


class Figure(NamedTuple):
    """A picture for the page; title and caption are plain text."""

    picture: Picture
    title: str
    caption: str


def pictures_of(
    entries: Sequence[Entry],
    faults: Sequence[Fault],
    found: Reach,
    class_names: Sequence[str],
    limit: int,
) -> list[Figure]:
    """At most `limit` pictures: each kind of fault in turn, objects without a prior, samples.

    The samples are there where nothing is wrong, too: only a look tells whether boxes and names
    are where they belong.

    Args:
        entries: of all splits.
        faults: those of the entries and between them.
        found: the priors' overlap with the training objects.
        class_names: names of the classes 1..K.
        limit: 0 or more.
    """
    by_id = {entry.image_id: entry for entry in entries}
    by_kind: dict[str, dict[str, Fault]] = {}  # kind -> image -> its first fault of the kind
    for fault in faults:
        entry = by_id.get(fault.image_id)
        if entry is not None and entry.image is not None and fault.kind not in NOT_DRAWN:
            by_kind.setdefault(fault.kind, {}).setdefault(fault.image_id, fault)
    queues: list[Iterator[Figure | None]] = [
        (faulty(by_id, fault, class_names) for fault in by_kind[kind].values())
        for kind in KINDS
        if kind in by_kind
    ]
    queues.append(islice(lonely(found, class_names), MOST_LONELY))
    turns = (figure for turn in zip_longest(*queues) for figure in turn if figure is not None)
    shown = list(islice(samples(entries, class_names), min(MOST_SAMPLES, limit)))
    return [*islice(turns, limit - len(shown)), *shown]


def samples(entries: Sequence[Entry], class_names: Sequence[str]) -> Iterator[Figure]:
    """The first picture of each class that can be drawn and has not been, with all its objects."""
    seen = set()
    for label, name in enumerate(class_names, start=1):
        for entry in entries:
            annotation = entry.annotation
            if annotation is None or entry.image_id in seen or label not in annotation.labels:
                continue
            seen.add(entry.image_id)
            try:
                picture = drawn(entry, class_names)
            except (ValueError, OSError):  # it is among the faults
                continue
            number = len(annotation.labels)
            yield Figure(picture, f"{name}: {entry.image_id}", f"a sample, {number} object(s)")
            break


def faulty(by_id: Mapping[str, Entry], fault: Fault, class_names: Sequence[str]) -> Figure | None:
    """The picture of a fault; None where it cannot be decoded."""
    entry, twin = by_id[fault.image_id], by_id.get(fault.other)
    try:
        picture = drawn(entry, class_names)
        if twin is not None:
            picture = side_by_side((drawn(twin, class_names), picture))
    except (ValueError, OSError):
        return None
    caption = fault.message.partition(".xml: ")[2] or fault.message  # the title has the id
    return Figure(picture, f"{KINDS[fault.kind].title}: {entry.image_id}", caption)


def lonely(found: Reach, class_names: Sequence[str]) -> Iterator[Figure | None]:
    """Pictures with objects that no prior matches, those with most of them first."""
    by_entry: dict[str, tuple[Entry, list[int]]] = {}
    for row in np.flatnonzero(found.matched == 0).tolist():
        entry = found.where[row][0]
        by_entry.setdefault(entry.image_id, (entry, []))[1].append(row)
    for entry, rows in sorted(by_entry.values(), key=lambda item: -len(item[1])):
        annotation = entry.annotation
        assert annotation is not None
        assert entry.image is not None
        try:
            image, scale = fitted(read_image(entry.image), LONGEST_SIDE)
        except (ValueError, OSError):
            continue
        numbers = [found.where[row][1] for row in rows]
        labels, boxes = annotation.labels[numbers].tolist(), annotation.boxes[numbers] * scale
        scores = [float(found.best[row]) for row in rows]
        yield Figure(
            draw_boxes(image, boxes, labels, class_names, scores),
            f"no prior: {entry.image_id}",
            f"{len(rows)} of {len(annotation.labels)} objects overlap no prior by 0.5; the number "
            "is the IoU with the best one",
        )


def drawn(entry: Entry, class_names: Sequence[str]) -> Picture:
    """An entry's picture with its sound objects and those with faults, which name the fault."""
    assert entry.image is not None
    image, scale = fitted(read_image(entry.image), LONGEST_SIDE)
    kinds: dict[Box, list[str]] = {}
    for bad in entry.bad_objects:
        kinds.setdefault(bad.box, []).append(f"{bad.kind}: {bad.name}")
    bad_boxes = np.array(list(kinds), float).reshape(-1, 4) * scale
    image, (left, top) = with_margin(image, bad_boxes)
    sound = entry.annotation.boxes * scale if entry.annotation is not None else np.zeros((0, 4))
    labels = entry.annotation.labels.tolist() if entry.annotation is not None else []
    names = [*class_names, *(", ".join(words) for words in kinds.values())]
    # What is drawn first is never covered: the faults.
    boxes = np.concatenate((bad_boxes, sound)) + np.array((left, top, left, top))
    bad_labels = list(range(len(class_names) + 1, len(names) + 1))
    height, width = image.shape[:2]
    return draw_boxes(image, boxes.clip(0, (width, height) * 2), bad_labels + labels, names)


def side_by_side(pictures: Sequence[Picture]) -> Picture:
    """Pictures in a row, with a grey gap between them."""
    highest = max(picture.shape[0] for picture in pictures)
    padded = [
        np.pad(p, ((0, highest - p.shape[0]), (GAP, GAP), (0, 0)), constant_values=GREY)
        for p in pictures
    ]
    return np.concatenate(padded, axis=1)[:, GAP:-GAP]


def with_margin(image: Picture, boxes: npt.NDArray[np.float64]) -> tuple[Picture, tuple[int, int]]:
    """The picture in a grey frame that shows boxes beyond it, and where it lies in there."""
    height, width = image.shape[:2]
    beyond = np.zeros(4)
    if len(boxes):
        low, high = -boxes[:, :2].min(0), boxes[:, 2:].max(0) - (width, height)
        beyond = np.ceil(np.concatenate((low, high)).clip(0, (width * MARGIN, height * MARGIN) * 2))
    left, top, right, bottom = beyond.astype(int).tolist()
    framed = np.pad(image, ((top, bottom), (left, right), (0, 0)), constant_values=GREY)
    return framed, (left, top)
