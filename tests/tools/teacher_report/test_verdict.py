"""What the numbers are said to mean; tables and picture of made-up numbers."""

import copy
import math
from typing import Any

import pytest

from tools.teacher_report.page import page
from tools.teacher_report.tables import as_text, tables
from tools.teacher_report.verdict import conclusions, judge, percentage, points
from utils.show.page import html

NAN = math.nan


def two(teacher: float, student: float) -> dict[str, float]:
    return {"teacher": teacher, "student": student}


def ap(teacher: float, student: float) -> dict[str, float]:
    return {**two(teacher, student), "difference": teacher - student}


def group(protocols: tuple[str, ...] = ("voc07", "coco"), **changed: Any) -> dict[str, Any]:
    """A teacher that is better in everything, unless changed; judged."""
    values: dict[str, Any] = {
        "objects": 100,
        "positives": 700,
        "ap": {p: ap(0.55, 0.312) for p in protocols},
        "box_error": two(1.0, 2.0),
        "iou": two(0.8, 0.7),
        "probability": two(0.8, 0.6),
        "cross_entropy": two(0.3, 0.7),
        "accuracy": two(0.9, 0.7),
        "background": two(0.1, 0.2),
        "bound_active": 0.81,
        "surer": 0.75,
        "entropy": {"1": 0.5, "2": 1.0, "4": 1.5},
        "between_classes": {"1": 0.2, "2": 0.4, "4": 0.9},
        "one_hot": {"1": 0.25, "2": 0.1, "4": 0.0},
        **changed,
    }
    return {**values, **judge(values, 0.1)}


NOTHING = {
    "objects": 0,
    "positives": 0,
    "ap": {p: ap(NAN, NAN) for p in ("voc07", "coco")},
    **{r: two(NAN, NAN) for r in ("box_error", "iou", "probability", "cross_entropy")},
    **{r: two(NAN, NAN) for r in ("accuracy", "background")},
    **{r: dict.fromkeys("124", NAN) for r in ("entropy", "between_classes", "one_hot")},
    "bound_active": NAN,
    "surer": NAN,
}


def report(**classes: dict[str, Any]) -> dict[str, Any]:
    bins = {f"0.{i}": {"number": 0, "score": NAN, "precision": NAN} for i in range(10)}
    some = {**bins, "0.3": {"number": 9, "score": 0.35, "precision": 0.3}}
    sides = {"teacher": {"error": 0.05, "excess": 0.05, "detections": 9, "bins": some}}
    sides["student"] = {"error": NAN, "excess": NAN, "detections": 0, "bins": bins}
    values: dict[str, Any] = {
        "split": ["VOC2007/test"],
        "images": 10,
        **{side: {"weights": f"{side}.pth", "backbone": "vgg16"} for side in sides},
        "thresholds": {"nearly_one_hot": 0.1},
        "all": group(),
        "sizes": {s: group(("coco",)) for s in ("small", "medium", "large")},
        "classes": classes or {"cat": group(), "dog": group()},
        "hard_negatives": {"number": 30, **two(0.2, 0.3)},
        "calibration": {"least_score": 0.3, **sides},
    }
    return values


WORSE_AP = {"ap": {"voc07": ap(0.3, 0.4)}}
WORSE_BOX, UNSURE = {"box_error": two(2.0, 1.0)}, {"probability": two(0.5, 0.6)}
ONE_HOT = {"entropy": {"1": 0.01, "2": 0.05, "4": 0.09}}


class TestJudge:
    @pytest.mark.parametrize(
        ("changed", "helps", "verdict"),
        [
            ({}, True, "can help: soft targets and box bound"),
            (WORSE_BOX, True, "can help: soft targets"),
            (UNSURE, True, "can help: box bound"),
            (ONE_HOT, True, "can help: box bound"),
            (UNSURE | WORSE_BOX, False, "are no better, and no surer of the classes"),
            (ONE_HOT | WORSE_BOX, False, "its soft targets only repeat the labels"),
            (WORSE_AP, False, "the teacher's AP is not above the student's"),
            ({"objects": 3}, True, "(only 3 objects: no more than a hint)"),
        ],
    )
    def test_rules(self, changed: dict[str, Any], helps: bool, verdict: str) -> None:
        judged = group(**changed)
        assert judged["helps"] is helps
        assert verdict in judged["verdict"]

    def test_below_a_point_of_ap_is_no_room(self) -> None:
        assert not group(ap={"voc07": ap(0.409, 0.4)})["room"]
        assert group(ap={"voc07": ap(0.411, 0.4)})["room"]

    def test_without_room_nothing_can_help(self) -> None:
        judged = group(**WORSE_AP)
        assert not judged["soft_targets"]
        assert not judged["box_bound"]

    def test_equal_is_not_better(self) -> None:
        same = group(box_error=two(1, 1), probability=two(0.5, 0.5))
        assert not same["helps"]
        assert not group(ap={"voc07": ap(0.4, 0.4)})["helps"]

    def test_sizes_are_judged_by_coco(self) -> None:
        assert group(("coco",), **{"ap": {"coco": ap(0.2, 0.1)}})["room"]

    def test_no_objects(self) -> None:
        judged = judge(NOTHING, 0.1)
        assert judged["verdict"] == "no objects"
        assert not judged["helps"]

    def test_objects_that_no_prior_kept_are_no_crash(self) -> None:
        lost = {**copy.deepcopy(NOTHING), "objects": 1, "ap": {"voc07": ap(0.5, 0.2)}}
        assert not judge(lost, 0.1)["helps"]


