"""Checkpoints: written whole or not at all, read without running what they contain."""

import os
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from utils.files import naming, whole

FORMAT = "ssd300-distillation/1"


def save_checkpoint(
    path: str | Path, content: dict[str, Any], *, keep_previous: bool = False
) -> None:
    """Writes `content` (tensors, numbers, strings, lists and dicts) to `path`, atomically.

    The file appears under its name only when it is complete and on disk. With `keep_previous` the
    file that it replaces lives on as `previous(path)`: at every instant one of the two is whole.

    Raises:
        OSError: it cannot be written; what was there before is untouched.
    """
    path = Path(path)
    with whole(path) as unfinished:
        with unfinished.open("wb") as file:
            try:
                torch.save({"format": FORMAT, **content}, file)
            except RuntimeError as error:  # torch's writer speaks of positions in the file
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from None
                raise
            file.flush()
            os.fsync(file.fileno())
        if keep_previous and path.exists():
            path.replace(previous(path))


def previous(path: Path) -> Path:
    """`last.pth` -> `last.previous.pth`, where `save_checkpoint` keeps the one before."""
    return path.with_stem(f"{path.stem}.previous")


def has_checkpoint(path: Path) -> bool:
    """Whether `load_newest` would find one."""
    return path.exists() or previous(path).exists()


def load_newest(path: Path) -> tuple[dict[str, Any], Path]:
    """The checkpoint at `path`, or the one before where it is damaged or missing; and its path.

    Taking the one before is said in one line.

    Raises:
        FileNotFoundError: there is neither.
        ValueError: the newest is damaged and there is no other, or both are.
    """
    try:
        return load_checkpoint(path), path
    except (FileNotFoundError, ValueError) as error:
        if not previous(path).exists():
            raise
        content = load_checkpoint(previous(path))
        fault = "missing" if isinstance(error, FileNotFoundError) else "damaged"
        print(f"warning: {path} is {fault}; going on from {previous(path)}")
        return content, previous(path)


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Reads what `save_checkpoint` wrote, onto the CPU.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is truncated, no checkpoint, or one of another program.
    """
    content = load_tensors(path)
    if not is_ours(content):
        raise ValueError(f"{path}: not a checkpoint of this program; give a best.pth or last.pth")
    checkpoint: dict[str, Any] = content
    return checkpoint


def is_ours(content: Any) -> bool:
    """Whether `save_checkpoint` wrote what `load_tensors` read."""
    return isinstance(content, dict) and content.get("format") == FORMAT


def load_tensors(path: str | Path) -> Any:
    """Reads any program's file of tensors and plain values, onto the CPU, running nothing of it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is truncated, no checkpoint, holds more than that, or is one of ours and
            its bytes are no longer those that were written.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such checkpoint; train one or check the path")
    with naming(path), path.open("rb") as file:
        file.read(1)  # what the system refuses is no fault of the content
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of old pickles; we say what matters
            content = torch.load(path, map_location="cpu", weights_only=True)
        if is_ours(content) and has_wrong_sums(path):
            raise ValueError("a record is not what was written")
        return content
    except Exception as error:  # broken bytes make the unpickler raise anything
        why = "is truncated or no checkpoint"
        if zipfile.is_zipfile(path):
            damaged = has_wrong_sums(path)
            why = "is damaged" if damaged else "holds more than tensors and plain values"
        raise ValueError(
            f"{path}: the file {why}; give a .pth that this program wrote, or a state dict"
        ) from error


def has_wrong_sums(path: Path) -> bool:
    """Whether the bytes of a zip file are others than its checksums say; torch does not look."""
    try:
        with zipfile.ZipFile(path) as file:
            return file.testzip() is not None
    except Exception:  # broken bytes make zipfile, too, raise anything
        return True
