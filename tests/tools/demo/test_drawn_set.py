"""The drawn data set: reproducible, readable by `utils.data.voc`, and boxed exactly."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import Refused, Script
from tools.demo import drawing
from tools.demo.drawing import MIN_VISIBLE, SHAPES, Picture, _cover, draw_picture
from tools.demo.drawn_set import CLASS_NAMES, MARKER, make_drawn_set
from utils.data.voc import read_classes, read_split


def picture(*seed: int) -> Picture:
    return draw_picture(np.random.Generator(np.random.PCG64(seed)))


@pytest.fixture(scope="module")
def pictures() -> list[Picture]:
    return [picture(0, index) for index in range(150)]


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_what_is_made_can_be_read(tmp_path: Path) -> None:
    names = make_drawn_set(tmp_path, train=5, val=2, test=3, seed=1)
    assert names == CLASS_NAMES == ("cross", "disc", "square", "star", "triangle")
    assert read_classes(tmp_path / "VOC2007" / "classes.txt") == names
    for split, count in {"train": 5, "val": 2, "trainval": 7, "test": 3}.items():
        samples, skipped = read_split(tmp_path, [f"VOC2007/{split}"], names)
        assert (len(samples), skipped) == (count, [])
    drawn = picture(1, 2, 0)  # seed, number of the split, index
    annotation = samples[0].annotation
    corners = np.float32([o.box for o in drawn.objects]).reshape(-1, 4) - (1, 1, 0, 0)
    np.testing.assert_array_equal(annotation.boxes, corners)
    assert [names[label - 1] for label in annotation.labels] == [o.name for o in drawn.objects]
    assert annotation.difficult.tolist() == [o.difficult for o in drawn.objects]


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        make_drawn_set(tmp_path / name, train=2, val=1, test=1, seed=seed)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    first = "VOC2007/JPEGImages/train_00000.jpg"
    assert contents(tmp_path / "a")[first] != contents(tmp_path / "c")[first]


def test_sets_of_other_sizes_share_pictures(tmp_path: Path) -> None:
    make_drawn_set(tmp_path / "small", train=1, val=0, test=2)
    make_drawn_set(tmp_path / "large", train=3, val=1, test=3)
    small, large = contents(tmp_path / "small"), contents(tmp_path / "large")
    shared = [name for name in small if name.endswith((".jpg", ".xml"))]
    assert len(shared) == 6
    assert all(small[name] == large[name] for name in shared)
    assert len({large[name] for name in large if name.endswith(".jpg")}) == 7  # all differ


def test_boxes_are_tight(pictures: list[Picture]) -> None:
    for drawn in pictures:
        for number, (_, (xmin, ymin, xmax, ymax), _) in enumerate(drawn.objects, start=1):
            mine = drawn.owner == number
            inside = mine[ymin - 1 : ymax, xmin - 1 : xmax]
            assert inside.sum() == mine.sum() > 0
            # each of the four sides touches the object
            assert inside[0].any()
            assert inside[-1].any()
            assert inside[:, 0].any()
            assert inside[:, -1].any()


def test_a_square_by_hand() -> None:
    # Corners at 2 and 6 fill pixels 2..6; OpenCV's outline counts the pixels it passes through.
    cover = _cover(np.array([(2, 2), (6, 2), (6, 6), (2, 6)], float), 9, 9)
    assert np.flatnonzero((cover >= 128).any(axis=0)).tolist() == [2, 3, 4, 5, 6]
    assert cover[4, 4] == 255


def test_the_promised_variety(pictures: list[Picture]) -> None:
    counts = [len(drawn.objects) for drawn in pictures]
    assert min(counts) == 0
    assert max(counts) == 6
    objects = [one for drawn in pictures for one in drawn.objects]
    assert {one.name for one in objects} == set(SHAPES)
    assert 0.01 < np.mean([one.difficult for one in objects]) < 0.15
    boxes = np.array([one.box for one in objects])
    sides = (boxes[:, 2:] - boxes[:, :2] + 1).max(axis=1)
    assert 30 * 0.9 < sides.min() < 40
    assert 150 < sides.max() <= 202  # 200 and its antialiased rim
    heights, widths = zip(*(drawn.owner.shape for drawn in pictures), strict=True)
    assert min(heights + widths) >= 240
    assert max(heights + widths) <= 400
    for drawn in pictures:
        assert drawn.pixels.shape == (*drawn.owner.shape, 3)
        assert drawn.pixels.dtype == np.uint8


def test_hidden_objects_are_difficult_and_never_lost(
    pictures: list[Picture], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen again while each cover is recorded, so that the hidden part is known."""
    covers: list[np.ndarray] = []
    place = drawing._place

    def recording(*arguments: object) -> np.ndarray | None:
        cover = place(*arguments)
        if cover is not None:
            covers.append(cover >= 128)
        return cover

    monkeypatch.setattr(drawing, "_place", recording)
    shares = []
    for index, drawn in enumerate(pictures):
        covers.clear()
        assert picture(0, index).objects == drawn.objects
        for number, (cover, one) in enumerate(zip(covers, drawn.objects, strict=True), start=1):
            share = (drawn.owner == number).sum() / cover.sum()
            side = max(one.box[2] - one.box[0], one.box[3] - one.box[1]) + 1
            assert share >= MIN_VISIBLE
            assert one.difficult == (share < 0.6 or side < 22)
            shares.append(share)
    assert min(shares) < 0.6
    assert np.mean(np.array(shares) == 1) > 0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"train": -1, "val": 0, "test": 1}, "train is -1; it must be 0 or more"),
        ({"train": 1, "val": 0, "test": 1, "seed": -2}, "seed is -2"),
        ({"train": 0, "val": 0, "test": 0}, "train, val and test are all 0; ask for a picture"),
    ],
)
def test_refusals(tmp_path: Path, arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_drawn_set(tmp_path, **arguments)
    assert not list(tmp_path.iterdir())


def test_command_line(
    tmp_path: Path, script: Script, refused: Refused, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["--out", tmp_path, "--train", 1, "--val", 1, "--test", 1, "--seed", 5]
    for _ in range(2):  # what it made itself it may overwrite
        assert script("tools.demo.drawn_set", *call) == 0
    assert capsys.readouterr().out.endswith("VOC2007: 3 pictures drawn\n")
    marker = tmp_path / "VOC2007" / MARKER
    assert json.loads(marker.read_text()) == {"train": 1, "val": 1, "test": 1, "seed": 5}
    marker.unlink()
    before = contents(tmp_path)
    line = refused("tools.demo.drawn_set", *call)
    assert "VOC2007 is there and was not made by this tool; move it away" in line
    assert contents(tmp_path) == before
