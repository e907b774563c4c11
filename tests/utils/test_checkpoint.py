"""Checkpoints: whole or not at all, and never code."""

import pickle
from pathlib import Path

import pytest
import torch

from utils.checkpoint import load_checkpoint, save_checkpoint


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    content = {"model": {"w": torch.arange(3.0)}, "names": ["a", "b"], "epoch": 3, "best": 0.5}
    save_checkpoint(tmp_path / "a.pth", content)
    loaded = load_checkpoint(tmp_path / "a.pth")
    assert torch.equal(loaded["model"]["w"], torch.arange(3.0))
    assert {k: loaded[k] for k in ("names", "epoch", "best")} == {
        "names": ["a", "b"],
        "epoch": 3,
        "best": 0.5,
    }


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    save_checkpoint(path, {"epoch": 1})
    with pytest.raises((AttributeError, pickle.PicklingError, TypeError)):
        save_checkpoint(path, {"epoch": 2, "bad": lambda: None})
    assert load_checkpoint(path)["epoch"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["a.pth"]


class Payload:
    """What an attacker would put in a pickle."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("raise SystemExit('the payload ran')",))


def test_files_that_are_no_checkpoints_are_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "whole.pth", {"model": torch.zeros(1000)})
    whole = (tmp_path / "whole.pth").read_bytes()
    (tmp_path / "half.pth").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.pth").write_text("hello")
    (tmp_path / "empty.pth").touch()
    (tmp_path / "pickle.pth").write_bytes(pickle.dumps(Payload(), protocol=2))
    torch.save({"format": "x", "payload": Payload()}, tmp_path / "payload.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    messages = {
        "half": "truncated or no checkpoint",
        "text": "truncated or no checkpoint",
        "empty": "truncated or no checkpoint",
        "pickle": "truncated or no checkpoint",
        "payload": "more than tensors and plain values",
        "list": "",
    }
    for name, message in messages.items():
        with pytest.raises(ValueError, match=rf"{name}\.pth: .*{message}"):
            load_checkpoint(tmp_path / f"{name}.pth")
    with pytest.raises(FileNotFoundError, match=r"none\.pth: no such checkpoint"):
        load_checkpoint(tmp_path / "none.pth")
