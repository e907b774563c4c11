"""Looks at every picture and annotation of a split, and stops at no fault."""

import hashlib
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from tqdm import tqdm

from tools.check_data.faults import BadObject, Box, Entry, Fault
from utils.data.augment import IMAGE_SIZE
from utils.data.images import image_size, read_image
from utils.data.voc import Annotation, image_of, images_by_id, inside, listed_ids, split_file
from utils.data.voc.annotation import BOX_TAGS, parse_xml, sound_objects, stated_size, written_box

# Stands for the sides of a picture that neither its file nor its annotation tells.
ENDLESS = 10**9


def examine_split(
    devkit: Path, split: str, class_names: Sequence[str], *, decode: bool = True, workers: int = 2
) -> tuple[list[Entry], list[Fault]]:
    """The entries of a split, each with its faults, and the faults of its list.

    Args:
        devkit: the folder that holds the year folders.
        split: `<year folder>/<split>`.
        class_names: K names; the first has label 1.
        decode: decode every picture, which finds those that break off and tells equal ones by
            their pixels; otherwise only headers are read and equal files are found.
        workers: threads, at least 1.

    Raises:
        FileNotFoundError, ValueError: there is no such split.
    """
    year, list_file = split_file(devkit, split)
    ids, faults = usable_ids(split, list_file)
    images = images_by_id(year / "JPEGImages")
    work = partial(
        examine, split=split, year=year, images=images, class_names=class_names, decode=decode
    )
    with ThreadPoolExecutor(workers) as pool:
        entries = list(tqdm(pool.map(work, ids), split, len(ids), leave=False, disable=None))
    return entries, faults


def usable_ids(split: str, list_file: Path) -> tuple[list[str], list[Fault]]:
    """The ids of a list that can be looked up, once each, and what is wrong with the list."""
    try:
        ids = listed_ids(list_file)
    except ValueError as error:
        return [], [Fault("list", str(error), split)]
    messages = [] if ids else [f"{list_file}: the split is empty"]
    usable = []
    for bare_id, count in Counter(ids).items():
        if count > 1:
            messages.append(f"{list_file}: has the id {bare_id} {count} times")
        try:
            usable.append(str(inside(bare_id, f"{list_file}: the id")))
        except ValueError as error:
            messages.append(str(error))
    return usable, [Fault("list", message, split) for message in messages]


def examine(
    bare_id: str,
    *,
    split: str,
    year: Path,
    images: dict[str, Path],
    class_names: Sequence[str],
    decode: bool,
) -> Entry:
    """Looks at one picture and its annotation."""
    entry = Entry(split, f"{year.name}/{bare_id}")
    xml = year / "Annotations" / f"{bare_id}.xml"
    root: ET.Element | None = None
    try:
        root = parse_xml(xml)
    except FileNotFoundError as error:
        entry.add("xml-missing", str(error))
    except (ValueError, OSError) as error:
        entry.add("xml-malformed", str(error))
    filename = "" if root is None else root.findtext("filename") or ""
    size: tuple[int, int] | None = None
    try:
        entry.image = image_of(year, bare_id, images, filename)
        size = image_size(entry.image)
        entry.digest = digest(entry.image, decode)
    except FileNotFoundError as error:
        entry.add("image-missing", str(error))
    except (ValueError, OSError) as error:
        entry.add("image-missing" if entry.image is None else "image-unreadable", str(error))
    if root is not None:
        examine_objects(entry, root, xml, class_names, size)
    return entry


def digest(image: Path, decode: bool) -> str:
    """Equal for equal pixels, or, without `decode`, for equal files."""
    if not decode:
        return hashlib.blake2b(image.read_bytes(), digest_size=16).hexdigest()
    pixels = read_image(image)
    shape = "x".join(map(str, pixels.shape))
    return shape + hashlib.blake2b(pixels.tobytes(), digest_size=16).hexdigest()


def examine_objects(
    entry: Entry,
    root: ET.Element,
    xml: Path,
    class_names: Sequence[str],
    size: tuple[int, int] | None,
) -> None:
    """Notes the faults of the objects; `size` is the picture's, None where it cannot be read."""
    elements = root.findall("object")
    annotation, flaws = sound_objects(root, class_names, size or size_in(root))
    for flaw in flaws:
        element = elements[flaw.number - 1] if flaw.number else root
        name = element.findtext("name") or ""
        entry.add(flaw.kind, f"{xml}: {flaw}", name if flaw.kind in ("class", "spelling") else "")
        box = written_box(element) if flaw.number else None
        if box is not None:
            left, right = sorted((box[0], box[2]))
            top, bottom = sorted((box[1], box[3]))
            entry.bad_objects.append(BadObject(flaw.kind, name, (left - 1, top - 1, right, bottom)))
    if size is None:
        return
    entry.annotation = annotation
    if not elements:
        entry.add("no-objects", f"{xml}: no <object>")
    elif annotation.difficult.size and annotation.difficult.all():
        entry.add("only-difficult", f"{xml}: each object is difficult")
    for kind, message in oddities(annotation, class_names):
        entry.add(kind, f"{xml}: {message}")
    flawed = {flaw.number for flaw in flaws}
    for number, element in enumerate(elements, start=1):
        written = written_box(element)
        if written is not None and number not in flawed and over_border(written, size):
            ends = " ".join(f"{tag} {v:g}" for tag, v in zip(BOX_TAGS, written, strict=True))
            entry.add("clipped", f"{xml}: object {number} has {ends} in {size[0]}x{size[1]}")


def over_border(written: Box, size: tuple[int, int]) -> bool:
    """Whether a box as written, counted from 1, oversteps the picture."""
    return min(written[:2]) < 1 or written[2] > size[0] or written[3] > size[1]


def size_in(root: ET.Element) -> tuple[int, int]:
    """The size that the annotation states, or an endless one."""
    try:
        width, height = stated_size(root)
    except ValueError:
        return ENDLESS, ENDLESS
    return (int(width), int(height)) if min(width, height) >= 1 else (ENDLESS, ENDLESS)


def oddities(annotation: Annotation, class_names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """What is suspicious about sound objects, as (kind, message)."""
    seen = set()
    for box, label in zip(annotation.boxes.tolist(), annotation.labels.tolist(), strict=True):
        left, top, right, bottom = box
        name = class_names[label - 1]
        if (label, *box) in seen:
            yield (
                "repeated",
                f"{name} at {left + 1:g} {top + 1:g} {right:g} {bottom:g} is there twice",
            )
        seen.add((label, *box))
        width, height = right - left, bottom - top
        at_input = width * IMAGE_SIZE / annotation.width, height * IMAGE_SIZE / annotation.height
        if min(width, height, *at_input) < 1:
            yield (
                "tiny",
                f"{name} is {width:g}x{height:g} pixels, at the {IMAGE_SIZE}x{IMAGE_SIZE} input "
                f"{at_input[0]:.2f}x{at_input[1]:.2f}",
            )
