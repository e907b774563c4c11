"""Asks `worker` for the time of training steps, in this tree or in an earlier one."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
# What `make bench` compares with: the project before its kernels knew CPUs from GPUs.
THEN = "bc92679"


class Training(NamedTuple):
    """What a worker trains.

    devkit: the images of its split `VOC2007/train`; one call trains for an epoch of them.
    teacher: empty for a student alone.
    amp: as the flag of that name.
    """

    devkit: str
    student: str
    teacher: str = ""
    amp: str = "auto"
    batch_size: int = 8
    threads: int = 1


class Worker:
    """A process that trains on request; a context that ends it.

    Attributes:
        arithmetic: what it computes in, `float32` or `bfloat16`.

    Raises:
        RuntimeError: it ended; its last words are quoted.
    """

    def __init__(self, training: Training, tree: Path | None = None) -> None:
        self.training, self.tree = training, tree or ROOT
        script = Path(__file__).with_name("worker.py")
        # Of several threads those of OpenMP are counted before torch can be asked to.
        environment = {**os.environ, "OMP_NUM_THREADS": str(training.threads)}
        self.complaints = tempfile.TemporaryFile("w+")  # noqa: SIM115  # closed by __exit__
        self.process = subprocess.Popen(
            [sys.executable, str(script), str(self.tree), json.dumps(training._asdict())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.complaints,
            text=True,
            env=environment,
        )
        self.arithmetic = self.answer()

    def ask(self) -> None:
        """Starts an epoch; `answer` waits for it."""
        print(file=self.process.stdin, flush=True)

    def answer(self) -> str:
        """The worker's next line."""
        assert self.process.stdout
        line = self.process.stdout.readline().strip()
        if not line:
            self.process.wait()
            self.complaints.seek(0)
            said = self.complaints.read().strip().splitlines() or ["without a word"]
            raise RuntimeError(f"a training of {self.training} in {self.tree} ended: {said[-1]}")
        return line

    def milliseconds(self) -> float:
        """Of a step, over an epoch that is trained now."""
        self.ask()
        return float(self.answer())

    def __enter__(self) -> "Worker":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.process.kill()
        self.process.communicate()
        self.complaints.close()


def earlier_tree(folder: Path, commit: str = THEN) -> Path | None:
    """The project as it was at `commit`, unpacked below `folder`; None where the clone lacks it."""
    command = ["git", "-C", str(ROOT), "archive", commit]
    archive = subprocess.run(command, capture_output=True, check=False)
    if archive.returncode:
        return None
    tree = folder / commit
    tree.mkdir()
    subprocess.run(["tar", "x", "-C", str(tree)], input=archive.stdout, check=True)
    return tree
