"""Devkits are drawn in `tmp_path`; the arithmetic of every expected number is beside it."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from utils.data.voc import (
    Annotation,
    Sample,
    check_splits,
    listed_ids,
    read_classes,
    read_split,
)

CLASSES = ("cat", "dog", "tv monitor")


def xml(*objects: str, size: tuple[int, int] = (20, 10), filename: str = "a.jpg") -> str:
    width, height = size
    return (
        f"<annotation><filename>{filename}</filename>"
        f"<size><width>{width}</width><height>{height}</height></size>"
        f"{''.join(objects)}</annotation>"
    )


def obj(name: str = "cat", box: tuple[object, ...] = (1, 1, 20, 10), more: str = "") -> str:
    xmin, ymin, xmax, ymax = box
    return (
        f"<object><name>{name}</name>{more}<bndbox><xmin>{xmin}</xmin><ymin>{ymin}</ymin>"
        f"<xmax>{xmax}</xmax><ymax>{ymax}</ymax></bndbox></object>"
    )


class Devkit:
    """A devkit with pictures 20 wide and 10 high."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def add(self, image_id: str, text: str | bytes, *, year: str = "VOC2007") -> None:
        folder = self.root / year / "Annotations"
        folder.mkdir(parents=True, exist_ok=True)
        data = text.encode() if isinstance(text, str) else text
        (folder / f"{image_id}.xml").write_bytes(data)
        self.picture(f"{image_id}.jpg", year=year)

    def picture(
        self,
        name: str,
        size: tuple[int, int] = (20, 10),
        *,
        year: str = "VOC2007",
        **options: object,
    ) -> Path:
        path = self.root / year / "JPEGImages" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size).save(path, **options)
        return path

    def split(self, name: str, text: str, *, year: str = "VOC2007") -> None:
        path = self.root / year / "ImageSets" / "Main" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def read(self, *splits: str, skip_bad: bool = False) -> tuple[list[Sample], list[str]]:
        return read_split(self.root, splits or ("VOC2007/train",), CLASSES, skip_bad=skip_bad)

    def annotation(self) -> Annotation:
        (sample,), skipped = self.read()
        assert skipped == []
        return sample.annotation


@pytest.fixture
def devkit(tmp_path: Path) -> Devkit:
    kit = Devkit(tmp_path / "VOCdevkit")
    kit.add("a", xml(obj()))
    kit.split("train", "a\n")
    return kit


# --- class lists


def classes(tmp_path: Path, text: str) -> tuple[str, ...]:
    path = tmp_path / "classes.txt"
    path.write_text(text)
    return read_classes(path)


def test_classes_in_order_of_lines(tmp_path: Path) -> None:
    assert classes(tmp_path, "dog\ncat \ntv monitor\n\n\n") == ("dog", "cat", "tv monitor")


def test_classes_with_byte_order_mark_and_windows_line_ends(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_bytes(b"\xef\xbb\xbfdog\r\ncat\r\n")
    assert read_classes(tmp_path / "classes.txt") == ("dog", "cat")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"classes.txt: the class list is empty; write"),
        ("\n \n", "the class list is empty"),
        ("dog\n\ncat", "line 2 is blank; remove it"),
        ("dog\ncat\ndog", "line 3 'dog' repeats line 1 'dog'"),
        ("dog\nDog", r"line 2 'Dog' repeats line 1 'dog' \(case and spaces do not count\)"),
        ("tvmonitor\ntv monitor", "line 2 'tv monitor' repeats line 1"),
        ("background\ndog", "line 1 is 'background'; remove it, class 0 is always"),
        ("dog\n Background ", "class 0 is always the background"),
    ],
)
def test_classes_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        classes(tmp_path, text)


def test_classes_file_missing_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.txt: no such class list; write one name"):
        read_classes(tmp_path / "none.txt")
    (tmp_path / "utf16.txt").write_bytes("dög".encode("utf-16"))
    with pytest.raises(ValueError, match=r"utf16\.txt: not UTF-8 text .* save it as UTF-8"):
        read_classes(tmp_path / "utf16.txt")


