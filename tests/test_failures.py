"""What is not the user's fault: full disks, lost folders, killed processes, too little memory.

Each ends with one clear line and exit status 2, and the last good checkpoint goes on.
"""

import contextlib
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from nets.backbones import BACKBONES
from tests.soak.launcher import ROOT, Plain, Request
from tests.test_distributed import torchrun
from tests.test_resume import at_step, on, position
from utils.cli import run
from utils.data.media import open_source
from utils.engine.runs.checkpoint import load_checkpoint, save_checkpoint
from utils.engine.trainer import Trainer
from utils.files import check_file, check_folder, described, whole, write_whole
from utils.runtime.device import memory_for
from utils.show.outlets import VideoWriter

Script = Callable[..., int]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fast network."""
    monkeypatch.setitem(BACKBONES, "plain", Plain)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk."""
    folder = tmp_path / "disk"
    folder.mkdir()
    yield from mounted(folder, "-t", "tmpfs", "-o", "size=16m", "tmpfs")


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A folder that not even root can write to."""
    folder = tmp_path / "read-only"
    folder.mkdir()
    yield from mounted(folder, "-t", "tmpfs", "-o", "ro", "tmpfs")


def mounted(folder: Path, *arguments: str) -> Iterator[Path]:
    """`folder`, with something mounted on it until the test ends."""
    done = subprocess.run(["mount", *arguments, str(folder)], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"mounting is not allowed here: {done.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def fill(disk: Path, leave: int) -> None:
    """Leaves `leave` bytes free."""
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    (disk / "filler").write_bytes(b"x" * (free - leave))


@pytest.mark.parametrize("leave", [0, 4096, 200_000])
def test_a_full_disk_while_training(
    leave: int,
    drawn: Path,
    disk: Path,
    script: Script,
    one_line: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = on(drawn, disk, "run", "--save-every", "1")
    with monkeypatch.context() as patch:
        at_step(4, lambda: fill(disk, leave), patch)
        assert script("train_teacher", *words) == 2
    line = one_line()
    assert f"{disk}/run/" in line
    assert "no space left on device; free some space" in line
    assert "--resume" in line
    assert not list(disk.rglob("*.tmp"))
    assert position(disk / "run") == (1, 0)
    (disk / "filler").unlink()
    assert script("train_teacher", *words, "--resume") == 0
    assert position(disk / "run") == (2, 0)


def test_a_limit_on_file_sizes(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "last.pth", {"epoch": 1})
    program = (
        "import resource, torch\n"
        "from utils.engine.runs.checkpoint import save_checkpoint\n"
        "from utils.cli import run\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "content = {'epoch': 2, 'model': torch.zeros(100_000)}\n"
        f"run(lambda _: save_checkpoint({str(tmp_path / 'last.pth')!r}, content))\n"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert f"{tmp_path}/last.pth: file too large; raise the limit on file sizes" in line
    assert load_checkpoint(tmp_path / "last.pth")["epoch"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["last.pth"]


def test_a_full_disk_while_writing_results(disk: Path, one_line: Callable[[], str]) -> None:
    write_whole(disk / "map.json", "before")
    fill(disk, 0)
    with pytest.raises(SystemExit, match="2"):
        run(lambda _: write_whole(disk / "map.json", "x" * 100_000))
    assert f"{disk}/map.json: no space left on device; free some space" in one_line()
    assert (disk / "map.json").read_text() == "before"
    assert not list(disk.glob("*.tmp"))


def test_frames_that_the_disk_did_not_take_are_missed(disk: Path, tmp_path: Path) -> None:
    video = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"MJPG"), 10, (320, 240))
    noise = np.random.Generator(np.random.PCG64(0))
    for _ in range(30):
        writer.write(noise.integers(0, 256, (240, 320, 3), np.uint8))
    writer.release()
    fill(disk, 50_000)
    with pytest.raises(OSError, match=r"\.mp4: only \d+ of 30 frames could be written"):
        copy_video(video, disk)


def copy_video(video: Path, folder: Path) -> None:
    """As predict.py does."""
    source = open_source(str(video))
    with VideoWriter(folder / f"{source.name}.mp4", source.fps) as writer:
        for frame in source.frames:
            writer.write(frame.name, frame.image)


COMMANDS = [
    ("train_teacher", "--logs", ""),
    ("train_kd", "--logs", ""),
    ("get_map", "--json", "/map.json"),
    ("get_map", "--plots", ""),
    ("get_map", "--save-detections", "/files"),
    ("predict", "--out", ""),
    ("tools.check_data", "--html", "/data.html"),
    ("tools.check_data", "--json", "/data.json"),
    ("tools.demo", "--out", ""),
    ("tools.import_weights", "DST", "/a.pth"),
]
# Were there any work done, these would be complained of.
MISSING = {
    "train_teacher": ["--data", "none", "--no-pretrained"],
    "train_kd": ["--teacher", "none.pth"],
    "get_map": ["--weights", "none.pth"],
    "predict": ["--weights", "none.pth", "--source", "none"],
    "tools.check_data": ["--data", "none"],
    "tools.demo": [],
    "tools.import_weights": ["none.pth"],
}


@pytest.mark.parametrize(("name", "flag", "end"), COMMANDS)
def test_places_that_cannot_be_written_are_refused_before_the_work(
    name: str,
    flag: str,
    end: str,
    read_only: Path,
    tmp_path: Path,
    script: Script,
    one_line: Callable[[], str],
) -> None:
    (tmp_path / "file").write_text("precious")
    for place, why in ((read_only, "cannot be written to"), (tmp_path / "file", "is no folder")):
        for below in (place, place / "a/b"):
            output = [f"{below}{end}"] if flag == "DST" else [flag, f"{below}{end}"]
            assert script(name, *MISSING[name], *output) == 2
            line = one_line()
            assert f"{place} {why}; choose another path" in line
            assert flag in line
    assert (tmp_path / "file").read_text() == "precious"
    assert list(read_only.iterdir()) == []


def test_files_are_refused_that_are_folders_or_are_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"--json {tmp_path} is a folder; give the name of a file"):
        check_file(tmp_path, "--json")
    with pytest.raises(ValueError, match=r"a.txt is read, too, and would be lost"):
        check_file(tmp_path / "a.txt", "--json", inputs=("", f"{tmp_path}/x/../a.txt"))
    check_file(tmp_path / "new/map.json", "--json")
    check_folder(tmp_path, "--out")
    assert list(tmp_path.iterdir()) == []


def test_the_words_of_the_system_get_a_remedy() -> None:
    missing = FileNotFoundError(errno.ENOENT, "No such file or directory", "a.txt")
    assert described(missing).startswith("a.txt: no such file or directory; check the path")
    assert described(OSError("ours; do this")) == "ours; do this"
    assert described(OSError(errno.ELOOP, "Too many links", b"x")) == "x: too many links"


def test_a_file_that_is_not_finished_leaves_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("before")
    with contextlib.suppress(KeyboardInterrupt), whole(path) as unfinished:
        unfinished.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("step", [2, 4])
def test_a_run_folder_that_vanishes(
    step: int,
    drawn: Path,
    tmp_path: Path,
    script: Script,
    one_line: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, kept = tmp_path / "run", tmp_path / "moved"
    at_step(step, lambda: folder.rename(kept) and None, monkeypatch)
    assert script("train_teacher", *on(drawn, tmp_path, "run", "--save-every", "1")) == 2
    line = one_line()
    assert f"{folder}/" in line
    assert "no such file or directory; check the path, or whether its folder has been" in line
    assert not folder.exists()
    assert position(kept) == ((0, 1) if step == 2 else (1, 0))
    assert (
        script("train_teacher", *on(drawn, tmp_path, "moved", "--save-every", "1", "--resume")) == 0
    )


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_worker_of_torchrun_that_is_killed(victim: int, drawn: Path, tmp_path: Path) -> None:
    words = [*on(drawn, tmp_path, "run", "--save-every", "1"), "--epochs", "50"]
    words += ["--backbone", "resnet18(width=0.125)", "--batch-size", "4"]
    run = Request("train_teacher", [str(word) for word in words], "")
    started = torchrun(run)
    while not (tmp_path / "run/last.pth").exists():
        assert started.poll() is None, started.communicate()
        time.sleep(0.01)
    children = Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text().split()
    os.kill(int(children[-2:][victim]), signal.SIGKILL)
    _, complaints = started.communicate(timeout=120)  # no hang
    assert started.returncode != 0
    ours = [line for line in complaints.splitlines() if line.startswith("train_teacher.py: ")]
    assert len(ours) <= 1  # torchrun may be quicker to end the other one
    assert all("another process" in line or "stopped by SIGTERM" in line for line in ours)
    assert "RuntimeError" not in complaints
    assert load_checkpoint(tmp_path / "run/last.pth")["training"]["epoch"] >= 0


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to ..."), "CUDA out of memory"),
        (RuntimeError("[alloc_cpu.cpp:1] DefaultCPUAllocator: not enough memory"), "out of memory"),
        (MemoryError(), "out of memory"),
    ],
    ids=["GPU", "CPU", "Python"],
)
def test_too_little_memory(
    error: Exception,
    says: str,
    drawn: Path,
    tmp_path: Path,
    script: Script,
    one_line: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail() -> None:
        raise error

    with monkeypatch.context() as patch:
        at_step(5, fail, patch)
        words = on(drawn, tmp_path, "run", "--save-every", "1")
        assert script("train_teacher", *words) == 2
    line = one_line()
    assert f"--batch-size 2 is too large: {says}; try --accumulate 2, --cache ram" in line
    assert position(tmp_path / "run") == (1, 1)
    assert script("train_teacher", *words, "--resume") == 0


def test_other_errors_are_not_taken_for_too_little_memory() -> None:
    with pytest.raises(RuntimeError, match="shapes differ"), memory_for(4):
        raise RuntimeError("shapes differ")


def test_too_little_memory_before_training(one_line: Callable[[], str]) -> None:
    def fail(_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. More.")

    with pytest.raises(SystemExit, match="2"):
        run(fail)
    assert "CUDA out of memory; free the GPU, lower --batch-size" in one_line()


def test_a_validation_loss_that_is_not_finite(
    drawn: Path,
    tmp_path: Path,
    script: Script,
    one_line: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original, calls = Trainer.validate, 0

    def validate(trainer: Trainer, *arguments: object) -> dict[str, float]:
        nonlocal calls
        calls += 1
        scores = original(trainer, *arguments)  # type: ignore[arg-type]
        return scores if calls == 1 else {**scores, "loc": float("nan")}

    words = on(drawn, tmp_path, "run", "--val-every", "1")
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "validate", validate)
        assert script("train_teacher", *words) == 2
    line = one_line()
    assert "the validation loss after epoch 2 is not finite: loss " in line
    assert "loc nan" in line
    assert "lower --lr; best.pth is of an earlier epoch" in line
    assert load_checkpoint(tmp_path / "run/best.pth")["metrics"]["mAP"] >= 0
    assert position(tmp_path / "run") == (1, 3)
    assert script("train_teacher", *words, "--resume") == 0


def test_control_c_while_data_loads(
    drawn: Path,
    tmp_path: Path,
    script: Script,
    one_line: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupt(*_: object, **__: object) -> Tensor:
        raise KeyboardInterrupt

    monkeypatch.setattr("utils.data.store.decode", interrupt)
    assert script("train_teacher", *on(drawn, tmp_path, "run")) == 130
    assert one_line().endswith(": stopped by SIGINT")
    assert not (tmp_path / "run").exists()


def test_a_reader_that_has_enough(drawn: Path) -> None:
    words = ["-m", "tools.check_data", "--data", drawn, "--train", "VOC2007/train", "--fast"]
    words += ["--val", "VOC2007/val", "--classes", drawn / "VOC2007/classes.txt"]
    command, pipe = [sys.executable, *map(str, words)], subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()  # as `| true` does
        assert process.stderr.read() == b""
    assert process.returncode == 128 + signal.SIGPIPE
