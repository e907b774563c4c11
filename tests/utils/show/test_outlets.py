"""Where drawn frames go."""

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.utils.data.test_media import write_video
from utils.data.media import open_source
from utils.show import outlets
from utils.show.outlets import (
    Crops,
    ImageWriter,
    VideoWriter,
    Window,
    has_display,
    writable_rate,
)


def test_a_written_video_can_be_read_again(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.avi", 3)
    source = open_source(str(tmp_path / "clip.avi"))
    with VideoWriter(tmp_path / "out.mp4", source.fps) as writer:
        for frame in source.frames:
            writer.write(frame.name, frame.image)
    again = list(open_source(str(tmp_path / "out.mp4")).frames)
    assert len(again) == 3
    assert again[0].image.shape == (48, 64, 3)


@pytest.mark.parametrize(
    ("fps", "rate"),
    [(29.97, 29.97), (23.976, 23.976), (90.123, 90.12), (118.357142, 118.36), (1000.0, 1000.0),
     (660.4567, 660.5)],
)  # fmt: skip
def test_a_rate_that_the_clock_of_a_video_holds(fps: float, rate: float, tmp_path: Path) -> None:
    assert writable_rate(fps) == rate
    with VideoWriter(tmp_path / "a.mp4", fps) as video:
        video.write("", np.zeros((16, 16, 3), np.uint8))


def test_images_are_written_under_their_names(tmp_path: Path) -> None:
    image = np.zeros((6, 8, 3), np.uint8)
    with ImageWriter(tmp_path) as writer:
        writer.write("a.jpg", image)
        writer.write("b.png", image)
        writer.write("c.bmp", image)
        writer.write("c.bmp.png", image)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["a.jpg", "b.png", "c.bmp.png", "c.bmp_3.png"]  # nothing is overwritten


def test_a_written_image_is_whole_or_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = np.zeros((6, 8, 3), np.uint8)
    ImageWriter(tmp_path).write("a.jpg", image)
    before = (tmp_path / "a.jpg").read_bytes()

    def fail(_: object, path: Path, kind: str) -> None:
        path.write_text(f"half a {kind}")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(OSError, match=r"No space left on device: .*a.jpg"):
        ImageWriter(tmp_path).write("a.jpg", image)
    assert (tmp_path / "a.jpg").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.jpg"]


def test_crops_are_the_pixels_that_a_box_touches(tmp_path: Path) -> None:
    image = np.zeros((30, 40, 3), np.uint8)
    image[10:20, 5:25] = (0, 200, 0)
    found = [
        {"class": "big dog", "score": 0.934, "box": [5.2, 10.1, 24.5, 19.9]},
        {"class": "cat", "score": 0.5, "box": [-3.0, 25.0, 50.0, 31.0]},
        {"class": "cat", "score": 0.5, "box": [40.0, 5.0, 45.0, 9.0]},  # beside the image
    ]
    Crops(tmp_path / "crops").write("street.png", image, found)
    names = sorted(path.name for path in (tmp_path / "crops").iterdir())
    assert names == ["big-dog_0.93_street_1.png", "cat_0.50_street_2.png"]
    with Image.open(tmp_path / "crops" / names[0]) as crop:
        pixels = np.asarray(crop)
    assert pixels.shape == (10, 20, 3)
    assert (pixels == (0, 200, 0)).all()
    with Image.open(tmp_path / "crops" / names[1]) as crop:
        assert crop.size == (40, 5)


def test_pictures_that_share_a_stem_keep_their_crops(tmp_path: Path) -> None:
    image = np.zeros((30, 40, 3), np.uint8)
    crops = Crops(tmp_path)
    for name in ("street.bmp", "street.jpg", "street.webp"):
        crops.write(name, image, [{"class": "cat", "score": 0.5, "box": [5.0, 5.0, 9.0, 9.0]}])
    assert len(list(tmp_path.iterdir())) == 3


def test_a_display_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert not has_display()
    with pytest.raises(ValueError, match="--show: there is no display here"):
        Window(video=False)
    monkeypatch.setenv("DISPLAY", ":987")  # nobody answers there, and Qt ends the process
    assert not has_display()


@pytest.mark.parametrize(
    ("video", "keys", "visible", "goes_on"),
    [
        (False, [-1, -1, ord(" ")], 1, True),  # an image waits for a key
        (False, [-1, ord("q")], 1, False),
        (True, [-1], 1, True),
        (True, [27], 1, False),
        (True, [-1], 0, False),  # closed
        (False, [-1, -1], 0, False),
    ],
)
def test_a_window(
    video: bool, keys: list[int], visible: int, goes_on: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown, pressed = [], iter(keys)
    monkeypatch.setattr(outlets, "has_display", lambda: True)
    monkeypatch.setattr(cv2, "imshow", lambda _, image: shown.append(image))
    monkeypatch.setattr(cv2, "waitKey", lambda _: next(pressed))
    monkeypatch.setattr(cv2, "getWindowProperty", lambda *_: visible)
    monkeypatch.setattr(cv2, "destroyAllWindows", lambda: shown.append("closed"))
    with Window(video) as window:
        assert window.show(np.full((2, 2, 3), (1, 2, 3), np.uint8)) is goes_on
    assert shown[0][0, 0].tolist() == [3, 2, 1]  # OpenCV's order
    assert shown[1] == "closed"
