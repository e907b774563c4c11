"""The whole story on one machine: draws a data set, trains a teacher on all of it, then the same
student twice with few labels: alone, and with what the teacher says of the other pictures. Seeds,
steps and initial weights are equal. All three are evaluated and compared.

python -m tools.demo
"""

import json
import os
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

from nets.backbones import BACKBONES
from nets.ssd import SSD300
from nets.stages import both_stages
from tools.demo.drawn_set import make_drawn_set
from tools.demo.outcome import ALONE, DISTILLED, TEACHER, comparison, draw_comparison
from tools.demo.story import write_story
from tools.jobs import script, script_beside, typed
from utils import spec
from utils.cli import parse_arguments, run
from utils.config import DistillConfig, TrainConfig, at_least, option
from utils.files import check_folder
from utils.runtime.device import native_bf16
from utils.show.report import duration

MARKER = "made_by_demo"
# In how many ways each image is shown to the student whose teacher is asked once about each.
TEACHER_VIEWS = 10
BATCH = 8
# For the time left, beside the teacher's training on half of the cores: how much faster all of them
# train, and what the three evaluations take.
ALL_CORES, EVALUATIONS = 1.5, 0.1


@dataclass(frozen=True)
class DemoConfig:
    """The sizes of the demonstration; as they are it takes 6 to 20 minutes on two CPU cores."""

    out: str = option(
        "logs/demo", "folder for everything; one of an earlier demonstration is emptied"
    )
    train: int = option(600, "training images, whose labels the teacher has")
    labelled: int = option(40, "how many of them have labels for the students, too")
    test: int = option(150, "test images")
    teacher: str = option("resnet18(width=0.25)", "spec of the teacher")
    student: str = option("resnet18(width=0.125)", "spec of the student")
    teacher_epochs: int = option(20, "epochs of the teacher")
    student_epochs: int = option(450, "epochs of the student alone; the other takes as many steps")
    seed: int = option(0, "seed of data, weights, order and augmentation")

    def __post_init__(self) -> None:
        """Refuses sizes that cannot work."""
        at_least(self, 1, "train", "test", "teacher_epochs", "student_epochs")
        at_least(self, BATCH, "labelled")
        if self.labelled >= self.train:
            raise ValueError(
                f"--labelled {self.labelled} of --train {self.train} leaves no picture without "
                "labels; lower it"
            )
        TrainConfig(seed=self.seed)
        for text in (self.teacher, self.student):
            if spec.parse(text)[0] not in BACKBONES:
                raise ValueError(f"unknown backbone {text!r}; choose one of {', '.join(BACKBONES)}")


