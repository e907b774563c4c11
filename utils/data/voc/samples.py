"""Splits -> samples: every picture of a list with its annotation."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from utils.data.images import IMAGE_SUFFIXES, image_size, read_image
from utils.data.voc.annotation import Annotation, annotation_from_xml, no_objects, parse_xml
from utils.data.voc.splits import checked_ids, inside, split_file


@dataclass(frozen=True, eq=False)
class Sample:
    """One picture and what is on it; `image_id` is `<year folder>/<id>`, as in `VOC2007/000005`.

    VOC's years number their pictures independently; with the folder an id stays unique. Of one that
    is not `labelled` nobody knows what is on it: its annotation holds its size and no object.
    """

    image_id: str
    image: Path
    annotation: Annotation
    labelled: bool = True


def read_split(
    devkit: str | Path,
    splits: Sequence[str],
    class_names: Sequence[str] | None,
    *,
    skip_bad: bool = False,
) -> tuple[list[Sample], list[str]]:
    """The samples of several splits, in the order of their lists.

    Of each picture only the header is read, to check its size; a picture that breaks off further
    down is found when it is decoded. With `skip_bad` each is decoded here once (about 2 ms), so
    that what is returned can be relied on.

    Args:
        devkit: the folder that holds the year folders.
        splits: `<year folder>/<split>`, such as `VOC2007/trainval`.
        class_names: K names; the first has label 1. None: pictures without labels, of which no
            annotation is read, nor needed.
        skip_bad: leave out a picture that is broken or whose annotation is, instead of raising.

    Returns:
        The samples, and one line for each picture left out.

    Raises:
        FileNotFoundError: the devkit, a year folder, a split, an annotation or a picture is
            missing.
        ValueError: a split is empty or repeats an id, two splits share one, an id leaves the
            devkit, no sample is left; or, without `skip_bad`, something is broken.
    """
    samples: list[Sample] = []
    skipped: list[str] = []
    origin: dict[str, str] = {}  # image_id -> its split
    for split in splits:
        year, list_file = split_file(Path(devkit), split)
        images = images_by_id(year / "JPEGImages")
        for bare_id in checked_ids(list_file):
            image_id = f"{year.name}/{bare_id}"
            if image_id in origin:
                raise ValueError(f"{image_id} is in {origin[image_id]} and in {split}; drop one")
            origin[image_id] = split
            try:
                sample = _read_sample(year, bare_id, images, class_names)
                if skip_bad:
                    read_image(sample.image)
                samples.append(sample)
            except (ValueError, FileNotFoundError) as error:
                if not skip_bad:
                    raise type(error)(f"{error}; fix the file or pass --skip-bad") from None
                skipped.append(str(error))
    if not samples:
        raise ValueError(
            f"{devkit}: no usable image in {', '.join(splits) or 'no split at all'}"
            + (f"; the first of {len(skipped)} bad ones: {skipped[0]}" if skipped else "")
        )
    return samples, skipped


def check_splits(
    devkit: str | Path, splits: Sequence[str], flag: str, class_names: Sequence[str] | None = ()
) -> None:
    """A look at splits before any work: whether their lists are there.

    Given class names, or None, it is also whether the first picture of each is sound, as a rule the
    one that shows that the list is another data set's. Everything else is left to `read_split`.

    Raises:
        FileNotFoundError, ValueError: as `read_split`, behind `flag`, which names the splits.
    """
    for split in splits:
        remedy = ""
        try:
            year, list_file = split_file(Path(devkit), split)
            if class_names is None or class_names:
                first = next(checked_ids(list_file))
                remedy = "; fix the file or pass --skip-bad"
                _read_sample(year, first, images_by_id(year / "JPEGImages"), class_names)
        except (ValueError, FileNotFoundError) as error:
            raise type(error)(f"{flag} {split}: {error}{remedy}") from None


def _read_sample(
    year: Path, bare_id: str, images: dict[str, Path], class_names: Sequence[str] | None
) -> Sample:
    image_id = f"{year.name}/{bare_id}"
    if class_names is None:
        image = image_of(year, bare_id, images, "")
        return Sample(image_id, image, no_objects(*image_size(image)), labelled=False)
    xml = year / "Annotations" / f"{bare_id}.xml"
    root = parse_xml(xml)
    image = image_of(year, bare_id, images, root.findtext("filename") or "")
    annotation = annotation_from_xml(root, class_names, image_size(image), xml)
    return Sample(image_id, image, annotation)


def image_of(year: Path, bare_id: str, images: dict[str, Path], filename: str) -> Path:
    """The picture of an id, found by the id or else by the `<filename>` of its annotation.

    Args:
        year: the year's folder.
        bare_id: as in the split's list.
        images: of `images_by_id`.
        filename: what the annotation says, perhaps nothing.

    Raises:
        FileNotFoundError: there is no such picture.
        ValueError: `filename` is needed and leaves the devkit.
    """
    if bare_id in images:
        return images[bare_id]
    xml = year / "Annotations" / f"{bare_id}.xml"
    image = year / "JPEGImages" / inside(filename.strip(), f"{xml}: <filename>")
    stem = year / "JPEGImages" / bare_id
    if not image.is_file():
        raise FileNotFoundError(f"{stem}: no image with any of {' '.join(IMAGE_SUFFIXES)}")
    other = year / "Annotations" / f"{Path(filename.strip()).with_suffix('')}.xml"
    if other != xml and other.is_file():
        raise FileNotFoundError(
            f"{stem}: no image with any of {' '.join(IMAGE_SUFFIXES)}; {filename.strip()}, the "
            f"<filename> in {xml}, is that of {other}"
        )
    return image


def images_by_id(folder: Path) -> dict[str, Path]:
    """Pictures by path without suffix: one listing is faster than asking for each suffix."""
    images: dict[str, Path] = {}
    for path in sorted(folder.rglob("*"), key=lambda path: (path.suffix.lower() != ".jpg", path)):
        if path.suffix.lower() in IMAGE_SUFFIXES:
            images.setdefault(path.relative_to(folder).with_suffix("").as_posix(), path)
    return images
