"""Whether images of one list are in another, by name or by content."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from utils.data.voc import image_of, images_by_id, inside, listed_ids, split_file
from utils.data.voc.annotation import parse_xml
from utils.files import digest

SHOWN = 20  # images that an error names


def check_apart(
    devkit: str | Path, splits: Sequence[str], flag: str, others: Mapping[str, Sequence[str]]
) -> None:
    """Refuses splits that have images in common with others.

    Files are the same image where they are equal byte for byte; only those of equal size are read.

    Args:
        devkit: the folder that holds the year folders.
        splits: `<year folder>/<split>`, named by `flag`.
        flag: names them in errors.
        others: further splits, by what names them in errors.

    Raises:
        ValueError: the message names the images, as far as there are not too many.
        FileNotFoundError: there is no such split.
    """
    ours = listed_files(devkit, splits)
    for name, listed in others.items():
        theirs = listed_files(devkit, listed)
        twins = equal_files({i: path for i, path in ours.items() if i not in theirs}, theirs)
        common = [i for i in ours if i in theirs or i in twins]
        if common:
            shown = [f"{i} (there {twins[i]})" if i in twins else i for i in common[:SHOWN]]
            more = f" and {len(common) - SHOWN} more" if len(common) > SHOWN else ""
            raise ValueError(
                f"{flag} {' '.join(splits)}: {len(common)} of {len(ours)} images are in {name} "
                f"{' '.join(listed)}, too: {', '.join(shown)}{more}; take them off its list"
            )


def listed_files(devkit: str | Path, splits: Iterable[str]) -> dict[str, Path | None]:
    """The pictures of some splits by `<year folder>/<id>`; None where there is no file."""
    found: dict[str, Path | None] = {}
    for split in splits:
        year, list_file = split_file(Path(devkit), split)
        images = images_by_id(year / "JPEGImages")
        for listed in listed_ids(list_file):
            bare_id = str(inside(listed, f"{list_file}: the id"))
            found[f"{year.name}/{bare_id}"] = images.get(bare_id) or stated_file(year, bare_id)
    return found


def stated_file(year: Path, bare_id: str) -> Path | None:
    """The picture that the annotation of an id names; None where that is not to be had."""
    try:
        named = parse_xml(year / "Annotations" / f"{bare_id}.xml").findtext("filename")
        return image_of(year, bare_id, {}, named or "")
    except (ValueError, FileNotFoundError):
        return None  # reading the split says what is wrong


def equal_files(
    ours: Mapping[str, Path | None], theirs: Mapping[str, Path | None]
) -> dict[str, str]:
    """Pictures whose files are equal: whose name among `ours` is whose among `theirs`."""
    by_size: dict[int, dict[str, Path]] = defaultdict(dict)
    for name, path in theirs.items():
        if path and path.is_file():
            by_size[path.stat().st_size][name] = path
    content: dict[int, dict[str, str]] = {}  # by size, digest -> name among theirs
    twins = {}
    for name, path in ours.items():
        size = path.stat().st_size if path and path.is_file() else -1
        if path and size in by_size:
            if size not in content:
                content[size] = {digest(file): other for other, file in by_size[size].items()}
            if other := content[size].get(digest(path)):
                twins[name] = other
    return twins