# --- annotations that are read


def test_annotation_by_hand(devkit: Devkit) -> None:
    devkit.add(
        "a",
        xml(
            obj("dog", (3, 2, 12, 10)),
            obj("tv monitor", (1, 1, 20, 10), "<difficult>1</difficult>"),
            obj("cat", (5, 5, 5, 5), "<difficult>0</difficult>"),
        ),
    )
    annotation = devkit.annotation()
    # Counted from 1 with both ends in, pixels 3..12 are the interval 2..12, which is 10 long.
    expected = [[2, 1, 12, 10], [0, 0, 20, 10], [4, 4, 5, 5]]
    np.testing.assert_array_equal(annotation.boxes, np.float32(expected))
    np.testing.assert_array_equal(annotation.labels, [2, 3, 1])
    np.testing.assert_array_equal(annotation.difficult, [False, True, False])
    assert (annotation.width, annotation.height) == (20, 10)
    assert annotation.boxes.dtype == np.float32
    assert annotation.labels.dtype == np.int64
    assert annotation.difficult.dtype == np.bool_


def test_annotation_without_objects_keeps_its_shapes(devkit: Devkit) -> None:
    devkit.add("a", xml())
    annotation = devkit.annotation()
    assert annotation.boxes.shape == (0, 4)
    assert annotation.labels.shape == annotation.difficult.shape == (0,)


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((2.5, 1.25, 10.5, 9.75), (1.5, 0.25, 10.5, 9.75)),  # 2.5 - 1, 1.25 - 1
        ((0, 0, 19, 9), (0, 0, 19, 9)),  # counted from 0: -1 is clipped to 0
        ((1, 1, 21, 11), (0, 0, 20, 10)),  # one pixel too far is clipped
        ((5, 3, 4.25, 3), (4, 2, 4.25, 3)),  # a quarter of a pixel wide, between whole ones
        ((20, 10, 20, 10), (19, 9, 20, 10)),  # the last pixel
    ],
)
def test_box_coordinates(
    devkit: Devkit, box: tuple[float, ...], expected: tuple[float, ...]
) -> None:
    devkit.add("a", xml(obj(box=box)))
    np.testing.assert_array_equal(devkit.annotation().boxes, [expected])


def test_parts_of_an_object_are_not_its_box(devkit: Devkit) -> None:
    part = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"
    devkit.add("a", xml(obj(box=(3, 3, 4, 4), more=part)))
    np.testing.assert_array_equal(devkit.annotation().boxes, [[2, 2, 4, 4]])


def test_size_zero_means_unknown(devkit: Devkit) -> None:
    devkit.add("a", xml(obj(), size=(0, 0)))
    annotation = devkit.annotation()
    assert (annotation.width, annotation.height) == (20, 10)


def test_size_is_that_of_the_upright_picture(devkit: Devkit) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    devkit.add("a", xml(obj(box=(1, 1, 10, 20)), size=(10, 20)))
    devkit.picture("a.jpg", exif=exif)
    annotation = devkit.annotation()
    assert (annotation.width, annotation.height) == (10, 20)


def test_other_encodings_of_xml(devkit: Devkit) -> None:
    text = '<?xml version="1.0" encoding="utf-16"?>' + xml(obj("dog"))
    devkit.add("a", text.encode("utf-16"))
    assert devkit.annotation().labels.tolist() == [2]


# --- annotations that are refused

