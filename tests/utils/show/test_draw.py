"""What people look at."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from utils.metrics.evaluator import Evaluator
from utils.show import draw
from utils.show.draw import (
    beside,
    class_colour,
    draw_boxes,
    label_corners,
    legible,
    side_by_side,
)
from utils.show.plots import draw_confusion, draw_precision_recall


def test_a_box_is_drawn_where_it_is_and_the_image_is_left_alone() -> None:
    image = np.full((100, 120, 3), 128, np.uint8)
    drawn = draw_boxes(image, [[30, 40, 90, 80]], [2], ["cat", "dog"], [0.75])
    assert (image == 128).all()
    for x, y in ((60, 40), (60, 80), (30, 60), (90, 60)):  # the middle of each side
        assert tuple(drawn[y, x]) == class_colour(2)
    assert (drawn[60, 60] == 128).all()
    assert (drawn[28:39, 31:60] != 128).any()  # the label is above the box


@pytest.mark.parametrize("box", [[-50, -50, 10, 10], [0, 0, 120, 100], [115, 95, 300, 300]])
def test_labels_stay_inside_the_image(box: list[float]) -> None:
    image = np.zeros((100, 120, 3), np.uint8)
    drawn = draw_boxes(image, [box], [1], ["a very long class name indeed"])
    assert (drawn.sum(-1) > 600).any()  # light ink or bright label somewhere


def test_labels_of_the_same_place_move_apart() -> None:
    box, label = (20.0, 30.0, 80.0, 90.0), (50.0, 10.0)
    corners = label_corners([box] * 4, [label] * 4, (200, 200))
    # Above at the left; at the right, 80 - 50 = 30, it would cover that; inside at the top; below;
    # inside at the bottom.
    assert corners == [(20, 20), (20, 30), (20, 90), (20, 80)]
    wide = (20.0, 30.0, 130.0, 90.0)
    assert label_corners([wide] * 2, [label] * 2, (200, 200)) == [(20, 20), (80, 20)]
    # Neighbours: the second starts at 40, under the first, which ends at 70.
    assert label_corners([box, (40, 30, 95, 90)], [label] * 2, (200, 200))[1] == (40, 30)


def test_labels_cover_each_other_only_where_there_is_no_room() -> None:
    # A picture as high as a label has one place.
    assert label_corners([(0, 0, 9, 9)] * 2, [(9, 9)] * 2, (9, 9)) == [(0, 0), (0, 0)]
    assert label_corners([(5, 5, 6, 6)], [(30, 12)], (20, 9)) == [(0, 0)]  # larger than all


def test_no_box_changes_nothing() -> None:
    image = np.zeros((10, 10, 3), np.uint8)
    assert (draw_boxes(image, np.zeros((0, 4)), [], ["a"]) == 0).all()


def test_letters_of_any_script_are_legible(monkeypatch: pytest.MonkeyPatch) -> None:
    assert legible("Straße, собака, γάτα", 12)[0] == "Straße, собака, γάτα"
    monkeypatch.setattr(draw.font_manager.fontManager, "ttflist", [])
    draw.font_for.cache_clear()
    assert legible("猫 1", 12)[0] == "U+732B 1"  # no installed font has it
    draw.font_for.cache_clear()


def test_a_last_resort_is_no_font() -> None:
    """Matplotlib has a file with a box for every letter of every script."""
    draw.font_for.cache_clear()
    for letter in "猫あ한":
        assert not Path(draw.font_for(letter)).name.startswith("LastResort")


def test_long_titles_stay_above_their_pictures() -> None:
    pictures = [np.zeros((200, 300, 3), np.uint8)] * 2
    long = "MYSET/DSC_2023_08_14_warehouse_cam03_frame_000123: objects"
    alone, both = (beside(pictures, [long, title]) for title in ("", "found"))
    assert (alone[:20, 300:] == 255).all()  # nothing of the first is above the second
    assert (both[:20, :300] == alone[:20, :300]).all()


def test_neighbouring_classes_have_different_colours() -> None:
    colours = np.array([class_colour(label) for label in range(1, 21)], float)
    distance = np.abs(colours[1:] - colours[:-1]).sum(1)
    assert distance.min() > 100


def test_images_are_laid_out_in_columns() -> None:
    red, blue = np.zeros((600, 300, 3), np.uint8), np.zeros((60, 80, 3), np.uint8)
    red[..., 0], blue[..., 2] = 255, 255
    sheet = side_by_side([[red, blue], [blue, red]], ["teacher", "student"])
    assert sheet.shape == (26 + 600, 600, 3)
    assert tuple(sheet[60, 20]) == (255, 0, 0)
    assert tuple(sheet[60, 320]) == (0, 0, 255)


def one_found(names: Sequence[str]) -> Evaluator:
    """An object of the first class, which was found."""
    evaluator = Evaluator(names)
    boxes = np.array([[0.0, 0.0, 9.0, 9.0]])
    evaluator.update(
        "a",
        boxes=boxes,
        scores=[0.9],
        labels=[1],
        truth_boxes=boxes,
        truth_labels=[1],
        difficult=[False],
    )
    return evaluator


def drawn_curves(evaluator: Evaluator, folder: Path) -> Path:
    """The picture of its curves."""
    draw_precision_recall(evaluator, folder / "curves.png")
    return folder / "curves.png"


@pytest.mark.parametrize("name", ["$1_$", "US$ 1_a$", "_hidden", "猫咪", 55 * "x"])
def test_plots_take_every_name(name: str, tmp_path: Path) -> None:
    sizes = []
    for names in ((name, "b"), ("a", "b")):
        evaluator = one_found(names)
        draw_confusion(evaluator, tmp_path / "confusion.png", 0.5)
        with Image.open(tmp_path / "confusion.png") as picture:
            blue = np.asarray(picture.convert("RGB")).astype(int)
        sizes.append((blue[..., 2] - blue[..., 0] > 60).sum())  # of the cell with all of a class
        drawn_curves(evaluator, tmp_path)
    assert sizes[0] > 0.2 * sizes[1]


def test_precision_recall_of_some_and_of_no_objects(tmp_path: Path) -> None:
    evaluator = one_found(["cat", "dog"])
    with Image.open(drawn_curves(evaluator, tmp_path)) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    # One detection, a hit: precision 1 from recall 0 to 1, in the colour of the class.
    coloured = (np.abs(pixels - class_colour(1)).sum(-1) < 40).sum(1)
    assert coloured.max() > 300
    draw_precision_recall(evaluator, tmp_path / "some.png")
    draw_precision_recall(Evaluator(["cat"]), tmp_path / "none.png")
    for name in ("some.png", "none.png"):
        with Image.open(tmp_path / name) as picture:
            assert picture.width == 800
