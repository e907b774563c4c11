"""Sources of frames and where drawn frames go."""

from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import cv2
import numpy as np
import pytest
from PIL import Image

from utils.data.media import open_source
from utils.data.media.files import frame_names


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


def test_a_folder_is_read_in_order_of_names(tmp_path: Path) -> None:
    for name in ("b.png", "a.jpg", "c.txt"):
        if name.endswith("txt"):
            (tmp_path / name).write_text("no image")
        else:
            Image.new("RGB", (8, 6), "red").save(tmp_path / name)
    source = open_source(str(tmp_path))
    assert not source.video
    assert [frame.name for frame in source.frames] == ["a.jpg", "b.png"]


def test_pictures_in_folders_inside_are_said_to_be_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "a/b/c.png")
    with pytest.raises(FileNotFoundError, match=r"no images in this folder; 1 images are in fold"):
        open_source(str(tmp_path))
    Image.new("RGB", (8, 8)).save(tmp_path / "d.png")
    assert len(list(open_source(str(tmp_path)).frames)) == 1
    assert "1 images are in folders inside it, which --source '" in capsys.readouterr().out
    assert len(list(open_source(f"{tmp_path}/**/*").frames)) == 2


def test_bad_images_are_left_out_when_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.png").write_text("no image")
    Image.new("RGB", (8, 6)).save(tmp_path / "b.png")
    with pytest.raises(ValueError, match=r"a\.png: the image cannot be decoded"):
        list(open_source(str(tmp_path)).frames)
    assert [f.name for f in open_source(str(tmp_path), skip_bad=True).frames] == ["b.png"]
    assert "left out: " in capsys.readouterr().out
    (tmp_path / "a.png").unlink()
    (tmp_path / "a.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(FileNotFoundError, match=r"a\.png: no such image; repair the file or pass"):
        list(open_source(str(tmp_path)).frames)
    assert [f.name for f in open_source(str(tmp_path), skip_bad=True).frames] == ["b.png"]


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


def save(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6), "red").save(path)


def names(source: str) -> list[str]:
    return [frame.name for frame in open_source(source).frames]


def test_patterns(tmp_path: Path) -> None:
    save(tmp_path / "a/1.jpg", tmp_path / "a/2.png", tmp_path / "b/c/1.jpg")
    (tmp_path / "a/1.txt").write_text("no image")
    assert names(f"{tmp_path}/a/1.*") == ["1.jpg"]
    assert names(f"{tmp_path}/**/*.jpg") == ["a-1.jpg", "b-c-1.jpg"]
    assert open_source(f"{tmp_path}/a/?.*").folders == {(tmp_path / "a").resolve()}
    with pytest.raises(FileNotFoundError, match="no image is called like that"):
        open_source(f"{tmp_path}/*.gif")


def test_files_of_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "here.png", tmp_path / "list/near.png", tmp_path / "far.png")
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "list/all.txt"
    file.write_text(f"near.png\n\nhere.png\n{tmp_path}/far.png\n")
    assert names(str(file)) == ["near.png", "here.png", "far.png"]
    file.write_text("near.png\ngone.png\n")
    with pytest.raises(FileNotFoundError, match=r"all.txt: line 2: gone.png: no such image"):
        open_source(str(file))
    file.write_text("\n")
    with pytest.raises(FileNotFoundError, match="names no image"):
        open_source(str(file))


def test_frames_have_names_of_their_own() -> None:
    paths = ["x/a.jpg", "x/y/a.jpg", "x/b.jpg", "x/a.jpg", "x/y-a.jpg"]
    assert frame_names([Path(path) for path in paths]) == [
        *("a.jpg", "y-a.jpg", "b.jpg", "a-3.jpg", "y-a-4.jpg")
    ]
    paths = ["a.jpg", "a.jpg", "a-1.jpg", "a.jpg"]
    names = ["a.jpg", "a-2.jpg", "a-1.jpg", "a-3.jpg"]
    assert frame_names([Path(path) for path in paths]) == names


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    """The address of `tmp_path`, served on this machine."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_what_is_behind_a_url(tmp_path: Path, site: str, capfd: pytest.CaptureFixture[str]) -> None:
    save(tmp_path / "red car.png")
    write_video(tmp_path / "clip.avi", 3)
    (tmp_path / "text.png").write_text("hello")
    (frame,) = open_source(f"{site}/red%20car.png?size=8").frames
    assert (frame.name, frame.image.shape) == ("red car.png", (6, 8, 3))
    save(tmp_path / "käfer 1.png")
    (frame,) = open_source(f"{site}/käfer 1.png").frames
    assert frame.name == "käfer 1.png"
    with pytest.raises(ValueError, match=r"^--source http://h:abc/a.png: cannot be fetched \(nonn"):
        open_source("http://h:abc/a.png")
    video = open_source(f"{site}/clip.avi")
    assert (video.name, video.live, len(list(video.frames))) == ("clip", False, 3)
    with pytest.raises(ValueError, match=rf"^--source {site}/gone.png: cannot be fetched"):
        open_source(f"{site}/gone.png")
    with pytest.raises(ValueError, match=rf"^--source {site}/text.png: the image cannot be deco"):
        open_source(f"{site}/text.png")
    with pytest.raises(ValueError, match="nothing there that can be played"):
        open_source(f"{site}/gone.avi")
    assert capfd.readouterr().err == ""


def test_a_film_whose_server_cannot_seek_is_said_to_be_one(
    tmp_path: Path, site: str, capfd: pytest.CaptureFixture[str]
) -> None:
    # An mp4 says at its end where its frames are; this server begins every answer at the start.
    writer = cv2.VideoWriter(
        str(tmp_path / "a.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10, (320, 320)
    )
    noise = np.random.default_rng(0).integers(0, 256, (9, 320, 320, 3), dtype=np.uint8)
    for image in noise:
        writer.write(image)
    writer.release()
    assert len(list(open_source(str(tmp_path / "a.mp4")).frames)) == 9
    found = len(list(open_source(f"{site}/a.mp4").frames))
    assert found < 9
    said = f"only {found} of 9 frames can be read; download it, and name the file"
    printed = capfd.readouterr()
    assert said in printed.out
    assert printed.err == ""
