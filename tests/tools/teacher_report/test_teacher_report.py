"""The teacher report on a small drawn devkit, with untrained networks; and what it refuses."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from nets.saved import describe_network
from nets.ssd import SSD300
from tests.browser import check_page
from tools.teacher_report.__main__ import pair as pair_of
from utils.data.voc import read_classes, read_split
from utils.engine.runs.checkpoint import save_checkpoint

TINY = "resnet18(width=0.125)"


def save(
    path: Path,
    names: tuple[str, ...],
    seed: int,
    layout: str = "paper",
    background: float = 0.0,
) -> Path:
    """An untrained network with opinions (a fresh one says nearly the same of everything)."""
    torch.manual_seed(seed)
    model = SSD300(TINY, len(names), layout=layout)
    for head in model.conf:
        torch.nn.init.normal_(head.bias)
        head.bias.data.view(-1, len(names) + 1)[:, 0] += background
    save_checkpoint(path, {**describe_network(model, names), "model": model.state_dict()})
    return path


@pytest.fixture(scope="module")
def pair(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("pair")
    names = read_classes(drawn / "VOC2007/classes.txt")
    teacher = save(folder / "teacher.pth", names, 1, background=-20)
    return teacher, save(folder / "student.pth", names, 2, background=3)


def on(drawn: Path, teacher: Path, student: Path, *extra: object) -> list[object]:
    data = ["--data", drawn, "--split", "VOC2007/test", "--device", "cpu", "--workers", 1]
    return ["--teacher", teacher, "--student", student, *data, *extra]


def test_terminal_json_and_page(
    pair: tuple[Path, Path],
    drawn: Path,
    tmp_path: Path,
    script: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, file = tmp_path / "report", tmp_path / "report.json"
    arguments = on(drawn, *pair, "--json", file, "--out", out, "--batch-size", 4, "--tables")
    assert script("tools.teacher_report", *arguments) == 0
    text = capsys.readouterr().out
    report = json.loads(file.read_text())
    assert report["images"] == 6
    assert text.index(report["conclusions"][0]) < text.index("AVERAGE PRECISION")
    assert report["conclusions"][0].startswith("Teacher AP")
    everything = report["all"]
    for groups in (report["classes"], report["sizes"]):
        for key in ("objects", "positives"):
            assert sum(group[key] for group in groups.values()) == everything[key]
    samples, _ = read_split(drawn, ["VOC2007/test"], list(report["classes"]))
    objects = sum(int((~sample.annotation.difficult).sum()) for sample in samples)
    assert everything["positives"] >= everything["objects"] == objects > 0
    # The teacher never calls a positive background, the student nearly always does.
    assert everything["background"]["teacher"] == 0
    assert everything["background"]["student"] > 0.5
    star = report["classes"]["star"]
    assert sum(size["positives"] for size in star["sizes"].values()) == star["positives"]
    mined = report["hard_negatives"]["number"]
    assert mined >= 3 * everything["positives"]  # and 100 of an image without objects
    check_page(out / "teacher.html", tmp_path, images=0)
    # AP is that of get_map.py, to the last digit.
    data = ["--data", drawn, "--split", "VOC2007/test", "--device", "cpu"]
    for side, weights in zip(("teacher", "student"), pair, strict=True):
        assert script("get_map", "--weights", weights, *data, "--json", tmp_path / "m.json") == 0
        expected = json.loads((tmp_path / "m.json").read_text())
        assert everything["ap"]["voc07"][side] == expected["voc07"]["mAP"]
        assert report["sizes"]["medium"]["ap"]["coco"][side] == expected["coco"]["APm"]
        for name, group in report["classes"].items():
            assert group["ap"]["voc07"][side] == expected["voc07"]["per_class"][name]


def test_a_difference_is_what_the_teacher_has_more() -> None:
    ap = {"teacher": {"coco": {"AP": 0.75}}, "student": {"coco": {"AP": 0.5}}}
    assert pair_of(ap, "coco", "AP") == {"teacher": 0.75, "student": 0.5, "difference": 0.25}


def test_a_network_learns_nothing_from_itself(
    pair: tuple[Path, Path], drawn: Path, tmp_path: Path, script: Callable[..., int]
) -> None:
    assert (
        script("tools.teacher_report", *on(drawn, pair[0], pair[0], "--json", tmp_path / "r")) == 0
    )
    report = json.loads((tmp_path / "r").read_text())
    for group in (report["all"], *report["classes"].values(), *report["sizes"].values()):
        for reading in ("box_error", "iou", "probability", "cross_entropy", "accuracy"):
            assert group[reading]["teacher"] == group[reading]["student"]
        assert all(ap["difference"] in (0, None) for ap in group["ap"].values())
        assert not group["helps"]
        assert group["bound_active"] in (0, None)
    assert "no room; soft targets can help in 0 of" in report["conclusions"][0]


def test_a_split_without_any_object(
    pair: tuple[Path, Path],
    tmp_path: Path,
    script: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    year = tmp_path / "devkit/VOC2007"
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (year / name).mkdir(parents=True)
    Image.new("RGB", (60, 40)).save(year / "JPEGImages/a.jpg")
    size = "<size><width>60</width><height>40</height></size>"
    (year / "Annotations/a.xml").write_text(f"<annotation>{size}</annotation>")
    (year / "ImageSets/Main/test.txt").write_text("a\n")
    arguments = on(tmp_path / "devkit", *pair, "--json", tmp_path / "r.json", "--out", tmp_path)
    assert script("tools.teacher_report", *arguments) == 0
    assert "There is no object in the split" in capsys.readouterr().out
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["all"]["iou"] == {"teacher": None, "student": None}
    assert report["hard_negatives"]["number"] == 100


def test_refusals_are_one_line(
    pair: tuple[Path, Path],
    drawn: Path,
    tmp_path: Path,
    script: Callable[..., int],
    one_line: Callable[[], str],
) -> None:
    names = read_classes(drawn / "VOC2007/classes.txt")
    other = save(tmp_path / "order.pth", names[::-1], 1)
    fewer = save(tmp_path / "fewer.pth", names[:4], 1)
    priors = save(tmp_path / "priors.pth", names, 1, "torchvision")
    (tmp_path / "classes.txt").write_text("\n".join(names[::-1]))
    cases = [
        (other, pair[1], [], "class 1 is 'triangle' to the teacher and 'cross' in the student's"),
        (fewer, pair[1], [], "the teacher knows 4 classes, the student 5"),
        (priors, pair[1], [], "the teacher's prior layout is 'torchvision'"),
        (pair[0], tmp_path / "none.pth", [], "none.pth"),
        (*pair, ["--classes", tmp_path / "classes.txt"], "'triangle' in --classes"),
        (*pair, ["--split", "VOC2007/none"], "no such split"),
        (*pair, ["--batch-size", "0"], "--batch-size must be at least 1"),
        (*pair, ["--student", ""], "--teacher and --student are needed"),
        (*pair, ["--split"], "--split names no split"),
        (*pair, ["--reg-m", "nan"], "--reg-m must be at least"),
        (*pair, ["--json", pair[1]], "student.pth is read, too, and would be lost"),
        (*pair, ["--out", pair[1]], "student.pth is no folder"),
    ]
    for teacher, student, extra, message in cases:
        assert script("tools.teacher_report", *on(drawn, teacher, student, *extra)) == 2
        assert message in one_line()
    # With --match-priors the third is accepted.
    assert script("tools.teacher_report", *on(drawn, priors, pair[1], "--match-priors")) == 0
