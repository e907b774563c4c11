"""Images without labels: from a list and JPEGs to a student, whatever stops or shares the run."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from nets.backbones import BACKBONES
from nets.tasks import DistillTask
from tests.conftest import Refused
from tests.soak.launcher import Launcher, Plain, Request
from tests.soak.test_soak import difference, outcome
from tests.test_distributed import errors, largest_difference
from tests.test_resume import at_step, position
from tools.demo.drawn_set import make_drawn_set
from utils.engine.runs.log import read_metrics

Script = Callable[..., int]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fast network."""
    monkeypatch.setitem(BACKBONES, "plain", Plain)


@pytest.fixture(scope="module")
def devkit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn devkit of 8 labelled images, and FILM with 5 that have no annotation."""
    root = tmp_path_factory.mktemp("devkit") / "VOCdevkit"
    make_drawn_set(root, train=8, val=2, test=5, seed=1)
    film = root / "FILM"
    for part in ("JPEGImages", "ImageSets/Main"):
        (film / part).mkdir(parents=True)
    moved = (root / "VOC2007/ImageSets/Main/test.txt").read_text().split()
    for number, image in enumerate(moved):
        (root / f"VOC2007/JPEGImages/{image}.jpg").rename(film / f"JPEGImages/frame{number}.jpg")
        (root / f"VOC2007/Annotations/{image}.xml").unlink()
    (root / "VOC2007/ImageSets/Main/test.txt").unlink()
    names = "".join(f"frame{number}\n" for number in range(len(moved)))
    (film / "ImageSets/Main/all.txt").write_text(names)
    return root


@pytest.fixture(scope="module")
def teacher(devkit: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that is sure of something everywhere."""
    import train_teacher

    logs = tmp_path_factory.mktemp("teacher")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES, "plain", Plain)
        words = on(devkit, logs, "teacher", "--val", "--epochs", "1")
        train_teacher.main([str(word) for word in words])
    content = torch.load(logs / "teacher/best.pth", weights_only=True)
    for name, value in content["model"].items():
        if name.startswith("conf.") and name.endswith("weight"):
            value *= 20
    path = logs / "sure.pth"
    torch.save(content, path)
    return path


def on(devkit: Path, logs: Path, name: str, *extra: object) -> list[object]:
    """Two epochs of four steps: two labelled images, and two of the others."""
    words: list[object] = ["--data", devkit, "--train", "VOC2007/train", "--val", "VOC2007/val"]
    words += ["--classes", devkit / "VOC2007/classes.txt", "--logs", logs, "--name", name]
    words += ["--backbone", "plain", "--no-pretrained", "--epochs", "2", "--batch-size", "4"]
    words += ["--optimizer", "sgd", "--lr", "0.01", "--ema", "0.9", "--warmup", "0"]
    words += ["--val-every", "0", "--workers", "1", "--device", "cpu", "--log-every", "2"]
    return [*words, *extra]


def unlabelled(teacher: Path) -> list[object]:
    return ["--teacher", teacher, "--unlabelled", "FILM/all", "--no-preflight"]


