"""Files: written whole or not at all, where it is possible at all, and errors that say which."""

import contextlib
import errno
import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

# What to do about what a system says; its own words leave that open.
REMEDIES = {
    errno.ENOENT: "check the path, or whether its folder has been removed",
    errno.EACCES: "change the permissions or choose another path",
    errno.EPERM: "change the permissions or choose another path",
    errno.EROFS: "choose a path that can be written to",
    errno.EISDIR: "give a file",
    errno.ENOTDIR: "a part of the path is a file; choose another path",
    errno.EEXIST: "choose another path",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOSPC: "free some space, then do it again; a training goes on with --resume",
    errno.EDQUOT: "free some space, then do it again; a training goes on with --resume",
    errno.EFBIG: "raise the limit on file sizes (ulimit -f), then do it again",
    errno.EIO: "check the disk",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
}


def described(error: OSError) -> str:
    """An error of the system as place, fault and remedy; one of our own as it is."""
    if error.errno is None:
        return str(error)
    place = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
    remedy = REMEDIES.get(error.errno)
    fault = str(error.strerror).lower()
    return place + fault + (f"; {remedy}" if remedy else "")


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Within, what a system says about an open file names `path`; by itself it names none."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


@contextlib.contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """`path` with `.tmp` added, to write to; becomes `path` when all went well, else is removed.

    A reader sees the old file or the new one, never half of it.

    Raises:
        OSError: it cannot be written, or its folder is missing; the error names the file.
    """
    path = Path(path)
    unfinished = path.with_name(path.name + ".tmp")
    with naming(path):
        try:
            yield unfinished
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)


def write_whole(path: str | Path, text: str) -> None:
    """Writes a text file, see `whole`; missing folders are made."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def read_text(path: Path) -> str:
    """The text in a file, without the mark that some editors put before it.

    Raises:
        ValueError: it is no UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text ({error}); save it as UTF-8") from None


def digest(path: str | Path) -> str:
    """The SHA-256 of a file's content: what tells it from another file, whatever their names."""
    content = hashlib.sha256()
    with naming(Path(path)), Path(path).open("rb") as file:
        while block := file.read(2**20):
            content.update(block)
    return content.hexdigest()


def check_file(path: str | Path, flag: str, inputs: Sequence[str] = ()) -> None:
    """Refuses, before any work, a path that no file can be written to; `flag` asks for it.

    Raises:
        ValueError: it is a folder, one of the files that are read, or below a file or a folder
            that cannot be written to.
    """
    if Path(path).is_dir():
        raise ValueError(f"{flag} {path} is a folder; give the name of a file")
    if Path(path).resolve() in (Path(name).resolve() for name in inputs if name):
        raise ValueError(f"{flag} {path} is read, too, and would be lost; choose another name")
    check_folder(Path(path).parent, flag)


def check_folder(path: str | Path, flag: str) -> None:
    """The same for a folder that files are to be written into, made where missing.

    Raises:
        ValueError: it is a file, or below a file or a folder that cannot be written to.
    """
    path = Path(path)
    there = next((p for p in (path, *path.parents) if os.path.lexists(p)), Path())
    if not there.is_dir():
        raise ValueError(f"{flag} {path}: {there} is no folder; choose another path")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ValueError(f"{flag} {path}: {there} cannot be written to; choose another path")
