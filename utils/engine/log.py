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
    """The metrics of a run in its folder.

    Args:
        folder: the run's folder; made where missing.
        start: the last epoch whose metrics count; later lines (of a run that was interrupted after
            it had written them) are dropped. 0 starts a new file.
    """

    def __init__(self, folder: str | Path, start: int = 0) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path = self.folder / METRICS
        kept = [row for row in read_metrics(self.path) if row["epoch"] <= start] if start else []
        # Whole or not at all: a run that is killed here must not lose its past.
        temporary = self.path.with_name(METRICS + ".tmp")
        temporary.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
        temporary.replace(self.path)
        self.events = None
        with contextlib.suppress(ImportError):  # TensorBoard is an extra
            from torch.utils.tensorboard import SummaryWriter

            self.events = SummaryWriter(str(self.folder), purge_step=start + 1 if start else None)

    def write(self, epoch: int, metrics: Mapping[str, Any]) -> None:
        """Adds the metrics of an epoch (counted from 1)."""
        row = {"epoch": epoch, **metrics}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(without_nan(row)) + "\n")
            file.flush()
            os.fsync(file.fileno())  # before the checkpoint that says that the epoch is done
        if self.events is not None:
            for name, value in metrics.items():
                if isinstance(value, int | float):
                    self.events.add_scalar(name, value, epoch)
            self.events.flush()

    def close(self) -> None:
        """Writes what is buffered."""
        if self.events is not None:
            self.events.close()


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
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
