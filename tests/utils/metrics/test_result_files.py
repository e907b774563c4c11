"""VOC result files: what is written, what comes back, what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch

from utils.metrics.evaluator import Evaluator
from utils.metrics.result_files import load_detections, result_ids, save_detections

NAMES = ["cat", "dog"]
ONE_CAT = {"VOC2007/000005": (np.array([[0.0, 9.0, 2.0, 11.5]]), np.array([0.5]), np.array([1]))}


def test_written_text(tmp_path):
    # Columns 0..2 are the pixels 1 and 2; rows 9..11.5 begin in pixel 10.
    save_detections(tmp_path / "new", NAMES, ONE_CAT)
    cat = tmp_path / "new/comp4_det_test_cat.txt"
    assert cat.read_text() == "VOC2007/000005 0.5 1.0 10.0 2.0 11.5\n"
    assert (tmp_path / "new/comp4_det_test_dog.txt").read_text() == ""


def test_text_of_other_programs(tmp_path):
    (tmp_path / "comp4_det_test_cat.txt").write_text("a .9 1 1 10 20\nb 1e-3 3 4 5 6\n")
    (tmp_path / "comp4_det_test_dog.txt").write_text("a 0.25 11.5 1.000 12 2\r\na 2 1 1 1 1")
    read = load_detections(tmp_path, NAMES)
    assert list(read) == ["a", "b"]
    boxes, scores, labels = read["a"]
    np.testing.assert_array_equal(boxes, [[0, 0, 10, 20], [10.5, 0, 12, 2], [0, 0, 1, 1]])
    np.testing.assert_array_equal(scores, [0.9, 0.25, 2])
    np.testing.assert_array_equal(labels, [1, 2, 2])
    assert labels.dtype == np.int64


def test_reading_gives_back_what_was_written(tmp_path):
    # Coordinates whose x + 1 - 1 is not x in binary: 0.1, 1e-9, the smallest double, -1/3.
    rng = np.random.default_rng(0)
    detections = {}
    for i in range(20):
        corner = rng.normal(size=(30, 2)) * rng.choice([1e-9, 1e-3, 1, 1e3, 1e20], (30, 2))
        corner[:4, 0] = [0.1, 1e-9, 5e-324, -1 / 3]
        boxes = np.concatenate([corner, corner + rng.random((30, 2))], axis=1)
        scores = rng.random(30).astype(np.float32)
        labels = np.sort(rng.integers(1, 3, 30))
        detections[f"VOC2012/{i:06d}"] = (boxes, scores, labels)
    save_detections(tmp_path, NAMES, detections)
    read = load_detections(tmp_path, NAMES)
    assert set(read) == set(detections)
    for image_id, columns in detections.items():
        for before, after in zip(columns, read[image_id], strict=True):
            np.testing.assert_array_equal(after, before)


def test_same_map_to_the_last_digit(tmp_path):
    rng = np.random.default_rng(1)
    truth = {}
    before, after = Evaluator(NAMES), Evaluator(NAMES)
    for i in range(30):
        corner = rng.random((4, 2)) * 200
        boxes = np.concatenate([corner, corner + 20 + 50 * rng.random((4, 2))], axis=1)
        labels = rng.integers(1, 3, 4)
        truth[f"{i:03d}"] = {
            "truth_boxes": boxes,
            "truth_labels": labels,
            "difficult": rng.random(4) < 0.2,
        }
        before.update(
            f"{i:03d}",
            boxes=np.repeat(boxes, 3, axis=0) + 4 * rng.random((12, 4)),
            scores=torch.from_numpy(rng.integers(0, 9, 12) / 9),  # many equal scores
            labels=np.repeat(labels, 3),
            **truth[f"{i:03d}"],
        )
    save_detections(tmp_path, NAMES, before.detections)
    for image_id, (boxes, scores, labels) in load_detections(tmp_path, NAMES).items():
        after.update(image_id, boxes=boxes, scores=scores, labels=labels, **truth[image_id])
    for protocol in ("voc07", "voc10", "coco"):
        assert after.result(protocol) == before.result(protocol)
        assert 0 < after.result(protocol).mean < 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("b 0.5 1 1 10", "5 columns in 'b 0.5 1 1 10'; give image_id score xmin ymin xmax ymax"),
        ("my image 0.5 1 1 10 10", "7 columns"),
        ("", "0 columns"),
        ("b high 1 1 10 10", "'high 1 1 10 10' is not five finite numbers; mend or drop it"),
        ("b 0.5 one 1 10 10", "'0.5 one 1 10 10' is not five finite numbers"),
        ("b nan 1 1 10 10", "is not five finite numbers"),
        ("b 0.5 nan 1 10 10", "is not five finite numbers"),
        ("b 0.5 1 1 inf 10", "is not five finite numbers"),
        ("b 0.5 1e999 1 10 10", "is not five finite numbers"),
    ],
)
def test_bad_lines_are_refused(tmp_path, line, message):
    (tmp_path / "comp4_det_test_cat.txt").write_text("")
    (tmp_path / "comp4_det_test_dog.txt").write_text(f"a 0.5 1 1 10 10\n{line}\n")
    with pytest.raises(ValueError, match=f"comp4_det_test_dog.txt, line 2: .*{message}"):
        load_detections(tmp_path, NAMES)


def test_inverted_and_empty_boxes_are_kept_and_counted(tmp_path, capsys):
    # In VOC pixels xmax = xmin - 1 is empty and xmax < xmin - 1 is inverted.
    (tmp_path / "comp4_det_test_cat.txt").write_text("a 0.9 1 1 10 10\nb 0.8 20 1 10 10\n")
    lines = "b 0.5 11.5 1 10 10\nb 0.4 1 20 10 10\nb 0.3 5 1 4 10\nb 0.2 5 1 4.1 10\n"
    (tmp_path / "comp4_det_test_dog.txt").write_text(lines)
    read = load_detections(tmp_path, NAMES)
    expected = [[19, 0, 10, 10], [10.5, 0, 10, 10], [0, 19, 10, 10], [4, 0, 4, 10], [4, 0, 4.1, 10]]
    np.testing.assert_array_equal(read["b"][0], expected)
    (said,) = capsys.readouterr().out.splitlines()
    first = tmp_path / "comp4_det_test_cat.txt"
    assert said.endswith(f"false detections: 4; the first is in {first}, line 2")
    save_detections(tmp_path / "again", NAMES, read)
    again = load_detections(tmp_path / "again", NAMES)
    np.testing.assert_array_equal(again["b"][0], expected)


def test_a_box_narrower_than_a_pixel_is_no_inverted_box(tmp_path, capsys):
    thin = {"a": (np.array([[5.0, 5.0, 5.25, 9.0]]), np.array([0.5]), np.array([2]))}
    save_detections(tmp_path, NAMES, thin)
    assert (tmp_path / "comp4_det_test_dog.txt").read_text() == "a 0.5 6.0 6.0 5.25 9.0\n"
    np.testing.assert_array_equal(load_detections(tmp_path, NAMES)["a"][0], thin["a"][0])
    assert capsys.readouterr().out == ""


def test_missing_class_file(tmp_path):
    (tmp_path / "comp4_det_test_cat.txt").write_text("")
    with pytest.raises(FileNotFoundError, match=r"comp4_det_test_dog\.txt is missing"):
        load_detections(tmp_path, NAMES)


@pytest.mark.parametrize("image_id", ["", "my image", "a\n"])
def test_image_ids_without_white_space(tmp_path, image_id):
    with pytest.raises(ValueError, match="is empty or holds white space; rename"):
        save_detections(tmp_path, NAMES, {image_id: ONE_CAT["VOC2007/000005"]})


def test_class_name_that_is_no_file_name(tmp_path):
    with pytest.raises(ValueError, match="'cat/dog' cannot be part of a file name"):
        save_detections(tmp_path, ["cat/dog"], {})


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [(0, [[3, 0, np.inf, 1]], "detection 0 has box"), (1, [np.nan], "nan"), (2, [3], "label 3")],
)
def test_bad_detections_are_not_written(tmp_path, column, value, message):
    columns = list(ONE_CAT["VOC2007/000005"])
    columns[column] = np.array(value)
    with pytest.raises(ValueError, match=f"image a: .*{message}"):
        save_detections(tmp_path, NAMES, {"a": tuple(columns)})
    assert list(tmp_path.iterdir()) == []


def test_interrupted_writing_leaves_the_old_file(tmp_path, monkeypatch):
    save_detections(tmp_path, NAMES, ONE_CAT)
    old = (tmp_path / "comp4_det_test_cat.txt").read_text()

    def half(path: Path, text: str, **_: str) -> None:
        path.write_bytes(text[: len(text) // 2].encode())
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_text", half)
    with pytest.raises(OSError, match="disk full"):
        save_detections(tmp_path, NAMES, {"other": ONE_CAT["VOC2007/000005"]})
    assert (tmp_path / "comp4_det_test_cat.txt").read_text() == old


def test_images_are_called_by_their_number_while_that_is_unique() -> None:
    assert result_ids(["VOC2007/1", "VOC2012/2"]) == {"VOC2007/1": "1", "VOC2012/2": "2"}
    assert result_ids(["VOC2007/a/1", "VOC2007/b/1"]) == {f"VOC2007/{x}/1": f"{x}/1" for x in "ab"}
    same = ["VOC2007/1", "VOC2012/1"]
    assert result_ids(same) == {image_id: image_id for image_id in same}


def test_text_of_other_programs_is_read_or_refused(tmp_path: Path) -> None:
    file = tmp_path / "comp4_det_test_cat.txt"
    file.write_bytes(b"\xef\xbb\xbf000005 0.5 1 1 10 20\r\n")  # byte-order mark, Windows line end
    boxes, scores, labels = load_detections(tmp_path, ["cat"])["000005"]
    assert (boxes.tolist(), scores.tolist(), labels.tolist()) == ([[0, 0, 10, 20]], [0.5], [1])
    file.write_bytes(b"000005 0.5 1 1 10 20 \xff\n")
    with pytest.raises(ValueError, match=r"comp4_det_test_cat\.txt: no text in UTF-8"):
        load_detections(tmp_path, ["cat"])
