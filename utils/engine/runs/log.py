"""What a run writes down: metrics as JSON lines and TensorBoard events, and curves as a picture."""

import contextlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from utils.engine.ledger import SHARE, WEIGHT, WEIGHTED
from utils.show.chart import steep
from utils.show.report import without_nan

METRICS = "metrics.jsonl"
# What readings are called on pictures; a term of --distill has its own name there, too.
TITLES = {
    "mAP": "mAP, voc07, percent",
    "loss": "loss, the weighted sum",
    "conf": "conf: class of each prior",
    "loc": "loc: boxes",
    "soft": "soft: the teacher's probabilities",
    "l2": "l2: boxes, bounded by the teacher's",
    "weighted": "each term times its weight",
    "share": "each term's share of the gradient",
    "weight": "weights that follow --share",
    "bound_active": "positives at which the bound acts, share",
    "agreement": "priors that both name alike, share",
    "agreement_on_positives": "positives that both name alike, share",
    "grad_norm": "norm of the gradient",
    "clipped": "steps whose gradient was clipped, share",
    "skipped": "steps skipped, share",
    "kd_factor": "loudness of the teacher",
    "pseudo_objects": "objects found where none is labelled, a batch",
    "lr": "learning rate",
}
NOT_DRAWN = ("epoch", "positives", "images_per_second")


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
    """Draws `curves.png` from a run's metrics: the mAP, each loss, train and val, and the rate."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    folder = Path(folder)
    panels = curves(read_metrics(folder / METRICS))
    columns = 3
    lines = max(1, math.ceil(len(panels) / columns))
    width, height = 4.2 * columns, 3 * lines
    figure = Figure(figsize=(width, height), dpi=100)
    # In inches: a layout of matplotlib's, or its `savefig`, draws everything a second time.
    left, right, bottom, top = 0.8, width - 0.15, 0.5, height - 0.3
    figure.subplots_adjust(left / width, bottom / height, right / width, top / height, 0.27, 0.36)
    for i, (title, series) in enumerate(panels.items()):
        axes = figure.add_subplot(lines, columns, i + 1)
        for name, points in series.items():
            x, y = zip(*points, strict=True)
            axes.plot(x, y, label=name, marker="o" if len(points) < 30 else None, markersize=3)
        if steep([y for points in series.values() for _, y in points]):
            axes.set_yscale("log")
        axes.set(title=title, xlabel="epoch")
        axes.grid(alpha=0.3)
        axes.legend()
    path = folder / "curves.png"
    FigureCanvasAgg(figure).print_png(path)
    return path


def curves(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """What there is to draw: title -> name of the series -> (epoch, value) points."""
    named: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for row in rows:
        for name, value in row.items():
            group, _, reading = name.rpartition("/")
            of_term = group + "/" in (SHARE, WEIGHTED, "train/" + WEIGHT)
            if value is None or reading in NOT_DRAWN or (of_term and value == 0):  # of weight 0
                continue
            series = group if group in ("train", "val") else "val" if reading == "mAP" else "train"
            if of_term:  # all terms in one panel
                reading, series = group.rpartition("/")[2], reading
            point = row["epoch"], 100 * value if reading == "mAP" else value
            named.setdefault(reading, {}).setdefault(series, []).append(point)
    order = {"mAP": -2, "loss": -1, "grad_norm": 1, "lr": 2}
    names = sorted(named, key=lambda name: order.get(name, 0))  # the others stay as they are
    return {TITLES.get(name, name): named[name] for name in names}
