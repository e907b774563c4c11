"""What a run writes down: metrics as JSON lines and TensorBoard events, and curves as a picture."""

import contextlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from utils.engine.ledger import SHARE, WEIGHTED
from utils.show.report import without_nan

METRICS = "metrics.jsonl"


class RunLog:
    """The metrics of a run in its folder: a row an epoch, and in between a row every few steps.

    Rows of steps have a `step`, counted over the run, beside their `epoch`. TensorBoard gets both
    over steps.

    Args:
        folder: the run's folder; made where missing.
        epochs, steps: how many are done; later rows (of a run that was interrupted after it had
            written them) are dropped. 0 steps start a new file.
    """

    def __init__(self, folder: str | Path, epochs: int = 0, steps: int = 0) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path = self.folder / METRICS
        kept = [
            row
            for row in (read_rows(self.path) if steps else [])
            if (row["step"] <= steps if is_step(row) else row["epoch"] <= epochs)
        ]
        # Whole or not at all: a run that is killed here must not lose its past.
        temporary = self.path.with_name(METRICS + ".tmp")
        temporary.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
        temporary.replace(self.path)
        self.events = None
        with contextlib.suppress(ImportError):  # TensorBoard is an extra
            from torch.utils.tensorboard import SummaryWriter

            self.events = SummaryWriter(str(self.folder), purge_step=steps + 1 if steps else None)

    def write(self, row: Mapping[str, Any], steps: int) -> None:
        """Adds a row, that of an epoch or of a step, after so many steps of the run."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(without_nan(row)) + "\n")
        if self.events is not None:
            for name, value in row.items():
                if isinstance(value, int | float) and name != "step":
                    self.events.add_scalar(name, value, steps)

    def flush(self) -> None:
        """Returns when everything written is on disk, as the checkpoint after it will be."""
        with self.path.open("a", encoding="utf-8") as file:
            os.fsync(file.fileno())
        if self.events is not None:
            self.events.flush()

    def close(self) -> None:
        """Writes what is buffered."""
        if self.events is not None:
            self.events.close()


def read_rows(path: str | Path) -> list[dict[str, Any]]:
    """The rows of a metrics file; none where it does not exist. Other lines are left out."""
    path = Path(path)
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            row = json.loads(line)
            if isinstance(row, dict) and isinstance(row.get("epoch"), int):
                rows.append(row)
    return rows


def is_step(row: Mapping[str, Any]) -> bool:
    """Whether a row is of a step, not of an epoch."""
    return isinstance(row.get("step"), int)


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """The rows of epochs of a metrics file."""
    return [row for row in read_rows(path) if not is_step(row)]


def draw_curves(folder: str | Path) -> Path:
    """Draws `curves.png` from a run's metrics: each loss, train and val, the mAP, and the rate."""
    from matplotlib.figure import Figure

    folder = Path(folder)
    panels = curves(read_metrics(folder / METRICS))
    columns = 3
    lines = max(1, math.ceil(len(panels) / columns))
    figure = Figure(figsize=(4.2 * columns, 3 * lines), layout="tight")
    for i, (title, series) in enumerate(panels.items()):
        axes = figure.add_subplot(lines, columns, i + 1)
        for name, points in series.items():
            x, y = zip(*points, strict=True)
            axes.plot(x, y, label=name, marker="o" if len(points) < 30 else None, markersize=3)
        axes.set(title=title, xlabel="epoch")
        axes.grid(alpha=0.3)
        axes.legend()
    path = folder / "curves.png"
    figure.savefig(path, dpi=100)
    return path


def curves(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """The panels of `draw_curves`: title -> name of the series -> (epoch, value) points."""
    named: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for row in rows:
        for name, value in row.items():
            group, _, title = name.rpartition("/")
            if group + "/" in (SHARE, WEIGHTED):  # all terms in one panel
                title, name = group.rpartition("/")[2], title
            if value is not None and title not in ("epoch", "positives", "images_per_second"):
                series = named.setdefault(title, {}).setdefault(name, [])
                series.append((row["epoch"], value))
    for title in ("mAP", "lr"):  # behind the losses
        if title in named:
            named[title] = named.pop(title)
    return named
