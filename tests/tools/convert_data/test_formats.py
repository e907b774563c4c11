"""What each format may look like, and what is wrong with it: the readers alone."""

import base64
import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as api

from tests.tools.convert_data.sets import save_picture
from tools.convert_data import coco, csv_rows, labelme, yolo
from tools.convert_data.masks import box_of_mask, unpacked
from tools.convert_data.sound import check
from tools.convert_data.source import Source, images_below


def objects(source: Source) -> list[tuple[object, ...]]:
    return [(o.name, *o.box, o.difficult) for p in source.pictures for o in p.objects]


def splits(source: Source) -> dict[str, list[str]]:
    return {picture.path.name: picture.splits for picture in source.pictures}


def test_polygons_have_a_box() -> None:
    assert box_of_mask([[3, 4, 10.5, 4, 7, 9], [1, 5, 2, 5, 2, 6]]) == (1, 4, 10.5, 9)


@pytest.mark.parametrize("seed", range(6))
def test_runs_have_the_box_that_pycocotools_finds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = np.zeros((13, 9), np.uint8, order="F")
    y, x = rng.integers(0, 6, 2)
    mask[y : y + 5, x : x + 3] = rng.random((5, 3)) < 0.6
    mask[y, x] = 1
    if seed == 5:
        mask[:, 2:4] = 1  # a run over the end of a column
    packed = api.encode(mask)
    left, top, width, height = api.toBbox(packed)
    wanted = (left, top, left + width, top + height)
    counts = packed["counts"].decode()
    assert box_of_mask({"size": [13, 9], "counts": counts}) == wanted
    runs = unpacked(counts)
    assert sum(runs) == mask.size
    assert box_of_mask({"size": [13, 9], "counts": runs}) == wanted


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (None, "neither a box nor a mask"),
        ([[1, 2, 3]], "no list of x, y"),
        ([5], "no list of x, y"),
        ({"size": [4, 4], "counts": [16]}, "empty mask"),
        ({"size": [0, 4], "counts": [0, 4]}, "without a height"),
        ({"size": [4, 4], "counts": [3, -2, 1]}, "negative runs"),
        ({"size": [4, 4], "counts": "1é"}, "in its run lengths"),
    ],
)
def test_no_masks(mask: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        box_of_mask(mask)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "malformed JSON"),
        ("[" * 100_000, "malformed JSON"),
        ("[]", "holds a list"),
        ("{}", "has no list 'images'"),
        ('{"images": [3]}', "entry 1 of 'images' is no object"),
        ('{"images": [], "categories": [{"id": 1}], "annotations": []}', "has no 'name'"),
    ],
)
def test_no_coco(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        coco.read([str(tmp_path / "a.json")], str(tmp_path))


def test_coco_finds_pictures_by_their_names_but_no_two(tmp_path: Path) -> None:
    for name in ("train2017/1.jpg", "val2017/2.jpg", "train2017/3.jpg", "val2017/3.jpg"):
        save_picture(tmp_path / name, (9, 9))
    images = [{"id": i, "file_name": f"{i}.jpg"} for i in (1, 2, 3)]
    content = {"images": images, "categories": [], "annotations": []}
    (tmp_path / "a.json").write_text(json.dumps(content))
    source = coco.read([str(tmp_path / "a.json")], str(tmp_path))
    assert [picture.name for picture in source.pictures] == ["train2017/1.jpg", "val2017/2.jpg"]
    assert "'3.jpg' is in" in source.problems[0]


def test_a_picture_in_another_folder_than_stated_is_worth_a_look(tmp_path: Path) -> None:
    save_picture(tmp_path / "siteA/1.jpg", (9, 9))
    lines = ["image,xmin,ymin,xmax,ymax,label", "siteB/1.jpg,1,2,3,4,dog"]
    source = csv_rows.read(*csv_file(tmp_path, *lines))
    assert source.elsewhere == {"siteB/1.jpg": tmp_path / "siteA/1.jpg"}
    assert check(source) == []
    assert "1 image(s) are not where the source says" in source.notes[-1]
    # Where the true one is there, too, nobody knows which of them a box is of.
    source = csv_rows.read(*csv_file(tmp_path, *lines, "siteA/1.jpg,1,2,3,5,cat"))
    problems = check(source)
    assert source.pictures == []
    assert ["is there twice" in problem for problem in problems] == [True, True]


def test_a_blank_label_is_listed_with_its_place(tmp_path: Path) -> None:
    lines = ["image,xmin,ymin,xmax,ymax,label", "7.jpg,1,2,3,4,cat", "7.jpg,1,2,3,4,"]
    file, folder = csv_file(tmp_path, *lines)
    source = csv_rows.read(file, folder)
    assert check(source) == [f"{file}: line 3: has the class ''; give it a name"]
    assert len(objects(source)) == 1


def test_linked_folders_are_entered_once(tmp_path: Path) -> None:
    save_picture(tmp_path / "far/7.jpg", (9, 9))
    (tmp_path / "images").mkdir()
    (tmp_path / "images/train").symlink_to(tmp_path / "far")
    (tmp_path / "far/round").symlink_to(tmp_path / "far")
    save_picture(tmp_path / "images/val/8.jpg", (9, 9))
    (tmp_path / "images/also").symlink_to(tmp_path / "images/val")
    found = [path.relative_to(tmp_path).as_posix() for path in images_below(tmp_path / "images")]
    assert found == ["images/train/7.jpg", "images/val/8.jpg"]


def test_coco_categories_of_one_id_are_refused(tmp_path: Path) -> None:
    categories = [{"id": 1, "name": "cat"}, {"id": 1, "name": "dog"}]
    content = {"images": [], "categories": categories, "annotations": []}
    (tmp_path / "a=b.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="category 1 is 'cat' and 'dog'; give each an id of its"):
        coco.read([str(tmp_path / "a=b.json")], str(tmp_path))


def test_coco_crowds_and_huge_numbers(tmp_path: Path) -> None:
    save_picture(tmp_path / "1.jpg", (9, 9))
    box = {"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}
    rows = [{**box, "iscrowd": crowd} for crowd in ("0", 0, 1, True)]
    rows.append({**box, "bbox": [1, 2, 3, 10**400]})
    content = {"images": [{"id": 1, "file_name": "1.jpg"}], "annotations": rows}
    content["categories"] = [{"id": 1, "name": "cat"}]
    (tmp_path / "a.json").write_text(json.dumps(content))
    source = coco.read([str(tmp_path / "a.json")], str(tmp_path))
    assert [o.difficult for o in source.pictures[0].objects] == [False, False, True, True]
    assert "not four numbers" in source.problems[0]


def test_coco_images_of_one_id_are_both_left_out(tmp_path: Path) -> None:
    """Nobody knows of which of them the annotations speak."""
    for name in "abcd":
        save_picture(tmp_path / f"{name}.jpg", (9, 9))
    ids = ((1, "a"), (1, "b"), (2.0, "c"), (1, "d"))
    images = [{"id": i, "file_name": f"{name}.jpg"} for i, name in ids]
    images.append({"file_name": "a.jpg"})
    boxes = [{"id": i, "image_id": i, "category_id": 1, "bbox": [1, 2, 3, 4]} for i in (1, 2)]
    boxes.append({"id": 3, "category_id": 1, "bbox": [1, 2, 3, 4]})
    content = {"images": images, "categories": [{"id": 1, "name": "cat"}], "annotations": boxes}
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content))
    source = coco.read([str(path)], str(tmp_path))
    assert [(p.name, len(p.objects)) for p in source.pictures] == [("c.jpg", 1)]
    assert source.problems == [
        f"{path}: image 1 (a.jpg): another image has this id, too",
        *(f"{path}: image 1: {n}.jpg: another image has this id, too" for n in "bd"),
        f"{path}: image number 5: has no 'id'",
        f"{path}: annotation 3: image_id None is no image of the file",
    ]


def yolo_set(folder: Path, label: str, data: str = "train: images\nnames: [cat, 'no']\n") -> Path:
    save_picture(folder / "images/7.jpg", (9, 9))
    (folder / "labels").mkdir(exist_ok=True)
    (folder / "labels/7.txt").write_text(label)
    (folder / "data.yaml").write_text(data)
    return folder / "data.yaml"


def test_yolo_polygons(tmp_path: Path) -> None:
    file = yolo_set(tmp_path, "1 .1 .2 .3 .2 .3 .5\n\n0.0 .5 .5 .5 .25\n")
    assert objects(yolo.read(str(file))) == [
        ("no", 0.1, 0.2, 0.3, 0.5, False),
        ("cat", 0.25, 0.375, 0.75, 0.625, False),
    ]


def test_yolo_key_points_are_no_polygon(tmp_path: Path) -> None:
    label = "0 0.5 0.5 0.2 0.2 0.45 0.45 0.55 0.55\n0 0.5 0.5 0.2 0.2\n"
    data = "train: images\nnames: [cat]\nkpt_shape: [2, 2]\n"
    source = yolo.read(str(yolo_set(tmp_path, label, data)))
    assert objects(source) == [("cat", 0.4, 0.4, 0.6, 0.6, False)]
    path = tmp_path / "labels/7.txt"
    said = "4 numbers behind the class are not a box and the 4 of kpt_shape"
    assert source.problems == [f"{path}: line 2: {said}"]


def test_yolo_lines_that_are_wrong(tmp_path: Path) -> None:
    file = yolo_set(
        tmp_path, "2 .5 .5 .5 .5\n0 .5 .5 .5\n0 .5 .5 .5 .5 .9\n0 a .5 .5 .5\n1.5 0 0 1 1"
    )
    source = yolo.read(str(file))
    assert objects(source) == []
    label = tmp_path / "labels/7.txt"
    assert source.problems == [
        f"{label}: line 1: class 2 has no name; there are 2",
        f"{label}: line 2: 3 numbers behind the class are neither a box nor a polygon",
        f"{label}: line 3: 5 numbers behind the class are neither a box nor a polygon",
        f"{label}: line 4: '0 a .5 .5 .5' is no line of numbers",
        f"{label}: line 5: class 1.5 has no name; there are 2",
    ]


def test_yolo_lists_of_pictures_and_a_picture_in_two_splits(tmp_path: Path) -> None:
    data = "path: ../datasets/elsewhere\ntrain: train.txt\nval: [images]\ntest: images\n"
    file = yolo_set(tmp_path, "", data + "names: {0: cat, 5: dog}\n")
    save_picture(tmp_path / "images/8.jpg", (9, 9))
    (tmp_path / "train.txt").write_text("./images/8.jpg\n\n")
    source = yolo.read(str(file))
    assert splits(source) == {"8.jpg": ["train", "val", "test"], "7.jpg": ["val", "test"]}
    assert source.classes == ["cat", "dog"]
    assert source.notes == ["1 image(s) without a label file: taken as without objects"]


def test_yolo_as_an_exporter_writes_it(tmp_path: Path) -> None:
    save_picture(tmp_path / "valid/images/9.jpg", (9, 9))
    data = "train: ../train/images\nval: ../valid/images\nnc: 1\nnames: ['07']\n"
    file = yolo_set(tmp_path / "train", "0 .5 .5 1 1", "")
    (tmp_path / "data.yaml").write_text(data)
    file.unlink()
    source = yolo.read(str(tmp_path))
    assert splits(source) == {"7.jpg": ["train"], "9.jpg": ["val"]}
    assert objects(source) == [("07", 0, 0, 1, 1, False)]


def test_yolo_labels_beside_the_pictures(tmp_path: Path) -> None:
    save_picture(tmp_path / "obj/1.jpg", (9, 9))
    (tmp_path / "obj/1.txt").write_text("0 .5 .5 1 1")
    (tmp_path / "classes.txt").write_text("cat\n")
    assert objects(yolo.read(str(tmp_path))) == [("cat", 0, 0, 1, 1, False)]


def test_yolo_labels_without_a_picture_are_worth_a_note(tmp_path: Path) -> None:
    file = yolo_set(tmp_path, "0 .5 .5 1 1")
    (tmp_path / "labels/8.txt").write_text("0 .5 .5 1 1")
    source = yolo.read(str(file))
    assert source.notes == [
        f"1 label file(s) without an image of the set, such as {tmp_path}/labels/8.txt: not taken"
    ]
    with pytest.raises(ValueError, match=r"--classes x.txt: .*data.yaml names the classes; leave"):
        yolo.read(str(tmp_path), "x.txt")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("a: [", "malformed YAML"),
        ("cats", "holds no keys"),
        ("train: images", "has no names of classes"),
        ("names: [cat]", "names no images"),
        ("names: {a: cat}\ntrain: images", "names has a number that is none"),
        ("names: [cat]\ntrain: pictures", "train names .*pictures, which is missing"),
        ("names: [cat]\ntrain: labels", "train names .*labels, where no images are"),
        ("names: [cat]\ntrain: list.txt", r"list.txt: line 1: there is no .*gone.jpg"),
    ],
)
def test_no_yolo(data: str, message: str, tmp_path: Path) -> None:
    file = yolo_set(tmp_path, "", data)
    (tmp_path / "list.txt").write_text("gone.jpg\n")
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        yolo.read(str(file))


