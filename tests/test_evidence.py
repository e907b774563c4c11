"""The commands behind docs/evidence.md run from end to end: one epoch, one seed, drawn images."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "benchmarks" / "evidence"
ORDERS = (("cut", "fod", "fifth", "cut_fifth", "all_labels", "terms"), ("short",))
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
    for script in SCRIPTS.iterdir():
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
    scripts = sorted(path.stem for path in SCRIPTS.iterdir())
    assert sorted(sum(ORDERS, ())) == scripts
    for name in scripts:
        shortened((SCRIPTS / f"{name}.sh").read_text())
