"""A page about a training run, or about several side by side: curves, AP of each class, pictures.

python -m tools.report logs/student
python -m tools.report logs/alone logs/student --split VOC2007/test --out logs/both.html

A training writes such a page by itself. This one is about best.pth, on any split, and has what the
teacher detects in all of its images.
"""

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.views import view_of
from utils.cli import parse_arguments, run
from utils.config import DataConfig, option
from utils.data.store import open_store
from utils.data.voc import check_splits
from utils.engine.runs.folder import BEST, LAST
from utils.engine.runs.log import METRICS
from utils.files import check_file
from utils.runtime.device import choose_device
from utils.runtime.distributed import world_size
from utils.show.examples import View
from utils.show.run_page import CONFIG, PAGE, Run, read_run, run_page


@dataclass(frozen=True)
class PageConfig(DataConfig):
    """Writes a page about a training run, or about several side by side."""

    runs: tuple[str, ...] = option((), "folders of runs, e.g. logs/student", positional=True)
    data: str = option("", "VOC devkit; without: that of the first run")
    split: tuple[str, ...] = option(
        (), "splits to detect in, as YEAR/SPLIT; without: the first run's --val"
    )
    teacher: str = option("", "a teacher's checkpoint; without: that of the first distilled run")
    cache: str = option("none", "where decoded images live", ("auto", "device", "ram", "none"))
    out: str = option("", f"file to write; without: {PAGE} in the run's folder, of several: beside")

    def __post_init__(self) -> None:
        """Refuses what cannot be meant."""
        super().__post_init__()
        if not self.runs:
            raise ValueError("no run is named; give the folder of one, e.g. logs/student")
        if len(set(map(os.path.realpath, self.runs))) < len(self.runs):
            raise ValueError(f"one run is named twice: {' '.join(self.runs)}; name each once")
        if world_size() > 1:
            raise ValueError("the page is written by one process; start it without torchrun")


def main(arguments: Sequence[str] | None) -> None:
    """Folders of runs -> detections of their networks and of the teacher -> page."""
    config = parse_arguments(PageConfig, arguments, __doc__)
    runs = [read_run(folder) for folder in config.runs]
    if len({run.name for run in runs}) < len(runs):
        runs = [one._replace(name=str(f)) for one, f in zip(runs, config.runs, strict=True)]
    out = config.out or page_of(config.runs)
    check_file(out, "--out", inputs=[config.teacher, *map(str, files_of(config.runs))])
    splits = config.split or tuple(runs[0].settings.get("val", ()))
    view = look(config, runs, splits) if splits else None
    if view is None:
        print("no split to detect in, so no AP and no pictures; --split names one")
    run_page(runs, view).write(out)
    print(f"page: {out}")


def files_of(folders: Sequence[str]) -> list[Path]:
    """What is read of runs, and must not be written over."""
    return [Path(folder) / name for folder in folders for name in (BEST, LAST, CONFIG, METRICS)]


def page_of(folders: Sequence[str]) -> Path:
    """Where the page goes that nobody gave a place: into the run's folder, or beside several."""
    if len(folders) == 1:
        return Path(folders[0]) / PAGE
    return Path(os.path.commonpath([Path(folder).resolve().parent for folder in folders])) / PAGE


def look(config: PageConfig, runs: Sequence[Run], splits: Sequence[str]) -> View:
    """What the runs' networks, and the teacher, detect in some splits.

    Raises:
        FileNotFoundError, ValueError: data or a network are missing, or the classes differ.
    """
    data = config.data or str(runs[0].settings["data"])
    config = dataclasses.replace(config, data=data)
    check_splits(data, splits, "--split")
    device = choose_device(config.device)
    names = tuple(runs[0].about["class_names"])
    networks = {
        run.name: Path(folder) / "best.pth" for run, folder in zip(runs, config.runs, strict=True)
    }
    there = {path.resolve() for path in networks.values()}
    for path in teacher_of(config, runs):
        if path.resolve() not in there:
            networks["its teacher" if "teacher" in networks else "teacher"] = path
    store = open_store(config, splits, names, device)
    return view_of(" ".join(splits), networks, store, names, config.batch_size)


def teacher_of(config: PageConfig, runs: Sequence[Run]) -> list[Path]:
    """The teacher's checkpoint; none where no run had one, or it is gone."""
    given = [str(run.settings.get("teacher") or "") for run in runs]
    path = config.teacher or next(filter(None, given), "")
    if not path:
        return []
    if not config.teacher and not Path(path).is_file():
        print(f"the teacher {path} is gone and left out; --teacher says where it is now")
        return []
    return [Path(path)]


if __name__ == "__main__":
    run(main)
