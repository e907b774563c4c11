"""Metrics survive interruptions; curves are a picture."""

from pathlib import Path

import pytest
from PIL import Image

from utils.engine.runs.log import RunLog, curves, draw_curves, read_metrics, read_rows


def write(log: RunLog, epoch: int, **metrics: float) -> None:
    """The row of an epoch of two steps."""
    log.write({"epoch": epoch, **metrics}, 2 * epoch)


def write_steps(log: RunLog, *steps: int) -> None:
    """Rows of these steps, counted over epochs of two."""
    for step in steps:
        log.write({"epoch": (step + 1) // 2, "step": step, "step/loss": 0.5 * step}, step)


def test_rows_after_the_resumed_epoch_are_dropped(tmp_path: Path) -> None:
    log = RunLog(tmp_path)
    for epoch in (1, 2, 3):
        write(log, epoch, loss=1.0 / epoch)
    log.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 4, "trai')  # killed while writing
    resumed = RunLog(tmp_path, epochs=2, steps=4)
    write(resumed, 3, loss=9.0)
    resumed.close()
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert [(row["epoch"], row["loss"]) for row in rows] == [(1, 1.0), (2, 0.5), (3, 9.0)]
    RunLog(tmp_path).close()
    assert read_metrics(tmp_path / "metrics.jsonl") == []
    assert read_metrics(tmp_path / "none.jsonl") == []


@pytest.mark.parametrize(
    ("epochs", "steps", "kept"),
    [
        (0, 1, ["1"]),  # within the first epoch
        (0, 2, ["1", "2"]),  # all its steps done, but not yet validated
        (1, 2, ["1", "2", "epoch 1"]),
        (1, 3, ["1", "2", "epoch 1", "3"]),
        (2, 4, ["1", "2", "epoch 1", "3", "4", "epoch 2"]),
    ],
)
def test_a_resumed_run_has_each_row_once(
    epochs: int, steps: int, kept: list[str], tmp_path: Path
) -> None:
    log = RunLog(tmp_path)
    for epoch in (1, 2):
        write_steps(log, 2 * epoch - 1, 2 * epoch)
        write(log, epoch, loss=1.0)
    log.close()
    path = tmp_path / "metrics.jsonl"
    whole = path.read_text()
    RunLog(tmp_path, epochs, steps).close()
    rows = read_rows(path)
    assert [str(r["step"]) if "step" in r else f"epoch {r['epoch']}" for r in rows] == kept
    assert whole.startswith(path.read_text())
    assert [r["epoch"] for r in read_metrics(path)] == list(range(1, epochs + 1))


def test_tensorboard_has_epochs_and_steps_on_one_axis(tmp_path: Path) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for epochs, steps in ((0, 0), (1, 3)):  # interrupted after three of four steps, and resumed
        log = RunLog(tmp_path, epochs, steps)
        write_steps(log, *range(steps + 1, 5))
        for epoch in range(epochs + 1, 3):
            write(log, epoch, loss=1.0 / epoch)
        log.close()
    found = events.EventAccumulator(str(tmp_path)).Reload()
    series = {tag: [(e.step, e.value) for e in found.Scalars(tag)] for tag in ("step/loss", "loss")}
    assert series["step/loss"] == [(1, 0.5), (2, 1.0), (3, 1.5), (4, 2.0)]
    assert series["loss"] == [(2, 1.0), (4, 0.5)]
    assert [e.value for e in found.Scalars("epoch")][-1] == 2


def test_every_series_has_its_panel() -> None:
    rows = [
        {"epoch": 1, "train/loss": 2.0, "train/positives": 9.0, "lr": 0.1},
        {"epoch": 2, "train/loss": 1.0, "val/loss": 1.5, "lr": 0.2, "mAP": 0.4},
    ]
    panels = curves(rows)
    assert panels == {
        "mAP, voc07, percent": {"val": [(2, 40.0)]},
        "loss, the weighted sum": {"train": [(1, 2.0), (2, 1.0)], "val": [(2, 1.5)]},
        "learning rate": {"train": [(1, 0.1), (2, 0.2)]},
    }
    assert next(iter(panels)).startswith("mAP")


def test_terms_of_the_ledger_share_their_panels() -> None:
    row = {"epoch": 1, "ledger/share/conf": 0.7, "ledger/share/soft": 0.3, "ledger/agreement": 0.9}
    row |= {"train/weight/soft": 5.0, "train/weight/cwd": 80.0}
    assert curves([row | {"ledger/weighted/conf": 2.0}]) == {
        "each term's share of the gradient": {"conf": [(1, 0.7)], "soft": [(1, 0.3)]},
        "priors that both name alike, share": {"train": [(1, 0.9)]},
        "weights that follow --share": {"soft": [(1, 5.0)], "cwd": [(1, 80.0)]},
        "each term times its weight": {"conf": [(1, 2.0)]},
    }


def test_curves_of_a_run(tmp_path: Path) -> None:
    log = RunLog(tmp_path)
    write(log, 1, **{"train/loss": 2.0, "train/soft": 1.0, "lr": 0.1})
    write_steps(log, 3)
    write(log, 2, **{"train/loss": 1.0, "train/soft": 0.5, "lr": 0.1, "val/loss": 1.5, "mAP": 0.4})
    log.close()
    with Image.open(draw_curves(tmp_path)) as picture:
        assert picture.width > 800
        assert len(set(picture.convert("RGB").resize((64, 64)).get_flattened_data())) > 5


def test_lines_that_are_no_metrics_are_left_out(tmp_path: Path) -> None:
    lines = [b'{"epoch": 1, "loss": 2}', b"3", b"[]", b'{"loss": 1}', b"\xff", b'{"epoch": 2']
    (tmp_path / "metrics.jsonl").write_bytes(b"\n".join(lines))
    assert read_metrics(tmp_path / "metrics.jsonl") == [{"epoch": 1, "loss": 2}]
