"""The command line on each format: what went in comes out of the reader that training uses."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import Refused, Script
from tests.tools.convert_data import sets
from utils.data.images import read_image
from utils.data.voc import Sample, read_classes, read_split

TOOL = "tools.convert_data"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    sets.save_pictures(folder)
    return folder


@pytest.fixture
def year(tmp_path: Path) -> Path:
    return tmp_path / "VOCdevkit/MYSET"


def samples_of(year: Path, *splits: str) -> dict[str, Sample]:
    """What training reads, by id."""
    names = [f"{year.name}/{split}" for split in splits]
    found, _ = read_split(year.parent, names, read_classes(year / "classes.txt"))
    return {sample.image_id.partition("/")[2]: sample for sample in found}


def assert_known(year: Path, *splits: str, difficult: bool = True, ids: object = sets.IDS) -> None:
    """Everything of `sets.KNOWN` is there, to a thousandth of a pixel."""
    classes = read_classes(year / "classes.txt")
    found = samples_of(year, *splits)
    assert isinstance(ids, dict)
    assert set(found) == set(ids.values())
    for name, known in sets.KNOWN.items():
        annotation = found[ids[name]].annotation
        assert (annotation.width, annotation.height) == known.size
        assert [classes[k - 1] for k in annotation.labels] == [o[0] for o in known.objects]
        boxes = np.array([o[1] for o in known.objects]).reshape(-1, 4)
        np.testing.assert_allclose(annotation.boxes, boxes, atol=1e-3, rtol=0)
        if difficult:
            assert annotation.difficult.tolist() == [o[2] for o in known.objects]


def test_coco(tmp_path: Path, pictures: Path, year: Path, script: Script) -> None:
    file = sets.write_coco(tmp_path)
    assert script(TOOL, "coco", file, pictures, year, "--val", "0", "--test", "0") == 0
    assert_known(year, "train")
    # In the order of the ids 3, 5, 17, 90; without an object it stays, and the doctor says so.
    assert read_classes(year / "classes.txt") == ("dog", "bird", "cat", "big dog")
    assert (year / "JPEGImages/two.png").resolve() == pictures / "a/two.png"
    assert "class without objects" in (year / "check.html").read_text("utf-8")


def test_coco_as_pycocotools_reads_it(
    tmp_path: Path, pictures: Path, year: Path, script: Script
) -> None:
    from pycocotools.coco import COCO

    content = sets.coco()
    # A mask without a box, and a crowd of it: what pycocotools makes of them counts, too.
    polygon = [[5.0, 6.0, 25.5, 6.0, 25.5, 30.25, 5.0, 30.25]]
    extra = {"image_id": 100, "category_id": 3, "iscrowd": 0, "id": 70, "segmentation": polygon}
    content["annotations"].append(extra)
    file = sets.write_coco(tmp_path, content)
    assert script(TOOL, "coco", file, pictures, year, "--val", "0", "--test", "0") == 0
    content["annotations"][-1]["bbox"] = [5, 6, 20.5, 24.25]  # x, y, w, h of the polygon
    api = COCO(sets.write_coco(tmp_path, content))
    classes = read_classes(year / "classes.txt")
    found = samples_of(year, "train")
    for image in api.loadImgs(api.getImgIds()):
        wanted = api.loadAnns(api.getAnnIds(imgIds=[image["id"]]))
        annotation = found[sets.IDS[image["file_name"]]].annotation
        names = [api.loadCats([a["category_id"]])[0]["name"] for a in wanted]
        assert [classes[k - 1] for k in annotation.labels] == names
        assert annotation.difficult.tolist() == [bool(a["iscrowd"]) for a in wanted]
        x, y, w, h = np.array([a["bbox"] for a in wanted], float).reshape(-1, 4).T
        boxes = np.stack((x, y, x + w, y + h), axis=1)
        np.testing.assert_allclose(annotation.boxes, boxes, atol=1e-3, rtol=0)


def test_coco_of_two_files_keeps_their_splits(
    tmp_path: Path, pictures: Path, year: Path, script: Script
) -> None:
    for split, folder in (("train", "a"), ("val", "b")):
        part = {name: known for name, known in sets.KNOWN.items() if name.startswith(folder)}
        (tmp_path / f"{split}.json").write_text(json.dumps(sets.coco(part)))
    words = [f"{split}={tmp_path}/{split}.json" for split in ("train", "val")]
    assert script(TOOL, "coco", *words, pictures, year) == 0
    assert set(samples_of(year, "train")) == {"a-one", "two"}
    assert set(samples_of(year, "val")) == {"b-one", "red_car"}
    assert_known(year, "trainval")


def test_labelme(pictures: Path, year: Path, script: Script) -> None:
    sets.write_labelme(pictures)
    assert script(TOOL, "labelme", pictures, year, "--val", "0", "--test", "0") == 0
    assert_known(year, "train")
    assert read_classes(year / "classes.txt") == ("big dog", "cat", "dog")


@pytest.mark.parametrize(
    "heading",
    [
        "image,xmin,ymin,xmax,ymax,label,difficult",
        "File_Name,X1,Y1,X2,Y2,class,is_crowd",
        "filename,left,top,right,bottom,class,difficult",
    ],
)
def test_csv(heading: str, tmp_path: Path, pictures: Path, year: Path, script: Script) -> None:
    file = sets.write_csv(tmp_path, heading)
    assert script(TOOL, "csv", file, pictures, year, "--val", "0", "--test", "0") == 0
    assert_known(year, "train")


def test_yolo(tmp_path: Path, year: Path, script: Script) -> None:
    assert script(TOOL, "yolo", sets.write_yolo(tmp_path / "set"), year, "--copy") == 0
    ids = {**sets.IDS, "a/one.jpg": "images-train-a-one", "b/one.bmp": "images-val-b-one"}
    assert_known(year, "train", "val", difficult=False, ids=ids)
    assert set(samples_of(year, "val")) == {"images-val-b-one", "red_car"}
    assert not (year / "JPEGImages/two.png").is_symlink()


def test_yolo_folder_without_a_description(tmp_path: Path, year: Path, script: Script) -> None:
    folder = sets.write_yolo(tmp_path / "datasets/VOC").parent
    (folder / "data.yaml").unlink()
    (folder / "names.txt").write_text("cat\ndog\nbig dog\n")
    assert script(TOOL, "yolo", folder, year, "--classes", folder / "names.txt") == 0
    ids = {**sets.IDS, "a/one.jpg": "train-a-one", "b/one.bmp": "val-b-one"}
    assert_known(year, "train", "val", difficult=False, ids=ids)
    assert set(samples_of(year, "train")) == {"train-a-one", "two"}


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_boxes_drawn_on_an_unrotated_picture_are_turned_along(
    orientation: int, tmp_path: Path, year: Path, script: Script
) -> None:
    pictures = tmp_path / "pictures"
    sets.save_picture(pictures / "photo.png", (40, 30), orientation)
    # The stored pixels, with one rectangle of white in the dark: x 5 to 12, y 3 to 9.
    from PIL import Image

    with Image.open(pictures / "photo.png") as image:
        exif, pixels = image.getexif(), np.zeros((30, 40, 3), np.uint8)
    pixels[3:9, 5:12] = 255
    Image.fromarray(pixels).save(pictures / "photo.png", exif=exif)
    known = {"photo.png": sets.Known((40, 30), [("cat", (5, 3, 12, 9), False)])}
    file = sets.write_coco(tmp_path, sets.coco(known))
    assert script(TOOL, "coco", file, pictures, year, "--val", "0", "--test", "0") == 0
    sample = samples_of(year, "train")["photo"]
    rows, columns = np.nonzero(read_image(sample.image)[..., 0])
    where = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert sample.annotation.boxes.tolist() == [where]
    # Stated as it is shown, nothing is turned.
    known = {"photo.png": sets.Known((30, 40), [("cat", (5, 3, 12, 9), False)])}
    file = sets.write_coco(tmp_path, sets.coco(known))
    other = year.with_name("OTHER")
    assert script(TOOL, "coco", file, pictures, other, "--val", "0", "--test", "0") == 0
    assert samples_of(other, "train")["photo"].annotation.boxes.tolist() == [[5, 3, 12, 9]]


def test_bad_annotations_are_listed_and_left_out_on_request(
    tmp_path: Path,
    pictures: Path,
    year: Path,
    script: Script,
    refused: Refused,
    capsys: pytest.CaptureFixture[str],
) -> None:
    content = sets.coco()
    objects = content["annotations"]
    wrong = [
        ({"bbox": [5, 5, 0, 10]}, "has an empty box: 5 5 5 15"),
        ({"bbox": [5, 5, -3, 10]}, "has an inverted box: 5 5 2 15"),
        ({"bbox": [60, 5, 9, 10]}, "oversteps its picture by 5 pixels"),
        ({"bbox": [65, 5, 9, 10]}, "lies outside of its picture"),
        ({"bbox": [1, 2, 3]}, "has the bbox [1, 2, 3], not four numbers"),
        ({"bbox": [1, 2, 3, "x"]}, "has the bbox [1, 2, 3, 'x'], not four"),
        ({"bbox": [1, 2, 3, float("nan")]}, "has a box that is not finite"),
        ({"bbox": [], "segmentation": []}, "has neither a box nor a mask"),
        ({"bbox": [1, 2, 3, 4], "category_id": 4}, "category_id 4 is no category"),
        ({"bbox": [1, 2, 3, 4], "image_id": 4}, "image_id 4 is no image"),
    ]
    for number, (row, _) in enumerate(wrong):
        objects.append({"id": 1000 + number, "image_id": 100, "category_id": 3, **row})
    content["images"].append({"id": 7, "file_name": "gone.jpg", "width": 3, "height": 3})
    content["images"].append({"id": 8, "file_name": "a/one.jpg", "width": 64, "height": 48})
    objects.append({"id": 2000, "image_id": 7, "category_id": 3, "bbox": [0, 0, 1, 1]})
    file = sets.write_coco(tmp_path, content)
    line = refused(TOOL, "coco", file, pictures, year)
    assert f"{file}: 12 problem(s)" in line
    assert "--skip-bad" in line
    listed = capsys.readouterr().out
    assert not year.parent.exists()
    words = [TOOL, "coco", file, pictures, year, "--skip-bad", "--val", "0", "--test", "0"]
    assert script(*words) == 0
    said = capsys.readouterr().out
    for number, (_, message) in enumerate(wrong):
        expected = f"{file}: annotation {1000 + number}: {message}"
        assert f"left out: {expected}" in said, message
    assert "image 7: there is no image 'gone.jpg'" in said
    assert "image 8: " in said
    assert "is there twice" in said
    assert "annotation 2000" not in said + listed
    assert_known(year, "train")


def test_clip(tmp_path: Path, pictures: Path, year: Path, script: Script) -> None:
    content = sets.coco()
    content["annotations"][0]["bbox"] = [60, -5, 20, 10]  # of 64 x 48
    file = sets.write_coco(tmp_path, content)
    words = [TOOL, "coco", file, pictures, year, "--clip", "--val", "0", "--test", "0"]
    assert script(*words) == 0
    assert samples_of(year, "train")["a-one"].annotation.boxes.tolist() == [[60, 0, 64, 5]]


def test_a_box_may_overstep_its_picture_by_a_pixel(
    tmp_path: Path, pictures: Path, year: Path, script: Script
) -> None:
    content = sets.coco()
    content["annotations"][0]["bbox"] = [-1, 0.5, 66, 48.5]
    file = sets.write_coco(tmp_path, content)
    assert script(TOOL, "coco", file, pictures, year, "--val", "0", "--test", "0") == 0
    assert samples_of(year, "train")["a-one"].annotation.boxes.tolist() == [[0, 0.5, 64, 48]]


def test_nothing_is_written_over(
    tmp_path: Path, pictures: Path, year: Path, refused: Refused
) -> None:
    year.mkdir(parents=True)
    assert "exists; choose another name" in refused(
        TOOL, "coco", sets.write_coco(tmp_path), pictures, year
    )
    assert not list(year.iterdir())


def test_a_write_that_fails_leaves_nothing(
    tmp_path: Path, pictures: Path, year: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(self: Path, target: Path) -> None:
        del target
        raise OSError(1, "Operation not permitted", str(self))

    monkeypatch.setattr(Path, "symlink_to", no_links)
    line = refused(TOOL, "coco", sets.write_coco(tmp_path), pictures, year)
    assert "no link can be made here" in line
    assert line.endswith("pass --copy")
    assert not list(year.parent.iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("coco", "a.json", "d/x"), r"write: coco JSON\.\.\. IMAGES DEVKIT/NAME"),
        (("yolo", "a.yaml", "b.yaml", "d/x"), "write: yolo DATA.yaml DEVKIT/NAME"),
        (("yolo", "a.yaml", "d/x", "--val", "1"), r"--val must be in 0 \.\. 1, not 1.0"),
        (("csv", "a.csv", ".", "d/x", "--classes", "c"), "--classes: csv names its classes itself"),
        (("yolo", "a.yaml", "d/x", "--one-based"), "--one-based is for a table; yolo says itself"),
        (("voc", "a", "b"), "invalid choice: 'voc'"),
        (("coco", "a.json", ".", "d/x"), "a.json: no such file"),
        (("coco", "a.json", "nowhere", "d/x"), "nowhere: no such folder of images"),
        (("labelme", ".", "d/x"), r"no labelme files \(\*.json\)"),
        (("coco", "dev=a.json", ".", "d/x"), "dev=a.json: write train=FILE"),
    ],
)
def test_refusals(
    words: tuple[str, ...],
    message: str,
    tmp_path: Path,
    refused: Refused,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import re

    monkeypatch.chdir(tmp_path)
    assert re.search(message, refused(TOOL, *words))
