"""The downloader without a network: torchvision's fetch is replaced by one that draws the files."""

from pathlib import Path
from urllib.error import URLError

import pytest
from torchvision.datasets.voc import DATASET_YEAR_DICT

from tests.conftest import Refused, Script
from tools import download_voc

SPLIT_OF = {
    DATASET_YEAR_DICT["2007"]["filename"]: ("VOC2007", "trainval"),
    DATASET_YEAR_DICT["2007-test"]["filename"]: ("VOC2007", "test"),
    DATASET_YEAR_DICT["2012"]["filename"]: ("VOC2012", "trainval"),
}


class Server:
    """Unpacks two pictures a split, as the archives would; remembers what was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.failure: Exception | None = None
        self.lost = ""

    def __call__(
        self,
        url: str,
        *,
        download_root: str,
        extract_root: str,
        filename: str,
        md5: str,
        remove_finished: bool,
    ) -> None:
        assert url.endswith(filename)
        assert len(md5) == 32
        assert Path(download_root) == Path(extract_root) / "VOCdevkit"
        assert remove_finished
        print("chatter")
        self.asked.append(filename)
        if self.failure:
            raise self.failure
        year, split = SPLIT_OF[filename]
        ids = [f"{split}1", f"{split}2"]
        files = {f"ImageSets/Main/{split}.txt": "\n".join(ids)}
        for image_id in ids:
            files |= {f"JPEGImages/{image_id}.jpg": "", f"Annotations/{image_id}.xml": ""}
        for name, text in files.items():
            path = Path(extract_root) / "VOCdevkit" / year / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.name != self.lost:
                path.write_text(text)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    server = Server()
    monkeypatch.setattr(download_voc, "download_and_extract_archive", server)
    return server


def test_fetches_what_is_lacking_once(tmp_path: Path, server: Server) -> None:
    devkit = tmp_path / "VOCdevkit"
    assert download_voc.download_voc(devkit, ["2007"]) == ["VOC2007/trainval", "VOC2007/test"]
    assert download_voc.download_voc(devkit, ["2007", "2012"]) == ["VOC2012/trainval"]
    assert download_voc.download_voc(devkit, ["2007", "2012"]) == []
    assert len(server.asked) == 3


@pytest.mark.parametrize("lost", ["JPEGImages/test2.jpg", "Annotations/test1.xml"])
def test_a_broken_off_run_is_repeated(tmp_path: Path, server: Server, lost: str) -> None:
    devkit = tmp_path / "VOCdevkit"
    download_voc.download_voc(devkit, ["2007"])
    (devkit / "VOC2007" / lost).unlink()
    assert download_voc.download_voc(devkit, ["2007"]) == ["VOC2007/test"]
    assert (devkit / "VOC2007" / lost).is_file()
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    "failure", [URLError("no route"), RuntimeError("File not found or corrupted.")]
)
def test_offline_is_one_line(
    tmp_path: Path,
    server: Server,
    failure: Exception,
    script: Script,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server.failure = failure
    devkit = tmp_path / "VOCdevkit"
    assert script("tools.download_voc", "--years", "2012", "--data", devkit) == 2
    said = capsys.readouterr()
    assert "VOCtrainval_11-May-2012.tar: download failed (" in said.err
    assert f"check the connection and repeat, or unpack the archive into {tmp_path}" in said.err
    assert said.err.count("\n") == 1
    assert "chatter" not in said.out


def test_an_incomplete_archive_is_an_error(tmp_path: Path, server: Server) -> None:
    server.lost = "trainval1.jpg"
    with pytest.raises(OSError, match=r"VOC2007: trainval lacks files; delete it and repeat"):
        download_voc.download_voc(tmp_path / "VOCdevkit", ["2007"])


def test_command_line(
    tmp_path: Path,
    server: Server,
    script: Script,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)  # the default is VOCdevkit right here
    assert script("tools.download_voc") == 0
    assert len(server.asked) == 3
    assert script("tools.download_voc") == 0
    assert capsys.readouterr().out.endswith("VOCdevkit: fetched nothing, all is there\n")


def test_another_name_and_no_year_are_refused(
    tmp_path: Path, server: Server, refused: Refused
) -> None:
    line = refused("tools.download_voc", "--data", tmp_path / "data")
    assert "data: the archives unpack into VOCdevkit; give --data" in line
    assert "--years names none; give some of 2007, 2012" in refused("tools.download_voc", "--years")
    assert server.asked == []
