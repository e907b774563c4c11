"""Every command of docs/data.md runs, and gives what the page says."""

import re
import shlex
from pathlib import Path

import pytest

from tests.conftest import Script
from tests.tools.convert_data import sets

PAGE = (Path(__file__).parent.parent / "docs/data.md").read_text("utf-8")
COMMANDS = "".join(re.findall(r"```bash\n(.*?)```", PAGE, re.S)).splitlines()


def test_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: Script) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("IMAGES", "LABELME"):
        sets.save_pictures(Path(folder))
    sets.write_labelme(Path("LABELME"))
    sets.write_csv(Path())
    sets.write_coco(Path())
    for split in ("train", "val"):
        part = {n: k for n, k in sets.KNOWN.items() if n.startswith("a") == (split == "train")}
        sets.write_coco(Path(), sets.coco(part)).rename(f"instances_{split}.json")
    sets.write_coco(Path())
    sets.write_yolo(Path("set"))
    Path("data.yaml").write_text(Path("set/data.yaml").read_text().replace("path: .", "path: set"))
    sets.write_yolo(Path("datasets/VOC"))
    Path("datasets/VOC/data.yaml").unlink()
    Path("names.txt").write_text("cat\ndog\nbig dog\n")
    for command in COMMANDS:
        _, _, *arguments = shlex.split(command)
        assert script(*arguments) == 0, command
    made = {path.name for path in Path("VOCdevkit").iterdir()}
    assert made == {"MYCOCO", "MYSPLITS", "MYYOLO", "MYFOLDER", "MYLABELME", "MYTABLE"}
    assert all((Path("VOCdevkit") / name / "check.html").is_file() for name in made)
