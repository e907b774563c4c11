"""The Python of docs/python.md runs as it stands, and finds what predict.py finds."""

import json
import re
import shutil
from pathlib import Path

import pytest

from nets.saved import describe_network
from nets.ssd import SSD300
from tests.conftest import Script
from utils.engine.runs.checkpoint import save_checkpoint

PAGE = (Path(__file__).parent.parent / "docs/python.md").read_text("utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.S)


def test_python(
    drawn: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    script: Script,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    model = SSD300("resnet18(width=0.125)", 2)
    # Untrained it is sure of nothing; shifted so, it sees dogs in many places.
    for name, value in model.state_dict().items():
        if "conf" in name and name.endswith("bias"):
            value.view(-1, 3)[:, 2] += 1.5
    (tmp_path / "logs/student").mkdir(parents=True)
    content = {"model": model.state_dict(), **describe_network(model, ("cat", "dog"))}
    save_checkpoint("logs/student/best.pth", content)
    shutil.copy(drawn / "VOC2007/JPEGImages/test_00000.jpg", "street.jpg")
    assert len(BLOCKS[0].rstrip().splitlines()) <= 16
    exec("\n".join(BLOCKS), {})
    lines = capsys.readouterr().out.splitlines()
    words = ["--weights", "logs/student/best.pth", "--source", "street.jpg"]
    assert script("predict", *words, "--out", "out", "--json", "--device", "cpu") == 0
    found = json.loads(Path("out/detections.json").read_text())["street.jpg"]
    assert len(lines) == len(found) > 0
    for line, row in zip(lines, found, strict=True):
        assert line == f"{row['class']} {round(row['score'], 2)} {[round(v) for v in row['box']]}"
    assert Path("seen.png").is_file()
