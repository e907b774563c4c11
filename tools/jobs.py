"""The project's scripts as jobs of a larger piece of work: shown as typed, run in a process."""

import contextlib
import dataclasses
import fcntl
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from utils.config import TrainConfig
from utils.engine.runs.folder import FREE, free_settings, plain
from utils.files import digest
from utils.show.report import duration

ROOT = Path(__file__).resolve().parents[1]
# What torchrun tells a process about itself; a job of that process is none of torchrun's.
TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_", "GROUP_", "ROLE_", "MASTER_", "TORCHELASTIC_")
# What neither the budget nor the result of a run depends on: less than may differ after a resume.
PLACE = FREE - {
    "accumulate", "classes", "data", "patience", "recipe", "skip_bad", "val_every"
}  # fmt: skip


class Running:
    """The scripts that a tool has under way, so that a signal to it reaches all of them."""

    def __init__(self) -> None:
        self.processes: set[subprocess.Popen[bytes]] = set()
        self.signum = 0

    def wait(self, process: subprocess.Popen[bytes]) -> int:
        """The exit status of a process that has just been started."""
        self.processes.add(process)
        if self.signum:  # it came while the process was being started
            process.send_signal(self.signum)
        status = process.wait()
        self.processes.remove(process)
        return status

    def pass_on(self, signum: int) -> None:
        """Sends a signal to all of them, and to any that is started from now on."""
        self.signum = signum
        for process in tuple(self.processes):
            process.send_signal(signum)


def split_passed(arguments: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """A command line cut at the first `--`: the tool's own flags, and those that it passes on."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    cut = words.index("--") if "--" in words else len(words)
    return words[:cut], words[cut + 1 :]


def command(name: str, *arguments: object) -> list[str]:
    """The command line of the script `name` at the top of the project, for this Python."""
    return [sys.executable, str(ROOT / name), *map(str, arguments)]


def typed(name: str, *arguments: object) -> str:
    """The same as a user would type it; `-m` and a module may take the place of a name.

    Of a flag that is there twice the later one counts, so it alone is shown.
    """
    return f"python {shlex.join([name, *each_once(list(map(str, arguments)))])}"


def each_once(words: Sequence[str]) -> list[str]:
    """A command line without the flags, and their values, that later ones replace."""
    if "--" in words:  # the flags of two programs
        return list(words)
    groups: list[list[str]] = [[]]
    for word in words:
        if word.startswith("--"):
            groups.append([])
        groups[-1].append(word)
    # `--no-x` replaces `--x`, as in argparse.BooleanOptionalAction.
    keys = [
        group[0].partition("=")[0].replace("--no-", "--", 1) if group else "" for group in groups
    ]
    last = {key: place for place, key in enumerate(keys)}
    return [word for place, key in enumerate(keys) if last[key] == place for word in groups[place]]


def decisive(config: TrainConfig) -> dict[str, Any]:
    """The settings that a run's result depends on, as JSON has them; checkpoints by content."""
    settings = plain(dataclasses.asdict(config))
    for key in ("teacher", "weights"):  # a file may become another one under its old name
        if settings.get(key):
            settings[key] = known(Path(settings[key]))
    return {k: v for k, v in settings.items() if k not in PLACE & free_settings(config)}


def known(path: Path) -> str:
    """What tells a file from another one; empty where there is none."""
    return digest(path) if path.is_file() else ""


def one_arithmetic() -> list[str]:
    """Flags by which runs that are compared compute alike.

    On a CPU `--amp auto` measures, so two of them might come to different arithmetics.
    """
    return [] if torch.cuda.is_available() else ["--amp", "off"]


def own_environment() -> dict[str, str]:
    """The variables of this process without torchrun's: a job joins none of its groups."""
    return {key: value for key, value in os.environ.items() if not key.startswith(TORCHRUN)}


def script(name: str, *arguments: object) -> None:
    """Runs a script to its end and shows what it was called with.

    Raises:
        ValueError: it failed; what it printed says why.
    """
    print(f"\n$ {typed(name, *arguments)}", flush=True)
    judge(name, subprocess.run(command(name, *arguments), check=False).returncode)


def script_beside(title: str, threads: int, name: str, *arguments: object) -> None:
    """`script` beside others, in threads of this process.

    Args:
        title: stands before each line that it prints.
        threads: of its arithmetic, since more threads than cores make all of them crawl.
        name: see `script`.
        *arguments: its flags.
    """
    print(f"\n$ {typed(name, *arguments)}", flush=True)
    with subprocess.Popen(
        command(name, *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={"OMP_NUM_THREADS": str(threads), **os.environ},
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(f"{title:8} {line}", end="", flush=True)
    judge(name, process.returncode)


def countdown(begun: float, before: int, done: int, total: int) -> str:
    """`3 of 10, 12 min left`, at the pace since `begun` (by `time.monotonic`).

    Args:
        begun: when the work of this process began.
        before: how many were done by then.
        done: how many are done; more than `before`.
        total: how many there are.
    """
    seconds = (time.monotonic() - begun) / (done - before) * (total - done)
    return f"{done} of {total}, {duration(seconds)} left"


def judge(name: str, status: int) -> None:
    """Raises ValueError where a script that has shown its message failed."""
    if status:
        raise ValueError(f"{name} ended with status {status}; its message is above")


def logged_script(
    name: str,
    *arguments: object,
    log: Path,
    environment: Mapping[str, str],
    claim: int,
    running: Running,
) -> None:
    """Runs a script to its end; what it prints is added to the file `log`.

    Args:
        name: see `command`.
        arguments: its flags.
        log: made where missing, with its folder.
        environment: variables to set besides this process's own, those of torchrun left out.
        claim: what `claimed` gave; it holds for as long as the script runs, whatever happens here.
        running: it is one of these for as long.

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
            status = running.wait(process)
    if status:
        raise ValueError(f"{name} ended with status {status}: {last_line(log)} (see {log})")


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
