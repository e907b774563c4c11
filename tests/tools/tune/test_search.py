"""Ranges, checked flags, watched runs and the table of a search; no Optuna."""

import json
import signal
from pathlib import Path

import pytest

from tools.tune.report import COMPLETE, FAILED, PRUNED, RUNNING, Trial, best_of, summary
from tools.tune.report import markdown as table
from tools.tune.search import (
    RANGES,
    Range,
    best_command,
    check_training,
    common,
    search_ranges,
    trial_words,
)
from tools.tune.trials import OUTPUT, Ending, failure, follow
from utils.cli import parse_arguments
from utils.config import DistillConfig


def test_every_range_holds_the_presets():
    assert set(DistillConfig.presets["paper"]) - {"distill"} < set(RANGES)
    for preset in DistillConfig.presets:
        config = parse_arguments(DistillConfig, ["--preset", preset])
        for name, (low, high, _) in RANGES.items():
            off = (preset, name) == ("soft", "l2_weight")
            assert getattr(config, name) == 0 if off else low <= getattr(config, name) <= high


def test_ranges_are_overridden():
    ranges = search_ranges(["temperature", "reg_m"], ["temperature=1:4"])
    assert ranges == {"temperature": Range(1, 4), "reg_m": RANGES["reg_m"]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("neg_w=1:2", "not searched; choose one of temperature, reg_m"),
        ("temperature", "write NAME=LOW:HIGH, e.g. temperature=1:4"),
        ("temperature=1:2:3", "write NAME=LOW:HIGH"),
        ("temperature=0:2", "finite numbers with 0 < LOW < HIGH"),
        ("temperature=1:inf", "finite numbers"),
        ("temperature=nan:2", "finite numbers"),
        ("reg_m=-1:1", "0 <= LOW < HIGH"),
        ("reg_m=1:1", "0 <= LOW < HIGH"),
    ],
)
def test_bad_ranges_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        search_ranges(["temperature", "reg_m"], [text])


@pytest.fixture
def teacher(tmp_path: Path) -> str:
    path = tmp_path / "best.pth"
    path.touch()
    return str(path)


def test_training_flags_decide_the_default(teacher):
    ranges = search_ranges(["soft_weight"], [])
    words = ["--teacher", teacher, "--val", "VOC2007/val", "--preset", "paper", "--neg-w=2"]
    config = check_training(words, ranges)
    assert (config.soft_weight, config.neg_w) == (0.5, 2)
    fixed = common(config, ranges)
    assert fixed["search"] == {"soft_weight": [0.05, 4]}
    assert fixed["neg_w"] == 2
    assert "soft_weight" not in fixed
    assert "device" not in fixed
    assert json.loads(json.dumps(fixed)) == fixed  # or a study would refuse its own command


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--soft-weight", "1"], "--soft-weight .* is searched; leave it out, or out of --search"),
        (["--soft-weight=1"], "--soft-weight .* is searched"),
        (["--name", "x"], "--name .* is not for trials"),
        (["--logs=x"], "--logs .* is not for trials"),
        (["--resume"], "--resume .* is not for trials"),
        (["--teacher", ""], "--teacher is missing"),
        (["--teacher", "none.pth"], "none.pth: no such checkpoint"),
        (["--val"], "--val names no split"),
        (["--epochs", "0"], "--epochs must be at least 1"),
        (["--preset", "paper"], "soft_weight=0.1:0.4 leaves out 0.5, the default"),
    ],
)
def test_training_flags_that_are_refused(teacher, words, message):
    ranges = search_ranges(["soft_weight"], ["soft_weight=0.1:0.4"])
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        check_training(["--teacher", teacher, "--val", "VOC2007/val", *words], ranges)


def test_a_term_that_is_off_is_not_searched(teacher):
    words = ["--teacher", teacher, "--val", "VOC2007/val", "--preset", "soft"]
    with pytest.raises(ValueError, match="l2_weight is 0 here; leave it out of --search"):
        check_training(words, search_ranges(["l2_weight"], []))


def test_a_validation_split_has_to_be_named(teacher):
    with pytest.raises(ValueError, match="--val names no split"):
        check_training(["--teacher", teacher], search_ranges(["temperature"], []))


def test_trials_are_validated_on_their_way_unless_told_how():
    for epochs, every in ((1, 1), (19, 1), (60, 6)):
        words = ["--teacher", "t", *trial_words([], epochs)]
        assert parse_arguments(DistillConfig, words).val_every == every
    words = trial_words(["--val-every", "3"], 60)
    assert parse_arguments(DistillConfig, words).val_every == 3


