"""The comparison: which runs it makes, that it makes each once, and what it says of them."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tools.compare.comparison import compare
from tools.compare.jobs import check_same, environments
from tools.compare.text import markdown
from tools.compare.variants import make_variants, teacher_job
from tools.jobs import TORCHRUN, claimed, logged_script, own_environment, split_passed
from utils.show.report import write_json

TINY = "resnet18(width=0.125)"


def scores(ap: float) -> dict[str, object]:
    """A map.json; class b has no objects."""
    classes = {"a": ap, "b": None}
    return {
        "split": ["VOC2007/test"],
        "images": 6,
        "backbone": TINY,
        "parameters": 10,
        "gflops": 0.1,
        "voc07": {"mAP": ap, "per_class": classes},
        "voc10": {"mAP": ap / 2, "per_class": classes},
        "coco": {"AP": ap / 4, "APs": None, "APm": ap / 8, "APl": ap / 4, "per_class": classes},
    }


def test_a_report_by_hand(tmp_path: Path) -> None:
    variants = make_variants(["kd: --temperature 2", "longer: --alone --epochs 400"], [])
    teacher = teacher_job(tmp_path, "given.pth", [], [])
    jobs = [v.job(tmp_path, seed, teacher.weights) for seed in (0, 1, 2) for v in variants]
    write_json(teacher.folder / "map.json", scores(0.6))
    values = {"alone": (0.2, 0.3, 0.4), "kd": (0.29, 0.4, 0.51), "longer": (0.1,)}
    for job in jobs:
        if job.seed < len(values[job.title]):
            write_json(job.folder / "map.json", scores(values[job.title][job.seed]))
    report = compare(teacher, variants, jobs, "voc07")
    alone, kd, longer = (report["variants"][name] for name in values)
    assert alone["mean"] == pytest.approx(30)
    assert alone["sd"] == pytest.approx(10)
    assert kd["means"] == pytest.approx({"voc07": 40, "voc10": 20, "coco": 10})
    # Differences 9, 10, 11: mean 10, sd 1; 10 of the 30 points to the teacher.
    assert kd["difference"]["mean"] == pytest.approx(10)
    assert kd["difference"]["sd"] == pytest.approx(1)
    assert kd["gap_closed"] == pytest.approx(1 / 3)
    assert kd["verdict"] == "a significant gain"
    assert kd["class_gain"] == pytest.approx({"a": 10, "b": float("nan")}, nan_ok=True)
    assert kd["size_gain"]["medium"] == pytest.approx(10 / 8)
    assert kd["other_budget"] == ""
    assert longer["other_budget"] == "epochs 400 instead of 232"
    assert longer["gap_closed"] == pytest.approx(-10 / 40)  # of its own pair: 10, 20 and 60
    assert longer["verdict"] == "one seed says nothing about chance"
    text = markdown(report)
    assert "| kd | 3 | 40.00 | 20.00 | 10.00 | 11.00 | +10.00 | +7.52 to +12.48 |" in text
    assert "**kd** (`--temperature 2`): +10.00 over 3 pairs" in text
    assert (
        "python train_kd.py --backbone mobilenetv2 --temperature 2 --seed 1 --teacher given.pth"
        in text
    )
    assert "| b | - | - |" in text


@pytest.mark.parametrize(
    ("variants", "shared", "message"),
    [
        (["no colon"], [], "is not 'name: flags'"),
        (["a/b: --preset paper"], [], "is not 'name: flags'"),
        (["alone: --preset paper"], [], "names 'alone' twice"),
        (["kd: --seed 3"], [], "kd: the comparison sets --seed for each run; leave it out"),
        ([], ["--name=mine"], "alone: the comparison sets --name=mine"),
        (["kd: --temperature 0"], [], "kd: --temperature must be above 0"),
    ],
)
def test_wrong_variants_are_refused_before_any_run(
    variants: list[str], shared: list[str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make_variants(variants, shared)


def test_without_scipy_one_line_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Callable[..., str]
) -> None:
    monkeypatch.setitem(sys.modules, "scipy", None)
    out = tmp_path / "compare"
    assert refused("tools.compare", "--out", out).endswith(
        "this needs scipy; install it with: pip install -e '.[compare]'"
    )
    assert not out.exists()


def test_a_given_teacher_is_not_trained(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="leave out one"):
        teacher_job(tmp_path, "given.pth", [], ["--epochs", "3"])


def test_jobs_take_the_gpus_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert [e["CUDA_VISIBLE_DEVICES"] for e in environments(3)] == ["0", "1", "0"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert environments(1) == [{"CUDA_VISIBLE_DEVICES": "7"}]


def test_jobs_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert environments(3) == [{"OMP_NUM_THREADS": "2"}] * 3
    assert environments(1) == [{}]


def test_a_job_joins_none_of_torchruns_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "TORCHELASTIC_RUN_ID"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("HOME", "here")
    kept = own_environment()
    assert kept["HOME"] == "here"
    assert not [name for name in kept if name.startswith(TORCHRUN)]


def test_another_file_under_the_teachers_name_is_noticed(tmp_path: Path) -> None:
    weights = tmp_path / "given.pth"
    weights.write_bytes(b"one")
    teacher = teacher_job(tmp_path, str(weights), [], [])
    (variant,) = make_variants(["kd: --temperature 2"], [])[1:]
    job = variant.job(tmp_path, 0, weights)
    for which in (teacher, job):
        write_json(which.folder / "job.json", which.facts(["VOC2007/test"]))
        check_same(which, which.facts(["VOC2007/test"]))
    weights.write_bytes(b"two")
    for which, key in ((teacher, "weights"), (job, "teacher")):
        with pytest.raises(ValueError, match=f"holds a run with other {key}"):
            check_same(which, which.facts(["VOC2007/test"]))


def test_what_decides_the_result_is_part_of_the_budget() -> None:
    (variant,) = make_variants(["kd: --val-every 1 --workers 9"], [])[1:]
    assert variant.other_budget == "val_every 1 instead of 10"


def test_choosing_on_the_test_split_is_said(tmp_path: Path) -> None:
    val = ["--val", "VOC2007/test"]
    job = make_variants([], [*val, "--val-every", "5"])[0].job(tmp_path, 0, Path())
    assert job.chosen_on(["VOC2007/test"])
    assert not job.chosen_on(["VOC2007/val"])
    for words in ([*val, "--val-every", "0"], ["--val-every", "5"]):
        last = make_variants([], words)[0].job(tmp_path, 0, Path())
        assert not last.chosen_on(["VOC2007/test"])


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


def test_the_log_of_a_failed_job_speaks(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    with claimed(tmp_path) as claim:
        assert claim is not None
        with pytest.raises(ValueError, match=r"status 2: .*--weights.* \(see .*log.txt"):
            logged_script("get_map.py", log=log, environment={}, claim=claim)
    assert log.read_text().startswith("$ python get_map.py\n")


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, script: Callable[..., int]) -> list[str]:
    """Runs jobs in this process; returns what ran."""
    ran: list[str] = []

    def in_process(name: str, *arguments: object, **rest: object) -> None:
        del rest
        ran.append(name)
        if script(name.removesuffix(".py"), *arguments):
            raise ValueError(f"{name} failed")

    monkeypatch.setattr("tools.compare.jobs.logged_script", in_process)
    return ran


def test_runs_are_made_once(
    drawn: Path,
    tmp_path: Path,
    script: Callable[..., int],
    here: list[str],
    one_line: Callable[[], str],
) -> None:
    shared = ["--data", drawn, "--train", "VOC2007/train", "--val", "VOC2007/val", "--classes"]
    shared += [drawn / "VOC2007/classes.txt", "--no-pretrained", "--device", "cpu", "--epochs", 1]
    shared += ["--batch-size", 4, "--backbone", TINY]
    own = ["--out", tmp_path, "--seeds", 2, "--test", "VOC2007/test", "--teacher-flags"]
    own += [f"--backbone {TINY} --epochs 2", "--variant", "kd: --temperature 2"]
    assert script("tools.compare", *own, "--", *shared) == 0
    # The teacher, and for each of two seeds the student alone and distilled; all are scored.
    assert here.count("train_teacher.py") == 3
    assert here.count("train_kd.py") == 2
    assert here.count("get_map.py") == 5
    report = json.loads((tmp_path / "comparison.json").read_text())
    assert list(report["variants"]) == ["alone", "kd"]
    assert report["variants"]["kd"]["difference"]["seeds"] == 2
    assert (tmp_path / "comparison.md").read_text().startswith("# Comparison on VOC2007/test")
    with Image.open(tmp_path / "comparison.png") as picture:
        assert picture.width > 1000

    here.clear()  # more variants: only these are run
    own[-1:] = ["kd: --temperature 2", "longer: --alone --epochs 2"]
    assert script("tools.compare", *own, "--", *shared) == 0
    assert here == ["train_teacher.py", "get_map.py"] * 2

    here.clear()  # another meaning of a known name
    own[-2:] = ["kd: --temperature 3"]
    assert script("tools.compare", *own, "--", *shared) == 2
    assert "holds a run with other temperature (2.0 instead of 3.0)" in one_line()
    assert here == []


def test_sigterm_reaches_the_runs(drawn: Path, tmp_path: Path) -> None:
    words = ["-m", "tools.compare", "--out", tmp_path, "--seeds", 1, "--test", "VOC2007/test", "--"]
    words += ["--data", drawn, "--train", "VOC2007/train", "--val", "VOC2007/val", "--classes"]
    words += [drawn / "VOC2007/classes.txt", "--no-pretrained", "--device", "cpu", "--workers", 1]
    words += ["--batch-size", 4, "--backbone", TINY, "--epochs", 1000, "--val-every", 0]
    comparing = subprocess.Popen(
        [sys.executable, *map(str, words)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        while comparing.poll() is None and not list(tmp_path.glob("teacher/last.pth")):
            time.sleep(0.1)
        comparing.terminate()
        said = comparing.communicate()[1].decode()
    finally:
        comparing.kill()
    assert comparing.returncode == 128 + signal.SIGTERM
    assert said.splitlines()[-1].endswith("stopped by SIGTERM; the same command goes on")
    log = (tmp_path / "teacher/log.txt").read_text()
    assert log.splitlines()[-1].startswith("train_teacher.py: stopped by SIGTERM; ")
    assert (tmp_path / "teacher/last.pth").is_file()
    assert not (tmp_path / "runs").exists()
    with claimed(tmp_path / "teacher") as claim:
        assert claim is not None


def test_a_failed_run_is_named_and_the_others_are_compared(
    tmp_path: Path,
    script: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fake(name: str, *arguments: object, **rest: object) -> None:
        del rest
        words = list(map(str, arguments))
        if name == "train_kd.py" and words[words.index("--seed") + 1] == "1":
            raise ValueError("the loss is not finite")
        if name == "get_map.py":
            write_json(words[words.index("--json") + 1], scores(0.3))

    monkeypatch.setattr("tools.compare.jobs.logged_script", fake)
    words = ["--out", tmp_path, "--seeds", 2, "--teacher", "given.pth"]
    assert script("tools.compare", *words) == 2
    shown = capsys.readouterr()
    assert "tutorial, seed 1: the loss is not finite" in shown.out
    assert "| tutorial | 1 | 30.00" in shown.out
    assert "1 runs failed; the first: tutorial, seed 1: the loss is not finite" in shown.err
