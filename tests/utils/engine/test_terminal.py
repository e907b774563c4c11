"""What a run says: lines that fit, terms that count, and how long it will take."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from utils.config import TrainConfig
from utils.engine import terminal
from utils.engine.terminal import WIDEST, Progress, Stage, columns, number, opening

WEIGHTS = {"soft": 3.0, "conf": 0.7, "l2": 0.0, "loc": 1.0}
METRICS = {
    "train/loss": 12.3456,
    "train/soft": 1.0,
    "train/conf": 123.4,
    "train/l2": 9.0,
    "train/loc": 0.01234,
    "train/grad_norm": 3.0,
    "images_per_second": 51.6,
    "ledger/share/conf": 0.5,
}


STUDENT = Stage("student")


def run_of(epochs: int = 4, steps: int = 10) -> Any:
    """What a terminal asks of a trainer."""
    return SimpleNamespace(
        config=TrainConfig(epochs=epochs, log_every=5),
        task=SimpleNamespace(weights=WEIGHTS, shares={}),
        readings=SimpleNamespace(means=lambda: {"loss": 1.5}),
        steps_per_epoch=steps,
        total=epochs * steps,
        steps=0,
        epoch=0,
        position=0,
    )


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which stands still until a test changes it."""
    now = [0.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    return now


def test_columns_begin_with_the_score_and_leave_out_terms_of_no_weight() -> None:
    head, row = columns({**METRICS, "val/loss": 11.0, "mAP": 0.4123}, WEIGHTS)
    assert head.split() == ["voc07", "loss", "val", "soft", "conf", "loc", "images/s"]
    assert row.split() == ["41.2", "12.35", "11.00", "1.000", "123.4", "0.01234", "52"]
    assert len(head) == len(row)
    assert columns(METRICS, WEIGHTS)[1].split()[:3] == ["-", "12.35", "-"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((None, "-"), (0.01234, "0.01234"), (123.45, "123.5"), (-0.010023, "-0.0100")),
        *((1.2345e-5, "1.2e-05"), (-1.2345e-5, "-1.e-05"), (12345678.0, "1.2e+07")),
    ],
)
def test_numbers_leave_a_blank_between_columns(value: float | None, text: str) -> None:
    assert number(value) == text


def test_lines_fit(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    run = run_of(epochs=1000)
    run.task.weights = {f"a_long_distiller_{i}": 1.0 for i in range(9)}
    progress = Progress(run, STUDENT)
    run.epoch, run.steps, clock[0] = 999, 9990, 1e6
    progress.epoch(METRICS)
    progress.epoch(METRICS)
    head, *rows = capsys.readouterr().out.splitlines()
    assert "voc07" in head
    assert len(rows) == 2
    assert all(len(line) <= WIDEST for line in (head, *rows))
    assert all(row.split()[:2] == ["student", "999/1000"] for row in rows)


def test_a_line_a_minute_and_the_time_left(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_of()  # 40 steps of 10 s
    run.steps = run.position = 4  # of an earlier process
    progress = Progress(run, STUDENT)
    for _ in range(5):
        clock[0] += 10
        run.steps = run.position = run.steps + 1
        progress.step()
    assert capsys.readouterr().out == ""
    clock[0] += 10
    run.steps = run.position = run.steps + 1
    progress.step()
    # 60 s for 6 steps; 30 steps are left.
    assert capsys.readouterr().out == "student 1/4, step 10/10: loss 1.500, 5 min left\n"
    progress.step()
    assert capsys.readouterr().out == ""  # until the next minute
    progress.close()


def test_a_run_begins_with_what_runs_where() -> None:
    content = {
        "arithmetic": {"dtype": "float32", "device": "cpu"},
        "provenance": {"device": "AMD EPYC", "teacher": {"path": "logs/teacher/best.pth"}},
        "backbone": "resnet18",
        "parameters": 1_230_000,
        "gflops": 0.456,
    }
    folder, recipe = Path("logs/student"), "recipe scratch (as asked): adamw, rate 0.003, cosine"
    lines = opening(content, run_of(), folder, "A/train: 8 images", recipe, "1.38x").splitlines()
    assert lines == [
        "device   AMD EPYC, float32 (1.38x)",
        "data     A/train: 8 images",
        "network  resnet18, 1.23 M parameters, 0.46 GFLOPs an image",
        "loss     3 soft + 0.7 conf + 1 loc, teacher logs/teacher/best.pth; "
        "4 epochs of 10 steps; recipe",
        "         scratch (as asked): adamw, rate 0.003, cosine",
        "folder   logs/student",
    ]
    run = run_of()
    run.task.shares = {"soft": 0.3, "conf": 0.125}
    device, _, _, loss, *_ = opening(content, run, folder, "", recipe, "").splitlines()
    assert device == "device   AMD EPYC, float32"
    assert loss.startswith("loss     30 % soft + 12.5 % conf + 1 loc, teacher ")


def test_a_stage_of_several_knows_of_the_others(clock: list[float], monkeypatch: Any) -> None:
    monkeypatch.setattr(terminal, "tqdm", bars := Mock())
    run = run_of()  # 40 steps of 10 s
    teacher = Progress(run, Stage("teacher", after=0.5))
    assert bars.call_args.kwargs["total"] == 60
    assert bars.call_args.kwargs["initial"] == 0
    assert teacher.told() == "loss 1.500, time left unknown"
    clock[0], run.steps = 100.0, 10
    # 30 steps are left of this stage; the other is estimated at 20 of them.
    assert teacher.told() == "loss 1.500, 5 min left, about 8 min in all"
    run = run_of(epochs=2)  # what was worth 20 of the teacher's steps has 20 of its own
    student = Progress(run, Stage("student", before=2.0))
    assert bars.call_args.kwargs["total"] == 60
    assert bars.call_args.kwargs["initial"] == 40
    run.steps = 5
    assert student.all_done() == 45
    clock[0] += 50
    assert student.told() == "loss 1.500, 2 min left"