def test_yolo_without_any_label(tmp_path: Path) -> None:
    file = yolo_set(tmp_path, "")
    (tmp_path / "labels/7.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"no label file, such as .*labels/7.txt"):
        yolo.read(str(file))
    file.unlink()
    with pytest.raises(FileNotFoundError, match="pass --classes FILE"):
        yolo.read(str(tmp_path))


def labelme_file(folder: Path, **content: object) -> Path:
    save_picture(folder / "7.jpg", (9, 9))
    path = folder / "7.json"
    path.write_text(json.dumps({"imagePath": "7.jpg", "shapes": [], **content}))
    return path


def test_labelme_shapes(tmp_path: Path) -> None:
    # An edge 3 to the right and 4 down from the centre makes a radius of 5.
    shapes = [
        {"label": "ring", "shape_type": "circle", "points": [[6, 7], [9, 11]]},
        {"label": "leaf", "shape_type": "polygon", "points": [[1, 2], [5, 1], [3, 8]]},
        {"label": "leaf", "points": [[1, 2], [5, 1], [3, 8]], "difficult": True, "flags": None},
        {"label": "road", "shape_type": "line", "points": [[1, 2], [5, 1]]},
        {"label": "road", "shape_type": "polygon"},
        {"label": "road", "shape_type": "rectangle", "points": []},
    ]
    path = labelme_file(tmp_path / "train", shapes=shapes)
    source = labelme.read(str(tmp_path))
    assert objects(source) == [
        ("ring", 1, 2, 11, 12, False),
        ("leaf", 1, 1, 5, 8, False),
        ("leaf", 1, 1, 5, 8, True),
    ]
    assert source.problems == [
        f"{path}: shape 4: is a line, which surrounds nothing; draw a rectangle",
        f"{path}: shape 5: has no list of points",
        f"{path}: shape 6: has no points",
    ]
    assert splits(source) == {"7.jpg": ["train"]}


def test_labelme_pictures_lie_beside_their_files(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "sub"):
        labelme_file(folder)
    source = labelme.read(str(tmp_path))
    assert [picture.name for picture in source.pictures] == ["7.jpg", "sub/7.jpg"]
    assert source.problems == []


def test_labelme_files_in_a_folder_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "json").mkdir()
    labelme_file(tmp_path / "images", imagePath=r"..\images\7.jpg").rename(tmp_path / "json/7.json")
    source = labelme.read(str(tmp_path))
    assert list(splits(source)) == ["7.jpg"]
    assert source.notes == []


