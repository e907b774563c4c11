"""The scoreboard as Markdown."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
# Title and how it is read from a row; what a row does not have is left open.
COLUMNS: tuple[tuple[str, Callable[[Row], str]], ...] = (
    ("parameters", lambda row: f"{row['parameters'] / 1e6:.2f} M"),
    ("GFLOPs", lambda row: f"{row['gflops']:.2f}"),
    ("file", lambda row: f"{row['bytes'] / 2**20:.2f} MiB"),
    ("ms", lambda row: f"{row['latency_ms']:.1f}"),
    ("img/s", lambda row: f"{row['images_per_second']:.0f}"),
    ("voc07", lambda row: points(row["voc07"]["mAP"])),
    ("voc10", lambda row: points(row["voc10"]["mAP"])),
    ("AP", lambda row: points(row["coco"]["AP"])),
    ("small", lambda row: points(row["coco"]["APs"])),
    ("medium", lambda row: points(row["coco"]["APm"])),
    ("large", lambda row: points(row["coco"]["APl"])),
)


def markdown(rows: Mapping[str, Row], split: Sequence[str], batch_size: int) -> str:
    """One line a network, in the order given."""
    lines = [
        f"| {' '.join(split)} | " + " | ".join(title for title, _ in COLUMNS) + " |",
        "|---|" + "---:|" * len(COLUMNS),
    ]
    cells = ([text.replace("|", "\\|") for text in row] for row in cells_of(rows))
    lines += [f"| {' | '.join(row)} |" for row in cells]
    return "\n".join([*lines, "", note_of(batch_size), ""])


def cells_of(rows: Mapping[str, Row]) -> list[list[str]]:
    """The name of each network and what the columns say of it."""
    return [[name, *(cell(read, row) for _, read in COLUMNS)] for name, row in rows.items()]


def note_of(batch_size: int) -> str:
    """What the columns are."""
    return (
        "ms: one image, network and post-processing, median; img/s: the same in batches of "
        f"{batch_size}; parameters and GFLOPs: of the network before it was exported; AP, small, "
        "medium, large: COCO's."
    )


def cell(read: Callable[[Row], str], row: Row) -> str:
    """What a column reads from a row; result files say nothing of the network behind them."""
    try:
        return read(row)
    except KeyError:
        return ""


def points(value: float | None) -> str:
    """0.5 -> 50.0; nothing where there are no such objects."""
    return "" if value is None or math.isnan(value) else f"{100 * value:.1f}"
