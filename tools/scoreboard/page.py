"""The scoreboard as a page: the table, and AP over latency."""

from collections.abc import Mapping, Sequence

from tools.scoreboard.table import COLUMNS, Row, cells_of, note_of, points
from utils.show.chart import lines
from utils.show.page import Page, grid, paragraph, table


def page(rows: Mapping[str, Row], split: Sequence[str], batch_size: int) -> Page:
    """The page of `{name: what get_map.py says of it, "bytes", "latency_ms"}`."""
    shown = Page("Scoreboard", " ".join(split))
    head = ["", *(title for title, _ in COLUMNS)]
    note = paragraph(note_of(batch_size), "faint")
    shown.section("Networks as they will run", table(head, cells_of(rows)), note)
    places = {
        name: [(float(row["latency_ms"]), 100 * float(row["voc07"]["mAP"]))]
        for name, row in rows.items()
        if "latency_ms" in row and points(row["voc07"]["mAP"])  # nothing: no objects
    }
    if places:
        title = "mAP (voc07, %) over milliseconds: up and to the left is better"
        chart = lines(title, places, x_label="milliseconds for one image", log=False)
        shown.section("Speed against precision", grid("charts", [chart]))
    return shown
