"""The real command lines, teacher to mAP, on a small drawn devkit; and what they refuse."""

import json
import math
import re
import shutil
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from tests.browser import check_page
from tests.conftest import Refused, Script
from tools.demo.drawn_set import make_drawn_set
from utils.cli import program
from utils.config import PredictConfig
from utils.engine.runs.checkpoint import save_checkpoint
from utils.engine.runs.log import curves, draw_curves, read_metrics

SMALL = ["--backbone", "resnet18(width=0.125)", "--no-pretrained", "--epochs", "1"]
SMALL += ["--batch-size", "4", "--workers", "1", "--device", "cpu"]


def on(devkit: Path, *extra: object) -> list[object]:
    """The arguments that point a training script at a drawn devkit."""
    classes = devkit / "VOC2007/classes.txt"
    splits = ["--train", "VOC2007/train", "--val", "VOC2007/val"]
    return [*SMALL, "--data", devkit, *splits, "--classes", classes, *extra]


@pytest.fixture(scope="module")
def runs(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the two runs of the two-stage script: `student-teacher` and `student`."""
    from train_kd import main

    logs = tmp_path_factory.mktemp("logs")
    teacher = ["--teacher-backbone", "resnet18(width=0.25)", "--no-teacher-pretrained"]
    main([str(a) for a in on(drawn, "--logs", logs, *teacher)])
    return logs


def test_two_stages_write_everything(runs: Path) -> None:
    for name, terms in (("student-teacher", {"conf", "loc"}), ("student", {"soft", "l2"})):
        files = {path.name for path in (runs / name).iterdir()}
        assert {"best.pth", "last.pth", "metrics.jsonl", "curves.png", "config.json"} <= files
        assert "report.html" in files
        (row,) = read_metrics(runs / name / "metrics.jsonl")
        assert all(f"{part}/{term}" in row for part in ("train", "val") for term in terms)
        assert 0 <= row["mAP"] <= 1
        with Image.open(draw_curves(runs / name)) as picture:
            assert picture.height == 300 * math.ceil(len(curves([row])) / 3)
    best = torch.load(runs / "student/best.pth", weights_only=True)
    assert best["backbone"] == "resnet18(width=0.125)"  # the student's, and nothing of the teacher
    assert not any("teacher" in key for key in best["model"])


def test_pages_of_a_run_and_of_two(
    runs: Path, tmp_path: Path, script: Script, refused: Refused
) -> None:
    page = (runs / "student/report.html").read_text("utf-8")
    assert "teacher voc07" in page  # it has seen all images of so small a split
    both = [runs / "student-teacher", runs / "student"]
    line = refused("tools.report", both[0], "--out", f"{both[0]}/best.pth")
    assert "best.pth is read, too, and would be lost" in line
    out, split = tmp_path / "both.html", ["--device", "cpu", "--split", "VOC2007/test"]
    split += ["--teacher", both[0] / "best.pth"]
    assert script("tools.report", *both, "--out", out, *split) == 0
    text = out.read_text("utf-8")
    assert "2 runs side by side" in text
    assert "VOC2007/test" in text
    check_page(out, tmp_path, images=6)
    # The student's teacher is that run, and no third network; a run may be called so itself.
    assert not re.search(r"(?<!-)teacher voc07", text)
    shutil.copytree(runs / "student", tmp_path / "teacher")
    assert script("tools.report", tmp_path / "teacher", *split) == 0
    text = (tmp_path / "teacher/report.html").read_text("utf-8")
    assert "its teacher voc07" in text
    assert "no such file" in refused("tools.report", tmp_path)
    assert "no run is named" in refused("tools.report")
    assert "named twice" in refused("tools.report", both[0], both[0])


def test_map_of_a_checkpoint(runs: Path, drawn: Path, tmp_path: Path, script: Script) -> None:
    out = tmp_path / "map.json"
    weights = runs / "student/best.pth"
    arguments = ["--weights", weights, "--data", drawn, "--split", "VOC2007/test"]
    assert script("get_map", *arguments, "--json", out, "--plots", tmp_path / "plots") == 0
    report = json.loads(out.read_text())
    assert report["images"] == 6
    assert set(report["voc07"]["per_class"]) == {"cross", "disc", "square", "star", "triangle"}
    assert {"AP", "AP50", "AP75"} <= set(report["coco"])
    assert report["images_per_second"] > 0
    plots = {path.name for path in (tmp_path / "plots").iterdir()}
    assert plots == {"precision_recall.png", "confusion.png", "worst.png"}


@pytest.mark.parametrize("amp", ["off", "bf16"])
def test_map_of_a_run_is_reproduced_to_the_last_digit(
    amp: str, drawn: Path, tmp_path: Path, script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    words = on(drawn, "--logs", tmp_path, "--amp", amp, "--train", "VOC2007/test", "--lr", "0.01")
    words += ["--val", "VOC2007/train", "--batch-size", "3", "--epochs", "10", "--ema", "0.9"]
    assert script("train_teacher", *words, "--optimizer", "adamw") == 0
    best = torch.load(tmp_path / "ssd300/best.pth", weights_only=True)
    assert best["metrics"]["mAP"] > 0
    arithmetic = {"device": "cpu", "dtype": {"off": "float32", "bf16": "bfloat16"}[amp]}
    assert best["arithmetic"] == arithmetic
    words = ["--weights", tmp_path / "ssd300/best.pth", "--data", drawn, "--device", "cpu"]
    words += ["--split", "VOC2007/train", "--batch-size", "3", "--json", tmp_path / "map.json"]
    capsys.readouterr()
    assert script("get_map", *words) == 0
    report = json.loads((tmp_path / "map.json").read_text())
    assert report["voc07"]["mAP"] == best["metrics"]["mAP"]
    assert report["arithmetic"] == arithmetic
    assert f"{arithmetic['dtype']} on cpu" in capsys.readouterr().out
    other, dtype = {"off": ("bf16", "bfloat16"), "bf16": ("off", "float32")}[amp]
    assert script("get_map", *words, "--amp", other) == 0
    report = json.loads((tmp_path / "map.json").read_text())
    assert report["arithmetic"]["dtype"] == dtype
    for key in ("arithmetic", "provenance"):  # as older versions wrote it
        del best[key]
    save_checkpoint(tmp_path / "ssd300/best.pth", best)
    assert script("get_map", *words) == 0
    assert json.loads((tmp_path / "map.json").read_text())["arithmetic"]["dtype"] == "float32"


def test_result_files_give_the_same_map(
    runs: Path, drawn: Path, tmp_path: Path, script: Script, refused: Refused
) -> None:
    data = ["--data", drawn, "--split", "VOC2007/test"]
    weights = ["--weights", runs / "student-teacher/best.pth"]
    saved = ["--save-detections", tmp_path / "files", "--json", tmp_path / "a.json"]
    assert script("get_map", *data, *weights, *saved) == 0
    files = ["--detections", tmp_path / "files", "--classes", drawn / "VOC2007/classes.txt"]
    assert script("get_map", *data, *files, "--json", tmp_path / "b.json") == 0
    a, b = (json.loads((tmp_path / name).read_text()) for name in ("a.json", "b.json"))
    for protocol in ("voc07", "voc10", "coco"):
        assert a[protocol] == b[protocol]  # to the last digit
    lines = (tmp_path / "files/comp4_det_test_disc.txt").read_text().splitlines()
    assert lines[0].startswith("test_0000")  # the devkit's ids, without the year
    assert "is not in VOC2007/val" in refused(
        "get_map", "--data", drawn, "--split", "VOC2007/val", *files
    )
    own = tmp_path / "files/comp4_det_test_disc.txt"
    assert "disc.txt is read, too" in refused("get_map", *data, *files, "--json", own)
    assert "--detections needs --classes" in refused("get_map", *data, *files[:2])
    assert "give either --weights" in refused("get_map", *data, *files, *weights)
    line = refused("get_map", *data, *files, "--top-k", "5")
    assert line.endswith(": --top-k is a network's; --detections are evaluated as they are")


def test_predictions_on_a_folder_and_a_video(runs: Path, tmp_path: Path, script: Script) -> None:
    weights = runs / "student-teacher/best.pth"
    folder = tmp_path / "images"
    folder.mkdir()
    Image.new("L", (40, 30)).save(folder / "grey.png")
    Image.new("RGB", (500, 20)).save(folder / "wide.jpg")
    arguments = ["--weights", weights, "--score", "0.05", "--json", "--device", "cpu"]
    assert script("predict", *arguments, "--source", folder, "--out", tmp_path / "a") == 0
    found = json.loads((tmp_path / "a/detections.json").read_text())
    assert set(found) == {"grey.png", "wide.jpg"}
    with Image.open(tmp_path / "a/wide.jpg") as drawn_image:
        assert drawn_image.size == (500, 20)

    video = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for shade in range(5):
        writer.write(np.full((48, 64, 3), 50 * shade, np.uint8))
    writer.release()
    arguments += ["--source", video, "--frames", "4", "--batch-size", "3", "--amp", "bf16"]
    assert script("predict", *arguments, "--out", tmp_path / "b") == 0
    assert len(json.loads((tmp_path / "b/detections.json").read_text())) == 4
    assert (tmp_path / "b/clip.mp4").stat().st_size > 0
    assert json.loads((tmp_path / "b/summary.json").read_text())["frames"] == 4


@pytest.mark.parametrize(("score", "hint"), [(0.5, "--score 0.1 shows what"), (0.01, None)])
def test_nothing_found_is_told_how_to_find_more(
    score: float, hint: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    from predict import report

    times: dict[str, dict[str, float]] = {"seconds": {}, "milliseconds_each": {}}
    facts = {"images": 3, "networks": [{"detections": 0, "counts": {}, **times}], **times}
    report(PredictConfig(weights="w", source="s", score=score), facts)
    _, *lines = capsys.readouterr().out.splitlines()
    said = [line for line in lines if line.startswith("nothing scores ")]
    assert [hint in line for line in said] == ([True] if hint else [])


def test_predictions_of_two_networks_with_everything(
    runs: Path,
    drawn: Path,
    tmp_path: Path,
    script: Script,
    capsys: pytest.CaptureFixture[str],
    refused: Refused,
) -> None:
    teacher, student = (runs / name / "best.pth" for name in ("student-teacher", "student"))
    images = drawn / "VOC2007/JPEGImages"
    words = ["--weights", teacher, "--compare", student, "--source", f"{images}/test_*.jpg"]
    words += ["--out", tmp_path / "out", "--device", "cpu", "--score", "0.02", "--json"]
    wanted = ["--classes", "disc,square", "--heatmap", "disc", "--top-k", "3", "--nms", "0.1"]
    extras = ["--crops", tmp_path / "crops", "--counts"]
    assert script("predict", *words, *wanted, *extras) == 0
    found = json.loads((tmp_path / "out/detections.json").read_text())
    facts = json.loads((tmp_path / "out/summary.json").read_text())
    assert len(found) == facts["images"] == 6
    rows = [row for of_image in found.values() for row in of_image]
    assert {row["class"] for row in rows} <= {"disc", "square"}
    assert max(map(len, found.values())) <= 3
    ours, theirs = facts["networks"]
    assert ours["detections"] == len(rows) == len(list((tmp_path / "crops").iterdir()))
    assert sum(row["objects"] for row in ours["counts"].values()) == len(rows)
    other = json.loads((tmp_path / "out/detections_compare.json").read_text())
    assert theirs["detections"] == sum(map(len, other.values()))
    assert set(ours["seconds"]) == {"network", "post-processing"}
    assert set(facts["seconds"]) == {"decode", "drawing and writing"}
    sizes = []
    for folder in (images, tmp_path / "out"):
        with Image.open(folder / "test_00000.jpg") as image:
            sizes.append(image.size)
    assert sizes[1][0] == 2 * sizes[0][0]
    assert sizes[1][1] > sizes[0][1]
    printed = capsys.readouterr().out
    assert f"{student}:" in printed
    assert "class   objects  images" in printed or ours["detections"] == 0
    assert "of one of them: decode " in printed
    for flags, message in (
        (
            ["--classes", "disk"],
            "--classes: the network knows no class 'disk'; perhaps 'disc' is meant",
        ),
        (["--heatmap", "zebra"], "--heatmap: the network knows no class 'zebra'; it has "),
        (["--nms", "1.5"], "--nms must be in 0 .. 1, not 1.5"),
        (["--top-k", "0"], "--top-k must be at least 1, not 0"),
    ):
        assert message in refused("predict", *words, *flags)


def test_limits_of_an_evaluation(runs: Path, drawn: Path, tmp_path: Path, script: Script) -> None:
    words = ["--weights", runs / "student/best.pth", "--data", drawn, "--split", "VOC2007/test"]
    words += ["--device", "cpu", "--workers", "1"]
    files = tmp_path / "files"
    assert script("get_map", *words, "--top-k", "2", "--save-detections", files) == 0
    lines = [line for path in files.iterdir() for line in path.read_text().splitlines()]
    assert len(lines) == 2 * 6  # the best two of six images


def test_resume_gives_the_weights_of_an_uninterrupted_run(
    drawn: Path, tmp_path: Path, script: Script
) -> None:
    two = on(drawn, "--epochs", "2", "--ema", "0.9", "--logs", tmp_path)
    assert script("train_teacher", *two, "--name", "whole") == 0
    interrupted = tmp_path / "interrupted"
    # An interruption after the first of two epochs: the schedule is the one of two epochs.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("utils.engine.runs.files.draw_curves", interrupt)
        assert script("train_teacher", *two, "--val-every", "1", "--name", "interrupted") == 130
    assert len(read_metrics(interrupted / "metrics.jsonl")) == 1
    assert script("train_teacher", *two, "--name", "interrupted", "--resume") == 0
    a, b = (
        torch.load(tmp_path / name / "last.pth", weights_only=True)
        for name in ("whole", "interrupted")
    )
    assert a["training"]["epoch"] == b["training"]["epoch"] == 2
    for part in ("task", "average"):
        for key, value in flat(a["training"][part]).items():
            assert torch.equal(value, flat(b["training"][part])[key]), key
    assert len(read_metrics(interrupted / "metrics.jsonl")) == 2


def interrupt(folder: Path) -> None:
    """Stands for Ctrl-C."""
    raise KeyboardInterrupt(folder)


def flat(state: dict[str, object]) -> dict[str, torch.Tensor]:
    """The tensors of a nested state dict."""
    found: dict[str, torch.Tensor] = {}
    for key, value in state.items():
        if isinstance(value, torch.Tensor):
            found[key] = value
        elif isinstance(value, dict):
            found |= {f"{key}.{k}": v for k, v in flat(value).items()}
    return found


@pytest.mark.parametrize("amp", ["off", "bf16"])
def test_a_teacher_beside_distillers_trains(
    amp: str, runs: Path, drawn: Path, tmp_path: Path, script: Script
) -> None:
    teacher = ["--teacher", runs / "student-teacher/best.pth", "--logs", tmp_path]
    terms = ["--distill", "cwd(tau=2, weight=3)", "hint", "attention", "--preset", "paper"]
    optimiser = ["--optimizer", "adamw", "--schedule", "cosine", "--freeze-epochs", "1"]
    optimiser += ["--amp", amp, "--ema", "0.9", "--ledger-every", "1"]
    assert script("train_kd", *on(drawn, *teacher, *terms, *optimiser)) == 0
    (row,) = read_metrics(tmp_path / "student/metrics.jsonl")
    weights = {"soft": 0.5, "conf": 0.5, "l2": 0.5, "loc": 1, "cwd": 3, "hint": 1, "attention": 1}
    for part in ("train", "val"):  # the printed total is the weighted sum of the printed terms
        total = sum(w * row[f"{part}/{name}"] for name, w in weights.items())
        assert row[f"{part}/loss"] == pytest.approx(total, rel=1e-5)


REFUSED = {
    "epochs": (["--epochs", "0"], "--epochs must be at least 1, not 0"),
    "weight": (["--conf-weight", "-1"], "--conf-weight must be at least 0, not -1.0"),
    "lr": (["--lr", "nan"], "--lr must be above 0, not nan"),
    "batch": (["--batch-size", "9"], "larger than the training set (8 images)"),
    "norm": (["--batch-size", "1"], "--batch-size 1 cannot train batch norm"),
    "flag": (["--epoch", "3"], "unrecognized arguments: --epoch 3"),
    "fp16": (["--amp", "fp16"], "--amp fp16 is for GPUs; pass --amp bf16, auto or off"),
    "type": (["--epochs", "three"], "invalid int value: 'three'"),
    "backbone": (["--backbone", "vgg99"], "unknown backbone 'vgg99'; perhaps 'vgg16' is meant"),
    "option": (["--backbone", "resnet18(wide=2)"], "has no option 'wide'; perhaps 'width' is"),
    "spec": (["--backbone", "resnet18(width=open('x'))"], "cannot read spec"),
    "width": (["--pretrained"], "has no ImageNet weights"),
    "devkit": (["--data", "nowhere"], "nowhere"),
    "split": (["--train", "VOC2007/nosuch"], "nosuch"),
    "classes": (["--classes", "none.txt"], "none.txt: no such class list"),
    "resume": (["--resume"], "holds nothing to go on with; check --name and --logs"),
    "name": (["--name", "/etc"], "--name must be a folder name"),
    "huge": (["--backbone", "resnet18(width=1e9)"], "width must be above 0 and at most 4.0"),
    "number": (["--lr", "1e300"], "--lr must be at most 1e+09, not 1e+300"),
    "break": (["--epochs", "1\nTraceback"], "invalid int value: '1\\nTraceback'"),
    "long": (["--backbone", "x" * 99999], "xxx ... xxx"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_training_refuses_in_one_line(
    case: str, drawn: Path, tmp_path: Path, refused: Refused
) -> None:
    arguments, message = REFUSED[case]
    assert message in refused("train_teacher", *on(drawn, "--logs", tmp_path / "logs", *arguments))
    assert not (tmp_path / "logs").exists()  # nothing half done is left


KD_REFUSED = {
    "temperature": (["--temperature", "0"], "--temperature must be above 0, not 0.0"),
    "soft": (["--soft-weight", "-0.1"], "--soft-weight must be at least 0"),
    "preset": (["--preset", "best"], "invalid choice: 'best'"),
    "teacher": (["--teacher", "none.pth"], "none.pth: no such checkpoint"),
    "distill": (["--distill", "magic"], "unknown distiller 'magic'"),
    "twice": (["--distill", "hint", "hint(weight=2)"], "names 'hint' twice"),
    "tau": (["--distill", "cwd(tau=0)"], "tau must be a number above 0"),
}


@pytest.mark.parametrize("case", KD_REFUSED)
def test_distillation_refuses_in_one_line(
    case: str, runs: Path, drawn: Path, tmp_path: Path, refused: Refused
) -> None:
    arguments, message = KD_REFUSED[case]
    teacher = ["--teacher", runs / "student-teacher/best.pth", "--logs", tmp_path / "logs"]
    assert message in refused("train_kd", *on(drawn, *teacher, *arguments))
    assert not (tmp_path / "logs").exists()


WRONG_INPUTS = {
    "data": (["--data", "nowhere"], "--train VOC2007/train: nowhere: no such folder"),
    "train": (["--train", "VOC2007/x"], "--train VOC2007/x: "),
    "val": (["--val", "VOC2007/x"], "--val VOC2007/x: "),
    "classes": (["--classes", "none.txt"], "--classes none.txt: no such class list"),
    "other classes": (
        ["--classes", "other.txt"],
        "--classes that of this data set (this one has owl",
    ),
    "weights": (["--weights", "none.pth"], "--weights none.pth: no such checkpoint"),
}


@pytest.mark.parametrize("case", WRONG_INPUTS)
@pytest.mark.parametrize("name", ["train_teacher", "train_kd"])
def test_wrong_inputs_show_before_anything_is_built_or_trained(
    name: str,
    case: str,
    drawn: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    refused: Refused,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other.txt").write_text("owl\nkite\n")
    monkeypatch.setattr("nets.stages.SSD300", None)  # ImageNet weights come with it
    monkeypatch.setattr("nets.stages.load_network", None)
    arguments, message = WRONG_INPUTS[case]
    line = refused(name, *on(drawn, "--logs", tmp_path / "logs", "--pretrained", *arguments))
    assert message in line
    assert not (tmp_path / "logs").exists()


def test_class_names_come_from_the_teacher(
    runs: Path, drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: Script
) -> None:
    monkeypatch.chdir(tmp_path)  # where no model_data is
    best = runs / "student-teacher/best.pth"
    data = ["--data", drawn, "--train", "VOC2007/train", "--logs", tmp_path]
    assert script("train_kd", *SMALL, *data, "--teacher", best) == 0
    assert script("tools.check_data", *data[:4], "--classes", best) == 0
    content = torch.load(tmp_path / "student/best.pth", weights_only=True)
    assert content["class_names"] == (drawn / "VOC2007/classes.txt").read_text().split()


def test_a_teacher_of_other_classes_is_refused(
    runs: Path, drawn: Path, tmp_path: Path, refused: Refused
) -> None:
    teacher = ["--teacher", runs / "student-teacher/best.pth", "--logs", tmp_path / "logs"]
    names = (drawn / "VOC2007/classes.txt").read_text().split()
    for classes, message in (
        ([*names[::-1]], "class 1 is 'cross' to the teacher and 'triangle' in --classes"),
        ([*names, "ring"], "the teacher knows 5 classes, --classes names 6"),
    ):
        (tmp_path / "classes.txt").write_text("\n".join(classes))
        arguments = on(drawn, *teacher, "--classes", tmp_path / "classes.txt")
        assert message in refused("train_kd", *arguments)


def test_a_backbone_beside_other_weights_is_refused(
    runs: Path, drawn: Path, tmp_path: Path, script: Script, refused: Refused
) -> None:
    words = ["--weights", runs / "student/best.pth", "--logs", tmp_path, "--epochs", "1"]
    words += on(drawn)[2:]  # without --backbone
    for name, usual in (("train_teacher", "vgg16"), ("train_kd", "mobilenetv2")):
        teacher = ["--teacher", runs / "student-teacher/best.pth"] if name == "train_kd" else []
        line = refused(name, *words, *teacher, "--backbone", usual)
        assert f"--backbone is {usual}, the network in {runs}/student/best.pth is resnet18" in line
    assert script("train_teacher", *words) == 0
    assert script("train_teacher", *words, "--name", "x", "--backbone", SMALL[1]) == 0
    # The rate follows the width of the network that is trained, whether it is named or not.
    found, named = (
        json.loads((tmp_path / name / "config.json").read_text())["config"]
        for name in ("ssd300", "x")
    )
    assert {**found, "name": "x"} == named


def test_a_broken_image_that_shows_late_is_refused_with_a_remedy(
    tmp_path: Path, refused: Refused
) -> None:
    devkit = tmp_path / "VOCdevkit"
    make_drawn_set(devkit, train=4, val=2, test=0, seed=2)
    image = devkit / "VOC2007/JPEGImages/train_00000.jpg"
    image.write_bytes(image.read_bytes()[:2000])  # its header is fine
    for cache in ("ram", "none"):
        line = refused("train_teacher", *on(devkit, "--logs", tmp_path, "--cache", cache))
        assert f"{image}: the image cannot be decoded" in line
        assert "repair the file or pass --skip-bad" in line


def test_results_that_cannot_be_written_are_refused_before_the_work(
    runs: Path, drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    content = torch.load(runs / "student/best.pth", weights_only=True)
    names = [*content["class_names"][:-1], "a/b"]
    save_checkpoint(tmp_path / "a.pth", {**content, "class_names": names})
    words = ["--weights", tmp_path / "a.pth", "--data", drawn, "--save-detections", tmp_path]
    monkeypatch.setattr("get_map.open_store", None)
    assert "class name 'a/b' cannot be part of a file name" in refused("get_map", *words)
    words = ["--weights", tmp_path / "a.pth", "--json", tmp_path / "a.pth"]
    assert "a.pth is read, too, and would be lost" in refused("get_map", *words)


def test_an_image_under_two_names_is_refused(drawn: Path, tmp_path: Path, refused: Refused) -> None:
    classes = drawn / "VOC2007/classes.txt"
    for name in classes.read_text().split():
        (tmp_path / f"comp4_det_test_{name}.txt").write_text("val_00000 0.5 1 1 9 9\n")
    (tmp_path / "comp4_det_test_disc.txt").write_text("VOC2007/val_00000 0.5 1 1 9 9\n")
    words = ["--data", drawn, "--split", "VOC2007/val", "--detections", tmp_path]
    line = refused("get_map", *words, "--classes", classes)
    assert "image VOC2007/val_00000 is there as val_00000, too" in line


def test_inverted_boxes_of_result_files_are_false_detections(
    drawn: Path, tmp_path: Path, script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    classes = drawn / "VOC2007/classes.txt"
    for name in classes.read_text().split():
        (tmp_path / f"comp4_det_test_{name}.txt").write_text("test_00000 0.5 90 1 9 9\n")
    words = ["--data", drawn, "--split", "VOC2007/test", "--detections", tmp_path]
    assert script("get_map", *words, "--classes", classes, "--json", tmp_path / "a.json") == 0
    printed = capsys.readouterr().out
    assert "false detections: 5; the first is in" in printed
    assert "comp4_det_test_cross.txt, line 1\n" in printed
    assert json.loads((tmp_path / "a.json").read_text())["voc07"]["mAP"] == 0


@pytest.mark.parametrize(
    ("module", "shown"),
    [
        (None, "train_kd.py"),
        ("tools.compare.__main__", "tools.compare"),
        ("tools.demo.drawn_set", "tools.demo.drawn_set"),
    ],
)
def test_messages_name_what_was_started(
    module: str | None, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = ModuleType("__main__")
    started.__spec__ = ModuleSpec(module, None) if module else None
    monkeypatch.setitem(sys.modules, "__main__", started)
    monkeypatch.setattr(sys, "argv", ["/home/me/train_kd.py"])
    assert program() == shown


def test_profiling_writes_a_trace_and_no_run(
    runs: Path, drawn: Path, tmp_path: Path, script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--teacher", runs / "student-teacher/best.pth", "--logs", tmp_path, "--profile"]
    assert script("train_kd", *on(drawn, *arguments)) == 0
    printed = capsys.readouterr().out
    for part in ("load", "augment", "network and loss", "backward", "optimiser"):
        assert f"\n{part} " in printed
    assert [path.name for path in (tmp_path / "student").iterdir()] == ["trace.json"]


def test_a_finished_run_is_not_overwritten(runs: Path, drawn: Path, refused: Refused) -> None:
    before = (runs / "student/last.pth").read_bytes()
    assert "holds a run already; pass --resume" in refused("train_kd", *on(drawn, "--logs", runs))
    nothing = on(drawn, "--logs", runs, "--name", "none", "--resume")
    assert "none holds nothing to go on with; check --name" in refused("train_teacher", *nothing)
    assert (runs / "student/last.pth").read_bytes() == before


def test_a_run_does_not_replace_what_it_starts_from(
    runs: Path, drawn: Path, tmp_path: Path, refused: Refused
) -> None:
    own = tmp_path / "cut/best.pth"
    own.parent.mkdir()
    shutil.copy(runs / "student/best.pth", own)
    before = own.read_bytes()
    arguments = [*on(drawn, "--logs", tmp_path, "--name", "cut"), "--weights", own]
    line = refused("train_teacher", *[a for a in arguments if a != "--no-pretrained"])
    assert f"--weights {own} is where this run will write its own; choose another --name" in line
    assert own.read_bytes() == before


def test_a_split_without_objects(
    runs: Path,
    drawn: Path,
    tmp_path: Path,
    refused: Refused,
    script: Script,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(drawn, tmp_path / "devkit")
    for path in (tmp_path / "devkit/VOC2007/Annotations").glob("*.xml"):
        path.write_text(re.sub("<object>.*</object>", "", path.read_text(), flags=re.DOTALL))
    arguments = on(tmp_path / "devkit", "--logs", tmp_path, "--name", "none")
    line = refused("train_teacher", *arguments)
    assert "--train VOC2007/train: no object to learn in" in line
    data = ["--data", tmp_path / "devkit", "--split", "VOC2007/test", "--device", "cpu"]
    assert script("get_map", "--weights", runs / "student/best.pth", *data) == 0
    assert "no object in VOC2007/test: AP is not defined" in capsys.readouterr().out


def test_damaged_checkpoints_are_refused(
    runs: Path, drawn: Path, tmp_path: Path, refused: Refused
) -> None:
    whole = (runs / "student/best.pth").read_bytes()
    content = torch.load(runs / "student/best.pth", weights_only=True)
    del content["format"]
    damaged = {
        "truncated.pth": whole[: len(whole) // 2],
        "text.pth": b"hello",
        "empty.pth": b"",
    }
    for name, data in damaged.items():
        (tmp_path / name).write_bytes(data)
    save_checkpoint(tmp_path / "other.pth", {**content, "backbone": "resnet18(width=0.25)"})
    save_checkpoint(tmp_path / "classes.pth", {**content, "class_names": ["a"]})
    save_checkpoint(tmp_path / "entry.pth", {"model": content["model"]})
    torch.save({"weights": torch.zeros(3)}, tmp_path / "foreign.pth")
    for path in sorted(tmp_path.glob("*.pth")):
        for name, extra in (
            ("get_map", ["--data", drawn]),
            ("predict", ["--source", drawn / "VOC2007/JPEGImages", "--out", tmp_path / "out"]),
        ):
            assert path.name in refused(name, "--weights", path, *extra)
    assert not (tmp_path / "out").exists()


def test_a_wrong_split_shows_before_a_network_is_loaded(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    monkeypatch.chdir(tmp_path)
    line = refused("get_map", "--weights", "none.pth")
    assert "--split VOC2007/test: VOCdevkit: no such folder" in line
    words = ["--data", drawn, "--split", "VOC2007/x", "--teacher", "a.pth", "--student", "b.pth"]
    assert "--split VOC2007/x: " in refused("tools.teacher_report", *words)


def test_prediction_refuses_what_it_cannot_read(
    runs: Path, tmp_path: Path, refused: Refused
) -> None:
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "text.mp4").write_text("hello")
    (tmp_path / "empty").mkdir()
    for source, message in (
        ("none.jpg", "no such image, folder or video"),
        ("text.jpg", "cannot be decoded"),
        ("empty", "no images in this folder"),
        ("text.mp4", "cannot open this video"),
    ):
        arguments = ["--weights", runs / "student/best.pth", "--source", tmp_path / source]
        assert message in refused("predict", *arguments, "--out", tmp_path / "out")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    for source in (tmp_path, tmp_path / "a.png"):  # the drawn image must not replace its source
        arguments = ["--weights", runs / "student/best.pth", "--source", source]
        assert "is where the source is" in refused("predict", *arguments, "--out", tmp_path)
        crops = refused("predict", *arguments, "--out", tmp_path / "out", "--crops", tmp_path)
        assert f"--crops {tmp_path} is where the source is" in crops
    (tmp_path / "links").mkdir()
    (tmp_path / "links/a.png").symlink_to(tmp_path / "a.png")
    arguments = ["--weights", runs / "student/best.pth", "--source", tmp_path / "links"]
    assert "is where the source is" in refused("predict", *arguments, "--out", tmp_path)


def test_bad_data_is_refused_or_counted(
    tmp_path: Path, script: Script, capsys: pytest.CaptureFixture[str], refused: Refused
) -> None:
    devkit = tmp_path / "VOCdevkit"
    make_drawn_set(devkit, train=6, val=2, test=0, seed=2)
    image = devkit / "VOC2007/JPEGImages/train_00000.jpg"
    image.write_bytes(image.read_bytes()[:2000])
    (devkit / "VOC2007/Annotations/train_00001.xml").write_text("<annotation>")
    arguments = on(devkit, "--logs", tmp_path / "logs")
    assert "train_00001.xml" in refused("train_teacher", *arguments)
    assert script("train_teacher", *arguments, "--skip-bad") == 0
    printed = capsys.readouterr().out
    assert "left out: 2 of 6 images" in printed
    assert "train_00000.jpg" in printed


def test_a_loss_that_is_not_finite_stops_and_keeps_the_checkpoint(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    arguments = on(drawn, "--logs", tmp_path, "--epochs", "2", "--clip-norm", "0")
    original = torch.nn.functional.smooth_l1_loss
    calls = 0

    def overflow(*inputs: torch.Tensor, **options: str) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return original(*inputs, **options) * (float("inf") if calls > 2 else 1.0)

    monkeypatch.setattr("nets.multibox_loss.F.smooth_l1_loss", overflow)
    line = refused("train_teacher", *arguments)
    assert "the loss is not finite" in line
    assert "conf " in line
    assert "loc inf" in line
    assert "VOC2007/train_0000" in line
    last = torch.load(tmp_path / "ssd300/last.pth", weights_only=True)
    assert last["training"]["epoch"] == 1
    assert all(value.isfinite().all() for value in last["model"].values())


def test_help_shows_every_default(script: Script, capsys: pytest.CaptureFixture[str]) -> None:
    for name, flag in (("train_kd", "--reg-m"), ("get_map", "--plots"), ("predict", "--score")):
        assert script(name, "--help") == 0
        text = capsys.readouterr().out
        assert flag in text
        assert "default:" in text


def test_no_temporary_file_is_left(runs: Path) -> None:
    assert not list(runs.rglob("*.tmp"))
