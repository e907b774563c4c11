"""The table and the picture of docs/evidence.md: python -m benchmarks.evidence.answers

README.md has some rows of the table; a test reads both pages and the picture.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from benchmarks.evidence.claims import (
    ALL,
    ALL_FOD,
    CUT,
    CUT_FOD,
    FIFTH,
    LONGER,
    LONGER_FOD,
    OWN,
    TERMS,
    TERMS_FOD,
    Claim,
    interval,
    read_variant,
)
from tools.compare.page import colour_of
from utils.files import write_whole
from utils.show.dots import Drawing, Row, dots, side_by_side

PICTURE = Path(__file__).parents[2] / "docs" / "pictures" / "evidence.svg"
USUAL_SEEDS = 5


class Answer(NamedTuple):
    """A row: what a student has that another has not.

    words, short: what it is about, in the table and in the picture.
    plain, richer: the two, each `FOLDER: VARIANT` as in a `Claim`.
    longer: `plain` with twice the steps, if that was run.
    """

    words: str
    short: str
    plain: str
    richer: str
    longer: str = ""

    def row(self) -> str:
        """It in Markdown."""
        plain, richer = (read_variant(name, "test") for name in (self.plain, self.richer))
        pairs = [(plain[seed], richer[seed]) for seed in plain.keys() & richer.keys()]
        means = [sum(values) / len(pairs) for values in zip(*pairs, strict=True)]
        cells = [self.words, "{:.1f} → {:.1f}".format(*means)]
        for split in ("test", "val"):
            cells += [cell(plain, self.richer, split) for plain in (self.plain, self.longer)]
        return f"| {' | '.join(cells)} |"


def cell(plain: str, richer: str, split: str) -> str:
    """The difference with its interval, bold where that excludes 0, and seeds that are not five."""
    if not plain:
        return ""
    found = Claim(plain, richer).differences()[split]
    mean = f"**{found.mean:+.1f}**" if colour_of(*found.t) != "faint" else f"{found.mean:+.1f}"
    seeds = "" if found.seeds == USUAL_SEEDS else f", {found.seeds} seeds"
    return f"{mean} {interval(found)}{seeds}"


# "few labels": a fifth of the set's; both students are cut out of their teacher, but in the last.
ANSWERS: Mapping[str, tuple[Answer, ...]] = {
    "few labels, a teacher that has learned from all": (
        Answer("other pictures (`--unlabelled`), NEU-DET", "few: pictures",
               CUT + "alone", CUT + "unlabelled", CUT + "twice as long"),
        Answer("the same under another teacher", "few: pictures, again",
               TERMS + "alone", TERMS + "pictures", TERMS + "twice as long"),
        Answer("other pictures, FOD20", "few: pictures, FOD20",
               CUT_FOD + "alone", CUT_FOD + "unlabelled", CUT_FOD + "twice as long"),
        Answer("`objectness`, NEU-DET", "few: objectness",
               TERMS + "alone", TERMS + "objectness", TERMS + "twice as long"),
        Answer("`objectness`, FOD20", "few: objectness, FOD",
               TERMS_FOD + "alone", TERMS_FOD + "objectness", TERMS_FOD + "twice as long"),
        Answer("`objectness` and other pictures, NEU-DET", "few: both",
               TERMS + "alone", TERMS + "pictures, objectness", TERMS + "twice as long"),
    ),
    "few labels, a teacher that has learned from the same few": (
        Answer("other pictures, NEU-DET", "same: pictures",
               OWN + "alone", OWN + "unlabelled", OWN + "twice as long"),
        Answer("`objectness`, NEU-DET", "same: objectness",
               OWN + "alone", OWN + "objectness", OWN + "twice as long"),
    ),
    "all labels": (
        Answer("soft targets, 60 epochs, NEU-DET", "all: soft",
               ALL + "cut", ALL + "cut, soft", ALL + "cut, 120 epochs"),
        Answer("soft targets, 30 epochs, FOD20", "all: soft, FOD20",
               ALL_FOD + "cut", ALL_FOD + "cut, soft", LONGER_FOD + "cut"),
        Answer("`objectness`, 60 epochs, NEU-DET", "all: objectness",
               "all_objectness_neu_det: alone", "all_objectness_neu_det: objectness"),
    ),
    "the start: cut out of the teacher, beside random weights": (
        Answer("few labels, 1560 steps beside 5400, NEU-DET", "cut, few",
               FIFTH, CUT + "alone", "fifth_neu_det: alone, 10800 steps"),
        Answer("the same, with other pictures as well", "cut and pictures",
               FIFTH, CUT + "unlabelled", "fifth_neu_det: alone, 10800 steps"),
        Answer("all labels, 20 epochs, NEU-DET", "cut, 20 epochs",
               "cut_neu_det: alone", "cut_neu_det: cut"),
        Answer("all labels, 120 epochs, NEU-DET", "cut, 120 epochs",
               ALL + "alone", ALL + "cut, 120 epochs", LONGER + "alone"),
        Answer("all labels, 240 epochs, NEU-DET", "cut, 240 epochs",
               LONGER + "alone", LONGER + "cut"),
        Answer("all labels, 60 epochs, FOD20", "cut, FOD20",
               ALL_FOD + "alone", LONGER_FOD + "cut", LONGER_FOD + "alone"),
    ),
}  # fmt: skip


def table() -> list[str]:
    """The lines of the table: a group's name, then its rows."""
    gains = ["gain", "over twice the steps"]
    head = ["", "test: without → with", *gains, f"validation: {gains[0]}", gains[1]]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for group, answers in ANSWERS.items():
        lines += [f"| **{group}**" + " |" * len(head), *(answer.row() for answer in answers)]
    return lines


def picture() -> str:
    """All but the start, as SVG: on test and on validation images."""
    return side_by_side([drawing("on test", "test"), drawing("on validation", "val")])


def drawing(title: str, split: str) -> Drawing:
    """The gains with their intervals; a dot for the one over twice the steps."""
    rows = {}
    for answer in [answer for group in list(ANSWERS.values())[:-1] for answer in group]:
        found = Claim(answer.plain, answer.richer).differences()[split]
        twice = []
        if answer.longer:
            twice = [(0, Claim(answer.longer, answer.richer).differences()[split].mean)]
        rows[answer.short] = Row(twice, found.mean, found.t, colour_of(*found.t))
    label = "points of voc07; dot: gain over twice the steps"
    return dots(f"{title}: gain, with its 95 % interval", rows, x_label=label, line=0.0)


if __name__ == "__main__":
    write_whole(PICTURE, picture())
    print("\n".join(table()), f"\nwritten: {PICTURE}")
