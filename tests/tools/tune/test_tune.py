"""The search of tools/tune: once with real students, and with fake ones where time matters."""

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tools.tune import study as studies
from tools.tune.search import Range
from utils.cli import parse_arguments
from utils.config import DistillConfig

Script = Callable[..., int]
NETWORK = "resnet18(width=0.05)"


@pytest.fixture
def training(drawn: Path, untrained: Path) -> list[str]:
    """What follows `--`, and `--`."""
    words = ["--", "--teacher", untrained, "--backbone", NETWORK, "--no-pretrained", "--epochs", 3]
    words += ["--data", drawn, "--classes", drawn / "VOC2007/classes.txt", "--device", "cpu"]
    words += [
        "--train",
        "VOC2007/train",
        "--val",
        "VOC2007/val",
        "--batch-size",
        4,
        "--preset",
        "soft",
    ]
    return [str(word) for word in words]


def test_a_search_that_is_interrupted_goes_on(
    training: list[str],
    tmp_path: Path,
    script: Script,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> None:
    """Real students: the first is interrupted, then it and another one run to their ends.

    They have one memo, which the first fills and the other reads.
    """
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    out = tmp_path / "tune"

    def words(trials: int, epochs: int = 1) -> list[object]:
        own = ["--out", out, "--trials", trials, "--search", "soft_weight", "temperature"]
        return [*own, *training, "--epochs", epochs, "--teacher-views", 1]

    def ctrl_c() -> None:
        while not (out / "trial-0000/output.txt").exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=ctrl_c)
    thread.start()
    assert script("tools.tune", *words(1)) == 130
    thread.join()
    assert f"stopped by SIGINT; the same command goes on with {out}" in capsys.readouterr().err
    assert script("tools.tune", *words(1)) == 0
    request.getfixturevalue("here")  # from now on in this process, which is quicker
    capsys.readouterr()
    assert script("tools.tune", *words(2)) == 0
    printed = capsys.readouterr().out
    report = json.loads((out / "trials.json").read_text())
    interrupted, default, other = report["trials"]
    assert [t["state"] for t in report["trials"]] == ["interrupted", "complete", "complete"]
    assert default["settings"] == interrupted["settings"] == {"soft_weight": 0.5, "temperature": 2}
    assert default["epochs"] == other["epochs"] == 1
    assert default["default"]
    assert not other["default"]
    assert report["best"]["mAP"] == max(default["mAP"], other["mAP"])
    assert len((out / "trials.md").read_text().splitlines()) == 2 + 3
    assert not list(out.glob("*.png"))  # two trials show nothing
    trained = json.loads((out / "trial-0002/config.json").read_text())["config"]
    assert trained["temperature"] == other["settings"]["temperature"]
    assert trained["val"] == ["VOC2007/val"]
    (memo,) = (out / "memo").iterdir()
    started = (out / "trial-0002/config.json").stat().st_mtime_ns
    assert all(path.stat().st_mtime_ns < started for path in memo.iterdir())

    (command,) = (line for line in printed.splitlines() if line.startswith("python train_kd.py "))
    config = parse_arguments(DistillConfig, shlex.split(command)[2:])
    best = report["best"]["settings"]
    assert (config.soft_weight, config.temperature) == (best["soft_weight"], best["temperature"])
    assert (config.backbone, config.epochs, config.name) == (NETWORK, 1, "tuned")

    assert script("tools.tune", *words(2)) == 0  # the budget is used up
    assert "trial 3" not in capsys.readouterr().out
    assert script("tools.tune", *words(2, epochs=2)) == 2
    assert "the study's epochs is 1, this command's 2" in capsys.readouterr().err


FAKE = """
import json, os, sys, time
folder, scores, status, message = sys.argv[1], json.loads(sys.argv[2]), *sys.argv[3:]
print(message)
with open(os.path.join(folder, "metrics.jsonl"), "w") as file:
    for epoch, score in enumerate(scores, start=1):
        file.write(json.dumps({"epoch": epoch, "mAP": score}) + "\\n")
if status == "endless":
    file = open(os.path.join(folder, "endless"), "w")
    time.sleep(60)
sys.exit(int(status))
"""
Behave = Callable[[Mapping[str, float]], tuple[list[float | None], str, str]]


@pytest.fixture
def students(monkeypatch: pytest.MonkeyPatch) -> Callable[[Behave], None]:
    """Replaces students by processes that only write a metrics file.

    Takes a function from settings to the mAP of each epoch, the exit status (or `endless`) and what
    is printed.
    """

    def replace(behave: Behave) -> None:
        def start(
            words: Sequence[str], settings: Mapping[str, float], folder: Path
        ) -> subprocess.Popen[bytes]:
            del words
            scores, status, message = behave(settings)
            folder.mkdir(parents=True, exist_ok=True)
            line = [sys.executable, "-S", "-c", FAKE, str(folder), json.dumps(scores)]
            with (folder / "output.txt").open("wb") as output:
                return subprocess.Popen([*line, status, message], stdout=output)

        monkeypatch.setattr("tools.tune.__main__.start_student", start)
        monkeypatch.setattr("tools.tune.trials.POLL", 0.02)
        monkeypatch.setattr("tools.tune.__main__.draw", lambda *_: [])

    return replace


