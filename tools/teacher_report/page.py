"""A teacher report as a page: the verdict, both networks side by side, and every table."""

from collections.abc import Mapping
from typing import Any

from tools.teacher_report.tables import labelled, tables
from tools.teacher_report.verdict import ap_of
from utils.show.chart import lines
from utils.show.dots import Row, dots
from utils.show.page import Markup, Page, bullets, element, folded, grid, paragraph, table

SIDES = ("teacher", "student")


def page(report: Mapping[str, Any]) -> Page:
    """The page of what tools.teacher_report writes as JSON."""
    networks = ", ".join(f"{side} {report[side]['backbone']}" for side in SIDES)
    subtitle = f"{networks}, {report['images']} images of {' '.join(report['split'])}"
    shown = Page("Is the teacher any use?", subtitle)
    first, *rest = report["conclusions"]
    shown.verdict(first)
    shown.section("What it can and cannot teach", bullets(rest or [first]))
    shown.section("Side by side", grid("charts", [*differences(report), reliability(report)]))
    everything = []
    for one in tables(report):
        words = 1 if any(one.head) else len(one.head)
        note = [paragraph(one.note, "faint")] if one.note else []
        everything.append(folded(one.title, *note, table(one.head, one.rows, words=words)))
    files = [(side, element("code", report[side]["weights"])) for side in SIDES]
    shown.section("Every number", *everything, table(("", ""), files, words=2))
    return shown


def differences(report: Mapping[str, Any]) -> list[Markup]:
    """AP, probability of the true class and IoU of the boxes, of both, in percent."""
    groups = dict(labelled(report))
    readings = {
        "AP (classes and all: voc07; sizes: coco)": [ap_of(g) for g in groups.values()],
        "probability of the true class": [g["probability"] for g in groups.values()],
        "IoU of the boxes with the objects": [g["iou"] for g in groups.values()],
    }
    return [
        dots(title, dict(zip(groups, map(both, pairs), strict=True)), x_label="%").figure(SIDES)
        for title, pairs in readings.items()
    ]


def both(pair: Mapping[str, float]) -> Row:
    """A row with the teacher's and the student's value and the gap between them."""
    teacher, student = (100 * pair[side] for side in SIDES)
    return Row([(0, teacher), (1, student)], ends=(student, teacher))


def reliability(report: Mapping[str, Any]) -> Markup:
    """Of what is scored 0.7, is 70 % right? Above the diagonal: better than scores say."""
    calibration = report["calibration"]
    series = {
        side: [(b["score"], b["precision"]) for b in calibration[side]["bins"].values()]
        for side in SIDES
    }
    series["as scores say"] = [(0.0, 0.0), (1.0, 1.0)]
    limits = (0.0, 1.0)
    title = "Precision at IoU 0.5 of detections by score"
    return lines(title, series, x_label="score", x_limits=limits, y_limits=(0, 1.02), log=False)
