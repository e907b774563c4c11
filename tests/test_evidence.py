"""The commands behind docs/evidence.md run from end to end: one epoch, one seed, drawn images."""

import json
import os
import re
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

from benchmarks.evidence.answers import PICTURE, picture, table
from benchmarks.evidence.claims import CLAIMS, RESULTS, Claim, read_variant

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "benchmarks" / "evidence"
ORDERS = (
    ("cut", "fod", "fifth", "cut_fifth", "all_labels", "terms"),
    ("own_labels",),
    ("short",),
)
LISTS = ("fifth_neu_det/fifth", "fifth_neu_det/rest", "fifth_fod20/fifth", "fifth_fod20/rest")


def shortened(script: str) -> str:
    """The same commands with an epoch, a seed and a view each, and small batches."""
    script = re.sub(r'--(epochs|seeds|teacher-views) (\d+|"\$.*?")', r"--\1 1", script)
    script = re.sub(r"--batch-size \d+", "--batch-size 4", script)
    assert not re.search(r"--(epochs|seeds|teacher-views) (?!1\b)", script)
    return script


def make_house(house: Path, drawn: Path) -> None:
    """A folder like the repository's, with small data and short scripts."""
    for name in ("nets", "utils", "tools", "train_teacher.py", "train_kd.py"):
        (house / name).symlink_to(ROOT / name)
    for data in ("neu_det", "fod20"):
        shutil.copytree(drawn / "VOC2007", house / "VOCdevkit" / data)
    names = (drawn / "VOC2007/ImageSets/Main/train.txt").read_text().split()
    for path in (*LISTS, "evidence_fod20/train1000"):
        listed = house / "benchmarks" / "results" / f"{path}.txt"
        listed.parent.mkdir(parents=True, exist_ok=True)
        listed.write_text("\n".join(names[4:] if listed.stem == "rest" else names[:4]) + "\n")
    (house / "benchmarks" / "evidence").mkdir()
    for script in SCRIPTS.glob("*.sh"):
        text = shortened(script.read_text())
        (house / "benchmarks" / "evidence" / script.name).write_text(text)


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS, ids=lambda order: order[-1])
def test_the_scripts_of_the_evidence_run_and_go_on_where_they_were(
    order: tuple[str, ...], drawn: Path, tmp_path: Path
) -> None:
    make_house(tmp_path, drawn)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    def logs() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in tmp_path.glob("logs/**/metrics.jsonl")}

    for script in order:
        command = ["bash", f"benchmarks/evidence/{script}.sh"]
        for again in (False, True):
            before = logs()
            run = subprocess.run(
                command, cwd=tmp_path, env=environment, capture_output=True, text=True
            )
            assert run.returncode == 0, f"{script}: {run.stderr}"
            assert (logs() == before) is again, script


def test_no_script_of_the_evidence_is_left_out() -> None:
    scripts = sorted(path.stem for path in SCRIPTS.glob("*.sh"))
    assert sorted(sum(ORDERS, ())) == scripts
    for name in scripts:
        shortened((SCRIPTS / f"{name}.sh").read_text())


DIFFERENCE = re.compile(r"([+-]\d+\.\d)(?:\*\*)?\s?\(([+-]\d+\.\d) to ([+-]\d+\.\d)")


PAGES = ("docs/evidence.md", "benchmarks/evidence/README.md", "README.md", "README.zh.md")


@pytest.mark.parametrize("page", PAGES)
def test_every_difference_with_an_interval_follows_from_runs_on_file(page: str) -> None:
    text = unicodedata.normalize("NFKC", (ROOT / page).read_text("utf-8")).replace(" ~ ", " to ")
    said = [" ".join(match) for match in DIFFERENCE.findall(text)]
    assert len(said) == len(re.findall(r"\d to [+-]", text)) > 8
    found = [x for claim in CLAIMS for x in claim.differences().values()]
    known = {"{:+.1f} {:+.1f} {:+.1f}".format(x.mean, *x.t) for x in found}
    assert set(said) <= known


def test_a_claim_is_the_paired_difference_of_two_variants() -> None:
    runs = json.loads((RESULTS / "all_labels_neu_det/comparison.json").read_text())["variants"]
    longer, cut = (list(runs[name]["seeds"].values()) for name in ("cut, 120 epochs", "cut"))
    differences = [a - b for a, b in zip(longer, cut, strict=True)]
    mean = sum(differences) / 5
    deviation = (sum((d - mean) ** 2 for d in differences) / 4) ** 0.5
    claim = Claim("all_labels_neu_det: cut", "all_labels_neu_det: cut, 120 epochs", ("test",))
    found = claim.differences()["test"]
    assert found.mean == pytest.approx(mean)
    assert found.t[1] - mean == pytest.approx(2.776445 * deviation / 5**0.5)  # t, 4 degrees


@pytest.mark.parametrize("folder", ["cut_neu_det", "all_labels_neu_det"])
@pytest.mark.parametrize("split", ["test", "val"])
def test_a_claim_about_runs_that_are_not_there_is_refused(folder: str, split: str) -> None:
    with pytest.raises(ValueError, match=f"no voc07 of 'nobody' on '{split}'"):
        read_variant(f"{folder}: nobody", split)


def test_the_tables_and_the_picture_are_what_the_runs_say() -> None:
    lines, picture_text = table(), picture()
    assert "\n".join(lines) in (ROOT / "docs/evidence.md").read_text("utf-8")
    section = (ROOT / "README.md").read_text("utf-8").split("## Does it help?")[1].split("\n## ")[0]
    shown = [line for line in section.splitlines() if line.startswith("|")]
    assert [line for line in lines if line in shown] == shown
    assert len(shown) > 10
    assert PICTURE.read_text("utf-8") == picture_text


def test_a_row_is_bold_where_its_interval_excludes_nothing() -> None:
    rows = {line.split(" |")[0]: line for line in table()}
    assert (
        "60.2 → 64.5 | **+4.3** (+3.1 to +5.5) |"
        in rows["| other pictures (`--unlabelled`), NEU-DET"]
    )
    assert (
        "66.1 → 67.2 | **+1.1** (+0.4 to +1.8), 3 seeds |  |"
        in rows["| all labels, 240 epochs, NEU-DET"]
    )
    assert "65.8 → 65.7 | -0.1 (-1.6 to +1.4) |" in rows["| soft targets, 60 epochs, NEU-DET"]
