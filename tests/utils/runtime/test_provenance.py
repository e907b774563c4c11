"""Where a run comes from: known values, and projects without git."""

import subprocess
from pathlib import Path

import pytest
import torch

from utils.runtime.provenance import ROOT, command, commit, origin_of, provenance


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A folder under git with one file in it."""
    (tmp_path / "code.py").write_text("print()\n")
    for words in ("init -q", "add .", "-c user.name=x -c user.email=x@y commit -qm first"):
        subprocess.run(["git", "-C", str(tmp_path), *words.split()], check=True)
    return tmp_path


def test_the_commit_of_a_project(repository: Path) -> None:
    found = commit(repository)
    assert len(found) == 40
    assert set(found) <= set("0123456789abcdef")
    (repository / "notes.txt").write_text("of no effect")
    assert commit(repository) == found
    (repository / "code.py").write_text("print(1)\n")
    assert commit(repository) == f"{found}-dirty"


def test_the_commit_of_a_folder_around_it_is_not_its_own(repository: Path) -> None:
    (repository / "vendored").mkdir()
    assert commit(repository / "vendored") == ""


def test_nothing_fails_without_git(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert commit(repository) == ""
    (repository / "empty").mkdir()
    (repository / "empty/.git").mkdir()  # no repository, for all that
    monkeypatch.undo()
    assert commit(repository / "empty") == ""


def test_files_are_known_by_their_content(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(b"abc")
    files = {"teacher": tmp_path / "a.pth", "weights": ""}
    content = {"provenance": provenance(torch.device("cpu"), files)}
    # FIPS 180-2, appendix B.1.
    sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    expected = {"path": str(tmp_path / "a.pth"), "sha256": sha256}
    assert origin_of(content, "teacher") == expected
    assert origin_of(content, "weights") == {}
    assert content["provenance"]["torch"] == torch.__version__
    assert type(content["provenance"]["torch"]) is str  # plain values alone are read again


@pytest.mark.parametrize("said", [None, 3, [], {"teacher": 3}])
def test_an_origin_that_is_none(said: object) -> None:
    assert origin_of({"provenance": said}, "teacher") == {}


def test_a_script_is_named_as_in_the_projects_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["/usr/bin/python3", f"{ROOT}/train_kd.py", "--name", "a b", "--data", "/elsewhere"]
    monkeypatch.setattr("sys.orig_argv", words)
    assert command() == "python train_kd.py --name 'a b' --data /elsewhere"
