"""Sources of frames and where drawn frames go."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from utils.data.media import ImageWriter, VideoWriter, open_source


def write_video(path: Path, frames: int) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for k in range(frames):
        image = np.zeros((48, 64, 3), np.uint8)
        image[..., 2] = 40 * k  # OpenCV's last channel is red
        writer.write(image)
    writer.release()


def test_frames_of_a_video_are_rgb_and_numbered(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.avi", 4)
    source = open_source(str(tmp_path / "clip.avi"))
    assert source.video
    assert source.fps == pytest.approx(10)
    frames = list(source.frames)
    assert [frame.name for frame in frames] == ["000000", "000001", "000002", "000003"]
    assert abs(int(frames[3].image[20, 30, 0]) - 120) < 12  # MJPG is lossy
    assert frames[3].image[20, 30, 1:].max() < 12


def test_a_written_video_can_be_read_again(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.avi", 3)
    source = open_source(str(tmp_path / "clip.avi"))
    with VideoWriter(tmp_path, source) as writer:
        for frame in source.frames:
            writer.write(frame.name, frame.image)
    again = list(open_source(str(tmp_path / "detections.mp4")).frames)
    assert len(again) == 3
    assert again[0].image.shape == (48, 64, 3)


def test_a_folder_is_read_in_order_of_names(tmp_path: Path) -> None:
    for name in ("b.png", "a.jpg", "c.txt"):
        if name.endswith("txt"):
            (tmp_path / name).write_text("no image")
        else:
            Image.new("RGB", (8, 6), "red").save(tmp_path / name)
    source = open_source(str(tmp_path))
    assert not source.video
    assert [frame.name for frame in source.frames] == ["a.jpg", "b.png"]


def test_bad_images_are_left_out_when_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.png").write_text("no image")
    Image.new("RGB", (8, 6)).save(tmp_path / "b.png")
    with pytest.raises(ValueError, match=r"a\.png: the image cannot be decoded"):
        list(open_source(str(tmp_path)).frames)
    assert [f.name for f in open_source(str(tmp_path), skip_bad=True).frames] == ["b.png"]
    assert "left out: " in capsys.readouterr().out


def test_images_are_written_under_their_names(tmp_path: Path) -> None:
    image = np.zeros((6, 8, 3), np.uint8)
    with ImageWriter(tmp_path) as writer:
        writer.write("a.jpg", image)
        writer.write("b.png", image)
        writer.write("c.bmp", image)
        writer.write("c.bmp.png", image)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["a.jpg", "b.png", "c.bmp.png", "c.bmp_3.png"]  # nothing is overwritten


def test_cameras_that_are_not_there_are_refused(capfd: pytest.CaptureFixture[str]) -> None:
    for number in ("abc", "²", "-1", "99999999999999999999"):
        with pytest.raises(ValueError, match=f"'{number}' is no camera number; write camera:0"):
            open_source(f"camera:{number}")
    with pytest.raises(ValueError, match="--source camera:97: there is no such camera"):
        open_source("camera:97")
    assert capfd.readouterr().err == ""  # OpenCV would have a dozen lines to say


def test_a_video_that_breaks_off_is_said_to(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_video(tmp_path / "clip.avi", 6)
    whole = (tmp_path / "clip.avi").read_bytes()
    middle = len(whole) // 2  # of the file: the header promises six frames
    broken = whole[:middle] + bytes(300) + whole[middle + 300 : -200]
    (tmp_path / "clip.avi").write_bytes(broken)
    source = open_source(str(tmp_path / "clip.avi"))
    found = len(list(source.frames))
    assert 0 < found < 6
    printed = capfd.readouterr()
    assert f"clip.avi: only {found} of 6 frames can be read" in printed.out
    assert printed.err == ""


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
