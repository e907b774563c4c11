"""The page of a run: figures by hand, the pictures that matter, and a run that is not done."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.browser import check_page
from utils.data.voc import Sample, read_classes, read_split
from utils.metrics.evaluator import Evaluator
from utils.show.examples import View, against_each_other, against_objects, sections
from utils.show.run_page import duration, read_run, run_page, seconds, verdict

SETTINGS: dict[str, Any] = {
    "data": "VOCdevkit",
    "train": ["VOC2007/train"],
    "val": ["VOC2007/val"],
    "epochs": 3,
    "val_every": 1,
    "batch_size": 4,
    "optimizer": "sgd",
    "lr": 0.001,
    "schedule": "cosine",
    "conf_weight": 0.7,
    "l2_weight": 0.0,
    "distill": ["cwd(weight=3)"],
    "teacher": "logs/<teacher>/best.pth",
}


def write_run(folder: Path, maps: list[float | None], **about: Any) -> Path:
    """A run's folder with an epoch for each mAP."""
    folder.mkdir()
    content = {"backbone": "resnet18", "images": 10, "config": SETTINGS, **about}
    (folder / "config.json").write_text(json.dumps(content))
    rows = [
        {"epoch": i, "train/loss": 9 / i, "images_per_second": 2.0, "mAP": value}
        for i, value in enumerate(maps, start=1)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def samples(drawn: Path) -> list[Sample]:
    names = read_classes(drawn / "VOC2007/classes.txt")
    return read_split(drawn, ["VOC2007/train"], names)[0]


def view_of(samples: list[Sample], wrong: int, unseen: int = 0) -> View:
    """A student that misnames all objects of image `wrong`; a teacher that errs nowhere.

    The teacher has not seen the last `unseen` images.
    """
    names = ["cross", "disc", "square", "star", "triangle"]
    networks = {"student": Evaluator(names), "teacher": Evaluator(names)}
    for i, sample in enumerate(samples):
        truth = sample.annotation
        for name, evaluator in networks.items():
            labels = truth.labels % 5 + 1 if name == "student" and i == wrong else truth.labels
            if name == "teacher" and i >= len(samples) - unseen:
                continue
            evaluator.update(
                sample.image_id,
                boxes=truth.boxes,
                scores=np.full(len(labels), 0.9),
                labels=labels,
                truth_boxes=truth.boxes,
                truth_labels=truth.labels,
                difficult=truth.difficult,
            )
    return View("VOC2007/train", samples, networks)


def test_the_pictures_that_matter(samples: list[Sample]) -> None:
    wrong = next(i for i, s in enumerate(samples) if len(s.annotation.labels) > 1)
    view = view_of(samples, wrong)
    ranked = against_objects(view)
    assert ranked[-1].sample is samples[wrong]
    assert ranked[-1].says.share == 0
    assert ranked[0].says.share == pytest.approx(0.9)
    counts = [example.says.both for example in ranked[:-1]]
    assert counts == sorted(counts, reverse=True)  # of equals the richest first
    assert [e.sample for e in against_each_other(view)] == [samples[wrong]]
    found = dict(sections(view, most=2))
    titles = ["Best (student)", "Worst (student)", "Where teacher and student disagree most"]
    assert list(found) == titles
    assert [len(figures) for figures in found.values()] == [2, 2, 1]
    (apart,) = found[titles[2]]
    assert apart.count("<img") == 3
    assert apart.index(">objects<") < apart.index(">teacher<") < apart.index(">student<")
    count = len(samples[wrong].annotation.labels)
    assert f"0 in common, {count} of the student alone, {count} of the teacher alone" in apart


def test_who_saw_a_part_is_beside_the_pictures_of_it_alone(samples: list[Sample]) -> None:
    view = view_of(samples, wrong=0, unseen=3)
    assert list(view.complete()) == ["student"]
    assert view.both() == samples[:-3]
    assert len(against_objects(view)) <= len(samples) - 3


def test_a_page_has_everything(samples: list[Sample], tmp_path: Path) -> None:
    about = {
        "parameters": 1_234_567,
        "gflops": 0.5,
        "provenance": {"command": "python train_kd.py --name '<x>'", "torch": "2.11"},
    }
    run = read_run(write_run(tmp_path / "run", [0.2, None, 0.1], **about))
    page = run_page([run], view_of(samples, wrong=0))
    text = page.text()
    assert "run: voc07 20.0 on VOC2007/val, kept: epoch 1" in text
    assert "python train_kd.py --name &#x27;&lt;x&gt;&#x27;" in re.sub("</?span>", "", text)
    assert "0.7 conf + cwd(weight=3)" in text
    assert "1.23 M" in text
    assert "<x>" not in text
    assert "<teacher>" not in text
    assert "Precision over recall" in text
    for title in ("mAP, voc07, percent", "loss, the weighted sum", "Best", "Worst", "disagree"):
        assert title in text
    page.write(tmp_path / "run/report.html")
    assert (tmp_path / "run/report.html").stat().st_size < 2e6
    check_page(tmp_path / "run/report.html", tmp_path, images=12)


def test_what_was_validated_without_an_object_is_said(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "none", [None]))
    rows = [{**row, "val/loss": 2.0} for row in run.rows]
    assert "the last network is kept, no object in VOC2007/val" in verdict(run._replace(rows=rows))