BAD_ANNOTATIONS = [
    ("<annotation>", "a.xml: malformed XML: no element found"),
    ("", "malformed XML"),
    ("<html></html>", "the root element is <html>, not <annotation>"),
    ('<?xml version="1.0" encoding="none-such"?><annotation/>', "malformed XML: unknown encoding"),
    ("<annotation></annotation>", "<size> is missing"),
    ("<annotation><size><width>20</width></size></annotation>", "has no <height>"),
    (xml(size=(10, 20)), "<size> says 10x20, but the upright image is 20x10"),
    (xml(obj(), "<object></object>"), "object 2 has no <name>"),
    (xml("<object><name>cat</name></object>"), "object 1 has no <bndbox>"),
    (xml(obj().replace("xmax", "xmaximum")), "object 1 has no <xmax>"),
    (xml(obj(box=(1, "two", 3, 4))), "object 1 has <ymin> 'two', not a finite number"),
    (xml(obj(box=("nan", 1, 3, 4))), "has <xmin> 'nan', not a finite number"),
    (xml(obj(box=(1, 1, "inf", 4))), "has <xmax> 'inf', not a finite number"),
    (xml(obj(box=(1, 1, "", 4))), "has <xmax> '', not a finite number"),
    (xml(obj(), obj(box=(12, 1, 10, 5))), "a.xml: object 2 has xmax 10 <= xmin 12"),
    (xml(obj(box=(1, 9, 10, 5))), "object 1 has ymax 5 <= ymin 9"),
    (xml(obj(box=(-1, 1, 5, 5))), r"has xmin -1 outside of 1\.\.20, the width"),
    (xml(obj(box=(1, 1, 22, 5))), r"has xmax 22 outside of 1\.\.20, the width"),
    (xml(obj(box=(1, 1, 5, 12))), r"has ymax 12 outside of 1\.\.10, the height"),
    (xml(obj(box=(21, 1, 21, 5))), "object 1 lies outside of the image, whose width is 20"),
    (xml(obj(box=(0, 0, 0, 0))), "object 1 lies outside of the image"),
    (xml(obj("Dog")), "class 'Dog', which differs from 'dog' .* only in case or spaces; write"),
    (xml(obj(" cat")), "class ' cat', which differs from 'cat'"),
    (xml(obj("tv monitr")), "class 'tv monitr', which is not .*close to it: tv monitor"),
    (
        xml(obj("zebra")),
        "'zebra', which is not in the class list: .*this one has cat, dog, tv monit",
    ),
    (xml(obj(more="<difficult>yes</difficult>")), "object 1 has <difficult> 'yes', not 0 or 1"),
]


@pytest.mark.parametrize(("text", "message"), BAD_ANNOTATIONS)
def test_bad_annotation_is_refused_or_skipped(devkit: Devkit, text: str, message: str) -> None:
    devkit.add("bad", text)
    devkit.split("train", "a\nbad\n")
    message = message.replace("a.xml", r"bad\.xml")
    with pytest.raises(ValueError, match=f"{message}.*fix the file or pass --skip-bad$") as caught:
        devkit.read()
    assert "\n" not in str(caught.value)
    samples, skipped = devkit.read(skip_bad=True)
    assert [sample.image_id for sample in samples] == ["VOC2007/a"]
    assert len(skipped) == 1
    assert f"{os.sep}bad.xml: " in skipped[0]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_document_types_are_refused(devkit: Devkit, encoding: str) -> None:
    text = (
        f'<?xml version="1.0" encoding="{encoding}"?>'
        '<!DOCTYPE annotation [<!ENTITY x SYSTEM "file:///etc/hostname">]>'
    )
    devkit.add("a", (text + xml(obj("&x;"))).encode(encoding))
    with pytest.raises(ValueError, match="a DOCTYPE is not allowed"):
        devkit.read()


# --- splits


def test_samples_in_the_order_of_the_lists(devkit: Devkit) -> None:
    for year in ("VOC2007", "VOC2012"):
        for image_id in ("a", "b"):
            devkit.add(image_id, xml(obj()), year=year)
    devkit.split("trainval", "b\na\n\n")
    devkit.split("trainval", "a", year="VOC2012")
    samples, skipped = devkit.read("VOC2007/trainval", "VOC2012/trainval")
    assert [sample.image_id for sample in samples] == ["VOC2007/b", "VOC2007/a", "VOC2012/a"]
    assert samples[2].image == devkit.root / "VOC2012" / "JPEGImages" / "a.jpg"
    assert skipped == []


