"""The comparison: which runs it makes, that it makes each once, and what it says of them."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.browser import check_page
from tools.compare.comparison import compare
from tools.compare.jobs import check_same, environments
from tools.compare.page import drawings, page
from tools.compare.text import markdown
from tools.compare.variants import make_variants, teacher_job
from tools.jobs import claimed
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
    assert kd["sure"] == ["a", "medium", "large"]
    assert longer["sure"] == []
    (gains,) = re.findall(r"<tr><td>a</td>.*?</tr>", page(report).text())
    assert re.findall(r"<b>.*?</b>", gains) == ["<b>+10.00</b>"]
    assert "near zero" not in text
    assert "would not have been found" not in text
    seeds, differences = drawings(report)
    text = "".join(differences.parts)
    assert text.count("stroke:var(--good)") == 2  # kd: mean and interval
    assert text.count("stroke:var(--faint)") == 1  # longer: the mean of one seed
    assert "".join(seeds.parts).count("<circle") == 3 + 3 + 1


def test_doubts_are_said(tmp_path: Path) -> None:
    variants = make_variants(["kd: --temperature 2"], [])
    teacher = teacher_job(tmp_path, "given.pth", [], [])
    jobs = [v.job(tmp_path, seed, teacher.weights) for seed in (0, 1) for v in variants]
    write_json(teacher.folder / "map.json", scores(0.6))
    values = {"alone": (0.01, 0.02), "kd": (0.01, 0.04)}
    for job in jobs:
        write_json(job.folder / "map.json", scores(values[job.title][job.seed]))
    report = compare(teacher, variants, jobs, "voc07")
    text = markdown(report)
    assert "The students are near zero (alone: 1.5)" in text
    write_json(teacher.folder / "map.json", scores(0.01))
    assert "| - |" in markdown(compare(teacher, variants, jobs, "voc07"))  # no gap to close
    # Differences 0 and 2: mean 1, standard error 1, and t of one degree of freedom 12.7.
    assert "one of up to 12.7 points would not have been found either" in text
    assert report["variants"]["kd"]["sure"] == []
    assert "var(--good)" not in "".join(drawings(report)[1].parts)  # nothing to colour


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
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert environments(3) == [{"OMP_NUM_THREADS": "2"}] * 3
    assert environments(1) == [{}]


def test_students_of_one_teacher_share_what_it_said(tmp_path: Path) -> None:
    texts = [
        "asked: --temperature 2",
        "read: --teacher-views 3",
        "own: --teacher-views 3 --memo there",
    ]
    alone, *variants = make_variants(texts, [])
    jobs = [variant.job(tmp_path, 0, Path("t.pth")) for variant in variants]
    shared = str(tmp_path / "memo")
    assert [job.config.memo for job in jobs] == ["", shared, "there"]  # type: ignore[attr-defined]
    assert [shared in job.words for job in jobs] == [False, True, False]
    assert "--memo" not in alone.job(tmp_path, 0, Path("t.pth")).words


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


def test_what_changes_a_result_makes_another_run(tmp_path: Path) -> None:
    """With shares the weights follow the ledger; parts of a batch have their own statistics."""
    flags = ["kd: --share soft=0.4", "often: --share soft=0.4 --ledger-every 5"]
    flags += ["parts: --share soft=0.4 --accumulate 4"]
    flags += ["plain: --preset soft", "plain often: --preset soft --ledger-every 5"]
    jobs = [v.job(tmp_path, 0, tmp_path / "teacher.pth") for v in make_variants(flags, [])[1:]]
    kd, often, parts, plain, plain_often = (job.facts(["VOC2007/test"]) for job in jobs)
    assert kd != often
    assert kd != parts
    assert plain == plain_often


def test_a_report_before_a_run_of_the_baseline(tmp_path: Path) -> None:
    variants = make_variants(["quick: --alone --epochs 2"], [])
    teacher = teacher_job(tmp_path, "given.pth", [], [])
    jobs = [v.job(tmp_path, 0, teacher.weights) for v in variants]
    for job in (teacher, jobs[1]):
        write_json(job.folder / "map.json", scores(0.6))
    report = compare(teacher, variants, jobs, "voc07")
    assert "No run of alone is done, so nothing can be compared yet." in markdown(report)
    assert "quick" in page(report).text()
    assert len(drawings(report)) == 1


def test_a_setting_that_came_later_had_its_default(tmp_path: Path) -> None:
    job = make_variants(["kd: --clip-norm 2"], [])[1].job(tmp_path, 0, tmp_path / "teacher.pth")
    facts = job.facts(["VOC2007/test"])
    before = {key: value for key, value in facts.items() if key not in ("expand", "clip_norm")}
    write_json(job.folder / "job.json", {**before, "clip_norm": 2.0})
    check_same(job, facts)
    write_json(job.folder / "job.json", before)
    with pytest.raises(ValueError, match=r"other clip_norm \(0.0 instead of 2.0\)"):
        check_same(job, facts)


def test_what_decides_the_result_is_part_of_the_budget() -> None:
    (variant,) = make_variants(["kd: --val-every 1 --workers 9 --recipe paper"], [])[1:]
    assert variant.other_budget == "recipe paper instead of auto, val_every 1 instead of 10"
    # 24 of a batch of 32 images are without labels: 8 of each epoch's, not 32, a step.
    more = "kd: --unlabelled A/x --unlabelled-fraction 0.75 --pseudo-score 0.4"
    (variant,) = make_variants([more], [])[1:]
    assert variant.other_budget == "images of A/x without labels, and 4 x the steps an epoch"


def test_choosing_on_the_test_split_is_said(tmp_path: Path) -> None:
    val = ["--val", "VOC2007/test"]
    job = make_variants([], [*val, "--val-every", "5"])[0].job(tmp_path, 0, Path())
    assert job.chosen_on(["VOC2007/test"])
    assert not job.chosen_on(["VOC2007/val"])
    for words in ([*val, "--val-every", "0"], ["--val-every", "5"]):
        last = make_variants([], words)[0].job(tmp_path, 0, Path())
        assert not last.chosen_on(["VOC2007/test"])


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
    assert (tmp_path / "comparison.svg").read_text().count("<circle") == 4
    check_page(tmp_path / "comparison.html", tmp_path / "browser", images=0)

    here.clear()  # more variants: only these are run
    own[-1:] = ["kd: --temperature 2", "longer: --alone --epochs 2"]
    assert script("tools.compare", *own, "--", *shared) == 0
    assert here == ["train_teacher.py", "get_map.py"] * 2

    here.clear()  # another meaning of a known name
    own[-2:] = ["kd: --temperature 3"]
    assert script("tools.compare", *own, "--", *shared) == 2
    assert "holds a run with other temperature (2.0 instead of 3.0)" in one_line()
    assert here == []


WRONG_SOURCES = {
    "teacher": (["--teacher", "none.pth"], [], "--teacher none.pth: no such checkpoint"),
    "test": (["--test", "VOC2007/x"], [], "--test VOC2007/x: "),
    "val": ([], ["--val", "VOC2007/x"], "--val VOC2007/x: "),
    "classes": ([], ["--classes", "none.txt"], "--classes none.txt: no such class list"),
    "variant": (["--variant", "kd: --weights none.pth"], [], "--weights none.pth: no such check"),
    "unlabelled": (
        ["--test", "VOC2007/val", "--variant", "kd: --unlabelled VOC2007/val"],
        [],
        "--unlabelled VOC2007/val: 4 of 4 images are in --test VOC2007/val, too: VOC2007/",
    ),
    "teacher's": (["--teacher-flags", "--train x/y"], [], "--train x/y: "),
}


@pytest.mark.parametrize("case", WRONG_SOURCES)
def test_what_is_missing_shows_before_the_first_run(
    case: str,
    drawn: Path,
    tmp_path: Path,
    script: Callable[..., int],
    here: list[str],
    one_line: Callable[[], str],
) -> None:
    own, shared, message = WRONG_SOURCES[case]
    data = ["--data", drawn, "--train", "VOC2007/train", "--classes", drawn / "VOC2007/classes.txt"]
    assert script("tools.compare", "--out", tmp_path, *own, "--", *data, *shared) == 2
    assert message in one_line()
    assert here == []


def test_all_runs_have_the_teachers_classes(
    drawn: Path, untrained: Path, tmp_path: Path, script: Callable[..., int], here: list[str]
) -> None:
    names = (drawn / "VOC2007/classes.txt").read_text().split()
    shared = ["--data", drawn, "--train", "VOC2007/train", "--no-pretrained", "--device", "cpu"]
    shared += ["--epochs", 1, "--batch-size", 4, "--backbone", TINY]
    own = ["--out", tmp_path, "--seeds", 1, "--teacher", untrained]
    assert script("tools.compare", *own, "--", *shared) == 0
    for variant in ("alone", "objectness"):
        path = tmp_path / f"runs/{variant}/seed-0/best.pth"
        content = torch.load(path, weights_only=True)
        assert content["class_names"] == names
        assert content["config"]["amp"] == "off"  # not each what it measures
    assert len(here) == 5


def test_sigterm_reaches_the_runs(drawn: Path, tmp_path: Path) -> None:
    words = ["-m", "tools.compare", "--out", tmp_path, "--seeds", 1, "--test", "VOC2007/test"]
    words += ["--teacher-flags", f"--backbone {TINY}", "--", "--data", drawn]
    words += ["--train", "VOC2007/train", "--val", "VOC2007/val", "--classes"]
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
    monkeypatch.setattr("tools.compare.__main__.check_sources", lambda *_: None)
    words = ["--out", tmp_path, "--seeds", 2, "--teacher", "given.pth"]
    assert script("tools.compare", *words) == 2
    shown = capsys.readouterr()
    assert "objectness, seed 1: the loss is not finite" in shown.out
    assert "| objectness | 1 | 30.00" in shown.out
    assert "1 runs failed; the first: objectness, seed 1: the loss is not finite" in shown.err
