"""Training that is killed at random moments and resumed ends where an undisturbed run ends."""

import random
import signal
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.soak.launcher import Launcher, Request
from utils.engine.runs.checkpoint import has_checkpoint
from utils.engine.runs.log import read_rows


def arguments(devkit: Path, logs: Path, name: str, val_every: int) -> list[str]:
    """Two epochs of four steps, saved after each of them."""
    words: list[object] = ["--data", devkit, "--train", "VOC2007/train", "--val", "VOC2007/val"]
    words += ["--classes", devkit / "VOC2007/classes.txt", "--logs", logs, "--name", name]
    words += ["--backbone", "resnet18(width=0.125)", "--no-pretrained", "--epochs", "2"]
    words += ["--batch-size", "2", "--workers", "1", "--device", "cpu", "--save-every", "1"]
    words += ["--optimizer", "adamw", "--ema", "0.9", "--val-every", val_every, "--log-every", "3"]
    return [str(word) for word in words]


def outcome(folder: Path) -> dict[str, Any]:
    """All that must not depend on interruptions."""
    rows = read_rows(folder / "metrics.jsonl")
    last, best = (torch.load(folder / name, weights_only=True) for name in ("last.pth", "best.pth"))
    return {
        "metrics": [timeless(row) for row in rows],
        "names": last["class_names"],
        "model": last["model"],
        "training": last["training"],
        "best": {"model": best["model"], "metrics": timeless(best["metrics"])},
    }


def timeless(row: dict[str, Any]) -> dict[str, Any]:
    """Metrics without those that a clock decides."""
    return {k: v for k, v in row.items() if not k.endswith("images_per_second")}


def difference(a: Any, b: Any, place: str = "") -> str:
    """Where two structures differ first, bit for bit; empty where they do not."""
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        return next(filter(None, (difference(a[k], b[k], f"{place}.{k}") for k in a)), "")
    if isinstance(a, list | tuple) and type(a) is type(b) and len(a) == len(b):
        pairs = enumerate(zip(a, b, strict=True))
        return next(filter(None, (difference(*p, f"{place}.{i}") for i, p in pairs)), "")
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return "" if a.dtype == b.dtype and torch.equal(a, b) else place
    return "" if type(a) is type(b) and a == b else place


def soak(launcher: Launcher, devkit: Path, logs: Path, kills: int, val_every: int) -> Counter[str]:
    """Kills that many runs, each at a random moment, and resumes them; counts what was left."""
    errors = str(logs / "stderr")
    whole = Request("train_teacher", arguments(devkit, logs, "whole", val_every), errors)
    status, duration = launcher(whole)
    assert status == [0], Path(errors).read_text()
    expected = outcome(logs / "whole")
    assert len(expected["metrics"]) == 2 + 2  # epochs, and every third of eight steps
    moments = random.Random(kills)
    found: Counter[str] = Counter()
    while found["killed"] < kills:
        name = f"killed{found['killed']}-{found['too late']}"
        folder, words = logs / name, arguments(devkit, logs, name, val_every)
        killed = replace(whole, arguments=words, kill_after=moments.uniform(0, duration))
        if launcher(killed).status != [-signal.SIGKILL]:
            found["too late"] += 1
            continue
        found["killed"] += 1
        found["before the first save"] += not has_checkpoint(folder / "last.pth")
        found["while saving"] += (folder / "last.pth.tmp").exists()
        if has_checkpoint(folder / "last.pth"):
            words.append("--resume")
        assert launcher(replace(whole, arguments=words)).status == [0], Path(errors).read_text()
        assert difference(outcome(folder), expected) == "", name
        found["equal"] += 1
    return found


def test_three_killed_runs_end_like_the_whole_one(
    launcher: Launcher, drawn: Path, tmp_path: Path
) -> None:
    assert soak(launcher, drawn, tmp_path, kills=3, val_every=0)["equal"] == 3


@pytest.mark.slow
def test_fifty_killed_runs_end_like_the_whole_one(
    launcher: Launcher, drawn: Path, tmp_path: Path
) -> None:
    found = soak(launcher, drawn, tmp_path, kills=50, val_every=1)
    print(dict(found))
    assert found["equal"] == 50


def test_differences_are_found() -> None:
    state = {"a": [torch.tensor([0.5]), 1], "b": {"c": 2.0}}
    assert difference(state, {"a": [torch.tensor([0.5]), 1], "b": {"c": 2.0}}) == ""
    assert difference(state, {"a": [torch.tensor([0.5 + 2**-24]), 1], "b": {"c": 2.0}}) == ".a.0"
    assert difference(state, {"a": [torch.tensor([0.5]), 1], "b": {"c": 2}}) == ".b.c"
    assert difference({"x": state}, {"x": {"a": state["a"]}}) == ".x"