def test_flags_of_class_lists_are_left_out(devkit: Devkit) -> None:
    devkit.add("two words", xml(obj()))
    devkit.split("train", "a -1\ntwo words 1\n")
    samples, _ = devkit.read()
    assert [sample.image_id for sample in samples] == ["VOC2007/a", "VOC2007/two words"]


@pytest.mark.parametrize("suffix", ["JPG", "jpeg", "png", "BMP", "tif", "Tiff", "webp"])
def test_image_suffixes_in_any_case(devkit: Devkit, suffix: str) -> None:
    (devkit.root / "VOC2007" / "JPEGImages" / "a.jpg").unlink()
    path = devkit.picture(f"a.{suffix}")
    assert devkit.read()[0][0].image == path


def test_id_comes_before_the_file_name_in_the_xml(devkit: Devkit) -> None:
    devkit.picture("other.jpg")
    devkit.add("a", xml(obj(), filename="other.jpg"))
    assert devkit.read()[0][0].image.name == "a.jpg"
    (devkit.root / "VOC2007" / "JPEGImages" / "a.jpg").unlink()
    assert devkit.read()[0][0].image.name == "other.jpg"


@pytest.mark.parametrize("name", ["/etc/passwd", "../a", "b/../../a", r"..\a", r"C:\a", "C:a"])
def test_names_that_leave_the_devkit_are_refused(devkit: Devkit, name: str) -> None:
    devkit.split("train", f"{name}\n")
    with pytest.raises(ValueError, match=r"train\.txt: the id .* leaves the devkit; write a plain"):
        devkit.read(skip_bad=True)
    with pytest.raises(ValueError, match=r"the split .* leaves the devkit"):
        devkit.read(name)
    devkit.add("a", xml(obj(), filename=name))
    (devkit.root / "VOC2007" / "JPEGImages" / "a.jpg").unlink()
    devkit.split("train", "a\n")
    with pytest.raises(ValueError, match=r"a\.xml: <filename> .* leaves the devkit"):
        devkit.read()


def test_missing_folders_and_lists_say_what_there_is(devkit: Devkit) -> None:
    devkit.split("test", "a")
    devkit.split("cat_train", "a 1")
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder; --data takes"):
        read_split(devkit.root / "nowhere", ["VOC2007/train"], CLASSES)
    with pytest.raises(FileNotFoundError, match=r"VOC2012: no such folder; .* has VOC2007$"):
        devkit.read("VOC2012/train")
    with pytest.raises(FileNotFoundError, match=r"val\.txt: no such split; .* has test, train, c"):
        devkit.read("VOC2007/val")
    with pytest.raises(ValueError, match="the split 'train' is not <folder of the devkit>/<split>"):
        devkit.read("train")
    with pytest.raises(ValueError, match="no usable image in no split at all"):
        read_split(devkit.root, [], CLASSES)


def test_long_listings_are_cut(devkit: Devkit) -> None:
    for letter in "bcdefghijk":
        devkit.split(letter, "a")
    with pytest.raises(FileNotFoundError, match="b, c, d, e, f, g, h, i and 3 more"):
        devkit.read("VOC2007/val")


@pytest.mark.parametrize("skip_bad", [False, True])
def test_lists_that_contradict_themselves(devkit: Devkit, skip_bad: bool) -> None:
    devkit.split("empty", " \n")
    with pytest.raises(ValueError, match=r"empty\.txt: the split is empty; write one id a line"):
        devkit.read("VOC2007/empty", skip_bad=skip_bad)
    devkit.split("twice", "a\nb\na\n")
    with pytest.raises(ValueError, match=r"twice\.txt: repeats the id a; keep one"):
        devkit.read("VOC2007/twice", skip_bad=skip_bad)
    devkit.split("trainval", "a\n")
    with pytest.raises(ValueError, match="VOC2007/a is in VOC2007/train and in VOC2007/trainval"):
        devkit.read("VOC2007/train", "VOC2007/trainval", skip_bad=skip_bad)
    with pytest.raises(ValueError, match="VOC2007/a is in VOC2007/train and in VOC2007/train; d"):
        devkit.read("VOC2007/train", "VOC2007/train", skip_bad=skip_bad)