class TestConclusions:
    def text(self, **changed: Any) -> str:
        return "\n".join(conclusions({**report(), **changed}))

    def test_bottom_line(self) -> None:
        classes = report(a=group(), b=group(**WORSE_BOX), c=group(**UNSURE), d=group(**WORSE_AP))
        line = conclusions({**classes, "classes": {**classes["classes"], "e": NOTHING}})[0]
        # a, b and c have room; soft targets help in a and b, the bound in a and c; e is empty.
        assert line == (
            "Teacher AP 55.0, student 31.2: room 23.8 points; soft targets can help in 2 of 4 "
            "classes, the box bound in 2; it is active for 81 % of the positives."
        )

    def test_which_classes_and_where_the_teacher_is_worse(self) -> None:
        text = self.text(classes={"cat": group(), "dog": group(**WORSE_AP, **WORSE_BOX)})
        assert "can help (points of AP to gain): cat (+23.8), small objects (+23.8)" in text
        assert "It cannot help: dog (AP -10.0)." in text
        assert "worse than the student in AP: dog; box error: dog." in text
        text = self.text(classes={"cat": group(**UNSURE, **WORSE_BOX)})
        assert "cat (AP +23.8, but neither surer nor closer)" in text
        text = self.text(classes={"large": group()})  # neither takes the other's place
        assert "gain): large (+23.8), small objects" in text
        assert "large objects (+23.8)" in text
        text = self.text()
        assert "It cannot help" not in text
        assert "nowhere worse" in text

    def test_no_room(self) -> None:
        assert "student 40.0: no room;" in self.text(all=group(**WORSE_AP))

    def test_one_hot_teachers(self) -> None:
        assert "nothing beyond" not in self.text()
        entropy = {"1": 0.05, "2": 0.3, "4": 0.9}
        text = self.text(all=group(entropy=entropy))
        assert "nothing beyond the labels; --temperature 2 gives 0.30 nats" in text
        assert "at every temperature: nothing beyond" in self.text(all=group(**ONE_HOT))

    def test_a_teacher_against_the_labels(self) -> None:
        text = self.text(all=group(accuracy=two(0.05, 0), background=two(0.94, 1)))
        assert "Only on 5 % of them the teacher finds the true class the likeliest" in text
        assert "(background on 94 %)" in text
        assert "against the labels" not in self.text()

    def test_bounds_that_are_always_or_never_on(self) -> None:
        assert "plain L2 loss" in self.text(all=group(bound_active=0.97))
        assert "has no effect" in self.text(all=group(bound_active=0.02))
        assert "hardly ever" not in self.text()

    def test_calibration(self) -> None:
        text = self.text()
        assert "teacher 5.0 points (overconfident by 5.0; 9 detections), student none" in text

    def test_a_split_without_objects(self) -> None:
        (line,) = conclusions({**report(), "all": NOTHING})
        assert "no object in the split" in line


def empty_report() -> dict[str, Any]:
    nothing = {**NOTHING, **judge(NOTHING, 0.1)}
    values = report(cat=nothing)
    values |= {"all": nothing, "sizes": dict.fromkeys(("small", "medium", "large"), nothing)}
    values["hard_negatives"] = {"number": 0, **two(NAN, NAN)}
    return {**values, "conclusions": conclusions(values)}


def test_tables_have_a_row_for_everything_and_fit_a_terminal() -> None:
    values = report(**{"cat": group(), "a | b": group(**WORSE_AP)})
    for table in tables({**values, "conclusions": conclusions(values)}):
        names = [row[0] for row in table.rows]
        assert names[:3] == ["cat", "a | b", "size small (to 32²)"]
        assert "all objects" in names
        assert all(len(row) == len(table.head) for row in table.rows)
        assert max(map(len, as_text(table).splitlines()[2:])) <= 100
    ap_row = tables(values)[0].rows[0]
    assert ap_row == ["cat", "100", "55.0", "31.2", "+23.8", "55.0", "31.2", "+23.8"]
    assert tables(values)[0].rows[2][2:5] == ["-", "-", "-"]  # no voc07 of a size
    assert tables(values)[2].rows[-1][4:6] == ["0.20", "0.30"]  # hard negatives


@pytest.mark.parametrize("kind", ["full", "negative", "empty"])
def test_the_page(kind: str) -> None:
    worse = group(**WORSE_AP, **WORSE_BOX, **UNSURE)
    values = empty_report() if kind == "empty" else report(cat=group(), dog=worse)
    values["conclusions"] = conclusions(values)
    text = page(values).text()
    assert "teacher.pth" in text
    assert "teacher vgg16" in text
    assert html(values["conclusions"][0]) in text
    assert text.count("<svg") == 4
    assert "nan" not in text


def test_numbers() -> None:
    assert [points(0.238), points(0.238, "+"), points(NAN)] == ["23.8", "+23.8", "-"]
    assert [percentage(0.806), percentage(NAN)] == ["81 %", "-"]
