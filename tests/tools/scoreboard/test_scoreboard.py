"""The scoreboard: what is measured, what is left open, and who is on the front."""

import json
import math
from pathlib import Path

import pytest
import torch
from PIL import Image

from nets.saved import describe_network
from nets.ssd import SSD300
from tests.browser import check_page
from tools.scoreboard.__main__ import split_entry
from tools.scoreboard.picture import draw_scoreboard, front
from tools.scoreboard.table import markdown
from utils.data.voc import read_classes
from utils.engine.runs.checkpoint import save_checkpoint


def test_the_front():
    """Here b is slower and worse than a; c is slower, but better; d equals c; e is as fast as a."""
    points = {"c": (20, 50), "a": (10, 40), "b": (15, 35), "d": (20, 50), "e": (10, 39)}
    assert front(points) == ["a", "c", "d"]
    assert front({}) == []


def ap(value):
    coco = {"AP": value, "APs": math.nan, "APm": None, "APl": value}
    return {"voc07": {"mAP": value}, "voc10": {"mAP": value}, "coco": coco}


def test_names_of_any_letters_are_drawn_and_listed(tmp_path):
    scores = {"latency_ms": 3.0, "voc07": {"mAP": 0.5}}
    draw_scoreboard(dict.fromkeys(("x$^$", "_student", "老师", "a|b"), scores), tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 10_000
    assert "| a\\|b |" in markdown({"a|b": ap(0.5)}, ["S/test"], 8)


def test_the_table_leaves_open_what_is_unknown():
    network = {"parameters": 1_234_567, "gflops": 0.5, "bytes": 2**20, "latency_ms": 12.34}
    rows = {"student": {**ap(0.5), **network, "images_per_second": 80.4}, "theirs": ap(0.25)}
    lines = markdown(rows, ["VOC2007/test"], 32).splitlines()
    assert lines[2] == (
        "| student | 1.23 M | 0.50 | 1.00 MiB | 12.3 | 80 | 50.0 | 50.0 | 50.0 |  |  | 50.0 |"
    )
    assert lines[3] == "| theirs |  |  |  |  |  | 25.0 | 25.0 | 25.0 |  |  | 25.0 |"
    assert all(line.count("|") == 13 for line in lines[:4])


@pytest.mark.parametrize("text", ["student.onnx", "=a.onnx", "a/b=c.onnx", "a=", "..=x", " =x"])
def test_entries_that_cannot_be_read(text):
    with pytest.raises(ValueError, match="write NAME=PATH"):
        split_entry(text)


def test_entries():
    assert split_entry("a b=logs/x=1.pth") == ("a b", Path("logs/x=1.pth"))


@pytest.mark.usefixtures("here")
def test_checkpoints_and_result_files(drawn, tmp_path, script):
    names = read_classes(drawn / "VOC2007/classes.txt")
    entries = []
    for name, width in (("narrow", 0.125), ("wide", 0.25)):
        torch.manual_seed(0)
        model = SSD300(f"resnet18(width={width})", len(names))
        content = {**describe_network(model, names), "model": model.state_dict()}
        save_checkpoint(tmp_path / f"{name}.pth", content)
        entries.append(f"{name}={tmp_path / name}.pth")
    data = ["--data", drawn, "--split", "VOC2007/test", "--device", "cpu"]
    saved = ["--save-detections", tmp_path / "files"]
    assert script("get_map", "--weights", tmp_path / "narrow.pth", *data, *saved) == 0
    out, classes = tmp_path / "out", drawn / "VOC2007/classes.txt"
    more = ["--out", out, "--classes", classes, "--runs", 2]
    entries.append(f"files={tmp_path / 'files'}")
    assert script("tools.scoreboard", *data, *more, "--of", *entries) == 0
    rows = json.loads((out / "scoreboard.json").read_text())["rows"]
    assert list(rows) == ["narrow", "wide", "files"]
    assert rows["files"]["voc07"] == rows["narrow"]["voc07"]
    assert "latency_ms" not in rows["files"]
    assert rows["wide"]["parameters"] > 3 * rows["narrow"]["parameters"]
    assert rows["wide"]["bytes"] == (tmp_path / "wide.pth").stat().st_size
    assert all(rows[name]["latency_ms"] > 0 for name in ("narrow", "wide"))
    table = (out / "scoreboard.md").read_text()
    assert table.count("\n| ") == 3
    with Image.open(out / "scoreboard.png") as picture:
        assert picture.width > 500
    check_page(out / "scoreboard.html", tmp_path, images=0)
    assert table.splitlines()[2].split(" | ")[1] in (out / "scoreboard.html").read_text("utf-8")


class TestRefusals:
    def test_entries(self, refused, tmp_path):
        assert "--of names nothing" in refused("tools.scoreboard")
        line = refused("tools.scoreboard", "--of", "a=x.pth", "a=y.pth")
        assert "--of names a 2 times" in line
        line = refused("tools.scoreboard", "--of", f"a={tmp_path}/gone.pth")
        assert "gone.pth: no such file or folder" in line
        (tmp_path / "files").mkdir()
        line = refused("tools.scoreboard", "--of", f"a={tmp_path}/files")
        assert "needs --classes, too" in line

    def test_out(self, refused, tmp_path):
        (tmp_path / "file").touch()
        line = refused("tools.scoreboard", "--of", "a=x.pth", "--out", tmp_path / "file")
        assert "is no folder" in line
