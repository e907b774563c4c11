"""Broken input of every kind, to every command line: success, or one line and exit status 2.

The corpus is the same each time (`derandomize`). Where an example fails, Hypothesis prints it.
"""

import dataclasses
import os
import shutil
import subprocess
import sys
import typing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from nets.backbones import BACKBONES
from tests.fuzz.mutations import (
    broken_annotation,
    broken_bytes,
    broken_content,
    broken_lines,
    flag_values,
    malicious,
)
from tests.fuzz.playing import Ending, Player, fault, leftovers
from tests.soak.launcher import ROOT, Plain
from tests.tools.convert_data import sets
from tests.utils.data.test_media import write_video
from tools.check_data.__main__ import CheckConfig
from tools.demo.drawn_set import make_drawn_set
from utils.config import DistillConfig, MapConfig, PredictConfig, TrainConfig, flag
from utils.engine.runs.checkpoint import FORMAT


def corpus(examples: int) -> Callable[..., Any]:
    """The same examples each time; shrinking a failure may train a network a hundred times."""
    return settings(
        derandomize=True,
        database=None,
        deadline=None,
        max_examples=examples * int(os.environ.get("FUZZ", "1")),
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )


class World:
    """A small devkit with result files and a trained network, and a folder for what is written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.devkit = folder / "VOCdevkit"
        make_drawn_set(self.devkit, train=3, val=2, test=0, seed=4)
        self.year = self.devkit / "VOC2007"
        self.classes = self.year / "classes.txt"
        self.results = folder / "results"
        self.logs = folder / "logs"
        self.out = folder / "out"
        self.data = ["--data", self.devkit, "--classes", self.classes]
        self.splits = ["--train", "VOC2007/train", "--val", "VOC2007/val"]
        self.cpu = ["--device", "cpu", "--batch-size", "2"]

    @property
    def train(self) -> list[object]:
        """Arguments of a training."""
        words = [*self.data, *self.splits, *self.cpu, "--workers", "1", "--no-pretrained"]
        return [*words, "--backbone", "plain", "--epochs", "1", "--logs", self.out]

    @property
    def map(self) -> list[object]:
        """Arguments of get_map.py but for what it evaluates."""
        words = ["--data", self.devkit, "--split", "VOC2007/val", *self.cpu, "--workers", "1"]
        return [*words, "--json", self.out / "map.json", "--save-detections", self.out / "files"]

    @contextmanager
    def changed(self, path: Path, data: bytes) -> Iterator[None]:
        """Within, a file has other bytes; what is written meanwhile is removed."""
        before = path.read_bytes() if path.exists() else None
        shutil.rmtree(self.out, ignore_errors=True)
        path.write_bytes(data)
        try:
            yield
            assert leftovers(self.out) == []
        finally:
            path.write_bytes(before) if before is not None else path.unlink()

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """Within, nothing is broken; what is written meanwhile is removed."""
        with self.changed(self.classes, self.classes.read_bytes()):
            yield

    def nothing_is_written(self, ending: Ending) -> None:
        """Of what was refused there is no result."""
        if ending.status == 2:
            assert not self.out.exists() or not list(self.out.rglob("*.*"))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    import get_map
    import train_teacher

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES, "plain", Plain)
        made = World(tmp_path_factory.mktemp("fuzz"))
        words = [*made.train, "--logs", made.logs, "--epochs", "2", "--ema", "0.9"]
        train_teacher.main([str(word) for word in words])
        words = [*made.map, "--weights", made.logs / "ssd300/best.pth"]
        get_map.main([str(word) for word in [*words, "--save-detections", made.results]])
        yield made


@pytest.fixture
def play(script: Callable[..., int], capfd: pytest.CaptureFixture[str]) -> Player:
    return Player(script, capfd)


@corpus(100)
@given(data=st.data(), of=st.sampled_from(["train_00000", "val_00001"]))
def test_annotations(data: st.DataObject, of: str, world: World, play: Player) -> None:
    xml = world.year / f"Annotations/{of}.xml"
    split = ["--split", f"VOC2007/{of.partition('_')[0]}"]
    with world.changed(xml, data.draw(broken_annotation(xml.read_bytes()))):
        ending = play("get_map", *world.map, "--weights", world.logs / "ssd300/best.pth", *split)
        assert fault(ending) == ""
        world.nothing_is_written(ending)
        checked = play(
            "tools.check_data", *world.data, *world.splits, "--html", world.out / "a.html"
        )
        assert fault(checked, fine=(0, 1)) == ""
        assert checked.status == (1 if ending.status else 0)  # the doctor agrees


@corpus(60)
@given(data=st.data(), suffix=st.sampled_from([".jpg", ".png", ".bmp", ".tif", ".webp"]))
def test_images(data: st.DataObject, suffix: str, world: World, play: Player) -> None:
    from PIL import Image

    path = world.year / "JPEGImages/val_00000.jpg"
    with Image.open(path) as image:
        other = world.folder / f"sound{suffix}"
        if not other.exists():
            image.save(other)
    weights = ["--weights", world.logs / "ssd300/best.pth"]
    with world.changed(path, data.draw(broken_bytes(other.read_bytes()))):
        checked = play(
            "tools.check_data", *world.data, *world.splits, "--html", world.out / "a.html"
        )
        assert fault(checked, fine=(0, 1)) == ""
        ending = play("get_map", *world.map, *weights)
        assert fault(ending) == ""
        assert checked.status == (1 if ending.status else 0)
        shown = play("predict", *weights, "--source", path, "--out", world.out / "drawn", "--json")
        assert fault(shown) == ""


@corpus(4)
@given(data=st.data(), cache=st.sampled_from(["none", "ram"]))
def test_images_while_training(data: st.DataObject, cache: str, world: World, play: Player) -> None:
    path = world.year / "JPEGImages/train_00001.jpg"
    with world.changed(path, data.draw(broken_bytes(path.read_bytes()))):
        ending = play("train_teacher", *world.train, "--cache", cache)
        assert fault(ending) == ""
        assert ending.status == 0 or "--skip-bad" in ending.err
        assert play("train_teacher", *world.train, "--skip-bad", "--name", "x").status == 0


@corpus(60)
@given(data=st.data())
def test_bytes_of_checkpoints(data: st.DataObject, world: World, play: Player) -> None:
    path = world.logs / "ssd300/best.pth"
    whole = path.read_bytes()
    broken = data.draw(broken_bytes(whole))
    with world.changed(path, broken):
        ending = play("get_map", *world.map, "--weights", path)
        assert fault(ending) == ""
        world.nothing_is_written(ending)
        assert str(path) in ending.err or ending.status == 0
        if ending.status == 0:  # then nothing that matters was broken
            assert same(torch.load(path, weights_only=True), whole, world.folder)
        assert fault(play("tools.import_weights", path, world.out / "imported.pth")) == ""
        kd = ["train_kd", *world.train, "--teacher", path, "--backbone", "hello"]
        assert fault(play(*kd)) == ""


def same(content: dict[str, Any], whole: bytes, folder: Path) -> bool:
    """Whether a checkpoint has the weights of the one whose file had the bytes `whole`."""
    path = folder / "whole.pth"
    path.write_bytes(whole)
    theirs = torch.load(path, weights_only=True)
    return all(torch.equal(value, content["model"][key]) for key, value in theirs["model"].items())


@corpus(80)
@given(data=st.data())
def test_content_of_checkpoints(data: st.DataObject, world: World, play: Player) -> None:
    path = world.logs / "ssd300/best.pth"
    content = data.draw(broken_content(torch.load(path, weights_only=True)))
    torch.save(content, world.folder / "broken")
    with world.changed(path, (world.folder / "broken").read_bytes()):
        ending = play(
            "predict",
            "--weights",
            path,
            "--source",
            world.year / "JPEGImages/val_00000.jpg",
            "--out",
            world.out / "drawn",
            "--json",
        )
        assert fault(ending) == ""
        world.nothing_is_written(ending)
        assert fault(play("tools.import_weights", path, world.out / "imported.pth")) == ""


@corpus(12)
@given(data=st.data())
def test_content_of_checkpoints_to_resume(data: st.DataObject, world: World, play: Player) -> None:
    path = world.folder / "resumed/ssd300/last.pth"
    path.parent.mkdir(parents=True, exist_ok=True)
    content = torch.load(world.logs / "ssd300/last.pth", weights_only=True)
    content["training"]["epoch"] = 1
    content = data.draw(broken_content(content))
    torch.save(content, world.folder / "broken")
    with world.changed(path, (world.folder / "broken").read_bytes()):
        words = [*world.train, "--logs", world.folder / "resumed", "--epochs", "2", "--ema", "0.9"]
        ending = play("train_teacher", *words, "--resume")
        assert fault(ending) == ""
        shutil.rmtree(path.parent)
        path.parent.mkdir()
        path.touch()


def test_checkpoints_with_code_do_not_run_it(world: World, play: Player) -> None:
    ours = torch.load(world.logs / "ssd300/last.pth", weights_only=True)
    assert ours["format"] == FORMAT
    sign = world.folder / "the payload ran"
    path = world.folder / "evil.pth"
    last = world.out / "ssd300/last.pth"
    for name, content in malicious(sign, ours).items():
        with world.changed(path, content):
            for words in (
                ["get_map", *world.map, "--weights", path],
                ["predict", "--weights", path, "--source", world.devkit, "--out", world.out],
                ["train_kd", *world.train, "--teacher", path],
                ["train_teacher", *world.train, "--weights", path],
                ["tools.import_weights", path, world.out / "imported.pth"],
            ):
                assert fault(play(*words)) == ""
                assert play.endings[-1].status == 2, name
            last.parent.mkdir(parents=True)
            last.write_bytes(content)
            assert fault(play("train_teacher", *world.train, "--resume")) == ""
            assert play.endings[-1].status == 2, name
            last.unlink()
        assert not sign.exists(), name


@corpus(50)
@given(data=st.data())
def test_class_lists(data: st.DataObject, world: World, play: Player) -> None:
    with world.changed(world.classes, data.draw(broken_lines(world.classes.read_bytes()))):
        ending = play(
            "get_map", *world.map, "--detections", world.results, "--classes", world.classes
        )
        assert fault(ending) == ""
        world.nothing_is_written(ending)
        checked = play(
            "tools.check_data", *world.data, *world.splits, "--json", world.out / "a.json"
        )
        assert fault(checked, fine=(0, 1)) == ""
        ending = play(
            "train_kd",
            *world.train,
            "--teacher",
            world.logs / "ssd300/best.pth",
            "--backbone",
            "hello",
        )
        assert fault(ending) == ""


@corpus(50)
@given(data=st.data())
def test_lists_of_splits(data: st.DataObject, world: World, play: Player) -> None:
    path = world.year / "ImageSets/Main/val.txt"
    with world.changed(path, data.draw(broken_lines(path.read_bytes()))):
        ending = play("get_map", *world.map, "--weights", world.logs / "ssd300/best.pth")
        assert fault(ending) == ""
        world.nothing_is_written(ending)
        checked = play(
            "tools.check_data", *world.data, *world.splits, "--json", world.out / "a.json"
        )
        assert fault(checked, fine=(0, 1)) == ""
        assert checked.status == (1 if ending.status else 0)


@corpus(30)
@given(data=st.data())
def test_videos(data: st.DataObject, world: World, play: Player) -> None:
    path = world.folder / "clip.avi"
    write_video(path, 4)
    weights = ["--weights", world.logs / "ssd300/best.pth"]
    with world.changed(path, data.draw(broken_bytes(path.read_bytes()))):
        out = ["--out", world.out, "--json", "--device", "cpu"]
        ending = play("predict", *weights, "--source", path, *out)
        assert fault(ending) == ""
        assert ending.status == 2 or (world.out / "detections.json").exists()


@corpus(100)
@given(data=st.data())
def test_result_files(data: st.DataObject, world: World, play: Player) -> None:
    path = max(world.results.iterdir(), key=lambda path: path.stat().st_size)
    lines = b"\n".join(path.read_bytes().split(b"\n")[:20])
    with world.changed(path, data.draw(broken_lines(lines))):
        ending = play(
            "get_map", *world.map, "--detections", world.results, "--classes", world.classes
        )
        assert fault(ending) == ""
        world.nothing_is_written(ending)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, list[object]]]:
    """A file of each format to break, and the arguments that read it."""
    folder = tmp_path_factory.mktemp("sources")
    sets.save_pictures(folder)
    sets.write_labelme(folder)
    data = sets.write_yolo(folder / "yolo")
    label, shapes = folder / "yolo/labels/train/a/two.txt", folder / "a/two.json"
    table, instances = sets.write_csv(folder), sets.write_coco(folder)
    return {
        "coco": (instances, ["coco", instances, folder]),
        "data.yaml": (data, ["yolo", data]),
        "labels": (label, ["yolo", data]),
        "labelme": (shapes, ["labelme", folder]),
        "csv": (table, ["csv", table, folder]),
    }


@corpus(100)
@given(data=st.data(), of=st.sampled_from(["coco", "data.yaml", "labels", "labelme", "csv"]))
def test_sources_of_other_formats(
    data: st.DataObject,
    of: str,
    sources: dict[str, tuple[Path, list[object]]],
    tmp_path_factory: pytest.TempPathFactory,
    play: Player,
) -> None:
    file, words = sources[of]
    whole, year = file.read_bytes(), tmp_path_factory.mktemp("devkit") / "MYSET"
    file.write_bytes(data.draw(broken_lines(whole)))
    try:
        for rest in ([], ["--skip-bad", "--clip"]):
            ending = play("tools.convert_data", *words, year, *rest)
            assert fault(ending) == ""  # what was written, training takes
            assert ending.status == 0 or not list(year.parent.iterdir())
            if ending.status == 0:
                shutil.rmtree(year)
    finally:
        file.write_bytes(whole)


# Flags that would train for longer than a test may take, or reach into the network.
LONG = {"epochs", "teacher_epochs", "compile", "profile", "pretrained", "teacher_pretrained"}
SCRIPTS = {
    "train_teacher": TrainConfig,
    "train_kd": DistillConfig,
    "get_map": MapConfig,
    "predict": PredictConfig,
    "tools.check_data": CheckConfig,
}


def sound_arguments(name: str, world: World) -> list[object]:
    """A command line that works."""
    best = world.logs / "ssd300/best.pth"
    image = world.year / "JPEGImages/val_00000.jpg"
    return {
        "train_teacher": world.train,
        "train_kd": [*world.train, "--no-teacher-pretrained", "--teacher", best],
        "get_map": [*world.map, "--weights", best],
        "predict": ["--weights", best, "--source", image, "--out", world.out, "--device", "cpu"],
        "tools.check_data": [*world.data, *world.splits],
    }[name]


@st.composite
def odd_flags(draw: st.DrawFn, schema: type) -> list[str]:
    """One or two flags of a command line, with values."""
    kinds = {name: kind for name, kind in typing.get_type_hints(schema).items() if name not in LONG}
    words = []
    for name in draw(st.lists(st.sampled_from(sorted(flags_of(schema))), min_size=1, max_size=2)):
        kind = kinds[name]
        values = flag_values(next(iter(typing.get_args(kind)), kind))
        counts = (0, 1, 1, 1, 2) if kind is not bool else (0,)
        words += [flag(name), *(draw(values) for _ in range(draw(st.sampled_from(counts))))]
    return words


def flags_of(schema: type) -> set[str]:
    """The fields of a command line that a test may set."""
    return {field.name for field in dataclasses.fields(schema)} - LONG


@corpus(200)
@given(data=st.data(), name=st.sampled_from(list(SCRIPTS)))
def test_command_lines(data: st.DataObject, name: str, world: World, play: Player) -> None:
    words = [*sound_arguments(name, world), *data.draw(odd_flags(SCRIPTS[name]))]
    below = world.folder / "a/b/c"  # where relative paths lead, and some levels above it
    below.mkdir(parents=True, exist_ok=True)
    with world.unchanged(), pytest.MonkeyPatch.context() as patch:
        patch.chdir(below)
        patch.setattr("utils.engine.fit.train_epochs", lambda *_: None)
        assert fault(play(name, *words), fine=(0, 1) if "check" in name else (0,)) == ""


@pytest.mark.slow
def test_five_times_as_many_examples() -> None:
    command = [sys.executable, "-m", "pytest", "-q", __file__]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "FUZZ": "5"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
