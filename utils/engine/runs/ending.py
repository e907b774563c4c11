"""When a run is over, and which network it keeps."""

from pathlib import Path
from typing import Any

from utils.config import TrainConfig
from utils.engine.runs.log import METRICS, read_metrics
from utils.runtime.distributed import is_main, most_of_processes


def validations(folder: Path) -> tuple[list[dict[str, Any]], int]:
    """The rows of a run that have an mAP, and the place of the best among them.

    Of equals it is the first, as `RunFiles.keep_if_best` has it.
    """
    rows = [row for row in read_metrics(folder / METRICS) if row.get("mAP") is not None]
    return rows, max(range(len(rows)), key=lambda i: rows[i]["mAP"], default=-1)


def is_over(folder: Path, config: TrainConfig, epoch: int) -> bool:
    """Whether training ends after so many epochs; the same in every process, which all must ask.

    The rows of metrics.jsonl decide, so a run that is resumed ends where it would have ended.
    """
    if epoch >= config.epochs or not config.patience:
        return epoch >= config.epochs
    lost = 0
    if is_main():
        rows, best = validations(folder)
        lost = int(len(rows) - 1 - best >= config.patience)
    return bool(most_of_processes(lost))


def kept(folder: Path, config: TrainConfig, epoch: int) -> str:
    """Which network best.pth of a run that has ended after so many epochs holds, and why."""
    if not config.val:
        return "kept: the last network (no validation split was named)"
    on = " ".join(config.val)
    rows, best = validations(folder)
    if not rows:
        return f"kept: the last network (no object in {on})"
    which = "best" if len(rows) > 1 else "the only"
    early = ""
    if epoch < config.epochs:
        early = (
            f"; ended after {epoch} of {config.epochs} epochs, for {config.patience} "
            f"validation{'s' if config.patience > 1 else ''} brought no better one (--patience)"
        )
    score = f"{100 * rows[best]['mAP']:.1f}"
    return f"kept: epoch {rows[best]['epoch']}, {which} voc07 {score} on {on}{early}"
