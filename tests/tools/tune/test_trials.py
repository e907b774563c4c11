"""A run that is watched as a trial, and why one failed."""

import json
import signal
from pathlib import Path

import pytest

from tools.tune.trials import OUTPUT, Ending, failure, follow


class FakeRun:
    """A process that writes a validation each time it is looked at, and ends when it is asked to,
    or after its last epoch.
    """

    def __init__(self, folder: Path, scores: list[float | None]) -> None:
        self.folder, self.scores, self.returncode = folder, scores, None
        self.written = 0
        self.signals: list[int] = []

    def poll(self) -> int | None:
        if self.returncode is None and self.written == len(self.scores):
            self.returncode = 0
        return self.returncode

    def wait(self, timeout: float | None = None) -> int | None:
        del timeout
        if self.returncode is None:
            with (self.folder / "metrics.jsonl").open("a") as file:
                row = {"epoch": self.written + 1, "mAP": self.scores[self.written]}
                file.write(json.dumps(row) + "\n" + '{"epoch": 99, "mA')  # and half of the next
                file.write("\n")
            self.written += 1
        return self.returncode

    def send_signal(self, number: int) -> None:
        self.signals.append(number)
        self.returncode = 143


def test_a_run_is_followed_to_its_end(tmp_path):
    run = FakeRun(tmp_path, [0.1, None, 0.3])
    seen = []
    ending = follow(run, tmp_path, lambda *row: seen.append(row), lambda: False)
    assert ending == Ending(0, "", {1: 0.1, 3: 0.3})
    assert seen == [(1, 0.1), (3, 0.3)]
    assert run.signals == []


def test_a_hopeless_run_is_asked_to_end_once(tmp_path):
    run = FakeRun(tmp_path, [0.3, 0.1, 0.2, 0.2])
    ending = follow(run, tmp_path, lambda _, score: score < 0.2, lambda: False)
    assert ending == Ending(143, "pruned", {1: 0.3, 2: 0.1})
    assert run.signals == [signal.SIGTERM]


def test_a_run_ends_with_its_watcher(tmp_path):
    run = FakeRun(tmp_path, [0.3, 0.1])
    assert follow(run, tmp_path, lambda *_: False, lambda: run.written > 0) == Ending(
        143, "stopped", {1: 0.3}
    )
    run = FakeRun(tmp_path, [0.3, 0.1])
    with pytest.raises(ZeroDivisionError):
        follow(run, tmp_path, lambda *_: bool(1 / 0), lambda: False)
    assert run.signals == [signal.SIGTERM]


def test_why_a_run_failed(tmp_path):
    (tmp_path / OUTPUT).write_text("epoch 1\ntrain_kd.py: the loss is not finite\n\n")
    assert failure(2, tmp_path) == "train_kd.py: the loss is not finite"
    assert "was ended by SIGKILL; see" in failure(-9, tmp_path)
    assert "no object in the --val splits" in failure(0, tmp_path)
    (tmp_path / OUTPUT).write_text("")
    assert failure(1, tmp_path) == "nothing printed"
