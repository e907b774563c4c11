"""Every command in the README runs, in its order, on a small drawn devkit."""

import re
import shlex
from pathlib import Path

import pytest

from tests.conftest import Script
from tools.demo.drawn_set import make_drawn_set

ROOT = Path(__file__).parent.parent
BLOCKS = re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.S)
COMMANDS = [line for block in BLOCKS for line in block.splitlines() if line.strip()]
# What makes a command small; the last one of two equal flags counts.
TINY = ["--no-pretrained", "--epochs", "1", "--batch-size", "2", "--device", "cpu"]
SMALLER = {
    "train_teacher.py": [*TINY, "--backbone", "resnet18(width=0.125)"],
    "train_kd.py": [*TINY, "--backbone", "resnet18(width=0.125)"],
    "get_map.py": ["--device", "cpu"],
    "predict.py": ["--device", "cpu"],
}


def test_every_script_is_shown() -> None:
    words = {shlex.split(command, comments=True)[1] for command in COMMANDS}
    assert set(SMALLER) | {"demo", "test"} <= words


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for command in COMMANDS:
        program, target, *_ = shlex.split(command, comments=True)
        if program == "make":
            assert re.search(rf"^{target}:", makefile, re.M)


@pytest.mark.usefixtures("here")
def test_commands_run_in_the_order_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: Script
) -> None:
    devkit = tmp_path / "VOCdevkit"
    make_drawn_set(devkit, train=2, val=2, test=2, seed=3)
    (devkit / "VOC2007").rename(devkit / "VOC2012")
    make_drawn_set(devkit, train=2, val=2, test=2, seed=4)
    (tmp_path / "model_data").mkdir()
    classes = (devkit / "VOC2007/classes.txt").read_text("utf-8")
    (tmp_path / "model_data/voc_classes.txt").write_text(classes, "utf-8")
    monkeypatch.chdir(tmp_path)
    ran = []
    for command in COMMANDS:
        program, name, *arguments = shlex.split(command, comments=True)
        if name == "-m" and arguments[0] == "tools.check_data":
            assert script(*arguments, "--workers", "1") == 0, command
            assert (tmp_path / "logs/data.html").exists()
        if name == "-m" and arguments[0] == "tools.compare":
            cut = arguments.index("--")
            own = [word.replace("--epochs 464", "--epochs 2") for word in arguments[:cut]]
            shared = [*arguments[cut:], *SMALLER["train_kd.py"]]
            assert script(*own, "--seeds", "1", *shared) == 0, command
            assert (tmp_path / "logs/compare/comparison.png").exists()
        if name == "-m" and arguments[0] in ("tools.export", "tools.prune"):
            assert script(*arguments, "--device", "cpu") == 0, command
        if name == "-m" and arguments[0] == "tools.report":
            assert script(*arguments, "--device", "cpu") == 0, command
            assert (tmp_path / "logs/students.html").exists()
        if name == "-m" and arguments[0] == "tools.scoreboard":
            assert script(*arguments, "--device", "cpu", "--runs", "1") == 0, command
            assert (tmp_path / "logs/scoreboard/scoreboard.png").exists()
        if name == "-m" and arguments[0] == "tools.teacher_report":
            assert script(*arguments, "--device", "cpu") == 0, command
        if name == "-m" and arguments[0] == "tools.tune":
            training = arguments.index("--")
            smaller = [*arguments[:training], "--trials", "1", *arguments[training:]]
            assert script(*smaller, *SMALLER["train_kd.py"]) == 0, command
            assert (tmp_path / "logs/tune/trials.md").exists()
        if program == "python" and name in SMALLER:
            assert script(name.removesuffix(".py"), *arguments, *SMALLER[name]) == 0, command
            ran.append(name)
    assert len(ran) >= 6
    assert (tmp_path / "logs/student/map.json").exists()
    written = {path.name for path in (tmp_path / "logs/report").iterdir()}
    assert written == {"teacher.json", "teacher.html"}
    assert len(list((tmp_path / "logs/predict").glob("*.jpg"))) == 6
