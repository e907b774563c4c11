"""The demonstration, small: every picture and the table are there."""

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.browser import check_page
from tests.conftest import Refused
from tools.demo import __main__ as demo
from tools.demo.__main__ import MARKER, DemoConfig, second_step, time_left, what_next
from tools.export.__main__ import ExportConfig
from utils.cli import parse_arguments


def demonstrate(out: Path, script: Callable[..., int]) -> None:
    """Runs the demonstration into `out` and looks at what it made."""
    sizes = ["--train", 12, "--labelled", 8, "--test", 4]
    sizes += ["--teacher-epochs", 1, "--student-epochs", 2]
    nets = ["--teacher", "resnet18(width=0.125)", "--student", "resnet18(width=0.125)"]
    assert script("tools.demo", "--out", out, *sizes, *nets) == 0
    rows = (out / "comparison.txt").read_text().splitlines()
    assert rows[0].split() == ["params", "GFLOPs", "img/s", "voc07", "voc10", "coco"]
    titles = ["teacher", "student alone", "student distilled", "distilled - alone"]
    assert all(row.startswith(title) for row, title in zip(rows[1:], titles, strict=True))
    alone, distilled, gain = (row.split()[-3:] for row in rows[2:])
    for a, d, g in zip(alone, distilled, gain, strict=True):
        assert float(g) == pytest.approx(float(d) - float(a), abs=0.011)
    for name in ("side_by_side", "teacher/precision_recall", "alone/precision_recall"):
        with Image.open(out / f"{name}.png") as picture:
            assert min(picture.size) > 300
    text = (out / "report.html").read_text("utf-8")
    assert "student distilled, train" in text
    assert f"{float(gain[0]):+.1f} points of voc07" in text
    assert (out / "report.html").stat().st_size < 2.5e6
    assert list((out / "memo").glob("*/*"))  # the teacher was asked once about each view
    check_page(out / "report.html", out.parent / "browser", images=0)
    pictures = out.parent / "pictures"
    assert script("tools.demo.pictures", "--demo", out, "--out", pictures) == 0
    for name in ("side_by_side.jpg", "report.jpg"):
        with Image.open(pictures / name) as picture:
            assert 300 < picture.width <= 1100


def test_pictures_want_a_demonstration(
    tmp_path: Path, script: Callable[..., int], one_line: Callable[[], str]
) -> None:
    assert script("tools.demo.pictures", "--demo", tmp_path) == 2
    assert "report.html: no such page; run `python -m tools.demo` before" in one_line()


def test_the_demonstration_ends_with_a_table_and_pictures(
    tmp_path: Path, script: Callable[..., int], here: list[str]
) -> None:
    demonstrate(tmp_path / "demo", script)
    training = ["train_teacher.py", "train_teacher.py", "train_kd.py"]
    assert here == [*training, *["get_map.py"] * 3]


@pytest.mark.slow
def test_the_demonstration_in_processes(tmp_path: Path, script: Callable[..., int]) -> None:
    demonstrate(tmp_path / "demo", script)


def test_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo.time, "perf_counter", lambda: 310.0)
    assert time_left(10.0, 1.5, 0.1) == "about 20 s left"
    # The teacher costs 20 epochs of 3 x 0.58 GFLOPs an image, the student 30 of 3 x 0.19, and one
    # pass of the teacher in 10 of them: 34.8 and 22.9.
    assert second_step(DemoConfig()) == pytest.approx(22.9 / 34.8 / 1.5, rel=0.03)


def test_a_folder_of_somebody_else_is_left_alone(
    tmp_path: Path, script: Callable[..., int], one_line: Callable[[], str]
) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    assert script("tools.demo", "--out", tmp_path) == 2
    assert "holds files that no demonstration made" in one_line()
    assert (tmp_path / "thesis.tex").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seed", "-1"], "--seed must be in 0 .. 2^32 - 1, not -1"),
        (["--teacher", "hello"], "unknown backbone 'hello'"),
        (["--student", "resnet18("], "cannot read spec 'resnet18('"),
        (["--test", "0"], "--test must be at least 1"),
        (["--labelled", "7"], "--labelled must be at least 8, not 7"),
        (["--teacher", "resnet18(widht=0.25)"], "widht"),
        (["--train", "40"], "--labelled 40 of --train 40 leaves no picture without labels"),
    ],
)
def test_settings_are_refused_before_an_earlier_demonstration_is_emptied(
    words: list[str], message: str, tmp_path: Path, refused: Refused
) -> None:
    for name in (MARKER, "comparison.txt"):
        (tmp_path / name).write_text("hours of work")
    assert message in refused("tools.demo", "--out", tmp_path, *words)
    assert (tmp_path / "comparison.txt").exists()


def test_it_ends_with_commands_that_can_be_typed(tmp_path: Path) -> None:
    _, *lines = what_next(tmp_path).splitlines()
    for line in lines:
        program, flag, tool, *arguments = shlex.split(line)
        assert (program, flag, tool) == ("python", "-m", "tools.export")
        config = parse_arguments(ExportConfig, arguments)
        assert config.weights == str(tmp_path / "distilled/best.pth")
        assert config.data == str(tmp_path / "VOCdevkit")
    assert len(lines) == 2
    assert config.int8
