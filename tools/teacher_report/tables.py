"""A teacher report as tables, for the terminal and for its page."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tools.teacher_report.verdict import Group, percentage, points


class Table(NamedTuple):
    """A head and rows of equally many cells, the first one text; `note` says what they are."""

    title: str
    note: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


def tables(report: Mapping[str, Any]) -> list[Table]:
    """All tables, from AP down to the soft targets; `t` is the teacher, `s` the student."""
    groups = dict(labelled(report))
    negatives = report["hard_negatives"]
    negative = {"cross_entropy": negatives}
    least = report["thresholds"]["nearly_one_hot"]
    return [
        Table(
            "Average precision",
            "percent; t teacher, s student",
            ["", "objects", *(f"{p} {c}" for p in ("voc07", "coco") for c in ("t", "s", "t-s"))],
            [[n, str(g["objects"]), *ap(g, "voc07"), *ap(g, "coco")] for n, g in groups.items()],
        ),
        Table(
            "Boxes of the positives",
            "squared error in encoded space; bound on: the share with error s + reg_m > error t",
            ["", "positives", "error t", "error s", "IoU t", "IoU s", "bound on"],
            [
                [
                    n,
                    str(g["positives"]),
                    *both(g, "box_error", 2),
                    *both(g, "iou", 3),
                    percentage(g["bound_active"]),
                ]
                for n, g in groups.items()
            ],
        ),
        Table(
            "Confidence on the positives",
            "p: of the true class; CE: -log p; right, backgr.: it, background, is the likeliest; "
            f"last row: the student's {negatives['number']} hard negatives",
            ["", "p t", "p s", "t surer", "CE t", "CE s"]
            + [f"{c} {side}" for c in ("right", "backgr.") for side in "ts"],
            [
                [
                    n,
                    *both(g, "probability", 3),
                    percentage(g["surer"]),
                    *both(g, "cross_entropy", 2),
                    *shares(g, "accuracy"),
                    *shares(g, "background"),
                ]
                for n, g in groups.items()
            ]
            + [["hard negatives", *"---", *both(negative, "cross_entropy", 2), *"----"]],
        ),
        Table(
            "Soft targets of the teacher on the positives",
            "H: entropy in nats; class: the part about which class; "
            f"1-hot: the share with H < {least}; T1, T2, ...: temperature 1, 2, ...",
            [
                "",
                *(f"{c} T{t}" for t in report["all"]["entropy"] for c in ("H", "class", "1-hot")),
            ],
            [[n, *softness(g)] for n, g in groups.items()],
        ),
        Table("Verdict", "", ["", ""], [[n, g["verdict"]] for n, g in groups.items()]),
    ]


def labelled(report: Mapping[str, Any]) -> Iterator[tuple[str, Group]]:
    """Every group with the name of its row: classes, sizes (a class may be called large), all."""
    yield from report["classes"].items()
    limits = {"small": " (to 32²)", "medium": " (to 96²)", "large": ""}
    for size, group in report["sizes"].items():
        yield f"size {size}{limits[size]}", group
    yield "all objects", report["all"]


def ap(group: Group, protocol: str) -> list[str]:
    """Teacher, student, difference."""
    pair = group["ap"].get(protocol)
    if pair is None:
        return ["-"] * 3
    return [points(pair["teacher"]), points(pair["student"]), points(pair["difference"], "+")]


def both(group: Group, reading: str, digits: int) -> list[str]:
    """The teacher's and the student's mean."""
    return [number(group[reading][side], digits) for side in ("teacher", "student")]


def shares(group: Group, reading: str) -> list[str]:
    """The teacher's and the student's share."""
    return [percentage(group[reading][side]) for side in ("teacher", "student")]


def softness(group: Group) -> list[str]:
    """Entropy, its part about classes and the nearly one-hot share at each temperature."""
    cells = []
    for t, entropy in group["entropy"].items():
        cells += [number(entropy, 2), number(group["between_classes"][t], 2)]
        cells.append(percentage(group["one_hot"][t]))
    return cells


def number(value: float, digits: int) -> str:
    """A fixed-point number; nan -> `-`."""
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def as_text(table: Table) -> str:
    """For the terminal: numbers flush right."""
    rows = [row for row in (table.head, *table.rows) if any(row)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    align = ["<", *[">" if len(table.head) > 2 else "<"] * (len(widths) - 1)]
    lines = [
        "  ".join(f"{c:{a}{w}}" for c, a, w in zip(row, align, widths, strict=True)).rstrip()
        for row in rows
    ]
    notes = [f"  {table.note}"] if table.note else []
    return "\n".join([table.title.upper(), *notes, *lines])
