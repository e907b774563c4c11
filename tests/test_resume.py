"""Whatever stops a run, resuming it leads to the very same end. (Kills: see tests/soak.)"""

import hashlib
import shlex
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

import train_teacher
from nets.backbones import BACKBONES
from tests.soak.launcher import Plain
from tests.soak.test_soak import difference, outcome
from utils.cli import parse_arguments
from utils.config import DistillConfig
from utils.engine.interrupts import SIGNALS, Stopped, StopSignals
from utils.engine.runs.log import is_step, read_metrics, read_rows
from utils.engine.trainer import Trainer

Script = Callable[..., int]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fast network."""
    monkeypatch.setitem(BACKBONES, "plain", Plain)


def on(devkit: Path, logs: Path, name: str, *extra: object) -> list[object]:
    """Two epochs of three steps; the losses are read after the second of them and at the end."""
    words: list[object] = ["--data", devkit, "--train", "VOC2007/train", "--val", "VOC2007/val"]
    words += ["--classes", devkit / "VOC2007/classes.txt", "--logs", logs, "--name", name]
    words += ["--backbone", "plain", "--no-pretrained", "--epochs", "2", "--batch-size", "2"]
    words += ["--train", "VOC2007/test", "--val", "VOC2007/val", "--lr", "0.01", "--ema", "0.9"]
    return [*words, "--workers", "1", "--device", "cpu", "--log-every", "2", *extra]


def at_step(number: int, happen: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets something happen during the n-th step from now, in whichever run."""
    original, steps = Trainer.step, 0

    def step(trainer: Trainer, *batch: object) -> dict[str, Tensor]:
        nonlocal steps
        steps += 1
        if steps == number:
            happen()
        return original(trainer, *batch)  # type: ignore[arg-type]

    monkeypatch.setattr(Trainer, "step", step)


def position(folder: Path) -> tuple[int, int]:
    """Epochs done, and steps done in the one after them, of last.pth."""
    state = torch.load(folder / "last.pth", weights_only=True)["training"]
    return state["epoch"], state["position"]