def test_labelme_file_renamed_with_its_picture(tmp_path: Path) -> None:
    labelme_file(tmp_path, imagePath=r"C:\old\8.jpg")
    save_picture(tmp_path / "unseen.png", (9, 9))
    source = labelme.read(str(tmp_path))
    assert list(splits(source)) == ["7.jpg"]
    assert source.notes == ["1 image(s) without a JSON file: not taken"]


def test_labelme_picture_that_is_in_the_file_alone(tmp_path: Path) -> None:
    path = labelme_file(tmp_path, imageData=base64.b64encode(b"...").decode())
    (tmp_path / "7.jpg").unlink()
    source = labelme.read(str(tmp_path))
    assert source.problems == [f"{path}: there is no image '7.jpg' in {tmp_path}"]


def csv_file(folder: Path, *lines: str) -> tuple[str, str]:
    save_picture(folder / "7.jpg", (20, 10))
    (folder / "a.csv").write_text("\n".join(lines))
    return str(folder / "a.csv"), str(folder)


@pytest.mark.parametrize(
    "lines",
    [
        ["filename,width,height,class,xmin,ymin,xmax,ymax", "7.jpg,20,10,cat,1,2,3,4"],
        ["7.jpg,1,2,3,4,cat"],
        ["image;label;xmin;ymin;xmax;ymax", "7.jpg;cat;1;2;3;4", ""],
        ["image\tlabel\txmin\tymin\txmax\tymax", "7.jpg\tcat\t1\t2\t3\t4"],
    ],
)
def test_tables_in_pixels(lines: list[str], tmp_path: Path) -> None:
    source = csv_rows.read(*csv_file(tmp_path, *lines))
    assert objects(source) == [("cat", 1, 2, 3, 4, False)]
    assert not source.pictures[0].fractions
    assert not source.problems