def main(arguments: Sequence[str] | None) -> None:
    """Data -> teacher -> student alone, student distilled -> table and pictures."""
    config = parse_arguments(DemoConfig, arguments, __doc__)
    second = second_step(config)  # builds the networks, before an earlier demonstration is lost
    out = empty_folder(Path(config.out))
    devkit = out / "VOCdevkit"
    make_drawn_set(devkit, train=config.train, val=0, test=config.test, seed=config.seed)
    divide(devkit / "VOC2007/ImageSets/Main", config.labelled)
    started = time.perf_counter()
    shared = ["--data", devkit, "--val", "VOC2007/test"]
    shared += ["--classes", devkit / "VOC2007/classes.txt", "--logs", out, "--no-pretrained"]
    shared += ["--batch-size", BATCH, "--seed", config.seed, "--val-every", "0", "--workers", "1"]
    # By `--amp auto` each run on a CPU would measure and decide for itself.
    shared += ["--amp", "auto" if torch.cuda.is_available() else "bf16" if native_bf16() else "off"]
    teacher = [*shared, "--train", "VOC2007/train", "--backbone", config.teacher]
    teacher += ["--epochs", config.teacher_epochs]
    student = [*shared, "--train", "VOC2007/labelled", "--backbone", config.student]
    alone = [*student, "--epochs", config.student_epochs]
    print(f"1 of 3: the {TEACHER}, and beside it {ALONE}; a line a minute says how far each is")
    # Two runs of half the cores each do more than one after the other with all of them.
    half = max(1, (os.cpu_count() or 1) // 2)
    with ThreadPoolExecutor() as pool:
        runs = [
            pool.submit(script_beside, name, half, "train_teacher.py", *words, "--name", name)
            for name, words in (("teacher", teacher), ("alone", alone))
        ]
    for finished in runs:
        finished.result()
    print(f"\n2 of 3, {time_left(started, 1, second + EVALUATIONS)}: {DISTILLED}")
    taught = ["--teacher", out / "teacher/best.pth", "--teacher-views", TEACHER_VIEWS]
    taught += ["--preset", "soft", "--unlabelled", "VOC2007/unlabelled", "--pseudo-doubt", "0.2"]
    taught += ["--epochs", distilled_epochs(config), "--name", "distilled"]
    script("train_kd.py", *student, *taught)

    print(f"\n3 of 3, {time_left(started, 1 + second, EVALUATIONS)}: all three on the test images")
    reports = {}
    for title, name in ((TEACHER, "teacher"), (ALONE, "alone"), (DISTILLED, "distilled")):
        folder = out / name
        script(
            "get_map.py", "--weights", folder / "best.pth", "--data", devkit,
            "--split", "VOC2007/test", "--json", folder / "map.json", "--plots", folder,
        )  # fmt: skip
        reports[title] = json.loads((folder / "map.json").read_text(encoding="utf-8"))
    picture = draw_comparison(out, devkit)
    text = comparison(reports)
    (out / "comparison.txt").write_text(text + "\n", encoding="utf-8")
    minutes = (time.perf_counter() - started) / 60
    folders = {DISTILLED: "distilled", ALONE: "alone", TEACHER: "teacher"}
    page = write_story(out, folders, reports, done(config, minutes), what_next(out))
    print(f"\n{text}\n\npictures: {picture}, {out}/*/curves.png, {out}/*/precision_recall.png")
    print(f"{minutes:.1f} minutes\n\n{what_next(out)}\n\nthe whole story on a page: {page}")


def divide(lists: Path, labelled: int) -> None:
    """Writes the splits `labelled`, the first of `train`, and `unlabelled`, the others."""
    lines = (lists / "train.txt").read_text(encoding="utf-8").splitlines(keepends=True)
    for name, part in (("labelled", lines[:labelled]), ("unlabelled", lines[labelled:])):
        (lists / f"{name}.txt").write_text("".join(part), encoding="utf-8")


def distilled_epochs(config: DemoConfig) -> int:
    """As many steps as the student alone takes: half of every batch are images without labels."""
    return max(1, config.student_epochs // 2)


def second_step(config: DemoConfig) -> float:
    """About how long the distilled student takes, as a multiple of the teacher beside another."""
    networks = [SSD300(text, 5) for text in (config.student, config.teacher)]
    # Of the images that the teacher has seen the student sees as many as it takes steps.
    seen = config.student_epochs * config.labelled / config.train
    wanted = DistillConfig(
        epochs=max(1, round(seen)),
        teacher_epochs=config.teacher_epochs,
        teacher_views=TEACHER_VIEWS,
    )
    return both_stages(wanted, *networks)[0].after / ALL_CORES


def time_left(started: float, done: float, ahead: float) -> str:
    """`about 2 min left`, where `done` of any unit have taken the time since `started`."""
    return f"about {duration((time.perf_counter() - started) / done * ahead)} left"


def done(config: DemoConfig, minutes: float) -> list[str]:
    """What the demonstration does, for its page."""
    return [
        f"{config.train} training and {config.test} test images were drawn, with objects of five "
        "shapes among clutter.",
        f"A teacher, {config.teacher}, was trained for {config.teacher_epochs} epochs on all of "
        "their labels.",
        f"The same student, {config.student}, was trained twice with the labels of "
        f"{config.labelled} of these images, equal initial weights and as many steps: once alone, "
        f"for {config.student_epochs} epochs, and once together with the other images, in which "
        f"the teacher found the objects. It was asked once about each of {TEACHER_VIEWS} views of "
        "an image.",
        f"All three were evaluated on the test images, {minutes:.0f} minutes after the beginning.",
    ]


def what_next(out: Path) -> str:
    """The commands that make a file for deployment of the distilled student; see docs/deploy.md."""
    weights, check = out / "distilled/best.pth", ["--data", out / "VOCdevkit"]
    check += ["--check", "VOC2007/test"]
    export = ("tools.export", "--weights", weights)
    calibrated = ["--int8", "--calibrate", "VOC2007/train"]
    return "\n".join(
        [
            "to deploy the distilled student (pip install -e '.[export]'):",
            typed("-m", *export, "--out", out / "student.onnx", *check),
            typed("-m", *export, "--out", out / "student_int8.onnx", *calibrated, *check),
        ]
    )


def empty_folder(out: Path) -> Path:
    """Makes `out`, or empties it if an earlier demonstration made it.

    Raises:
        FileExistsError: it holds something else.
        ValueError: it cannot be written to.
    """
    check_folder(out, "--out")
    marker = out / MARKER
    if out.exists() and any(out.iterdir()) and not marker.exists():
        raise FileExistsError(f"{out} holds files that no demonstration made; pass another --out")
    if out.exists():
        shutil.rmtree(out)
    out.mkdir(parents=True)
    marker.touch()
    return out


if __name__ == "__main__":
    run(main)