@pytest.fixture(scope="module")
def whole(devkit: Path, teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing stopped."""
    import train_kd

    logs = tmp_path_factory.mktemp("logs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES, "plain", Plain)
        words = on(devkit, logs, "whole", *unlabelled(teacher), "--distill", "mgd")
        train_kd.main([str(word) for word in words])
    return logs / "whole"


def test_the_objects_found_are_counted_beside_the_terms(whole: Path) -> None:
    rows = read_metrics(whole / "metrics.jsonl")
    assert [row["epoch"] for row in rows] == [1, 2]
    for row in rows:
        assert row["train/pseudo_objects"] > 0
        assert row["train/positives"] > row["train/pseudo_objects"]
    state = torch.load(whole / "last.pth", weights_only=True)["training"]["order"]
    assert state == {
        "images": 8, "batch_size": 4, "seed": 0, "unlabelled": 5, "of them in a batch": 2,
    }  # fmt: skip


def test_a_run_goes_on_within_an_epoch_and_a_pass(
    whole: Path,
    devkit: Path,
    teacher: Path,
    tmp_path: Path,
    script: Script,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = on(devkit, tmp_path, "stopped", *unlabelled(teacher), "--distill", "mgd")
    # After 6 steps 12 images of 5 have been seen: two passes and two images of the third.
    at_step(6, lambda: signal.raise_signal(signal.SIGTERM), monkeypatch)
    assert script("train_kd", *words) == 143
    assert position(tmp_path / "stopped") == (1, 2)
    assert script("train_kd", *words, "--resume", "--cache", "none") == 0
    assert difference(outcome(tmp_path / "stopped"), outcome(whole)) == ""


def test_other_unlabelled_images_within_an_epoch_are_refused(
    devkit: Path, teacher: Path, tmp_path: Path, script: Script, refused: Refused,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    words = on(devkit, tmp_path, "stopped", *unlabelled(teacher))
    at_step(2, lambda: signal.raise_signal(signal.SIGTERM), monkeypatch)
    assert script("train_kd", *words) == 143
    capsys.readouterr()
    line = refused("train_kd", *words, "--resume", "--unlabelled-fraction", "0.25")
    assert "its unlabelled_fraction is 0.5, this run's 0.25" in line
    frames = devkit / "FILM/ImageSets/Main/all.txt"
    everything = frames.read_text()
    frames.write_text(everything.replace("frame4\n", ""))
    try:
        line = refused("train_kd", *words, "--resume")
    finally:
        frames.write_text(everything)
    assert "it had {" in line
    assert "'unlabelled': 5" in line


def test_several_processes_and_parts_train_the_weights_of_one(
    whole: Path, devkit: Path, teacher: Path, launcher: Launcher, tmp_path: Path
) -> None:
    # Each process has two images at a time or, in two parts, one: with labels or without.
    words = on(devkit, tmp_path, "shared", *unlabelled(teacher), "--distill", "mgd")
    words += ["--accumulate", "2"]
    run = Request("train_kd", [str(w) for w in words], str(tmp_path / "errors"), processes=2)
    assert launcher(run).status == [0, 0], errors(run)
    folders = (whole, tmp_path / "shared")
    one, shared = (outcome(folder)["training"]["task"] for folder in folders)
    assert largest_difference(one, shared) < 1e-6
    for a, b in zip(*(read_metrics(f / "metrics.jsonl") for f in folders), strict=True):
        for key in ("train/positives", "train/pseudo_objects"):  # counts are sums
            assert a[key] == b[key], key
        assert a["train/loss"] == pytest.approx(b["train/loss"], rel=1e-5)


@pytest.mark.parametrize("more", [["--match-priors"], ["--difficult", "train"], ["--amp", "bf16"]])
def test_it_goes_with_other_settings(
    more: list[str], devkit: Path, teacher: Path, tmp_path: Path, script: Script
) -> None:
    words = on(devkit, tmp_path, "run", *unlabelled(teacher), "--epochs", "1", *more)
    assert script("train_kd", *words) == 0
    (row,) = read_metrics(tmp_path / "run/metrics.jsonl")
    assert row["train/pseudo_objects"] > 0


def test_what_is_written_down_of_it_finds_the_same_objects_ever_after(
    devkit: Path, teacher: Path, tmp_path: Path, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    memo = ["--teacher-views", "2", "--memo", tmp_path / "memo"]
    words = {name: on(devkit, tmp_path, name, *unlabelled(teacher), *memo) for name in "ab"}
    assert script("train_kd", *words["a"]) == 0
    monkeypatch.setattr("nets.memo.asking.Asked.__call__", None)
    # The same seed shows the same views.
    assert script("train_kd", *words["b"]) == 0
    assert difference(outcome(tmp_path / "a"), outcome(tmp_path / "b")) == ""
    assert read_metrics(tmp_path / "b/metrics.jsonl")[-1]["train/pseudo_objects"] > 0


def test_without_teacher_terms_its_objects_are_all_it_says(
    devkit: Path, teacher: Path, tmp_path: Path, script: Script
) -> None:
    silent = ["--distill", "--ledger-every", "1"]
    words = on(devkit, tmp_path, "run", *unlabelled(teacher), "--epochs", "1", *silent)
    assert script("train_kd", *words) == 0
    (row,) = read_metrics(tmp_path / "run/metrics.jsonl")
    assert row["ledger/share/conf"] + row["ledger/share/loc"] == pytest.approx(1)
    assert row["train/pseudo_objects"] > 0


class TestPreflight:
    def test_it_says_how_much_is_found_and_draws_it(
        self, devkit: Path, teacher: Path, tmp_path: Path, script: Script,
        capsys: pytest.CaptureFixture[str],
    ) -> None:  # fmt: skip
        words = on(devkit, tmp_path, "run", "--teacher", teacher, "--unlabelled", "FILM/all")
        assert script("train_kd", *words, "--epochs", "1", "--pseudo-pictures") == 0
        shown = capsys.readouterr().out
        assert "VOC2007/train: 8 images and 5 without labels, in memory" in shown
        # Three batches with two each; the sixth is the first of the next pass.
        assert "preflight: in 6 unlabelled views the teacher finds " in shown
        assert "what it misses is taught" not in shown
        assert f"preflight: what the teacher finds is drawn in {tmp_path}/run/pseudo.png" in shown
        assert (tmp_path / "run/pseudo.png").stat().st_size > 1000

    def test_a_teacher_that_finds_nothing_is_noticed_and_trains_all_the_same(
        self, devkit: Path, teacher: Path, tmp_path: Path, script: Script,
        capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        original = DistillTask.__init__

        def sceptical(task: DistillTask, *arguments: object) -> None:
            original(task, *arguments)  # type: ignore[arg-type]
            task.pseudo_score = 1.5

        monkeypatch.setattr(DistillTask, "__init__", sceptical)
        words = on(devkit, tmp_path, "run", "--teacher", teacher, "--unlabelled", "FILM/all")
        assert script("train_kd", *words, "--epochs", "1") == 0
        shown = capsys.readouterr().out
        assert "WARNING: the teacher finds no object in any unlabelled image" in shown
        assert "lower --pseudo-score (0.4 finds " in shown
        (row,) = read_metrics(tmp_path / "run/metrics.jsonl")
        assert row["train/pseudo_objects"] == 0
        assert row["train/positives"] > 0


class TestRefusals:
    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["--unlabelled", "FILM/none"], "--unlabelled FILM/none: "),
            (["--unlabelled", "VOC2007/val"], "2 of 2 images are in --val VOC2007/val, too: VOC2"),
            (["--unlabelled-fraction", "1"], "--unlabelled-fraction must be in (0, 1), not 1.0"),
            (
                ["--unlabelled-fraction", "0.1"],
                "--unlabelled-fraction 0.1 of --batch-size 4 leaves",
            ),
            (["--pseudo-score", "0"], "--pseudo-score must be above 0, at most 1, not 0.0"),
            (
                ["--pseudo-doubt", "0.6"],
                "--pseudo-doubt must be in 0..0.5, which --pseudo-score is",
            ),
            (["--pseudo-pictures"], "--pseudo-pictures is part of the look"),
            (["--batch-size", "20"], "--batch-size 20 takes 10 labelled images, and the training"),
        ],
    )
    def test_what_cannot_be(
        self, words: list[str], message: str, devkit: Path, teacher: Path, tmp_path: Path,
        refused: Refused,
    ) -> None:  # fmt: skip
        all_words = on(devkit, tmp_path, "run", *unlabelled(teacher), *words)
        assert message in refused("train_kd", *all_words)

    def test_a_missing_picture_is_left_out_where_asked(
        self, devkit: Path, teacher: Path, tmp_path: Path, script: Script, refused: Refused,
        capsys: pytest.CaptureFixture[str],
    ) -> None:  # fmt: skip
        (devkit / "FILM/ImageSets/Main/lost.txt").write_text("frame9\nframe0\nframe1\n")
        words = on(devkit, tmp_path, "run", *unlabelled(teacher), "--unlabelled", "FILM/lost")
        line = refused("train_kd", *words)
        assert "--unlabelled FILM/lost: " in line
        assert "frame9: no image with any of .jpg" in line
        assert script("train_kd", *words, "--skip-bad", "--epochs", "1") == 0
        assert "left out: 1 of 3 images of ('FILM/lost',)" in capsys.readouterr().out

    def test_stage_1_knows_no_such_flag(
        self, devkit: Path, tmp_path: Path, refused: Refused
    ) -> None:
        line = refused("train_teacher", *on(devkit, tmp_path, "run"), "--unlabelled", "FILM/all")
        assert "unrecognized arguments: --unlabelled" in line