def trials(out: Path) -> list[dict[str, object]]:
    """The trials as reported."""
    found: list[dict[str, object]] = json.loads((out / "trials.json").read_text())["trials"]
    return found


def test_a_hopeless_trial_is_ended_early(
    training: list[str],
    tmp_path: Path,
    script: Script,
    students: Callable[[Behave], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    def behave(settings: Mapping[str, float]) -> tuple[list[float | None], str, str]:
        default = settings["temperature"] == 2
        return ([0.3, 0.4, 0.5], "0", "") if default else ([0.1], "endless", "")

    students(behave)
    words = ["--trials", 3, "--startup", 1, "--search", "temperature"]
    assert script("tools.tune", "--out", tmp_path, *words, *training) == 0
    found = trials(tmp_path)
    assert [t["state"] for t in found] == ["complete", "pruned", "pruned"]
    assert [t["mAP"] for t in found] == [0.5, 0.1, 0.1]
    assert [t["epochs"] for t in found] == [3, 1, 1]
    assert "trial 1: pruned after epoch 1, mAP 10.00 %" in capsys.readouterr().out


def test_the_default_is_never_ended_early(
    training: list[str], tmp_path: Path, script: Script, students: Callable[[Behave], None]
) -> None:
    """Not even where it comes late, because its first trial failed."""
    results = [("2", "x"), ("0", ""), ("0", ""), ("0", "")]

    def behave(settings: Mapping[str, float]) -> tuple[list[float | None], str, str]:
        status, message = results.pop(0)
        score = 0.1 if settings["temperature"] == 2 else 0.5
        return ([score] * 3 if status == "0" else []), status, message

    students(behave)
    words = ["--startup", 1, "--search", "temperature", *training]
    assert script("tools.tune", "--out", tmp_path, "--trials", 3, *words) == 0
    assert script("tools.tune", "--out", tmp_path, "--trials", 4, *words) == 0
    found = trials(tmp_path)
    assert [t["state"] for t in found] == ["failed", "complete", "complete", "complete"]
    assert [t["default"] for t in found] == [True, False, False, True]
    report = json.loads((tmp_path / "trials.json").read_text())
    assert report["default"]["mAP"] == 0.1
    assert sum(report["importances"].values()) == pytest.approx(1)


def test_settings_do_not_depend_on_restarts(
    training: list[str], tmp_path: Path, script: Script, students: Callable[[Behave], None]
) -> None:
    # No mAP but the last: whether a run ends before it is judged must not matter here.
    students(lambda settings: ([None, None, 1 / settings["temperature"]], "0", ""))
    words = ["--startup", 2, "--search", "temperature", "soft_weight", *training]
    for budget in (2, 4):
        assert script("tools.tune", "--out", tmp_path / "a/x", "--trials", budget, *words) == 0
    assert script("tools.tune", "--out", tmp_path / "b/x", "--trials", 4, *words) == 0
    assert trials(tmp_path / "a/x") == trials(tmp_path / "b/x")
    settings = [tuple(t["settings"].values()) for t in trials(tmp_path / "b/x")]
    assert len(set(settings)) == 4
    other = ["--seed", 1, "--trials", 2, *words]
    assert script("tools.tune", "--out", tmp_path / "c/x", *other) == 0
    assert trials(tmp_path / "c/x")[1] != trials(tmp_path / "b/x")[1]


def test_failed_trials_are_recorded_and_the_search_goes_on(
    training: list[str], tmp_path: Path, script: Script, students: Callable[[Behave], None]
) -> None:
    def behave(settings: Mapping[str, float]) -> tuple[list[float | None], str, str]:
        if settings["temperature"] == 2:
            return [0.2, 0.3], "0", ""
        return [0.1], "2", "train_kd.py: the loss is not finite"

    students(behave)
    words = ["--trials", 3, "--search", "temperature", *training]
    assert script("tools.tune", "--out", tmp_path, *words) == 0
    found = trials(tmp_path)
    assert [t["state"] for t in found] == ["complete", "failed", "failed"]
    assert found[1]["message"] == "train_kd.py: the loss is not finite"
    assert "the loss is not finite" in (tmp_path / "trials.md").read_text()


def test_a_search_without_success_gives_up_and_can_be_mended(
    training: list[str],
    tmp_path: Path,
    script: Script,
    one_line: Callable[[], str],
    students: Callable[[Behave], None],
) -> None:
    count = iter(range(99))
    students(lambda _: ([], "2", f"train_kd.py: no space {next(count)}"))
    words = ["--out", tmp_path, "--trials", 5, "--search", "temperature", *training]
    assert script("tools.tune", *words) == 2
    assert "all trials failed (3), the first with: train_kd.py: no space 0; correct" in one_line()
    students(lambda _: ([0.5], "0", ""))
    assert script("tools.tune", *words) == 0
    found = trials(tmp_path)
    assert [t["state"] for t in found] == ["failed"] * 3 + ["complete"] * 2
    assert [t["default"] for t in found] == [True, False, False, True, False]


def test_a_time_budget_ends_a_search(
    training: list[str], tmp_path: Path, script: Script, students: Callable[[Behave], None]
) -> None:
    students(lambda _: ([0.5], "0", ""))
    words = ["--minutes", 1e-6, "--trials", 3, *training]
    assert script("tools.tune", "--out", tmp_path, *words) == 0
    assert not (tmp_path / "trials.json").exists() or len(trials(tmp_path)) < 3


def test_what_a_dead_worker_left_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def begin(study: Any) -> None:
        with pytest.warns(UserWarning, match="used with Study.optimize"):
            trial = study.ask()
        assert studies.suggest(study, trial, {"temperature": Range(1, 8)}, 0, 1) == default
        study._storage.record_heartbeat(trial._trial_id)  # as study.optimize does

    def states(study: Any) -> list[str]:
        studies.enqueue_default(study, default)  # does nothing where it runs or is to run
        studies.notice_dead_workers(study)
        return [trial.state.name for trial in study.trials]

    default = {"temperature": 1.0}
    study = studies.open_study(tmp_path, "", {"epochs": 3}, 1)
    assert states(study) == ["WAITING"]
    begin(study)
    assert states(study) == ["RUNNING"]  # silent, but not for long
    monkeypatch.setattr(studies, "SILENCE", 1)
    monkeypatch.setattr(studies, "ATTEMPTS", 2)
    study = studies.open_study(tmp_path, "", {"epochs": 3}, 1)
    time.sleep(2.2)  # the database counts whole seconds
    assert states(study) == ["FAIL", "WAITING"]
    begin(study)
    time.sleep(2.2)
    assert states(study) == ["FAIL", "FAIL"]  # given up
    assert [t.state for t in studies.trials_of(study)] == ["interrupted"] * 2


REFUSED = {
    "budget": (["--trials", "0"], "no budget; pass --trials 30, --minutes 60 or both"),
    "search": (["--search", "neg_w", "neg_w"], "--search must name each setting once, not ['neg"),
    "setting": (["--search", "lr"], "invalid choice: 'lr'"),
    "range": (["--range", "neg_w=3:1"], "--range neg_w=3:1: must be finite numbers"),
    "storage": (["--storage", "nonsense"], "--storage cannot be opened: Could not parse"),
    "driver": (["--storage", "oracle+nonsense://x"], "--storage cannot be opened"),
    "name": (["--", "--name", "x"], "--name (after --) is not for trials; leave it out"),
    "epochs": (["--", "--epoch", "3"], "unrecognized arguments: --epoch 3"),
    "teacher": (["--", "--teacher", ""], "--teacher is missing"),
    "no teacher": (["--", "--teacher", "none.pth"], "--teacher none.pth: no such checkpoint"),
    "split": (["--", "--val", "VOC2007/x"], "--val VOC2007/x: "),
    "classes": (["--", "--classes", "none.txt"], "--classes none.txt: no such class list"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_commands_are_refused_in_one_line(
    case: str, training: list[str], tmp_path: Path, script: Script, one_line: Callable[[], str]
) -> None:
    extra, message = REFUSED[case]
    own, after = ([], extra[1:]) if extra[0] == "--" else (extra, [])
    words = ["--out", tmp_path / "tune", "--trials", 2, *own, *training, *after]
    assert script("tools.tune", *words) == 2
    assert message in one_line()
    assert not list(tmp_path.glob("tune/trial-*"))


def test_folders_of_another_search_are_left_alone(
    training: list[str], tmp_path: Path, script: Script, one_line: Callable[[], str]
) -> None:
    (tmp_path / "trial-0000").mkdir()
    assert script("tools.tune", "--out", tmp_path, "--trials", 2, *training) == 2
    assert "trial-0000 is of another study; pass another --out" in one_line()


def test_without_optuna_one_line_says_how_to_get_it(
    training: list[str],
    tmp_path: Path,
    script: Script,
    one_line: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    out = tmp_path / "tune"
    assert script("tools.tune", "--out", out, "--trials", 2, *training) == 2
    assert "this needs optuna; install it with: pip install -e '.[tune]'" in one_line()
    assert not out.exists()