def test_missing_files(devkit: Devkit) -> None:
    devkit.split("train", "a\nb\n")
    with pytest.raises(FileNotFoundError, match=r"b\.xml: no such annotation; fix .* --skip-bad"):
        devkit.read()
    devkit.add("b", xml(obj(), filename="gone.jpg"))
    (devkit.root / "VOC2007" / "JPEGImages" / "b.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"b: no image with any of \.jpg \.jpeg"):
        devkit.read()
    samples, skipped = devkit.read(skip_bad=True)
    assert len(samples) == len(skipped) == 1
    devkit.add("b", xml(obj(), filename="a.jpg"))
    (devkit.root / "VOC2007" / "JPEGImages" / "b.jpg").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"b: no image .*; a\.jpg, the <filename> in .*b\.xml"
    ):
        devkit.read()


def test_truncated_pictures_are_skipped(devkit: Devkit) -> None:
    devkit.add("b", xml(obj()))
    path = devkit.root / "VOC2007" / "JPEGImages" / "b.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (10, 20, 3), np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:-100])
    devkit.split("train", "a\nb\n")
    assert len(devkit.read()[0]) == 2  # the header is sound
    samples, skipped = devkit.read(skip_bad=True)
    assert len(samples) == 1
    assert "b.jpg: the image cannot be decoded" in skipped[0]


def test_nothing_left_after_skipping(devkit: Devkit) -> None:
    devkit.add("a", "<annotation/>")
    with pytest.raises(ValueError, match=r"no usable image in VOC2007/train; the first of 1 bad o"):
        devkit.read(skip_bad=True)


def test_a_number_behind_an_id_is_a_flag_only_if_all_lines_have_one(tmp_path: Path) -> None:
    path = tmp_path / "train.txt"
    path.write_text("000001 -1\n000002  1\n000003  0\n")
    assert listed_ids(path) == ["000001", "000002", "000003"]
    path.write_text("photo 1\nphoto 2\n")
    assert listed_ids(path) == ["photo 1", "photo 2"]


class TestWithoutLabels:
    @pytest.fixture
    def frames(self, tmp_path: Path) -> Devkit:
        """Two pictures without annotations, and one whose annotation nobody could read."""
        devkit = Devkit(tmp_path)
        devkit.picture("a.jpg")
        devkit.picture("b.png", (7, 9))
        devkit.add("c", "no XML at all")
        devkit.split("film", "a\nb\nc\n")
        return devkit

    def test_pictures_are_all_that_is_read(self, frames: Devkit) -> None:
        samples, skipped = read_split(frames.root, ["VOC2007/film"], None)
        assert [sample.image_id for sample in samples] == [f"VOC2007/{i}" for i in "abc"]
        assert not any(sample.labelled for sample in samples)
        sizes = [(sample.annotation.width, sample.annotation.height) for sample in samples]
        assert sizes == [(20, 10), (7, 9), (20, 10)]
        assert all(sample.annotation.boxes.shape == (0, 4) for sample in samples)
        assert skipped == []

    def test_faults_are_those_of_pictures(self, frames: Devkit) -> None:
        frames.split("film", "a\nlost\n")
        with pytest.raises(FileNotFoundError, match=r"lost: no image with any of .*--skip-bad"):
            read_split(frames.root, ["VOC2007/film"], None)
        samples, skipped = read_split(frames.root, ["VOC2007/film"], None, skip_bad=True)
        assert len(samples) == len(skipped) == 1

    def test_the_first_picture_is_looked_at_before_any_work(self, frames: Devkit) -> None:
        check_splits(frames.root, ["VOC2007/film"], "--unlabelled", None)
        (frames.root / "VOC2007/JPEGImages/a.jpg").write_text("hello")
        check_splits(frames.root, ["VOC2007/film"], "--unlabelled")
        with pytest.raises(ValueError, match=r"--unlabelled VOC2007/film: .*a\.jpg: the image can"):
            check_splits(frames.root, ["VOC2007/film"], "--unlabelled", None)