def test_tables_in_the_pixels_of_voc(tmp_path: Path) -> None:
    # Columns 2 to 3 and rows 2 to 4 of the picture, counted from 1, begin where 1 pixel has passed.
    voc = csv_file(tmp_path, "image,xmin,ymin,xmax,ymax,label", "7.jpg,2,2,3,4,cat", "7.jpg,,,,,")
    source = csv_rows.read(*voc, one_based=True)
    assert objects(source) == [("cat", 1, 1, 3, 4, False)]
    assert source.notes[0].endswith("VOC's pixels: the first is 1, the last is inside")
    assert csv_rows.read(*voc).notes[0].endswith("the first is 1, pass --one-based")
    fractions = csv_file(tmp_path, "7.jpg,0.1,0.2,0.3,0.4,cat")
    with pytest.raises(ValueError, match="so they are fractions of the picture; leave out --one-"):
        csv_rows.read(*fractions, one_based=True)


@pytest.mark.parametrize(
    "lines",
    [
        ["TRAIN,gs://bucket/7.jpg,cat,0.1,0.2,,,0.3,0.4,,"],
        ["TRAIN,7.jpg,cat,0.1,0.2,0.3,0.2,0.3,0.4,0.1,0.4"],
        [
            "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsGroupOf,Subset",
            "7,verification,cat,1,0.1,0.3,0.2,0.4,1,0,train",
        ],
    ],
)
def test_tables_of_fractions(lines: list[str], tmp_path: Path) -> None:
    source = csv_rows.read(*csv_file(tmp_path, *lines))
    assert objects(source) == [("cat", 0.1, 0.2, 0.3, 0.4, False)]
    assert source.pictures[0].fractions
    assert splits(source) == {"7.jpg": ["train"]}


