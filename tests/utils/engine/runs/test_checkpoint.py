"""Checkpoints: whole or not at all, and never code."""

import contextlib
import pickle
from pathlib import Path

import pytest
import torch

from utils.engine.runs.checkpoint import (
    has_checkpoint,
    load_checkpoint,
    load_newest,
    save_checkpoint,
)


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


def test_the_one_before_is_kept_only_where_it_is_wanted(tmp_path: Path) -> None:
    for epoch in (1, 2):
        save_checkpoint(tmp_path / "a.pth", {"epoch": epoch})
    assert [p.name for p in tmp_path.iterdir()] == ["a.pth"]


def test_the_one_before_is_kept_and_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "last.pth"
    assert not has_checkpoint(path)
    for epoch in (1, 2, 3):
        save_checkpoint(path, {"epoch": epoch}, keep_previous=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["last.previous.pth", "last.pth"]
    content, found = load_newest(path)
    assert (content["epoch"], found) == (3, path)
    assert capsys.readouterr().out == ""
    path.write_bytes(path.read_bytes()[:100])
    content, found = load_newest(path)
    assert (content["epoch"], found) == (2, tmp_path / "last.previous.pth")
    assert capsys.readouterr().out.count("\n") == 1
    path.unlink()
    assert has_checkpoint(path)
    assert load_newest(path)[0]["epoch"] == 2


@pytest.mark.parametrize("renamings", [0, 1, 2])
def test_killed_while_replacing_there_is_a_whole_file(
    renamings: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "last.pth"
    for epoch in (1, 2):
        save_checkpoint(path, {"epoch": epoch}, keep_previous=True)
    replace, left = Path.replace, renamings

    def killed(self: Path, target: Path) -> Path:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return replace(self, target)

    with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        patch.setattr(Path, "replace", killed)
        save_checkpoint(path, {"epoch": 3}, keep_previous=True)
    assert load_newest(path)[0]["epoch"] == (3 if renamings == 2 else 2)


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


def test_every_changed_byte_that_matters_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "last.pth"
    save_checkpoint(path, {"model": torch.arange(1000.0)})
    whole = path.read_bytes()
    for at in range(0, len(whole), 97):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        with contextlib.suppress(ValueError):  # torch itself does not look at checksums
            assert torch.equal(load_checkpoint(path)["model"], torch.arange(1000.0)), at
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + b"!" + whole[middle + 1 :])
    with pytest.raises(ValueError, match=r"last\.pth: the file is damaged"):
        load_checkpoint(path)


def test_what_the_system_refuses_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(tmp_path / "last.pth", {"epoch": 1})

    def refuse(path: Path, mode: str) -> None:
        raise PermissionError(13, "Permission denied", str(path), mode)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(PermissionError):
        load_checkpoint(tmp_path / "last.pth")
