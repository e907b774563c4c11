"""Runs a command line on broken input and judges how it ends."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

# What Python shows by default: the others are for developers.
HIDDEN = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)


class Ending(NamedTuple):
    """How a command line ended."""

    status: int
    out: str
    err: str


class Player:
    """Runs scripts in this process; their standard error is everybody's, C libraries' included."""

    def __init__(self, script: Callable[..., int], capfd: pytest.CaptureFixture[str]) -> None:
        self.script, self.capfd = script, capfd
        self.endings: list[Ending] = []

    def __call__(self, name: str, *arguments: object) -> Ending:
        """Runs it; a warning that a user would see counts as lines of standard error."""
        self.capfd.readouterr()
        with warnings.catch_warnings(record=True) as shown:
            warnings.simplefilter("always")
            for category in HIDDEN:
                warnings.simplefilter("ignore", category)
            warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")  # images.py
            status = self.script(name, *arguments)
        out, err = self.capfd.readouterr()
        err += "".join(f"{w.category.__name__}: {w.message}\n" for w in shown)
        self.endings.append(Ending(status, out, err))
        return self.endings[-1]


def fault(ending: Ending, *, fine: tuple[int, ...] = (0,)) -> str:
    """What is wrong with an ending; empty where it is one of `fine`, or 2 after one clear line."""
    lines = ending.err.splitlines()
    if ending.status in fine:
        return "" if not lines else f"says {lines}"
    if ending.status != 2:
        return f"ends with status {ending.status}"
    if len(lines) != 1:
        return f"says {len(lines)} lines: {lines}"
    if len(lines[0]) > 1500:
        return f"says a line of {len(lines[0])} characters: {lines[0][:200]}"
    for word in ("Traceback", "[Errno", "Error(", "object has no attribute", "unsupported operand"):
        if word in lines[0]:
            return f"says {lines[0]!r}, which is no help"
    return ""


def leftovers(folder: Path) -> list[str]:
    """Files below a folder that are not whole: unfinished ones, checkpoints that do not load."""
    bad = [path.name for path in folder.rglob("*.tmp")]
    for path in folder.rglob("*.pth"):
        try:
            torch.load(path, weights_only=True)
        except Exception as error:  # whatever it is, the file is bad
            bad.append(f"{path.name}: {error}")
    return bad
