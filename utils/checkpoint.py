"""Checkpoints: written whole or not at all, read without running what they contain."""

import os
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

FORMAT = "ssd300-distillation/1"


def save_checkpoint(path: str | Path, content: dict[str, Any]) -> None:
    """Writes `content` (tensors, numbers, strings, lists and dicts) to `path`, atomically.

    The file appears under its name only when it is complete and on disk.
    """
    path = Path(path)
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            torch.save({"format": FORMAT, **content}, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


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
        ValueError: it is truncated, no checkpoint, or holds more than that.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such checkpoint; train one or check the path")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of old pickles; we say what matters
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # broken bytes make the unpickler raise anything
        whole = zipfile.is_zipfile(path)
        why = (
            "holds more than tensors and plain values" if whole else "is truncated or no checkpoint"
        )
        raise ValueError(
            f"{path}: the file {why}; give a .pth that this program wrote, or a state dict"
        ) from error
