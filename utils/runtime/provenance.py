"""Where a run's files come from: the program, the machine, and the files that it was made from."""

import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from utils.files import digest
from utils.runtime.device import device_name

ROOT = Path(__file__).resolve().parents[2]
PROVENANCE = "provenance"  # its place in a checkpoint


def provenance(device: torch.device, files: Mapping[str, str | Path]) -> dict[str, Any]:
    """`{"torch", "commit", "device", "command", NAME: {"path", "sha256"}, ...}`, files by name.

    Args:
        device: what the run computes on.
        files: paths by what they are to the run (`teacher`, `weights`); empty ones are left out.
    """
    return {
        "torch": str(torch.__version__),
        "commit": commit(),
        "device": device_name(device),
        "command": command(),
        **{n: {"path": str(p), "sha256": digest(p)} for n, p in files.items() if p},
    }


def command() -> str:
    """What started this process, as typed in the project's folder."""
    inside = f"{ROOT}/"  # a tool names scripts by their whole path
    return shlex.join(["python", *(word.removeprefix(inside) for word in sys.orig_argv[1:])])


def origin_of(content: Mapping[str, Any], name: str) -> dict[str, str]:
    """What a checkpoint says of a file that it was made from; empty where it says nothing."""
    origin = content.get(PROVENANCE)
    entry = origin.get(name) if isinstance(origin, dict) else None
    return entry if isinstance(entry, dict) else {}


def commit(root: Path = ROOT) -> str:
    """The git commit of the project in `root`, with `-dirty` where files of it have been changed.

    Empty where `root` is no repository of its own, or there is no git.
    """
    # Told where to look, git does not go on to the folders around.
    place = [f"--git-dir={root / '.git'}", f"--work-tree={root}"]
    asked = ["git", *place, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
