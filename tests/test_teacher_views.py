"""A teacher that is asked once: the first student, later ones and a resumed one end the same."""

import errno
import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import train_kd
import train_teacher
from nets.backbones import BACKBONES
from nets.memo.asking import Asked
from nets.outputs import Outputs
from nets.ssd import SSD300
from nets.tasks import DistillTask
from tests.conftest import Refused, Script
from tests.soak.launcher import Plain
from tests.soak.test_soak import difference, outcome
from tests.test_resume import at_step, on, position
from utils.data.records import Records
from utils.engine.runs.log import read_metrics
from utils.engine.task import Shown

EPOCHS, VIEWS = 2, 2  # of 6 images in 3 steps: all views of all images are seen


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fast network."""
    monkeypatch.setitem(BACKBONES, "plain", Plain)


@pytest.fixture(scope="module")
def teacher(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A teacher's file, and beside it the memo that a first student, `first`, has filled."""
    logs = tmp_path_factory.mktemp("logs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES, "plain", Plain)
        train_teacher.main([str(word) for word in on(drawn, logs, "teacher", "--epochs", "1")])
        path = logs / "teacher/best.pth"
        train_kd.main([str(word) for word in under(path, drawn, logs, "first")])
        yield path


def under(teacher: Path, devkit: Path, logs: Path, name: str, *extra: object) -> list[object]:
    """The words of a student; its memo is beside the teacher's run, but for `--memo` in `extra`."""
    words = [*on(devkit, logs, name), "--teacher", teacher, "--teacher-views", VIEWS]
    words += ["--preset", "soft", "--l2-weight", "0.5", "--distill", "dkd", "--no-preflight"]
    return [*words, "--memo", teacher.parents[1] / "memo", *extra]


def folder_of(teacher: Path) -> Path:
    """The memo that `first` has filled."""
    (folder,) = (teacher.parents[1] / "memo").iterdir()
    return folder


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images a teacher is asked about at a time."""
    original, asked = Asked.__call__, []

    def call(self: Asked, images: torch.Tensor, targets: object) -> torch.Tensor:
        asked.append(len(images))
        return original(self, images, targets)  # type: ignore[arg-type]

    monkeypatch.setattr(Asked, "__call__", call)
    return asked


def test_a_later_student_ends_as_the_first_and_asks_no_teacher(
    teacher: Path, drawn: Path, tmp_path: Path, script: Script, asked: list[int]
) -> None:
    assert script("train_kd", *under(teacher, drawn, tmp_path, "later")) == 0
    assert asked == []
    assert difference(outcome(tmp_path / "later"), outcome(teacher.parents[1] / "first")) == ""


def test_who_listens_to_every_prior_has_a_memo_of_longer_records(
    teacher: Path, drawn: Path, tmp_path: Path, script: Script, asked: list[int], refused: Refused
) -> None:
    flags = ("--memo", tmp_path / "memo", "--distill", "objectness(kind='bce')")
    assert script("train_kd", *under(teacher, drawn, tmp_path, "first", *flags)) == 0
    assert asked == [2] * 6
    assert script("train_kd", *under(teacher, drawn, tmp_path, "later", *flags)) == 0
    assert asked == [2] * 6
    assert difference(outcome(tmp_path / "later"), outcome(tmp_path / "first")) == ""
    (folder,) = (tmp_path / "memo").iterdir()
    # (8732 + 8) x 5 bytes more than what `dkd` asks for
    assert size_of(folder) == size_of(folder_of(teacher)) + 43_700
    words = under(teacher, drawn, tmp_path, "run", "--memo", folder)
    assert "is a memo of another whole (true, this run's is null)" in refused("train_kd", *words)


def test_another_seed_reads_the_same_views(
    teacher: Path, drawn: Path, tmp_path: Path, script: Script, asked: list[int]
) -> None:
    assert script("train_kd", *under(teacher, drawn, tmp_path, "other", "--seed", "5")) == 0
    assert asked == []
    assert difference(outcome(tmp_path / "other"), outcome(teacher.parents[1] / "first")) != ""


def test_an_interrupted_filling_goes_on_to_the_same_end(
    teacher: Path,
    drawn: Path,
    tmp_path: Path,
    script: Script,
    asked: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = under(teacher, drawn, tmp_path, "stopped", "--memo", tmp_path / "memo")
    with monkeypatch.context() as patch:
        at_step(2, lambda: signal.raise_signal(signal.SIGTERM), patch)
        assert script("train_kd", *words) == 143
    assert position(tmp_path / "stopped") == (0, 2)
    # A kill may lose a record that was under way, and leave some behind the last save.
    (folder,) = (tmp_path / "memo").iterdir()
    theirs = Records(folder_of(teacher) / "records.bin", 6 * VIEWS, size_of(folder))
    ours = Records(folder / "records.bin", 6 * VIEWS, size_of(folder))
    there = [number for number in range(12) if held(ours, number) is not None]
    assert len(there) == 4
    ours.write(there[0], held(theirs, there[0]))
    with (folder / "records.bin").open("r+b") as file:
        file.seek(there[1] * (ours.size + 4) + 500)
        file.write(bytes(1000))
    assert held(ours, there[1]) is None
    assert asked == [2, 2]
    assert script("train_kd", *words, "--resume") == 0
    assert difference(outcome(tmp_path / "stopped"), outcome(teacher.parents[1] / "first")) == ""
    for number in range(12):
        if number != there[1]:  # its only time was before the kill
            assert (held(ours, number) == held(theirs, number)).all()


def size_of(folder: Path) -> int:
    """Bytes of a record of the 12 views."""
    return (folder / "records.bin").stat().st_size // 12 - 4


def held(records: Records, number: int) -> object:
    """A record; None where it is absent."""
    into = torch.zeros(records.size, dtype=torch.uint8).numpy()
    return into if records.read(number, into) else None


def test_validation_says_what_needs_no_teacher(teacher: Path) -> None:
    row = read_metrics(teacher.parents[1] / "first/metrics.jsonl")[-1]
    assert {"train/loss", "train/soft", "train/dkd", "val/conf", "val/loc", "mAP"} <= set(row)
    assert not {"val/loss", "val/soft", "val/dkd"} & set(row)


def test_what_is_read_is_nearly_what_the_teacher_says(
    teacher: Path, drawn: Path, tmp_path: Path, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Shown, Outputs]] = []
    original = DistillTask.hear

    def hear(task: DistillTask, shown: Shown) -> Outputs | None:
        outputs = original(task, shown)
        if outputs is not None:
            seen.append((shown, outputs))
        return outputs

    monkeypatch.setattr(DistillTask, "hear", hear)
    assert script("train_kd", *under(teacher, drawn, tmp_path, "run", "--epochs", "1")) == 0
    content = torch.load(teacher, weights_only=True)
    network = SSD300("plain", len(content["class_names"]))
    network.load_state_dict(content["model"])
    network.eval()
    assert len(seen) == 3
    for shown, outputs in seen:
        with torch.no_grad():
            live = network(shown.images)
        here, there = (x.logits.softmax(-1)[..., 0] for x in (outputs, live))
        apart = (here - there).abs()
        assert apart.mean() < 0.01
        assert apart.max() < 0.06


@pytest.mark.parametrize(
    ("flags", "what"),
    [
        (["--teacher-views", 3], "views"),
        (["--expand", "2"], "expand"),
        (["--train", "VOC2007/train"], "images"),
        (["--difficult", "background"], "objects"),
    ],
)
def test_a_memo_of_anything_else_is_refused(
    flags: list[object], what: str, teacher: Path, drawn: Path, tmp_path: Path, refused: Refused
) -> None:
    devkit = drawn
    if what == "objects":
        devkit = tmp_path / "VOCdevkit"
        shutil.copytree(drawn, devkit)
        path = sorted((devkit / "VOC2007/Annotations").iterdir())[-1]
        path.write_text(path.read_text().replace("<difficult>0", "<difficult>1"))
    words = under(teacher, devkit, tmp_path, "run", "--memo", folder_of(teacher), *flags)
    line = refused("train_kd", *words)
    assert f"{folder_of(teacher)}: is a memo of another {what} (" in line
    assert line.endswith("; pass another --memo, or remove it")
    assert not (tmp_path / "run/last.pth").exists()


def test_a_memo_of_another_teacher_is_refused(
    teacher: Path, drawn: Path, tmp_path: Path, refused: Refused
) -> None:
    content = torch.load(teacher, weights_only=True)
    content["model"]["conf.0.bias"] += 0.5
    torch.save(content, tmp_path / "best.pth")
    words = under(teacher, drawn, tmp_path, "run", "--memo", folder_of(teacher))
    line = refused("train_kd", *words, "--teacher", tmp_path / "best.pth")
    assert "is a memo of another teacher (" in line


def test_a_memo_of_another_format_is_refused(
    teacher: Path, drawn: Path, tmp_path: Path, refused: Refused
) -> None:
    """Its bytes would be read as something else."""
    folder = tmp_path / "memo"
    folder.mkdir()
    about = json.loads((folder_of(teacher) / "memo.json").read_text())
    (folder / "memo.json").write_text(json.dumps({**about, "format": 1}))
    line = refused("train_kd", *under(teacher, drawn, tmp_path, "run", "--memo", folder))
    assert "is a memo of another format (1, this run's is 2); pass another --memo" in line


def test_what_a_memo_says_of_itself(teacher: Path) -> None:
    about = json.loads((folder_of(teacher) / "memo.json").read_text())
    assert about["views"] == VIEWS
    assert about["layout"] == "paper"
    assert json.loads(about["arithmetic"]) == {"device": "cpu", "dtype": "float32"}
    assert set(about) == {
        "format", "listed", "bytes", "teacher", "classes", "layout", "images", "objects", "views",
        "seed", "augmentation", "side", "expand", "arithmetic",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["hint", "attention", "crosskd"])
def test_who_needs_the_teacher_itself_says_so(
    name: str, teacher: Path, drawn: Path, tmp_path: Path, refused: Refused
) -> None:
    line = refused("train_kd", *under(teacher, drawn, tmp_path, "run", "--distill", name))
    assert line.endswith(
        f": --distill {name} (given, or by --preset) needs the teacher itself, not only what "
        "--teacher-views writes down of its outputs; leave out one of the two"
    )


def test_a_memo_without_views_is_refused(drawn: Path, tmp_path: Path, refused: Refused) -> None:
    line = refused("train_kd", *on(drawn, tmp_path, "run"), "--memo", tmp_path)
    assert line.endswith(": --memo needs --teacher-views, such as 20; without, nothing is kept")


def test_a_full_disk(
    teacher: Path,
    drawn: Path,
    tmp_path: Path,
    script: Script,
    refused: Refused,
    asked: list[int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    words = under(teacher, drawn, tmp_path, "run", "--memo", tmp_path / "memo")
    line = refused("train_kd", *words)
    assert "/records.bin: no space left on device; free some space" in line
    asked.clear()
    shutil.rmtree(tmp_path / "run", ignore_errors=True)
    assert script("train_kd", *words, "--memo-best-effort") == 0
    assert asked == [2] * 6
    out = capsys.readouterr().out
    assert out.count("no space left on device; free some space") == 1
    assert "going on, and asking the teacher instead" in out
    assert difference(outcome(tmp_path / "run"), outcome(teacher.parents[1] / "first")) == ""


def test_before_the_first_step_the_teacher_is_looked_at_if_it_is_here(
    teacher: Path,
    drawn: Path,
    tmp_path: Path,
    script: Script,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [w for w in under(teacher, drawn, tmp_path, "new") if w != "--no-preflight"]
    assert script("train_kd", *words, "--epochs", "1", "--memo", tmp_path / "memo") == 0
    out = capsys.readouterr().out
    assert "preflight: the teacher is frozen and in evaluation mode" in out
    assert "preflight: teacher's mAP on 4 validation images" in out
    words[words.index("new")] = "known"
    assert script("train_kd", *words, "--epochs", "1") == 0
    out = capsys.readouterr().out
    assert "preflight: what the teacher says is in the memo; it is not loaded" in out
    assert "preflight: at the start, gradient shares" in out


@pytest.mark.parametrize("flags", [["--accumulate", "2", "--batch-size", "4"], ["--amp", "bf16"]])
def test_parts_and_arithmetic_of_a_student_are_its_own(
    flags: list[object],
    teacher: Path,
    drawn: Path,
    tmp_path: Path,
    script: Script,
    asked: list[int],
) -> None:
    assert script("train_kd", *under(teacher, drawn, tmp_path, "run", "--epochs", "1", *flags)) == 0
    assert asked == []


def test_on_other_priors(
    teacher: Path, drawn: Path, tmp_path: Path, script: Script, asked: list[int]
) -> None:
    content = torch.load(teacher, weights_only=True)
    torch.save({**content, "layout": "torchvision"}, tmp_path / "best.pth")
    words = under(teacher, drawn, tmp_path, "run", "--memo", tmp_path / "memo", "--match-priors")
    words += ["--teacher", tmp_path / "best.pth"]
    assert script("train_kd", *words) == 0
    assert sum(asked) == 12
    words[words.index("run")] = "later"
    assert script("train_kd", *words) == 0
    assert sum(asked) == 12
    assert difference(outcome(tmp_path / "run"), outcome(tmp_path / "later")) == ""
