"""What a run writes down: metrics as JSON lines and TensorBoard events, and curves as a picture."""

import contextlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
        self.path.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
        self.events = None
        with contextlib.suppress(ImportError):  # TensorBoard is an extra
            from torch.utils.tensorboard import SummaryWriter

            self.events = SummaryWriter(str(self.folder), purge_step=start + 1 if start else None)

    def write(self, epoch: int, metrics: Mapping[str, Any]) -> None:
        """Adds the metrics of an epoch (counted from 1)."""
        row = {"epoch": epoch, **metrics}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
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
    """The rows of a metrics file; none where it does not exist. A torn last line is left out."""
    path = Path(path)
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            rows.append(json.loads(line))
    return rows


def draw_curves(folder: str | Path) -> Path:
    """Draws `curves.png` from a run's metrics: each loss, train and val, the mAP, and the rate."""
    from matplotlib.figure import Figure

    folder = Path(folder)
    rows = read_metrics(folder / METRICS)
    names = sorted(
        {key.split("/", 1)[1] for row in rows for key in row if key.startswith("train/")}
    )
    panels = ["loss", *(n for n in names if n not in ("loss", "positives")), "mAP", "lr"]
    columns = 3
    figure = Figure(figsize=(4.2 * columns, 3 * math.ceil(len(panels) / columns)), layout="tight")
    for i, panel in enumerate(panels):
        axes = figure.add_subplot(math.ceil(len(panels) / columns), columns, i + 1)
        keys = [panel] if panel == "lr" else [f"train/{panel}", f"val/{panel}"]
        for key in keys:
            points = [(row["epoch"], row[key]) for row in rows if key in row]
            if points:
                x, y = zip(*points, strict=True)
                axes.plot(x, y, label=key, marker="o" if len(points) < 30 else None, markersize=3)
        axes.set_title(panel)
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    path = folder / "curves.png"
    figure.savefig(path, dpi=100)
    return path
