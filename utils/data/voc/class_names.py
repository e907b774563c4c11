"""A class list on disk -> names, line i that of label i."""

from collections.abc import Sequence
from pathlib import Path

from utils.files import read_text


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
    names = read_text(path).rstrip().split("\n")
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
