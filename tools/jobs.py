"""The project's scripts as jobs of a larger piece of work: shown as typed, run in a process."""

import contextlib
import fcntl
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# What torchrun tells a process about itself; a job of that process is none of torchrun's.
TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_", "GROUP_", "ROLE_", "MASTER_", "TORCHELASTIC_")
RUNNING: list[subprocess.Popen[bytes]] = []  # what `logged_script` has under way


def split_passed(arguments: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """A command line cut at the first `--`: the tool's own flags, and those that it passes on."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    cut = words.index("--") if "--" in words else len(words)
    return words[:cut], words[cut + 1 :]


def command(name: str, *arguments: object) -> list[str]:
    """The command line of the script `name` at the top of the project, for this Python."""
    return [sys.executable, str(ROOT / name), *map(str, arguments)]


def typed(name: str, *arguments: object) -> str:
    """The same as a user would type it; `-m` and a module may take the place of a name."""
    return f"python {shlex.join([name, *map(str, arguments)])}"


def own_environment() -> dict[str, str]:
    """The variables of this process without torchrun's: a job joins none of its groups."""
    return {key: value for key, value in os.environ.items() if not key.startswith(TORCHRUN)}


def script(name: str, *arguments: object) -> None:
    """Runs a script to its end and shows what it was called with.

    Raises:
        ValueError: it failed; what it printed says why.
    """
    print(f"\n$ {typed(name, *arguments)}", flush=True)
    status = subprocess.run(command(name, *arguments), check=False).returncode
    if status:
        raise ValueError(f"{name} ended with status {status}; its message is above")


def logged_script(
    name: str, *arguments: object, log: Path, environment: Mapping[str, str], claim: int
) -> None:
    """Runs a script to its end; what it prints is added to the file `log`.

    Args:
        name: see `command`.
        arguments: its flags.
        log: made where missing, with its folder.
        environment: variables to set besides this process's own, those of torchrun left out.
        claim: what `claimed` gave; it holds for as long as the script runs, whatever happens here.

    Raises:
        ValueError: it failed; names its last line and the log.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as file:
        file.write(f"$ {typed(name, *arguments)}\n")
        file.flush()
        with subprocess.Popen(
            command(name, *arguments),
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**own_environment(), **environment},
            pass_fds=(claim,),
        ) as process:
            RUNNING.append(process)
            status = process.wait()
            RUNNING.remove(process)
    if status:
        raise ValueError(f"{name} ended with status {status}: {last_line(log)} (see {log})")


def pass_on(signum: int) -> None:
    """Sends a signal to every script that `logged_script` has under way."""
    for process in tuple(RUNNING):
        process.send_signal(signum)


def last_line(log: Path) -> str:
    """The last line of a log that says something; what a progress bar has overwritten is gone."""
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    said = (line.rpartition("\r")[2].strip() for line in reversed(lines))
    return next((line for line in said if line), "")


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[int | None]:
    """A claim on `folder`, which one process (or thread) at a time can have; None: another has it.

    The claim is a lock on a file in it, given as the number of that open file. So it ends with the
    process and with those that were given the number, however they end. On a network file system it
    holds between machines if that system has locks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "claim").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        yield file.fileno()
