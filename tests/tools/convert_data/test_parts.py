"""Drawing splits, naming pictures."""

from collections import Counter
from pathlib import Path

import pytest

from tools.convert_data.layout import ids_of
from tools.convert_data.sound import check_name
from tools.convert_data.source import Object, Picture
from tools.convert_data.splits import give_splits

BOX = (0.0, 0.0, 1.0, 1.0)


def pictures(classes: list[str], split: str = "") -> list[Picture]:
    """One a word, whose letters are the classes of its objects."""
    return [
        Picture(
            Path(f"{i}.jpg"),
            f"{i}.jpg",
            "",
            [split] if split else [],
            [Object("", letter, BOX) for letter in word],
        )
        for i, word in enumerate(classes)
    ]


def test_each_class_has_its_share_in_each_split() -> None:
    made = pictures(["aab"] * 40 + ["a"] * 100 + ["c"] * 20 + [""] * 40)
    assert give_splits(made, {"val": 0.1, "test": 0.2}, seed=0) == {"val": 0.1, "test": 0.2}
    sizes = Counter(p.splits[0] for p in made)
    assert sizes == {"train": 140, "val": 20, "test": 40}
    objects = Counter((p.splits[0], o.name) for p in made for o in p.objects)
    empty = Counter(p.splits[0] for p in made if not p.objects)
    # 40 objects of b, 20 of c, 40 pictures without one: 70, 10 and 20 % of each.
    assert [objects[s, "b"] for s in sizes] == [28, 4, 8] or objects["val", "b"] == 4
    assert (objects["val", "c"], objects["test", "c"]) == (2, 4)
    assert (empty["val"], empty["test"]) == (4, 8)
    assert abs(objects["test", "a"] - 36) <= 2  # of 180


def test_a_draw_follows_from_its_seed() -> None:
    def draw(seed: int) -> list[list[str]]:
        made = pictures(["a", "b"] * 30)
        give_splits(made, {"val": 0.3, "test": None}, seed)
        return [p.splits for p in made]

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


def test_the_only_picture_of_a_class_trains() -> None:
    made = pictures(["a"] * 20 + ["z"])
    give_splits(made, {"val": None, "test": None}, seed=0)
    assert made[-1].splits == ["train"]


def test_what_validates_is_not_drawn_for_the_test() -> None:
    made = pictures(["a"] * 20, "train")
    for picture in made[:10]:
        picture.splits.append("val")
    give_splits(made, {"val": None, "test": 0.25}, seed=0)
    assert all(p.splits == ["train", "val"] for p in made[:10])
    assert Counter(p.splits[0] for p in made[10:]) == {"train": 5, "test": 5}


def test_a_name_that_cannot_be_listed() -> None:
    for name in ("caf\udce9.jpg", "a\nb.jpg"):
        with pytest.raises(ValueError, match="is not plain text in UTF-8; rename the file"):
            check_name(name)
    check_name("caf\u00e9 \u732b.jpg")


def test_a_source_keeps_its_splits() -> None:
    made = pictures(["a"] * 8, "train") + pictures(["a"] * 2, "val")
    assert give_splits(made, {"val": None, "test": None}, seed=0) == {}
    assert Counter(p.splits[0] for p in made) == {"train": 8, "val": 2}
    # A test split of 30 % of all ten pictures is drawn from those that train.
    assert give_splits(made, {"val": None, "test": 0.3}, seed=0) == {"test": 0.3}
    assert Counter(p.splits[0] for p in made) == {"train": 5, "val": 2, "test": 3}


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"val": 0.5, "test": 0.5}, "leave nothing to train on"),
        ({"val": 0.5, "test": None}, "--val: the source has a split val already"),
        ({"val": None, "test": 0.8}, "only 8 of 10 images are for training"),
    ],
)
def test_draws_that_cannot_be(shares: dict[str, float | None], message: str) -> None:
    made = pictures(["a"] * 8, "train") + pictures(["a"] * 2, "val")
    if shares["val"] and shares["test"]:
        made = pictures(["a"] * 8)
    with pytest.raises(ValueError, match=message):
        give_splits(made, shares, seed=0)


def test_ids_are_short_plain_and_no_two_alike() -> None:
    names = ["x/one.jpg", "y/one.jpg", "y/One.png", "two words.jpg", "z.jpg", "z.png", "a.b.jpg"]
    assert ids_of(names) == ["x-one", "y-one", "y-One-2", "two_words", "z", "z-2", "a.b"]
