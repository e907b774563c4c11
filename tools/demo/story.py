"""The page that the demonstration ends with: the whole story, from the data to the commands."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nets.inputs import read_class_names
from tools.views import view_of
from utils.config import DataConfig
from utils.data.store import open_store
from utils.runtime.device import choose_device
from utils.show.page import Page, bullets, code, paragraph, table
from utils.show.run_page import PAGE, add_runs, read_run

PROTOCOLS = (("voc07", "mAP"), ("voc10", "mAP"), ("coco", "AP"))


def write_story(
    out: Path,
    folders: Mapping[str, str],
    reports: Mapping[str, Mapping[str, Any]],
    lines: Sequence[str],
    commands: str,
) -> Path:
    """Writes the page and returns its path.

    Args:
        out: the demonstration's folder.
        folders: title -> folder in `out` of each run; the distilled student first, then the one
            that was trained alone, then the teacher.
        reports: title -> what get_map.py says of the network.
        lines: what was done, in sentences.
        commands: what to do next.
    """
    distilled, alone, _ = folders
    gain = 100 * (reports[distilled]["voc07"]["mAP"] - reports[alone]["voc07"]["mAP"])
    page = Page("A student learns from a teacher", "the demonstration, from data to result")
    page.verdict(f"distilled less alone: {gain:+.1f} points of voc07, one seed of each")
    page.section("What was done", bullets(lines))
    note = (
        "AP in percent on the test images. One pair of seeds proves nothing: the same student with "
        "another seed differs by some points; tools.compare trains enough pairs to tell."
    )
    page.section("How it ended", result_table(reports), paragraph(note, "faint"))
    runs = [read_run(out / name)._replace(name=title) for title, name in folders.items()]
    data = out / "VOCdevkit"
    names = read_class_names(str(data / "VOC2007/classes.txt"))
    config = DataConfig(data=str(data), cache="none")
    store = open_store(config, ["VOC2007/test"], names, choose_device(config.device))
    networks = {title: out / name / "best.pth" for title, name in folders.items()}
    add_runs(page, runs, view_of("the test images", networks, store, names, config.batch_size))
    page.section("Next", code(commands, "pre"))
    page.write(out / PAGE)
    return out / PAGE


def result_table(reports: Mapping[str, Mapping[str, Any]]) -> str:
    """Size, work and AP of each network."""
    head = ["", "parameters", "GFLOPs", *(name for name, _ in PROTOCOLS)]
    rows = [
        [
            title,
            f"{report['parameters'] / 1e6:.2f} M",
            f"{report['gflops']:.2f}",
            *(f"{100 * report[name][key]:.1f}" for name, key in PROTOCOLS),
        ]
        for title, report in reports.items()
    ]
    return table(head, rows)