def test_the_best_command_says_what_was_trained():
    words = ["--teacher", "my logs/best.pth", "--backbone", "resnet18(width=0.125)"]
    command = best_command(words, {"soft_weight": 0.812, "reg_m": 0.0})
    assert command == (
        "python train_kd.py --teacher 'my logs/best.pth' --backbone 'resnet18(width=0.125)' "
        "--soft-weight 0.812 --reg-m 0 --name tuned"
    )


class FakeRun:
    """A process that writes a validation each time it is looked at, and ends when it is asked to,
    or after its last epoch.
    """

    def __init__(self, folder: Path, scores: list[float | None]) -> None:
        self.folder, self.scores, self.returncode = folder, scores, None
        self.written = 0
        self.signals: list[int] = []

    def poll(self) -> int | None:
        if self.returncode is None and self.written == len(self.scores):
            self.returncode = 0
        return self.returncode

    def wait(self, timeout: float | None = None) -> int | None:
        del timeout
        if self.returncode is None:
            with (self.folder / "metrics.jsonl").open("a") as file:
                row = {"epoch": self.written + 1, "mAP": self.scores[self.written]}
                file.write(json.dumps(row) + "\n" + '{"epoch": 99, "mA')  # and half of the next
                file.write("\n")
            self.written += 1
        return self.returncode

    def send_signal(self, number: int) -> None:
        self.signals.append(number)
        self.returncode = 143


def test_a_run_is_followed_to_its_end(tmp_path):
    run = FakeRun(tmp_path, [0.1, None, 0.3])
    seen = []
    ending = follow(run, tmp_path, lambda *row: seen.append(row), lambda: False)
    assert ending == Ending(0, "", {1: 0.1, 3: 0.3})
    assert seen == [(1, 0.1), (3, 0.3)]
    assert run.signals == []


def test_a_hopeless_run_is_asked_to_end_once(tmp_path):
    run = FakeRun(tmp_path, [0.3, 0.1, 0.2, 0.2])
    ending = follow(run, tmp_path, lambda _, score: score < 0.2, lambda: False)
    assert ending == Ending(143, "pruned", {1: 0.3, 2: 0.1})
    assert run.signals == [signal.SIGTERM]


def test_a_run_ends_with_its_watcher(tmp_path):
    run = FakeRun(tmp_path, [0.3, 0.1])
    assert follow(run, tmp_path, lambda *_: False, lambda: run.written > 0) == Ending(
        143, "stopped", {1: 0.3}
    )
    run = FakeRun(tmp_path, [0.3, 0.1])
    with pytest.raises(ZeroDivisionError):
        follow(run, tmp_path, lambda *_: bool(1 / 0), lambda: False)
    assert run.signals == [signal.SIGTERM]


def test_why_a_run_failed(tmp_path):
    (tmp_path / OUTPUT).write_text("epoch 1\ntrain_kd.py: the loss is not finite\n\n")
    assert failure(2, tmp_path) == "train_kd.py: the loss is not finite"
    assert "was ended by SIGKILL; see" in failure(-9, tmp_path)
    assert "no object in the --val splits" in failure(0, tmp_path)
    (tmp_path / OUTPUT).write_text("")
    assert failure(1, tmp_path) == "nothing printed"


SETTINGS = {"soft_weight": 0.5, "temperature": 2.0}
TRIALS = [
    Trial(0, COMPLETE, {"soft_weight": 0.3, "temperature": 1.0}, 0.25, 6, default=True),
    Trial(1, PRUNED, {"soft_weight": 4.0, "temperature": 8.0}, 0.1, 2),
    Trial(2, FAILED, SETTINGS, None, 0, message="a|b"),
    Trial(3, COMPLETE, SETTINGS, 0.5, 6),
    Trial(4, COMPLETE, {**SETTINGS, "temperature": 3.0}, 0.5, 6),
    Trial(5, RUNNING, {}, None, 0),
]


def test_the_table_has_every_trial_the_best_first():
    rows = [row.split(" | ") for row in table(TRIALS, list(SETTINGS)).splitlines()]
    assert rows[0][:4] == ["| trial", "mAP %", "state", "epochs"]
    assert [row[0] for row in rows[2:]] == ["| 3", "| 4", "| 0", "| 1", "| 2", "| 5"]
    assert " | ".join(rows[4]) == "| 0 | 25.00 | complete | 6 | 0.3 | 1 | default |"
    assert rows[6][-1] == "a\\|b |"


def test_the_best_is_complete_and_the_first_of_equals():
    assert best_of(TRIALS) is TRIALS[3]
    assert best_of(TRIALS[1:3]) is None
    text = summary(TRIALS, ["--epochs", "6"])
    assert "3 complete, 1 pruned, 1 failed, 1 running" in text
    assert "default: trial 0, mAP 25.00 %\nbest: trial 3, mAP 50.00 %" in text
    assert text.endswith("--epochs 6 --soft-weight 0.5 --temperature 2 --name tuned")
