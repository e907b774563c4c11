"""Runs our scripts in processes that can be killed: `python -m tests.soak.launcher`.

Importing takes longer than the small runs of these tests, so it happens once, and every run is a
fork of the process that did it. Each line on standard input is a `Request` as JSON; it is answered
by the exit status of each process and the duration.
"""

import contextlib
import importlib
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from nets.backbones import BACKBONES, Backbone
from utils.cli import run
from utils.engine import rehearsal
from utils.engine.runs import files
from utils.engine.runs.log import METRICS, curves, read_metrics
from utils.engine.trainer import Trainer
from utils.runtime import device

ROOT = Path(__file__).resolve().parents[2]
EVENTS = ("SIGTERM", "SIGKILL", "ValueError")


@dataclass(frozen=True)
class Request:
    """A script with its arguments, as many processes as `torchrun --nproc-per-node` would start.

    stderr: file for what they write there.
    kill_after: seconds after which those that have not ended are killed; negative: never.
    event: one of `EVENTS`, that happens to process `rank` at the end of its step number `step`.
    gains: how many times as fast as float32 bf16 is measured to be in each process; 0 or nothing
        where the CPU does not have it.
    """

    script: str
    arguments: list[str]
    stderr: str
    processes: int = 1
    kill_after: float = -1.0
    event: str = ""
    rank: int = 0
    step: int = 0
    gains: tuple[float, ...] = ()


class Answer(NamedTuple):
    """Exit status of each process (negative: killed by a signal), and the duration in seconds."""

    status: list[int]
    seconds: float


class Launcher:
    """The process that runs this module; a context manager."""

    def __enter__(self) -> "Launcher":
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.soak.launcher"],
            cwd=ROOT,
            # Without torchrun process 0 keeps the store; PyTorch warns when it is the first to end.
            env={**os.environ, "OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __call__(self, request: Request) -> Answer:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(asdict(request)) + "\n")
        self.process.stdin.flush()
        return Answer(*json.loads(self.process.stdout.readline()))

    def __exit__(self, *error: object) -> None:
        self.process.communicate(timeout=30)


class Plain(Backbone):
    """The smallest backbone, and one without batch norm: a batch is the sum of its images."""

    channels, grids, extras, batch_norm = (8, 16, 16), (38, 19, 10), ((8, 16),) * 3, False

    def __init__(self, pretrained: bool = False) -> None:
        assert not pretrained
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 8, stride=8, padding=2)
        self.middle = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.last = nn.Conv2d(16, 16, 3, stride=2, padding=1)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        first = self.stem(images).relu()
        second = self.middle(first).relu()
        return first, second, self.last(second).relu()


def read_curves(folder: Path) -> None:
    """Stands for `draw_curves`, two thirds of a small run's time: all of it but the drawing."""
    curves(read_metrics(folder / METRICS))
    (folder / "curves.png").write_bytes(bytes(50_000))


def child(request: Request, rank: int, port: int) -> None:
    """What a forked process does; it ends here."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    os.dup2(os.open(request.stderr, os.O_WRONLY | os.O_CREAT | os.O_APPEND), sys.stderr.fileno())
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": request.processes}
    ranks |= {"MASTER_ADDR": "localhost", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in ranks.items()})
    original, steps = Trainer.step, 0

    def step(trainer: Trainer, *batch: object) -> dict[str, Tensor]:
        nonlocal steps
        terms = original(trainer, *batch)  # type: ignore[arg-type]
        steps += 1
        if steps == request.step and rank == request.rank:
            if request.event == "ValueError":
                raise ValueError(f"process {rank} has had enough")
            signal.raise_signal(getattr(signal, request.event))
        return terms

    if request.event:
        Trainer.step = step  # type: ignore[method-assign]
    if request.gains:
        gain = request.gains[rank]
        device.native_bf16 = lambda: gain > 0
        rehearsal.pass_seconds = lambda *asked: 1 / gain if asked[-1] else 1.0
    run(importlib.import_module(request.script).main, request.arguments)


def serve(request: Request) -> Answer:
    """Forks the processes, kills them where asked to, waits for them."""
    started = time.perf_counter()
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    # Such children do not take their interpreter apart: once torch is imported, that takes two or
    # three times as long as these runs.
    fork = multiprocessing.get_context("fork")
    ranks = range(request.processes)
    children = [fork.Process(target=child, args=(request, rank, port)) for rank in ranks]
    for process in children:
        process.start()
    if request.kill_after >= 0:
        end = time.monotonic() + request.kill_after
        for process in children:
            process.join(max(0.0, end - time.monotonic()))
        for process in children:
            process.kill()
    for process in children:
        process.join()
    status = [process.exitcode for process in children]
    assert None not in status
    return Answer(status, time.perf_counter() - started)


def main() -> None:
    """Until standard input ends."""
    torch.set_num_threads(1)
    # As in tests/conftest.py.
    device.native_bf16 = lambda: False
    files.draw_curves = read_curves
    BACKBONES["plain"] = Plain
    for module in ("train_teacher", "train_kd", "get_map", "torch.utils.tensorboard"):
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    for line in sys.stdin:
        print(json.dumps(serve(Request(**json.loads(line)))), flush=True)


if __name__ == "__main__":
    main()
