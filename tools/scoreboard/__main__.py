"""Networks as they will run, side by side: size, work, speed and AP in a table and a picture.

python -m tools.scoreboard --split VOC2007/test --out logs/scoreboard
    --of teacher=logs/teacher/best.pth student=logs/student/best.pth int8=student.onnx
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nets.inputs import read_class_names
from tools.jobs import script
from tools.scoreboard.page import page
from tools.scoreboard.picture import draw_scoreboard
from tools.scoreboard.table import markdown
from tools.scoreboard.timing import latencies
from utils.cli import parse_arguments, run
from utils.config import DataConfig, at_least, option
from utils.files import check_folder, write_whole
from utils.show.report import write_json

TABLE, NUMBERS, PICTURE = "scoreboard.md", "scoreboard.json", "scoreboard.png"
PAGE = "scoreboard.html"


@dataclass(frozen=True)
class ScoreConfig(DataConfig):
    """Compares checkpoints, exported networks and other detectors' result files on a split."""

    of: tuple[str, ...] = option(
        (), "what to compare, as NAME=PATH: checkpoints, *.onnx, folders of result files"
    )
    split: tuple[str, ...] = option(("VOC2007/test",), "splits to evaluate, as YEAR/SPLIT")
    out: str = option("logs/scoreboard", f"folder for {PAGE}, {TABLE}, {NUMBERS}, {PICTURE}")
    classes: str = option("", "class list; needed for result files, else that of the networks")
    runs: int = option(50, "single images that the latency is the median of")
    cache: str = option("none", "where decoded images live", ("auto", "device", "ram", "none"))

    def __post_init__(self) -> None:
        """Refuses what cannot be meant."""
        super().__post_init__()
        at_least(self, 1, "runs")
        if not self.of:
            raise ValueError("--of names nothing; give NAME=PATH, e.g. student=student.onnx")
        names = [split_entry(text)[0] for text in self.of]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"--of names {name} {names.count(name)} times; name it once")


def split_entry(text: str) -> tuple[str, Path]:
    """`NAME=PATH` -> its two parts.

    Raises:
        ValueError: it is not of this form, or the name cannot be that of a file.
    """
    name, equals, path = text.partition("=")
    if not equals or not path or not name.strip() or "/" in name or name.startswith("."):
        raise ValueError(f"--of {text}: write NAME=PATH, e.g. student=student.onnx")
    return name.strip(), Path(path)


def main(arguments: Sequence[str] | None) -> None:
    """Evaluates every entry, times the networks, writes table, JSON, picture and page."""
    config = parse_arguments(ScoreConfig, arguments, __doc__)
    check_folder(config.out, "--out")
    entries = dict(map(split_entry, config.of))
    for path in entries.values():
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file or folder; check --of")
        if path.is_dir() and not config.classes:
            raise ValueError(f"{path}: a folder of result files needs --classes, too")
    out = Path(config.out)
    rows = {name: evaluated(config, name, path) for name, path in entries.items()}
    networks = {name: path for name, path in entries.items() if path.is_file()}
    names = read_class_names(config.classes) if config.classes else ()
    for name, milliseconds in latencies(networks, config.device, config.runs, names).items():
        rows[name]["latency_ms"] = milliseconds
    text = markdown(rows, config.split, config.batch_size)
    write_json(out / NUMBERS, {"split": list(config.split), "rows": rows})
    write_whole(out / TABLE, text)
    print(f"\n{text}\ntable: {out / TABLE}, everything: {out / NUMBERS}")
    if networks:
        draw_scoreboard(rows, out / PICTURE)
        print(f"picture: {out / PICTURE}")
    page(rows, config.split, config.batch_size).write(out / PAGE)
    print(f"page: {out / PAGE}")


def evaluated(config: ScoreConfig, name: str, path: Path) -> dict[str, Any]:
    """What `get_map.py` says of an entry, and the size of its file in bytes."""
    kind = "--detections" if path.is_dir() else "--weights"
    report = Path(config.out) / "maps" / f"{name}.json"
    script(
        "get_map.py", kind, path, "--data", config.data, "--split", *config.split, "--json", report,
        "--batch-size", config.batch_size, "--workers", config.workers, "--device", config.device,
        "--cache", config.cache, *(["--skip-bad"] if config.skip_bad else []),
        *(["--classes", config.classes] if config.classes else []),
    )  # fmt: skip
    row: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    return {**row, "bytes": path.stat().st_size} if path.is_file() else row


if __name__ == "__main__":
    run(main)