@pytest.fixture(scope="module")
def whole(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing stopped."""
    logs = tmp_path_factory.mktemp("logs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES, "plain", Plain)
        train_teacher.main([str(word) for word in on(drawn, logs, "whole")])
    return logs / "whole"


@pytest.mark.parametrize(
    ("number", "step", "reached"),
    [(signal.SIGINT, 1, (0, 1)), (signal.SIGTERM, 5, (1, 2)), (signal.SIGTERM, 6, (1, 3))],
)
def test_a_signal_finishes_the_step_and_saves(
    number: signal.Signals,
    step: int,
    reached: tuple[int, int],
    whole: Path,
    drawn: Path,
    tmp_path: Path,
    script: Script,
    one_line: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = signal.getsignal(number)
    at_step(step, lambda: signal.raise_signal(number), monkeypatch)
    words = on(drawn, tmp_path, "stopped")
    assert script("train_teacher", *words) == 128 + number
    line = one_line()
    assert f"stopped by {number.name}; the same command with --resume goes on from" in line
    assert line.endswith("stopped/last.pth")
    assert signal.getsignal(number) is before
    assert position(tmp_path / "stopped") == reached
    assert script("train_teacher", *words, "--resume") == 0
    assert difference(outcome(tmp_path / "stopped"), outcome(whole)) == ""


def test_a_signal_during_validation_does_not_wait_for_its_end(
    drawn: Path, tmp_path: Path, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert script("train_teacher", *on(drawn, tmp_path, "whole", "--val-every", "1")) == 0
    words = on(drawn, tmp_path, "stopped", "--val-every", "1")
    with monkeypatch.context() as patch:
        patch.setattr(
            "utils.engine.trainer.evaluate", lambda *_: signal.raise_signal(signal.SIGTERM)
        )
        assert script("train_teacher", *words) == 143
    assert position(tmp_path / "stopped") == (0, 3)  # all steps, but not yet validated
    assert script("train_teacher", *words, "--resume") == 0
    assert difference(outcome(tmp_path / "stopped"), outcome(tmp_path / "whole")) == ""
    rows = read_metrics(tmp_path / "stopped/metrics.jsonl")
    assert ["images_per_second" in row for row in rows] == [
        False,
        True,
    ]  # the first had no step left


def test_a_signal_during_the_last_drawing_leaves_it_to_the_resumed_run(
    drawn: Path, tmp_path: Path, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = on(drawn, tmp_path, "stopped")
    with monkeypatch.context() as patch:
        patch.setattr(
            "utils.engine.runs.files.draw_curves", lambda _: signal.raise_signal(signal.SIGTERM)
        )
        assert script("train_teacher", *words) == 143
    page = tmp_path / "stopped/report.html"
    assert not page.exists()
    assert script("train_teacher", *words, "--resume") == 0
    assert (tmp_path / "stopped/curves.png").exists()
    page.write_text("with pictures")
    assert script("train_teacher", *words, "--resume") == 0
    assert page.read_text() == "with pictures"  # drawn once


def test_masks_and_schedules_go_on_where_they_stopped(
    whole: Path, drawn: Path, tmp_path: Path, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    extra = ["--teacher", whole / "best.pth", "--distill", "mgd", "--no-preflight"]
    extra += ["--kd-schedule", "linear", "--kd-epochs", "-1", "--ledger-every", "1"]
    assert script("train_kd", *on(drawn, tmp_path, "through", *extra)) == 0
    rows = read_metrics(tmp_path / "through/metrics.jsonl")
    # Epochs of 3 steps: steps 3, 4 and 5 of 6 have the factors 1 - 0.9 (3 .. 5) / 6, mean 0.4.
    assert [row["train/kd_factor"] for row in rows] == pytest.approx([0, 0.4])
    assert [row["ledger/weighted/mgd"] for row in rows] == pytest.approx(
        [0, 0.4 * rows[1]["train/mgd"]]
    )
    words = on(drawn, tmp_path, "stopped", *extra)
    at_step(5, lambda: signal.raise_signal(signal.SIGTERM), monkeypatch)
    assert script("train_kd", *words) == 143
    assert script("train_kd", *words, "--resume") == 0
    assert difference(outcome(tmp_path / "stopped"), outcome(tmp_path / "through")) == ""


def test_weights_that_follow_shares_go_on_where_they_stopped(
    whole: Path,
    drawn: Path,
    tmp_path: Path,
    script: Script,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    extra = ["--preset", "tutorial", "--teacher", whole / "best.pth", "--no-preflight"]
    extra += ["--distill", "cwd(weight=3)"]
    extra += ["--share", "soft=0.3, cwd=0.2", "--ledger-every", "2", "--log-every", "1"]
    capsys.readouterr()
    assert script("train_kd", *on(drawn, tmp_path, "through", *extra)) == 0
    printed = capsys.readouterr().out.splitlines()
    rows = read_rows(tmp_path / "through/metrics.jsonl")
    steps, epochs = ([r for r in rows if is_step(r) is which] for which in (True, False))
    for name in ("soft", "cwd"):
        weights = [row[f"step/weight/{name}"] for row in steps]
        # The first measurement decides for its own step, each of the others for the one behind it.
        assert weights[0] == pytest.approx(weights[1], rel=1e-5)
        assert len(set(weights)) >= 5
        means = [row[f"train/weight/{name}"] for row in epochs]
        assert means == pytest.approx([sum(weights[:3]) / 3, sum(weights[3:]) / 3])
        assert epochs[1][f"ledger/weighted/{name}"] == means[1] * epochs[1][f"train/{name}"]
        assert not any(key.startswith("val/weight") for row in epochs for key in row)
    (command,) = [line for line in printed if line.startswith("fixed weights instead of --share")]
    words = shlex.split(command.partition(": ")[2])
    fixed = parse_arguments(DistillConfig, words[2:])
    assert (fixed.share, fixed.name, fixed.lr) == ((), "through-fixed", 0.01)
    mean = sum(row["train/weight/soft"] for row in epochs) / 2
    assert fixed.soft_weight == pytest.approx(mean, rel=1e-3)
    assert script("train_kd", *words[2:], "--logs", tmp_path, "--no-preflight") == 0
    stopped = on(drawn, tmp_path, "stopped", *extra)
    at_step(5, lambda: signal.raise_signal(signal.SIGTERM), monkeypatch)
    assert script("train_kd", *stopped) == 143
    capsys.readouterr()
    assert script("train_kd", *stopped, "--resume", "--ledger-every", "1") == 2
    assert "its ledger_every is 2, this run's 1" in capsys.readouterr().err
    assert script("train_kd", *stopped, "--resume") == 0
    again = [line.replace("stopped", "through") for line in capsys.readouterr().out.splitlines()]
    assert command in again
    assert difference(outcome(tmp_path / "stopped"), outcome(tmp_path / "through")) == ""


def test_a_second_signal_ends_at_once() -> None:
    with StopSignals("nothing") as signals:
        signal.raise_signal(signal.SIGINT)
        assert signals.noted == signal.SIGINT
        # The system's own action: it needs no Python, which may hang by now.
        assert [signal.getsignal(number) for number in SIGNALS] == [signal.SIG_DFL] * 2
        with pytest.raises(Stopped, match="stopped by SIGINT; nothing"), signals.at_once():
            pytest.fail("noted before, so nothing is begun")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_ignored_signal_stays_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with StopSignals("nothing") as signals:
        signal.raise_signal(signal.SIGINT)
    assert signals.noted == 0
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


@pytest.mark.parametrize("fault", ["damaged", "missing"])
def test_the_checkpoint_before_steps_in(
    fault: str,
    whole: Path,
    drawn: Path,
    tmp_path: Path,
    script: Script,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at_step(5, lambda: signal.raise_signal(signal.SIGTERM), monkeypatch)
    words, last = on(drawn, tmp_path, "run", "--save-every", "1"), tmp_path / "run/last.pth"
    assert script("train_teacher", *words) == 143
    assert position(last.parent) == (1, 2)
    if fault == "missing":  # killed between two renamings
        last.unlink()
    else:
        last.write_bytes(last.read_bytes()[:5000])
    assert script("train_teacher", *words) == 2  # a run all the same, not to be overwritten
    capsys.readouterr()
    assert script("train_teacher", *words, "--resume") == 0
    (line,) = (x for x in capsys.readouterr().out.splitlines() if x.startswith("warning"))
    assert line == f"warning: {last} is {fault}; going on from {last.parent}/last.previous.pth"
    assert difference(outcome(last.parent), outcome(whole)) == ""


def test_two_damaged_checkpoints_are_refused(
    drawn: Path, tmp_path: Path, script: Script, one_line: Callable[[], str]
) -> None:
    (tmp_path / "run").mkdir()
    for name in ("last.pth", "last.previous.pth"):
        (tmp_path / "run" / name).write_text("hello")
    assert script("train_teacher", *on(drawn, tmp_path, "run", "--resume")) == 2
    assert "is truncated or no checkpoint" in one_line()


def test_a_state_that_is_none_is_refused(
    whole: Path, drawn: Path, tmp_path: Path, script: Script, one_line: Callable[[], str]
) -> None:
    content = torch.load(whole / "last.pth", weights_only=True)
    content["training"]["epoch"] = "1"
    (tmp_path / "whole").mkdir()
    torch.save(content, tmp_path / "whole/last.pth")
    assert script("train_teacher", *on(drawn, tmp_path, "whole", "--resume")) == 2
    line = one_line()
    assert "whole/last.pth: its training state does not fit these settings (ValueError: " in line
    assert "epoch, position and steps are ('1', 0, 0)" in line


def test_other_batches_within_an_epoch_are_refused(
    drawn: Path,
    tmp_path: Path,
    script: Script,
    one_line: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at_step(2, lambda: signal.raise_signal(signal.SIGTERM), monkeypatch)
    assert script("train_teacher", *on(drawn, tmp_path, "run")) == 143
    one_line()
    words = on(drawn, tmp_path, "run", "--resume", "--batch-size", "3")
    assert script("train_teacher", *words) == 2
    line = one_line()
    assert "its batch_size is 2, this run's 3" in line


def test_weights_after_a_bad_loss_are_not_saved(
    drawn: Path,
    tmp_path: Path,
    script: Script,
    one_line: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = on(drawn, tmp_path, "run", "--save-every", "2", "--log-every", "100")
    losses = iter([1.0, 1.0, 1.0, float("nan"), 1.0])
    original = Trainer.step

    def step(trainer: Trainer, *batch: object) -> dict[str, Tensor]:
        terms = original(trainer, *batch)  # type: ignore[arg-type]
        return {**terms, "loss": terms["loss"] * next(losses)}

    monkeypatch.setattr(Trainer, "step", step)
    assert script("train_teacher", *words) == 2
    assert "the loss is not finite shortly before epoch 2, step 2" in one_line()
    assert position(tmp_path / "run") == (1, 0)


def test_two_stages_go_on_from_the_first(
    drawn: Path, tmp_path: Path, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = ["--teacher-backbone", "plain", "--no-teacher-pretrained", "--epochs", "1"]
    assert script("train_kd", *on(drawn, tmp_path, "whole", *teacher)) == 0
    words = on(drawn, tmp_path, "run", *teacher)
    with monkeypatch.context() as patch:
        at_step(2, lambda: signal.raise_signal(signal.SIGTERM), patch)
        assert script("train_kd", *words) == 143
    assert not (tmp_path / "run").exists()  # stage 2
    assert script("train_kd", *words, "--resume") == 0
    for name in ("", "-teacher"):
        ended, expected = (outcome(tmp_path / f"{run}{name}") for run in ("run", "whole"))
        assert difference(ended, expected) == ""


def test_nothing_to_go_on_with_in_either_stage_is_refused(
    drawn: Path, tmp_path: Path, script: Script, one_line: Callable[[], str]
) -> None:
    words = on(drawn, tmp_path, "mistyped", "--no-teacher-pretrained", "--resume")
    assert script("train_kd", *words) == 2
    assert "mistyped holds nothing to go on with; check --name and --logs" in one_line()
    assert list(tmp_path.iterdir()) == []


def test_other_images_after_an_epoch_are_refused(
    drawn: Path,
    tmp_path: Path,
    script: Script,
    one_line: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def power_cut() -> None:
        raise RuntimeError("power cut")

    devkit = shutil.copytree(drawn, tmp_path / "devkit")
    words = on(devkit, tmp_path, "run", "--recipe", "paper")
    with monkeypatch.context() as patch:
        at_step(4, power_cut, patch)
        with pytest.raises(RuntimeError, match="power cut"):
            script("train_teacher", *words)
    assert position(tmp_path / "run") == (1, 0)
    names = (devkit / "VOC2007/ImageSets/Main/test.txt").read_text().split()
    (devkit / "VOC2007/ImageSets/Main/test.txt").write_text("\n".join(names[:4]))
    assert script("train_teacher", *words, "--resume") == 2
    line = one_line()
    assert (
        "it had {'images': 6, 'batch_size': 2, 'seed': 0}, now it would have {'images': 4," in line
    )


@pytest.mark.parametrize("gain", [0.9, 1.4])
def test_a_resumed_run_keeps_the_arithmetic_that_was_chosen(
    gain: float, drawn: Path, tmp_path: Path, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = []

    def bf16_gain(trainer: Trainer) -> float:
        measured.append(trainer.steps)
        return gain

    monkeypatch.setattr("utils.runtime.device.native_bf16", lambda: True)
    monkeypatch.setattr("utils.engine.rehearsal.bf16_gain", bf16_gain)
    assert script("train_teacher", *on(drawn, tmp_path, "whole")) == 0
    words = on(drawn, tmp_path, "stopped")
    with monkeypatch.context() as patch:
        at_step(5, lambda: signal.raise_signal(signal.SIGTERM), patch)
        assert script("train_teacher", *words) == 143
    assert measured == [0, 0]
    # What is measured now does not count, nor whether the machine has bf16.
    monkeypatch.setattr("utils.runtime.device.native_bf16", lambda: gain < 1)
    assert script("train_teacher", *words, "--resume") == 0
    assert measured == [0, 0]
    ended, expected = (tmp_path / name for name in ("stopped", "whole"))
    assert difference(outcome(ended), outcome(expected)) == ""
    for name in ("last.pth", "best.pth"):
        content = torch.load(ended / name, weights_only=True)
        dtype = "bfloat16" if gain > 1 else "float32"
        assert content["arithmetic"] == {"device": "cpu", "dtype": dtype}
    plain = tmp_path / "plain"
    assert script("train_teacher", *on(drawn, tmp_path, "plain", "--amp", "off")) == 0
    assert (difference(outcome(plain), outcome(expected)) == "") is (gain < 1)


@pytest.fixture
def distilled(whole: Path, drawn: Path, tmp_path: Path, script: Script) -> list[object]:
    """The words of a stopped run under `teacher.pth`."""
    shutil.copy(whole / "best.pth", tmp_path / "teacher.pth")
    words = [*on(drawn, tmp_path, "run"), "--teacher", tmp_path / "teacher.pth"]
    with pytest.MonkeyPatch.context() as patch:
        at_step(2, lambda: signal.raise_signal(signal.SIGTERM), patch)
        assert script("train_kd", *words) == 143
    return words


def test_a_teacher_is_known_by_its_content(
    distilled: list[object],
    drawn: Path,
    tmp_path: Path,
    script: Script,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "teacher.pth").rename(tmp_path / "moved.pth")
    content = torch.load(tmp_path / "moved.pth", weights_only=True)
    content["model"]["conf.0.bias"] += 0.5
    torch.save(content, tmp_path / "teacher.pth")
    capsys.readouterr()
    assert script("train_kd", *distilled, "--resume") == 2
    line = capsys.readouterr().err
    assert f"run/last.pth: its teacher is {tmp_path}/teacher.pth (SHA-256 " in line
    assert f"this run's {tmp_path}/teacher.pth (SHA-256 " in line
    assert line.endswith("; resume with the teacher it was started with\n")
    assert script("train_teacher", *on(drawn, tmp_path, "run", "--resume")) == 2
    assert "this run's none" in capsys.readouterr().err
    assert script("train_kd", *distilled, "--resume", "--teacher", tmp_path / "moved.pth") == 0
    assert "compared" not in capsys.readouterr().out
    for name in ("last.pth", "best.pth"):
        origin = torch.load(tmp_path / "run" / name, weights_only=True)["provenance"]
        assert origin["teacher"]["path"] == str(tmp_path / "moved.pth")
        read = (tmp_path / "moved.pth").read_bytes()
        assert origin["teacher"]["sha256"] == hashlib.sha256(read).hexdigest()
        assert origin["torch"] == torch.__version__
        assert {"commit", "device"} <= set(origin)
        assert "weights" not in origin


def test_a_checkpoint_without_a_hash_compares_paths(
    distilled: list[object], tmp_path: Path, script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    content = torch.load(tmp_path / "run/last.pth", weights_only=True)
    for key in ("arithmetic", "provenance"):
        del content[key]
    torch.save(content, tmp_path / "run/last.pth")
    shutil.copy(tmp_path / "teacher.pth", tmp_path / "moved.pth")
    moved = [*distilled, "--teacher", tmp_path / "moved.pth"]
    capsys.readouterr()
    assert script("train_kd", *moved, "--resume") == 2
    assert f"its teacher is '{tmp_path}/teacher.pth'" in capsys.readouterr().err
    assert script("train_kd", *distilled, "--resume") == 0
    said = capsys.readouterr().out
    assert said.count("does not know its teacher's content; the paths of the two are compared") == 1


def test_what_a_run_started_from_may_change_later(
    whole: Path, drawn: Path, tmp_path: Path, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(whole / "best.pth", tmp_path / "start.pth")
    words = on(drawn, tmp_path, "run", "--weights", tmp_path / "start.pth")
    with monkeypatch.context() as patch:
        at_step(2, lambda: signal.raise_signal(signal.SIGTERM), patch)
        assert script("train_teacher", *words) == 143
    begun = torch.load(tmp_path / "run/last.pth", weights_only=True)["provenance"]["weights"]
    read = (tmp_path / "start.pth").read_bytes()
    sha256 = hashlib.sha256(read).hexdigest()
    assert begun == {"path": str(tmp_path / "start.pth"), "sha256": sha256}
    shutil.copy(whole / "last.pth", tmp_path / "other.pth")
    assert script("train_teacher", *words, "--weights", tmp_path / "other.pth", "--resume") == 0
    for name in ("last.pth", "best.pth"):
        content = torch.load(tmp_path / "run" / name, weights_only=True)
        assert content["provenance"]["weights"] == begun