def test_shares_stand_for_weights(tmp_path: Path) -> None:
    settings = {
        **SETTINGS,
        "share": ["soft=3e-1, cwd=+0.2"],
        "soft_weight": 0.5,
        "distill": ["cwd"],
    }
    text = run_page([read_run(write_run(tmp_path / "run", [0.2], config=settings))]).text()
    assert "30 % soft + 20 % cwd + 0.7 conf" in text
    assert "0.5 soft" not in text


def test_only_validations_on_the_way_choose(tmp_path: Path) -> None:
    for every, chooses in ((1, True), (0, False), (3, False)):  # of 3 epochs
        settings = {**SETTINGS, "val_every": every}
        run = read_run(write_run(tmp_path / str(every), [0.2], config=settings))
        assert ("chosen on" in run_page([run]).text()) is chooses


def test_a_run_that_goes_on_has_a_page(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "young", [None]))
    assert verdict(run).endswith("nothing was validated, 1 of 3 epochs done")
    page = run_page([run, read_run(write_run(tmp_path / "other", [0.1, 0.3, 0.2]))]).text()
    assert "2 runs side by side" in page
    assert "other, train" in page
    assert "voc07 30.0" in page
    empty = read_run(write_run(tmp_path / "empty", []))
    assert "0 of 3 epochs" in run_page([empty]).text()


def test_the_time_of_a_run(tmp_path: Path) -> None:
    # 2 batches of 4 images an epoch, 2 images a second: 4 s an epoch.
    assert seconds(read_run(write_run(tmp_path / "run", [0.1, 0.2]))) == 8
    # Half of each batch is without labels: 5 batches.
    settings = {**SETTINGS, "unlabelled": ["FILM/all"]}
    counts = {"config": settings, "unlabelled": 7, "steps_per_epoch": 5}
    mixed = read_run(write_run(tmp_path / "mixed", [0.1, 0.2], **counts))
    assert seconds(mixed) == 20
    page = run_page([mixed]).text()
    assert "VOC2007/train (10 images)" in page
    assert "FILM/all (7 images)" in page
    assert [duration(s) for s in (42, 1000, 11000)] == ["42 s", "17 min", "3 h 3 min"]


@pytest.mark.parametrize("text", ["", "{}", '{"config": 3}', '{"config": {}}', "[1]"])
def test_what_is_no_run_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="give the folder of a run"):
        read_run(tmp_path)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match="not what a training writes"):
        read_run(tmp_path)
