"""Scripts as jobs: how they are started, shown and claimed."""

import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tools.jobs import (
    TORCHRUN,
    Running,
    claimed,
    countdown,
    logged_script,
    own_environment,
    script,
    split_passed,
    typed,
)


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (("--lr", "1", "--train", "a", "b", "--lr", "2"), "--train a b --lr 2"),
        (
            ("--backbone=x", "--no-pretrained", "--backbone", "y", "--pretrained"),
            "--backbone y --pretrained",
        ),
        (("out", "--reg-m", "-1"), "out --reg-m -1"),
        (("--jobs", "2", "--", "--lr", "1"), "--jobs 2 -- --lr 1"),
        (("--jobs", "2", "--", "--jobs", "1"), "--jobs 2 -- --jobs 1"),
    ],
)
def test_a_command_holds_each_flag_once(words: tuple[str, ...], shown: str) -> None:
    assert typed("a.py", *words) == f"python a.py {shown}"


def test_a_job_joins_none_of_torchruns_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "TORCHELASTIC_RUN_ID"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("HOME", "here")
    kept = own_environment()
    assert kept["HOME"] == "here"
    assert not [name for name in kept if name.startswith(TORCHRUN)]


def test_one_claim_at_a_time(tmp_path: Path) -> None:
    with claimed(tmp_path / "job") as first, claimed(tmp_path / "job") as second:
        assert first is not None
        assert second is None
    with claimed(tmp_path / "job") as third:
        assert third is not None


def test_a_claim_holds_for_as_long_as_its_script_runs(tmp_path: Path) -> None:
    with claimed(tmp_path) as claim:
        assert claim is not None
        sleeper = subprocess.Popen(["sleep", "60"], pass_fds=(claim,))
    with claimed(tmp_path) as other:  # as if whoever claimed it had been killed
        assert other is None
    sleeper.kill()
    sleeper.wait()
    with claimed(tmp_path) as other:
        assert other is not None


def test_the_command_line_is_cut_at_two_dashes() -> None:
    assert split_passed(["--seeds", "2", "--", "--epochs", "--"]) == (
        ["--seeds", "2"],
        ["--epochs", "--"],
    )
    assert split_passed(["--seeds", "2"]) == (["--seeds", "2"], [])


@pytest.fixture
def failing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A script at the top of the project that says why it fails."""
    text = "import sys\nprint('working')\nsys.exit('no such split: ' + sys.argv[2])\n"
    (tmp_path / "score.py").write_text(text)
    monkeypatch.setattr("tools.jobs.ROOT", tmp_path)
    return "score.py"


def test_a_script_is_shown_as_typed_and_its_failure_told(
    failing: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match=r"^score.py ended with status 1; its message is above$"):
        script(failing, "--split", "a b")
    shown = capfd.readouterr()
    assert shown.out == "\n$ python score.py --split 'a b'\nworking\n"
    assert shown.err == "no such split: a b\n"


def test_the_log_of_a_failed_job_speaks(failing: str, tmp_path: Path) -> None:
    log = tmp_path / "made/log.txt"
    with claimed(tmp_path) as claim:
        assert claim is not None
        for split in ("a", "b"):
            with pytest.raises(
                ValueError, match=rf"status 1: no such split: {split} \(see .*log.txt"
            ):
                logged_script(
                    failing,
                    "--split",
                    split,
                    log=log,
                    environment={},
                    claim=claim,
                    running=Running(),
                )
    lines = log.read_text().splitlines()
    assert [line for line in lines if line.startswith("$")] == [
        "$ python score.py --split a",
        "$ python score.py --split b",
    ]


def test_a_signal_reaches_what_runs_and_what_starts_after_it() -> None:
    running = Running()
    sleeper = subprocess.Popen(["sleep", "60"])
    with ThreadPoolExecutor(1) as pool:
        status = pool.submit(running.wait, sleeper)
        while not running.processes:
            time.sleep(0.01)
        running.pass_on(signal.SIGTERM)
        assert status.result() == -signal.SIGTERM
    assert running.processes == set()
    assert running.wait(subprocess.Popen(["sleep", "60"])) == -signal.SIGTERM


def test_the_time_left_of_a_piece_of_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.jobs.time.monotonic", lambda: 1000.0)
    # 2 done here in 400 s, 7 to go.
    assert countdown(600.0, before=1, done=3, total=10) == "3 of 10, 23 min left"
