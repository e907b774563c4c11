"""Numbers, JSON and table of an evaluation."""

import json
from math import nan
from pathlib import Path

import numpy as np
import torch
from torch import nn

from utils.metrics.evaluator import Evaluator
from utils.show.report import average_precision, cost, percent, table, write_json


def evaluator() -> Evaluator:
    """One image: a cat that is found; a class without objects."""
    result = Evaluator(["cat", "unicorn"])
    boxes = np.array([[0.0, 0.0, 50.0, 50.0]])
    truth = {"truth_boxes": boxes, "truth_labels": [1], "difficult": [False]}
    result.update("a", boxes=boxes, scores=[0.9], labels=[1], **truth)
    return result


def test_a_report_has_what_is_promised(tmp_path: Path) -> None:
    report = average_precision(evaluator())
    assert report["voc07"]["mAP"] == report["voc10"]["mAP"] == 1.0
    assert report["coco"]["AP"] == report["coco"]["AP50"] == report["coco"]["AP75"] == 1.0
    lines = table(report).splitlines()
    assert lines[1].split() == ["cat", "100.00", "100.00", "100.00"]
    assert lines[2].split() == ["unicorn", "-", "-", "-"]
    assert lines[3].split() == ["mean", "100.00", "100.00", "100.00"]
    path = tmp_path / "new/out.json"
    write_json(path, report)
    read = json.loads(path.read_text())
    assert read["voc07"] == {"mAP": 1.0, "per_class": {"cat": 1.0, "unicorn": None}}
    assert [p.name for p in path.parent.iterdir()] == ["out.json"]
    write_json(path, {"rows": [{"t": (nan, 1.0)}]})
    assert json.loads(path.read_text()) == {"rows": [{"t": [None, 1.0]}]}


def test_percentages() -> None:
    assert percent(0.5) == " 50.00"
    assert percent(nan) == "     -"


class Tiny(nn.Module):
    """One convolution of 3 to 2 channels, 1 x 1, on every tenth pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1, stride=10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.conv(images)


def test_cost_counts_a_multiply_add_as_two() -> None:
    # 30 x 30 positions, 2 outputs, 3 inputs: 900 * 2 * 3 multiply-adds; 2 * 3 weights, 2 biases.
    assert cost(Tiny()) == {"parameters": 8, "gflops": 2 * 900 * 2 * 3 / 1e9}
