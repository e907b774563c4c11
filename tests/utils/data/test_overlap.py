"""Images that two lists have in common, by name or by content."""

import shutil
from pathlib import Path

import pytest

from utils.data.overlap import check_apart


@pytest.fixture
def devkit(tmp_path: Path) -> Path:
    """Years A and B of small files; equal ones are written where a test needs them."""
    lists = {"A/train": "1 2", "A/test": "3", "B/all": "1 2 4", "B/most": "2 4", "B/gone": "9"}
    for split, ids in lists.items():
        year, name = split.split("/")
        file = tmp_path / year / f"ImageSets/Main/{name}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(ids.split()))
    for number, picture in enumerate(("A/1", "A/2", "A/3", "B/1", "B/2", "B/4")):
        year, name = picture.split("/")
        path = tmp_path / year / f"JPEGImages/{name}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes([number]) * 100)  # all of one size
    return tmp_path


def test_years_number_their_pictures_independently(devkit: Path) -> None:
    check_apart(devkit, ["B/all"], "--unlabelled", {"--train": ["A/train"], "the test": ["A/test"]})


def test_names_in_common(devkit: Path) -> None:
    message = "--unlabelled B/all: 2 of 3 images are in --train B/most, too: B/2, B/4; take them "
    with pytest.raises(ValueError, match=f"^{message}off its list$"):
        check_apart(devkit, ["B/all"], "--unlabelled", {"--train": ["B/most"]})


def test_equal_files_under_other_names(devkit: Path) -> None:
    shutil.copy(devkit / "A/JPEGImages/3.jpg", devkit / "B/JPEGImages/4.jpg")
    others = {"--train": ["A/train"], "the test split": ["A/test"]}
    message = r"1 of 3 images are in the test split A/test, too: B/4 \(there A/3\); take"
    with pytest.raises(ValueError, match=message):
        check_apart(devkit, ["B/all"], "--unlabelled", others)
    check_apart(devkit, ["B/gone"], "--unlabelled", others)  # has no picture: another refusal


def test_the_same_file_by_another_id(devkit: Path) -> None:
    (devkit / "B/ImageSets/Main/odd.txt").write_text("./1")
    (devkit / "B/ImageSets/Main/named.txt").write_text("0001")
    (devkit / "B/Annotations").mkdir()
    (devkit / "B/Annotations/0001.xml").write_text(
        "<annotation><filename>1.jpg</filename></annotation>"
    )
    for split, said in (("odd", "B/1"), ("named", r"B/0001 \(there B/1\)")):
        with pytest.raises(ValueError, match=f"1 of 1 images are in --train B/all, too: {said};"):
            check_apart(devkit, [f"B/{split}"], "--unlabelled", {"--train": ["B/all"]})


def test_a_long_list_is_cut(devkit: Path) -> None:
    for name in ("many", "too"):
        (devkit / f"A/ImageSets/Main/{name}.txt").write_text("\n".join(map(str, range(23))))
    with pytest.raises(ValueError, match=r"23 of 23 .* A/0, .*, A/19 and 3 more; take"):
        check_apart(devkit, ["A/many"], "--unlabelled", {"--val": ["A/too"]})


def test_only_files_of_equal_size_are_read(devkit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("utils.data.overlap.digest", None)
    for name in ("1", "2", "4"):
        path = devkit / f"B/JPEGImages/{name}.jpg"
        path.write_bytes(path.read_bytes() + b"more")
    check_apart(devkit, ["B/all"], "--unlabelled", {"--train": ["A/train"]})