def test_one_line_does_not_decide_the_unit_of_a_table(tmp_path: Path) -> None:
    box = "7.jpg,0.1,0.2,0.3,0.4,cat"
    for odd in ("7.jpg,0.1,0.2,1.002,0.4,cat", "7.jpg,nan,nan,nan,nan,nan"):
        source = csv_rows.read(*csv_file(tmp_path, box, odd, box))
        assert source.pictures[0].fractions
        assert {found[0] for found in objects(source)} == {"cat"}
    # Boxes at the left border have small numbers, too, but not on both sides.
    source = csv_rows.read(*csv_file(tmp_path, "7.jpg,0,0,3,4,cat", "7.jpg,0,0,1,1,cat"))
    assert not source.pictures[0].fractions


@pytest.mark.parametrize(
    ("cell", "difficult"),
    [("1", True), ("1.0", True), ("T", True), ("yes", True), ("", False), ("0.0", False),
     ("nan", False), ("No", False)],
)  # fmt: skip
def test_difficult_in_a_table(cell: str, difficult: bool, tmp_path: Path) -> None:
    lines = "image,xmin,ymin,xmax,ymax,label,difficult", f"7.jpg,1,2,3,4,cat,{cell}"
    assert objects(csv_rows.read(*csv_file(tmp_path, *lines))) == [("cat", 1, 2, 3, 4, difficult)]


def test_table_lines_that_are_wrong(tmp_path: Path) -> None:
    file, folder = csv_file(
        tmp_path,
        "image,xmin,ymin,xmax,ymax,label,split",
        "7.jpg,1,2,3",
        "7.jpg,1,2,3,x,cat,train",
        "gone.jpg,1,2,3,4,cat,train",
        "gone.jpg,1,2,3,5,cat,train",
        ",1,2,3,4,cat,train",
        "8.jpg,1,2,3,4,cat,exam",
        "9.jpg,1,2,3,4,cat,",
        "9.jpg,1,2,3,4,cat,test",
        "9.jpg,1,2,3,4,cat,train",
        "9.jpg,1,2,3,4,cat,tset",
    )
    save_picture(tmp_path / "9.jpg", (9, 9))
    save_picture(tmp_path / "8.jpg", (9, 9))
    source = csv_rows.read(file, folder)
    assert splits(source) == {"7.jpg": ["train"], "9.jpg": ["test"]}
    assert len(objects(source)) == 2  # those of 9.jpg before it changes its split
    assert sorted(source.problems) == [
        f"{file}: line 10: is in train, but {file}: line 8 in test",
        f"{file}: line 11: 'tset' is no split; write train, val or test",
        f"{file}: line 2: 4 cells, but the table has 7 columns",
        f"{file}: line 3: ymax 'x' is no number",
        f"{file}: line 4: there is no image 'gone.jpg' in {folder}",
        f"{file}: line 6: names no picture",
        f"{file}: line 7: 'exam' is no split; write train, val or test",
    ]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "no line with a picture"),
        (["image,xmin,ymin,xmax,ymax,label"], "no line with a picture"),
        (["image,xmin,ymin,xmax,label", "7.jpg,1,2,3,cat"], "line 1 names no column ymax"),
        (["image,file,xmin,ymin,xmax,ymax,label"], "two columns are the image"),
    ],
)
def test_no_tables(lines: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        csv_rows.read(*csv_file(tmp_path, *lines))
