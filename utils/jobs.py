"""The project's scripts as jobs of a larger piece of work: shown as typed, run in a process."""

import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def command(name: str, *arguments: object) -> list[str]:
    """The command line of `NAME.py` at the top of the project, for this Python."""
    return [sys.executable, str(ROOT / name), *map(str, arguments)]


def typed(name: str, *arguments: object) -> str:
    """The same as a user would type it."""
    return f"python {shlex.join([name, *map(str, arguments)])}"


def script(name: str, *arguments: object) -> None:
    """Runs a script to its end and shows what it was called with.

    Raises:
        ValueError: it failed; what it printed says why.
    """
    print(f"\n$ {typed(name, *arguments)}", flush=True)
    status = subprocess.run(command(name, *arguments), check=False).returncode
    if status:
        raise ValueError(f"{name} ended with status {status}; its message is above")
