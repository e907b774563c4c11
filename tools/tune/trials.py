"""A student run as a trial of a search: started, watched, ended early where it is hopeless."""

import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tools.jobs import command, last_line, own_environment
from tools.tune.search import SCRIPT, settings_flags
from utils.engine.runs.checkpoint import has_checkpoint
from utils.engine.runs.folder import LAST
from utils.engine.runs.log import METRICS, read_metrics

OUTPUT = "output.txt"  # what a trial's run prints
POLL = 0.5  # seconds between two looks at a run
PATIENCE = 300  # seconds that a run has for saving itself


class Ending(NamedTuple):
    """How a run ended: `asked` says why it was told to, or is empty; mAP (0..1) by epoch."""

    status: int
    asked: str
    scores: dict[int, float]


def start_student(
    words: Sequence[str], settings: Mapping[str, float], folder: Path
) -> subprocess.Popen[bytes]:
    """Starts, or goes on with, the run in `folder`; it prints into `OUTPUT` there.

    Ctrl-C does not reach it: whoever started it asks it to end, once, so that it saves itself.
    """
    folder.mkdir(parents=True, exist_ok=True)
    resume = ["--resume"] if has_checkpoint(folder / LAST) else []
    line = command(
        SCRIPT, *words, *settings_flags(settings),
        "--logs", folder.parent, "--name", folder.name, *resume,
    )  # fmt: skip
    with (folder / OUTPUT).open("ab") as output:
        return subprocess.Popen(
            line, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=True, env=own_environment(),
        )  # fmt: skip


def follow(
    process: subprocess.Popen[bytes],
    folder: Path,
    report: Callable[[int, float], bool],
    stop: Callable[[], bool],
) -> Ending:
    """Watches a run to its end, and tells it to end (it saves itself) when it is hopeless.

    Args:
        process: the run.
        folder: where it writes.
        report: called once with every validation's epoch and mAP; true: the run is hopeless.
        stop: true when the run has to end for other reasons.
    """
    scores: dict[int, float] = {}
    asked = ""
    try:
        while True:
            ended = process.poll() is not None  # before reading, so that no line is missed
            for row in read_metrics(folder / METRICS):
                if row.get("mAP") is not None and row["epoch"] not in scores:
                    scores[row["epoch"]] = row["mAP"]
                    if report(row["epoch"], row["mAP"]) and not ended:
                        asked = asked or "pruned"
            if ended:
                return Ending(process.returncode, asked, scores)
            if stop():
                asked = asked or "stopped"
            if asked:
                end(process)
            else:
                wait(process, POLL)
    finally:
        if process.poll() is None:  # nobody watches it any more
            end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Asks a run to save itself and end; ends it if it takes too long."""
    process.send_signal(signal.SIGTERM)
    wait(process, PATIENCE)
    if process.poll() is None:
        process.kill()
        process.wait()


def wait(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Returns when the process has ended, or after `seconds`."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return


def failure(status: int, folder: Path) -> str:
    """Why a run failed, in a line."""
    path = folder / OUTPUT
    said = last_line(path) or "nothing printed"
    if status < 0:
        return f"{SCRIPT} was ended by {signal.Signals(-status).name}; see {path}"
    return said if status else f"no mAP in {folder / METRICS}: no object in the --val splits"
