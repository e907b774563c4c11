"""The data doctor on small drawn devkits, into which each kind of fault is put."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nets.priors import prior_boxes
from tests.browser import check_page
from tools.check_data.examine import examine_split
from tools.check_data.faults import KINDS, Entry
from tools.check_data.pictures import drawn as drawn_entry
from tools.check_data.pictures import side_by_side, with_margin
from tools.check_data.statistics import prior_advice, reach, reach_by_size
from tools.demo.drawn_set import make_drawn_set
from utils.data.store import Store
from utils.data.voc import Annotation, read_classes, read_split
from utils.runtime.device import choose_device

Check = Callable[..., dict[str, object]]


class Devkit:
    """A drawn devkit of two training and two test pictures, to be damaged."""

    def __init__(self, root: Path) -> None:
        self.root, self.year = root, root / "VOC2007"
        make_drawn_set(root, train=2, val=0, test=2, seed=1)

    def xml(self, image_id: str = "train_00000") -> Path:
        return self.year / f"Annotations/{image_id}.xml"

    def image(self, image_id: str = "train_00000") -> Path:
        return self.year / f"JPEGImages/{image_id}.jpg"

    def split(self, name: str = "train") -> Path:
        return self.year / f"ImageSets/Main/{name}.txt"

    def objects(self, *objects: str, image_id: str = "train_00000") -> None:
        """Replaces the picture by a white one of 100 x 50 and its objects by the given ones."""
        Image.new("RGB", (100, 50), "white").save(self.image(image_id))
        self.xml(image_id).write_text(
            "<annotation><size><width>100</width><height>50</height></size>"
            f"{''.join(objects)}</annotation>"
        )

    @property
    def arguments(self) -> list[object]:
        splits = ["--train", "VOC2007/train", "--val", "VOC2007/test"]
        return ["--data", self.root, *splits, "--classes", self.year / "classes.txt"]


def obj(name: str = "disc", box: tuple[object, ...] = (1, 1, 20, 10), more: str = "") -> str:
    xmin, ymin, xmax, ymax = box
    return (
        f"<object><name>{name}</name>{more}<bndbox><xmin>{xmin}</xmin><ymin>{ymin}</ymin>"
        f"<xmax>{xmax}</xmax><ymax>{ymax}</ymax></bndbox></object>"
    )


@pytest.fixture
def devkit(tmp_path: Path) -> Devkit:
    return Devkit(tmp_path / "VOCdevkit")


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:3000])


# What is done to the devkit, and how often which kinds of faults are found then.
DAMAGE: dict[str, tuple[Callable[[Devkit], object], dict[str, int]]] = {
    "inverted": (lambda d: d.objects(obj(box=(9, 1, 2, 5))), {"inverted": 1}),
    "inverted twice": (lambda d: d.objects(obj(box=(9, 8, 2, 5))), {"inverted": 2}),
    "outside": (lambda d: d.objects(obj(box=(1, 1, 130, 5))), {"outside": 1}),
    "beside": (lambda d: d.objects(obj(box=(101, 1, 101, 5))), {"outside": 1}),
    "unknown": (lambda d: d.objects(obj("hexagon"), obj("hexagon")), {"class": 2}),
    "case": (lambda d: d.objects(obj("Disc")), {"spelling": 1}),
    "spaces": (lambda d: d.objects(obj("di sc")), {"spelling": 1}),
    "two in one": (lambda d: d.objects(obj("Disc", (9, 1, 2, 5))), {"spelling": 1, "inverted": 1}),
    "no box": (lambda d: d.objects("<object><name>disc</name></object>"), {"field": 1}),
    "no number": (lambda d: d.objects(obj(box=("x", 1, 2, 2))), {"field": 1}),
    "difficult": (lambda d: d.objects(obj(more="<difficult>2</difficult>")), {"field": 1}),
    "no size": (lambda d: d.xml().write_text("<annotation/>"), {"size": 1, "no-objects": 1}),
    "malformed": (lambda d: d.xml().write_text("<annotation>"), {"xml-malformed": 1}),
    "no xml": (lambda d: d.xml().unlink(), {"xml-missing": 1}),
    "no image": (lambda d: d.image().unlink(), {"image-missing": 1}),
    "truncated": (lambda d: cut(d.image()), {"image-unreadable": 1}),
    "no picture": (lambda d: d.image().write_text("hello"), {"image-unreadable": 1}),
    "both missing": (
        lambda d: (d.image().unlink(), d.xml().unlink()),
        {"xml-missing": 1, "image-missing": 1},
    ),
    "empty list": (lambda d: d.split().write_text("\n"), {"list": 1}),
    "id twice": (lambda d: append(d.split(), "train_00000\n"), {"list": 1}),
    "other spelling of an id": (lambda d: append(d.split(), "./train_00000\n"), {"shared": 1}),
    "unsafe id": (lambda d: append(d.split(), "../train_00000\n"), {"list": 1}),
    "unsafe file name": (
        lambda d: (
            d.image().unlink(),
            d.xml().write_text("<annotation><filename>../a.jpg</filename></annotation>"),
        ),
        {"image-missing": 1, "size": 1},
    ),
    "not text": (lambda d: d.split().write_bytes(b"\xff\xfe\x00"), {"list": 1}),
    "same id": (lambda d: append(d.split("test"), "train_00000\n"), {"leak-id": 1}),
    "copied": (lambda d: shutil.copy(d.image(), d.image("train_00001")), {"duplicate": 1}),
    "leaked": (lambda d: shutil.copy(d.image(), d.image("test_00000")), {"leak": 1}),
    "object twice": (lambda d: d.objects(obj(), obj()), {"repeated": 1}),
    # 100 pixels become 300, but 1000 become 300, too: 3 of those are 0.9 at the input.
    "tiny": (
        lambda d: (
            Image.new("RGB", (1000, 50)).save(d.image()),
            d.xml().write_text(
                "<annotation><size><width>0</width><height>0</height></size>"
                f"{obj(box=(11, 1, 13, 20))}</annotation>"
            ),
        ),
        {"tiny": 1},
    ),
    "clipped": (
        lambda d: d.objects(obj(box=(0, 1, 20, 5)), obj(box=(1, 1, 20, 51))),
        {"clipped": 2},
    ),
    "no objects": (lambda d: d.objects(), {"no-objects": 1}),
    "all difficult": (
        lambda d: d.objects(obj(more="<difficult>1</difficult>")),
        {"only-difficult": 1},
    ),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_fault_is_found_and_is_fatal_where_training_refuses_it(
    case: str, devkit: Devkit, tmp_path: Path, script: Callable[..., int]
) -> None:
    damage, expected = DAMAGE[case]
    damage(devkit)
    status = script(
        "tools.check_data", *devkit.arguments, "--json", tmp_path / "a.json",
        "--html", tmp_path / "a.html",
    )  # fmt: skip
    report = json.loads((tmp_path / "a.json").read_text())
    counts = {kind: n for kind, n in report["counts"].items() if kind != "unused"}
    if case in ("copied", "leaked"):  # the copy has another size than its annotation says
        for kind in ("size", "outside", "clipped"):
            counts.pop(kind, None)
    assert counts == expected
    assert report["trainable"] == (status == 0)
    assert status == (0 if trains(devkit) else 1)
    assert (tmp_path / "a.html").stat().st_size > 1000


def trains(devkit: Devkit) -> bool:
    """Whether what training does with data goes through."""
    names = read_classes(devkit.year / "classes.txt")
    try:
        for split in ("train", "test"):
            samples, _ = read_split(devkit.root, [f"VOC2007/{split}"], names)
            Store(samples, choose_device("cpu"), cache="ram")
    except (ValueError, FileNotFoundError):
        return False
    return True


def test_every_kind_of_fault_is_put_in() -> None:
    found = {kind for _, kinds in DAMAGE.values() for kind in kinds}
    assert found | {"unused"} == set(KINDS)


def test_all_faults_are_found_at_once(
    devkit: Devkit,
    tmp_path: Path,
    script: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    no_box = "<object><name>disc</name></object>"
    devkit.objects(obj("hexagon"), obj(box=(9, 1, 2, 5)), obj("Star"), obj("cross"), no_box)
    cut(devkit.image("train_00001"))
    devkit.xml("test_00000").write_text("<annotation>")
    append(devkit.split("test"), "gone\n")
    append(devkit.year / "classes.txt", "ring\n")
    out, html = tmp_path / "new/a.json", tmp_path / "new/a.html"
    assert script("tools.check_data", *devkit.arguments, "--json", out, "--html", html) == 1
    report = json.loads(out.read_text())
    assert (
        report["counts"].items()
        >= {
            **{"class": 1, "inverted": 1, "spelling": 1, "field": 1, "image-unreadable": 1},
            **{"xml-malformed": 1, "xml-missing": 1, "image-missing": 1},
        }.items()
    )
    assert report["wrong_names"] == {"hexagon": 1, "Star": 1}
    assert report["trainable"] is False
    # Five objects of which one is sound, and those of the truncated picture.
    others = len(re.findall("<object>", devkit.xml("train_00001").read_text()))
    assert report["splits"]["VOC2007/train"]["images"] == 2
    assert report["splits"]["VOC2007/train"]["objects"] == 1 + others
    total = sum(by["VOC2007/train"]["objects"] for by in report["classes"].values())
    assert total == 1 + others
    assert report["classes"]["ring"]["VOC2007/train"] == {"objects": 0, "images": 0}
    messages = [fault["message"] for fault in report["faults"]]
    assert "train: no object of class ring" in messages
    assert any("train_00000.xml: object 2 has xmax 2 <= xmin 9" in line for line in messages)

    printed = capsys.readouterr().out
    assert "box inverted: swap its ends" in printed
    assert "object 2 has xmax 2 <= xmin 9" in printed
    assert "Star 1" in printed
    # 4 in train_00000, 1 in train_00001, 1 in test_00000, 2 for gone
    assert "training would fail: 8 fault(s) in 4 image(s); correct them, or leave" in printed

    page = html.read_text()
    assert not re.search(r"https?:|<script|<link|url\(", page)
    assert page.count("data:image/jpeg;base64,") >= 3
    assert "prefers-color-scheme: dark" in page
    assert "object 5 has no &lt;bndbox&gt;" in page
    assert "<bndbox>" not in page
    assert not list(tmp_path.rglob("*.tmp"))
    check_page(html, tmp_path, images=3)


def test_sound_data(drawn: Path, script: Callable[..., int], tmp_path: Path) -> None:
    arguments = ["--data", drawn, "--classes", drawn / "VOC2007/classes.txt"]
    arguments += ["--train", "VOC2007/train", "VOC2007/val", "--val", "VOC2007/test"]
    assert script("tools.check_data", *arguments, "--json", tmp_path / "a.json") == 0
    report = json.loads((tmp_path / "a.json").read_text())
    assert set(report["splits"]) == {"VOC2007/train", "VOC2007/val", "VOC2007/test"}
    assert not any(fault["fatal"] for fault in report["faults"])
    names = read_classes(drawn / "VOC2007/classes.txt")
    for split, facts in report["splits"].items():
        samples, _ = read_split(drawn, [split], names)
        labels = np.concatenate([sample.annotation.labels for sample in samples])
        difficult = np.concatenate([sample.annotation.difficult for sample in samples])
        assert (facts["images"], facts["objects"]) == (len(samples), len(labels))
        assert facts["difficult_share"] == pytest.approx(difficult.mean())
        for label, name in enumerate(names, start=1):
            assert report["classes"][name][split]["objects"] == (labels == label).sum()
    # Nothing is written beside what was asked for.
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_without_a_second_side_nothing_is_missed_on_it(
    devkit: Devkit, script: Callable[..., int], tmp_path: Path
) -> None:
    words = [
        *devkit.arguments,
        "--val",
        "--json",
        tmp_path / "a.json",
        "--html",
        tmp_path / "a.html",
    ]
    assert script("tools.check_data", *words) == 0
    report = json.loads((tmp_path / "a.json").read_text())
    assert set(report["splits"]) == {"VOC2007/train"}
    assert not any(fault["message"].startswith("val:") for fault in report["faults"])
    page = (tmp_path / "a.html").read_text()
    assert "validation: none" in page
    assert "a sample, " in page


def test_fast_reads_headers_only(
    devkit: Devkit, script: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    cut(devkit.image())
    assert script("tools.check_data", *devkit.arguments, "--fast") == 0
    assert "training can start (as far as file headers tell)" in capsys.readouterr().out
    assert script("tools.check_data", *devkit.arguments) == 1
    devkit.objects(obj())
    devkit.objects(obj("star"), image_id="test_00000")
    assert script("tools.check_data", *devkit.arguments, "--fast") == 0
    assert "is the same image as VOC2007/train_00000" in capsys.readouterr().out


def test_equal_pixels_in_unequal_files_are_the_same_image(
    devkit: Devkit, script: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    devkit.objects(obj())
    devkit.objects(obj(), image_id="test_00000")
    devkit.image("test_00000").unlink()
    Image.new("RGB", (100, 50), "white").save(devkit.year / "JPEGImages/test_00000.png")
    assert script("tools.check_data", *devkit.arguments) == 0
    line = "test_00000 (VOC2007/test) is the same image as VOC2007/train_00000 (VOC2007/train)"
    assert f"{line}\n" in capsys.readouterr().out  # and nothing about annotations: they are equal
    devkit.xml("test_00000").write_text(devkit.xml("test_00000").read_text().replace("20", "19"))
    assert script("tools.check_data", *devkit.arguments) == 0
    assert f"{line}; their annotations differ" in capsys.readouterr().out


def test_images_that_differ_in_one_corner_are_not_the_same(
    devkit: Devkit, script: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    devkit.objects(obj())
    devkit.objects(obj(), image_id="test_00000")
    pixels = np.full((50, 100, 3), 255, np.uint8)
    pixels[40:, 90:] = 0
    Image.fromarray(pixels).save(devkit.image("test_00000"))
    assert script("tools.check_data", *devkit.arguments) == 0
    assert "same image" not in capsys.readouterr().out


REFUSED = {
    "devkit": (["--data", "nowhere"], "--train VOC2007/train: nowhere: no such folder"),
    "split": (["--train", "VOC2007/none"], "none.txt: no such split"),
    "year": (["--val", "VOC2031/test"], "VOC2031: no such folder"),
    "form": (["--val", "test"], "is not <folder of the devkit>/<split>"),
    "classes": (["--classes", "none.txt"], "--classes none.txt: no such class list"),
    "twice": (["--train", "VOC2007/train", "VOC2007/train"], "names VOC2007/train 2 times"),
    "no split": (["--train"], "--train names no split"),
    "flag": (["--quick"], "unrecognized arguments: --quick"),
    "workers": (["--workers", "0"], "--workers must be at least 1"),
    "layout": (["--layout", "none"], "invalid choice: 'none'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_invocation_is_one_line(
    case: str, devkit: Devkit, script: Callable[..., int], one_line: Callable[[], str]
) -> None:
    arguments, message = REFUSED[case]
    assert script("tools.check_data", *devkit.arguments, *arguments) == 2
    assert message in one_line()


# --- priors


def entry(
    *boxes: tuple[float, ...], difficult: tuple[bool, ...] = (), size: tuple[int, int] = (300, 300)
) -> Entry:
    hard = np.array(difficult or (False,) * len(boxes), bool)
    labels = np.ones(len(boxes), np.int64)
    array = np.array(boxes, np.float32).reshape(-1, 4)
    return Entry(
        "VOC2007/train", "VOC2007/a", Path("a.jpg"), Annotation(array, labels, hard, *size)
    )


def test_overlap_with_the_priors_by_hand() -> None:
    # In pixels of 300. The first map's cells are 8 apart, so a centre is at 4 + 8 k: 148, say. Its
    # small square has side 30.
    # 1. A box of 30 x 30 there is that prior: IoU 1.
    # 2. A box of 10 x 10 there lies inside the square: 100 / 900 = 0.11. The other priors that
    #    hold it are as large or larger (30 / sqrt 2 by 30 sqrt 2 has the same area), so no better.
    # 3. A box of 300 x 20 in the middle: even the longest prior, 3:1 of size 162, is too thick.
    priors = prior_boxes("paper")
    found = reach([entry((133, 133, 163, 163), (143, 143, 153, 153), (0, 140, 300, 160))], priors)
    assert found.best[:2] == pytest.approx([1, 1 / 9], abs=1e-5)
    assert found.best[2] < 0.5
    assert (found.matched > 0).tolist() == [True, False, False]
    assert found.pixels.tolist() == pytest.approx(np.array([[30, 30], [10, 10], [300, 20]]))
    table = reach_by_size(found)
    # Areas 900 and 100 are below 32^2 = 1024; 6000 is between that and 96^2 = 9216.
    assert [table[size]["objects"] for size in ("small", "medium", "large", "all")] == [2, 1, 0, 3]
    assert table["small"]["unmatched_share"] == 0.5
    assert table["medium"]["unmatched_share"] == 1.0
    assert table["medium"]["unmatched_long"] == 1  # 300 : 20 is 15
    assert table["large"]["unmatched_share"] is None
    assert table["all"]["unmatched"] == 2


def test_a_prior_matches_from_one_half_on() -> None:
    # One prior, the whole picture: the IoU is the part that an object covers, 150 / 300 = 0.5 and
    # 149 / 300 = 0.497.
    whole = torch.tensor([[0.5, 0.5, 1, 1]])
    found = reach([entry((0, 0, 150, 300), (0, 0, 300, 149))], whole)
    assert found.best == pytest.approx([0.5, 149 / 300])
    assert found.matched.tolist() == [1, 0]


def test_sizes_are_those_at_the_input() -> None:
    # 100 x 100 of 1500 x 3000 are 100 / 5 = 20 by 100 / 10 = 10 at the 300 x 300 input.
    found = reach([entry((0, 0, 100, 100), size=(1500, 3000))], prior_boxes())
    assert found.pixels[0] == pytest.approx([20, 10])


def test_difficult_objects_and_pictures_without_any_do_not_count() -> None:
    pictures = [
        entry(),
        entry((0, 0, 9, 9), (0, 0, 90, 90), difficult=(True, False)),
        Entry("", ""),
    ]
    found = reach(pictures, prior_boxes())
    assert [number for _, number in found.where] == [1]
    nothing = reach([entry()], torch.zeros(1, 4))
    assert reach_by_size(nothing)["all"]["objects"] == 0
    assert prior_advice(reach_by_size(nothing)) == ["There is no object to train on."]


def test_advice_depends_on_what_is_missed() -> None:
    def advice(*boxes: tuple[float, ...]) -> str:
        return " ".join(prior_advice(reach_by_size(reach([entry(*boxes)], prior_boxes()))))

    assert "On the whole the priors suit" in advice((133, 133, 163, 163))
    assert "--expand 1" in advice((143, 143, 153, 153))
    assert "Longer than 3:1" in advice((0, 140, 300, 160))


# --- pictures


def test_a_box_outside_is_shown_in_a_margin() -> None:
    image = np.zeros((40, 100, 3), np.uint8)
    framed, place = with_margin(image, np.array([[-10.0, 5, 20, 30], [50, 5, 900, 45]]))
    # 10 to the left; to the right 800, cut to a quarter of 100; 5 below.
    assert framed.shape == (40 + 5, 10 + 100 + 25, 3)
    assert place == (10, 0)
    assert (framed[:, :10] == 128).all()
    unframed, place = with_margin(image, np.zeros((0, 4)))
    assert (unframed.shape, place) == (image.shape, (0, 0))


def test_pictures_of_unequal_height_stand_side_by_side() -> None:
    pair = [np.zeros((10, 20, 3), np.uint8), np.zeros((30, 20, 3), np.uint8)]
    assert side_by_side(pair).shape == (30, 20 + 8 + 20, 3)


def test_a_fault_is_drawn_where_it_is(devkit: Devkit) -> None:
    devkit.objects(obj(box=(60, 10, 20, 40)))
    entries, faults = examine_split(devkit.root, "VOC2007/train", ("disc",))
    assert faults == []
    assert entries[0].bad_objects[0].box == (19, 9, 60, 40)  # 20 - 1, 10 - 1, and not inverted
    picture = drawn_entry(entries[0], ("disc",))
    assert picture.shape == (150, 300, 3)  # three times as large
    # The lower edge is at 40 * 3 = 120, between 19 * 3 = 57 and 60 * 3 = 180; white is below it.
    assert (picture[118:122, 60:175].min(axis=2) < 200).any()
    assert (picture[130:] == 255).all()


def test_boxes_move_with_the_margin(devkit: Devkit) -> None:
    devkit.objects(obj(box=(-20, 20, 20, 40)), obj(box=(61, 21, 80, 40)))
    entries, _ = examine_split(devkit.root, "VOC2007/train", ("disc",))
    picture = drawn_entry(entries[0], ("disc",))
    # The first begins 21 pixels left of the image, 63 on the page; the image is 300 wide.
    assert picture.shape == (150, 363, 3)
    # So the second's left edge, at 60 * 3 = 180 in the image, is at 243; nothing is left of it.
    coloured = (picture[100] < 200).any(axis=1)
    assert coloured[242:246].any()
    assert not coloured[190:242].any()
