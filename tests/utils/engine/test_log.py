"""Metrics survive interruptions; curves are a picture."""

from pathlib import Path

from PIL import Image

from utils.engine.log import RunLog, curves, draw_curves, read_metrics


def test_rows_after_the_resumed_epoch_are_dropped(tmp_path: Path) -> None:
    log = RunLog(tmp_path)
    for epoch in (1, 2, 3):
        log.write(epoch, {"train/loss": 1.0 / epoch})
    log.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 4, "trai')  # killed while writing
    resumed = RunLog(tmp_path, start=2)
    resumed.write(3, {"train/loss": 9.0})
    resumed.close()
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert [(row["epoch"], row["train/loss"]) for row in rows] == [(1, 1.0), (2, 0.5), (3, 9.0)]
    RunLog(tmp_path).close()
    assert read_metrics(tmp_path / "metrics.jsonl") == []
    assert read_metrics(tmp_path / "none.jsonl") == []


def test_every_series_has_its_panel() -> None:
    rows = [
        {"epoch": 1, "train/loss": 2.0, "train/positives": 9.0, "lr": 0.1},
        {"epoch": 2, "train/loss": 1.0, "val/loss": 1.5, "lr": 0.2, "mAP": 0.4},
    ]
    assert curves(rows) == {
        "loss": {"train/loss": [(1, 2.0), (2, 1.0)], "val/loss": [(2, 1.5)]},
        "mAP": {"mAP": [(2, 0.4)]},
        "lr": {"lr": [(1, 0.1), (2, 0.2)]},
    }


def test_terms_of_the_ledger_share_their_panels() -> None:
    row = {"epoch": 1, "ledger/share/conf": 0.7, "ledger/share/soft": 0.3, "ledger/agreement": 0.9}
    assert curves([row | {"ledger/weighted/conf": 2.0}]) == {
        "share": {"conf": [(1, 0.7)], "soft": [(1, 0.3)]},
        "agreement": {"ledger/agreement": [(1, 0.9)]},
        "weighted": {"conf": [(1, 2.0)]},
    }


def test_curves_of_a_run(tmp_path: Path) -> None:
    log = RunLog(tmp_path)
    log.write(1, {"train/loss": 2.0, "train/soft": 1.0, "lr": 0.1})
    log.write(2, {"train/loss": 1.0, "train/soft": 0.5, "lr": 0.1, "val/loss": 1.5, "mAP": 0.4})
    log.close()
    with Image.open(draw_curves(tmp_path)) as picture:
        assert picture.width > 800
        assert len(set(picture.convert("RGB").resize((64, 64)).get_flattened_data())) > 5


def test_lines_that_are_no_metrics_are_left_out(tmp_path: Path) -> None:
    lines = [b'{"epoch": 1, "loss": 2}', b"3", b"[]", b'{"loss": 1}', b"\xff", b'{"epoch": 2']
    (tmp_path / "metrics.jsonl").write_bytes(b"\n".join(lines))
    assert read_metrics(tmp_path / "metrics.jsonl") == [{"epoch": 1, "loss": 2}]
