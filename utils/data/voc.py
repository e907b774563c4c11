"""A VOC devkit on disk -> samples whose every field has been checked.

<devkit>/<year folder>/JPEGImages/<id>.jpg
                       Annotations/<id>.xml
                       ImageSets/Main/<split>.txt      one id a line
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from utils.data.images import IMAGE_SUFFIXES, image_size, read_image
from utils.data.voc_xml import Annotation, annotation_from_xml, no_objects, parse_xml
from utils.suggest import meant

__all__ = [
    "Annotation",
    "Sample",
    "check_names",
    "check_splits",
    "image_of",
    "images_by_id",
    "inside",
    "listed_ids",
    "read_classes",
    "read_split",
    "split_file",
]


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


def read_classes(path: str | Path) -> tuple[str, ...]:
    """The K class names of a text file, one a line; line i is label i, counted from 1.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it has no name, a blank line between names, a name twice (case and spaces do
            not tell names apart), or `background`, which is label 0 in every model.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"--classes {path}: no such class list; write one name a line")
    names = _read_text(path).rstrip().split("\n")
    if names == [""]:
        raise ValueError(f"{path}: the class list is empty; write one name a line")
    check_names(names, str(path))
    return tuple(name.strip() for name in names)


def check_names(names: Sequence[str], where: str, kind: str = "line") -> None:
    """Refuses names that no class list can have; `kind` and a number say which of `where` it is.

    Raises:
        ValueError: one is blank, `background`, or told from another by case or spaces alone.
    """
    first: dict[str, int] = {}
    for number, name in enumerate(names, start=1):
        key = "".join(name.split()).lower()
        if not key:
            raise ValueError(f"{where}: {kind} {number} is blank; remove it")
        if key == "background":
            raise ValueError(
                f"{where}: {kind} {number} is {name!r}; remove it, class 0 is always the background"
            )
        if key in first:
            raise ValueError(
                f"{where}: {kind} {number} {name!r} repeats {kind} {first[key]} "
                f"{names[first[key] - 1]!r} (case and spaces do not count); remove or rename one"
            )
        first[key] = number


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
        for bare_id in _read_ids(list_file):
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
                first = next(_read_ids(list_file))
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


def split_file(devkit: Path, split: str) -> tuple[Path, Path]:
    """`VOC2007/trainval` -> the year's folder and the list of ids."""
    parts = inside(split, "the split").parts
    if len(parts) != 2:
        raise ValueError(
            f"the split {split!r} is not <folder of the devkit>/<split>, as VOC2007/trainval"
        )
    if not devkit.is_dir():
        raise FileNotFoundError(f"{devkit}: no such folder; --data takes a folder as VOCdevkit")
    year = devkit / parts[0]
    if not year.is_dir():
        there = sorted(path.name for path in devkit.iterdir() if (path / "ImageSets").is_dir())
        raise FileNotFoundError(
            f"{year}: no such folder{meant(year.name, there)}; {devkit} has {_few(there)}"
        )
    list_file = year / "ImageSets" / "Main" / f"{parts[1]}.txt"
    if not list_file.is_file():
        there = [path.stem for path in list_file.parent.glob("*.txt")]
        there.sort(key=lambda name: ("_" in name, name))  # VOC's lists by class come last
        near = meant(list_file.stem, there)
        raise FileNotFoundError(
            f"{list_file}: no such split{near}; {year} has {_few(there)}; a split is a list of "
            "names of pictures without their suffixes"
        )
    return year, list_file


def _read_ids(list_file: Path) -> Iterator[str]:
    """The ids of a split, once each, none of which leaves the devkit."""
    ids = listed_ids(list_file)
    if not ids:
        raise ValueError(f"{list_file}: the split is empty; write one id a line")
    repeated = [name for name, count in Counter(ids).items() if count > 1]
    if repeated:
        raise ValueError(f"{list_file}: repeats the id {_few(repeated)}; keep one line of each")
    for bare_id in ids:
        yield str(inside(bare_id, f"{list_file}: the id"))


def listed_ids(list_file: Path) -> list[str]:
    """The lines of a split's list, as they are; not checked.

    VOC's lists by class have a flag -1, 0 or 1 behind each id, left out. Where only some lines end
    like that it is no flag: `photo 1` is a file name, too.
    """
    lines = [line.strip() for line in _read_text(list_file).splitlines() if line.strip()]
    parts = [line.rsplit(maxsplit=1) for line in lines]
    flagged = all(len(words) == 2 and words[1] in ("-1", "0", "1") for words in parts)
    return [words[0] for words in parts] if flagged else lines


def images_by_id(folder: Path) -> dict[str, Path]:
    """Pictures by path without suffix: one listing is faster than asking for each suffix."""
    images: dict[str, Path] = {}
    for path in sorted(folder.rglob("*"), key=lambda path: (path.suffix.lower() != ".jpg", path)):
        if path.suffix.lower() in IMAGE_SUFFIXES:
            images.setdefault(path.relative_to(folder).with_suffix("").as_posix(), path)
    return images


def inside(name: str, what: str) -> PurePosixPath:
    """The relative path `name`, on any system sure to stay below the folder it is joined to."""
    windows = PureWindowsPath(name)  # understands both kinds of slashes, and drives
    if windows.anchor or ".." in windows.parts:
        raise ValueError(f"{what} {name!r} leaves the devkit; write a plain name")
    return PurePosixPath(name)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text ({error}); save it as UTF-8") from None


def _few(names: Sequence[str], limit: int = 8) -> str:
    shown = ", ".join(names[:limit]) or "none"
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"
