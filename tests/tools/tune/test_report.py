"""The table and the summary of a search."""

from dataclasses import replace

from tools.tune.report import COMPLETE, FAILED, PRUNED, RUNNING, Trial, best_of, markdown, summary

SETTINGS = {"soft_weight": 0.5, "temperature": 2.0}
TRIALS = [
    Trial(0, COMPLETE, {"soft_weight": 0.3, "temperature": 1.0}, 0.25, 6, default=True),
    Trial(1, PRUNED, {"soft_weight": 4.0, "temperature": 8.0}, 0.1, 2),
    Trial(2, FAILED, SETTINGS, None, 0, message="a|b"),
    Trial(3, COMPLETE, SETTINGS, 0.5, 6),
    Trial(4, COMPLETE, {**SETTINGS, "temperature": 3.0}, 0.5, 6),
    Trial(5, RUNNING, {}, None, 0),
]


def test_the_table_has_every_trial_the_best_first():
    rows = [row.split(" | ") for row in markdown(TRIALS, list(SETTINGS)).splitlines()]
    assert rows[0][:4] == ["| trial", "mAP %", "state", "epochs"]
    assert [row[0] for row in rows[2:]] == ["| 3", "| 4", "| 0", "| 1", "| 2", "| 5"]
    assert " | ".join(rows[4]) == "| 0 | 25.00 | complete | 6 | 0.3 | 1 | default |"
    assert rows[6][-1] == "a\\|b |"


def test_the_best_is_complete_and_the_first_of_equals():
    assert best_of(TRIALS) is TRIALS[3]
    assert best_of(TRIALS[1:3]) is None
    text = summary(TRIALS, ["--epochs", "6"])
    assert "3 complete, 1 pruned, 1 failed, 1 running" in text
    assert "default: trial 0, mAP 25.00 %\nbest: trial 3, mAP 50.00 %" in text
    assert "points over the default" not in text
    assert text.endswith("--epochs 6 --soft-weight 0.5 --temperature 2 --name tuned")


def test_a_best_within_the_noise_is_said_to_be():
    close = replace(TRIALS[3], score=0.275)
    text = summary([TRIALS[0], close], [])
    assert "its 2.5 points over the default are within what two seeds of one setting" in text
    assert "the best is the default" in summary([TRIALS[0], replace(close, score=0.2)], [])
    assert "default" not in summary([close], [])
