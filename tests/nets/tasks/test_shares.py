"""Shares as the command line has them, and what a run says of them in the end."""

import shlex

import pytest
import torch

from nets.tasks.loudness import Loudness
from nets.tasks.shares import fixed_instead, mean_weights, read_shares
from utils.cli import parse_arguments
from utils.config import DistillConfig

WEIGHTS = {"soft": 3.0, "conf": 0.7, "l2": 0.0, "loc": 1.0, "cwd": 1.0}


def test_shares_are_read() -> None:
    expected = {"soft": 0.4, "cwd": 0.2}
    for words in (["soft=0.4, cwd=0.2"], ["soft=0.4,cwd=0.2"], ["soft=.4,", "cwd = 0.2"]):
        assert read_shares(words) == expected
    assert read_shares([]) == read_shares([""]) == {}


@pytest.mark.parametrize(
    "text", ["soft", "soft:0.4", "soft=much", "soft=0.4 cwd=0.2", "=", "a=1=2"]
)
def test_shares_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="write TERM=SHARE, separated by commas"):
        read_shares([text])


def test_a_term_has_one_share() -> None:
    with pytest.raises(ValueError, match="--share names 'soft' twice"):
        read_shares(["soft=0.4, soft=0.2"])


def test_means_over_a_run() -> None:
    rows = [
        {"epoch": 1, "train/weight/soft": 2.0, "train/weight/conf": 1.0, "train/kd_factor": 1.0},
        {"epoch": 2, "train/weight/soft": 6.0, "train/weight/conf": 3.0, "train/kd_factor": 0.25},
    ]
    # (1 * 2 + 0.25 * 6) / 1.25; conf is of objects, so the schedule does not concern it.
    expected = {"soft": 2.8, "conf": 2.0}
    assert mean_weights(rows, {"soft": 0.4, "conf": 0.1}) == pytest.approx(expected)
    for row in rows:
        row["train/kd_factor"] = 0.0
    assert mean_weights(rows, {"soft": 0.4}) == {"soft": 4.0}
    for row in rows:
        del row["train/kd_factor"]
    assert mean_weights(rows, {"soft": 0.4}) == {"soft": 4.0}


def test_the_command_with_fixed_weights() -> None:
    config = DistillConfig(
        teacher="my logs/best.pth",
        preset="paper",
        distill=("cwd(tau=2, weight=3)", "mgd", "hint(weight=0.5)"),
        share=("soft=0.4, mgd=0.2, cwd=0.1",),
        pretrained=False,
        lr=0.003,
        resume=True,
    )
    loudness = Loudness(read_shares(config.share), {**WEIGHTS, "mgd": 1.0, "hint": 0.5})
    row = {"train/weight/soft": 1.23456, "train/weight/mgd": 1e-5, "train/weight/cwd": 12345.6}
    silent, line = fixed_instead(config, loudness, [row]).splitlines()[2:]
    assert silent.startswith("warning: --share cwd: never had a gradient at the source maps")
    command = line.partition("over the run: ")[2]
    program, script, *words = shlex.split(command)
    assert (program, script) == ("python", "train_kd.py")
    assert parse_arguments(DistillConfig, words) == DistillConfig(
        teacher="my logs/best.pth",
        preset="paper",
        distill=("cwd(tau=2, weight=12350.0)", "mgd(weight=1e-05)", "hint(weight=0.5)"),
        soft_weight=1.235,
        pretrained=False,
        lr=0.003,
        name="student-fixed",
    )
    norms = {"soft": 4.0, "conf": 2.0, "l2": 9.0, "loc": 0.6, "cwd": 0.01, "mgd": 1.0, "hint": 1.0}
    loudness.hear({name: torch.tensor(norm) for name, norm in norms.items()})
    assert fixed_instead(config, loudness, [row]) == line
    assert fixed_instead(config, loudness, []) == ""
