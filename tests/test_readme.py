"""Every command in the README runs, in its order, on a small drawn devkit."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from tests.conftest import Script
from tools.demo.drawn_set import make_drawn_set
from utils.data.voc import read_split

ROOT = Path(__file__).parent.parent
# What a reader types, page after page, in one folder.
STORIES = {
    "README": ("README.md",),
    "docs": ("docs/training.md", "docs/evaluation.md", "docs/tuning.md", "docs/deploy.md"),
}


def commands(story: str) -> list[str]:
    pages = [(ROOT / page).read_text("utf-8") for page in STORIES[story]]
    blocks = [block for page in pages for block in re.findall(r"```bash\n(.*?)```", page, re.S)]
    return [line for block in blocks for line in block.splitlines() if line.strip()]


# What makes a command small; the last one of two equal flags counts.
TINY = ["--no-pretrained", "--epochs", "1", "--batch-size", "2", "--device", "cpu"]
SMALLER = {
    "train_teacher.py": [*TINY, "--backbone", "resnet18(width=0.125)"],
    "train_kd.py": [*TINY, "--backbone", "resnet18(width=0.125)"],
    "get_map.py": ["--device", "cpu"],
    "predict.py": ["--device", "cpu"],
}


def test_every_script_is_shown() -> None:
    words = {shlex.split(command, comments=True)[1] for command in commands("README")}
    assert set(SMALLER) | {"demo", "test"} <= words


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for command in commands("README"):
        program, target, *_ = shlex.split(command, comments=True)
        if program == "make":
            assert re.search(rf"^{target}:", makefile, re.M)


def write_coco(folder: Path, devkit: Path, names: list[str]) -> None:
    """What a person brings: pictures in a folder, and their objects in COCO's JSON."""
    samples, _ = read_split(devkit, ["VOC2007/train"], names)
    (folder / "IMAGES").mkdir()
    images, annotations = [], []
    for number, sample in enumerate(samples, start=1):
        shutil.copy(sample.image, folder / "IMAGES")
        known = sample.annotation
        size = {"width": known.width, "height": known.height}
        images.append({"id": number, "file_name": sample.image.name, **size})
        for (x1, y1, x2, y2), label in zip(known.boxes.tolist(), known.labels, strict=True):
            said = {"id": len(annotations) + 1, "image_id": number, "category_id": int(label)}
            annotations.append({**said, "bbox": [x1, y1, x2 - x1, y2 - y1], "iscrowd": 0})
    categories = [{"id": i, "name": name} for i, name in enumerate(names, start=1)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(content), "utf-8")


def small(name: str, words: list[str]) -> list[str]:
    """The arguments of a script or a tool that make its command small."""
    if name in ("tools.compare", "tools.tune"):
        cut = words.index("--")
        own = [word.replace("--epochs 464", "--epochs 2") for word in words[:cut]]
        few = ["--seeds", "1"] if name == "tools.compare" else ["--trials", "1"]
        return [*own, *few, *words[cut:], *SMALLER["train_kd.py"]]
    if name == "tools.check_data":
        return [*words, "--workers", "1"]
    if name == "tools.scoreboard":
        return [*words, "--device", "cpu", "--runs", "1"]
    if name == "tools.convert_data":
        return words
    if "--unlabelled-fraction" in words:  # of two images
        words = [*words, "--unlabelled-fraction", "0.5"]
    return [*words, *SMALLER.get(name, ["--device", "cpu"])]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("story", "made"),
    [
        ("README", ["logs/alone/report.html", "logs/voc_student/map.json", "logs/predict"]),
        (
            "docs",
            [
                "logs/student/map.json",
                "logs/students.html",
                "logs/compare/comparison.svg",
                "logs/tune/trials.md",
                "logs/report/teacher.html",
                "logs/scoreboard/scoreboard.png",
            ],
        ),
    ],
)
def test_commands_run_in_the_order_of_the_pages(
    story: str, made: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: Script
) -> None:
    devkit = tmp_path / "VOCdevkit"
    make_drawn_set(devkit, train=2, val=2, test=2, seed=3)
    (devkit / "VOC2007").rename(devkit / "VOC2012")
    make_drawn_set(devkit, train=10 if story == "README" else 2, val=2, test=2, seed=4)
    (tmp_path / "model_data").mkdir()
    classes = (devkit / "VOC2007/classes.txt").read_text("utf-8")
    (tmp_path / "model_data/voc_classes.txt").write_text(classes, "utf-8")
    write_coco(tmp_path, devkit, classes.split())
    monkeypatch.chdir(tmp_path)
    for command in commands(story):
        program, *words = shlex.split(command, comments=True)
        name, *words = words[1:] if words[0] == "-m" else words
        if program == "python" and name != "tools.download_voc":
            assert script(name.removesuffix(".py"), *small(name, words)) == 0, command
        if name == "tools.convert_data":  # pictures without labels, which a reader lists
            lists = devkit / "MYSET/ImageSets/Main"
            ids = (lists / "train.txt").read_text("utf-8").splitlines(keepends=True)
            for split, part in (("train", ids[2:]), ("more", ids[:2])):
                (lists / f"{split}.txt").write_text("".join(part), "utf-8")
    for path in made:
        assert (tmp_path / path).exists()
