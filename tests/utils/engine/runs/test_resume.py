"""States that a training cannot go on with."""

import copy
from typing import Any

import pytest
import torch

from utils.engine.runs.resume import check_training

STATE: dict[str, Any] = {
    "epoch": 1,
    "position": 0,
    "best": 0.5,
    "readings": {"names": ["loss"], "sums": [1.5], "steps": 2},
    "ledger": {"names": [], "sums": [], "steps": 0},
    "schedule": {"base_lrs": [0.1], "last_epoch": 3, "lr_lambdas": [None], "_is_initial": False},
    "scaler": {"scale": 65536.0, "_growth_tracker": 3},
    "average": {"model": {}, "steps": 3},
    "optimizer": {"state": {0: {"momentum_buffer": torch.zeros(2), "step": 3}}},
}


def test_a_sound_state() -> None:
    check_training(STATE, STATE)
    other = {**STATE, "best": float("-inf"), "optimizer": {"state": {}}}
    check_training({**other, "schedule": {**STATE["schedule"], "flag": True}}, STATE)
    check_training(other, {**STATE, "average": None, "scaler": {}})
    check_training({**other, "scaler": {}}, STATE)  # it was in another arithmetic than fp16
    del (older := copy.deepcopy(STATE))["schedule"]["_is_initial"]
    check_training(older, STATE)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("epoch",), "1"),
        (("epoch",), True),
        (("position",), -1),
        (("position",), 0.5),
        (("best",), None),
        (("readings",), []),
        (("readings", "steps"), None),
        (("readings", "names"), [1]),
        (("readings", "sums"), ["1.5"]),
        (("readings", "sums"), [float("nan")]),
        (("optimizer", "state", 0, "momentum_buffer"), torch.full((2,), float("nan"))),
        (("optimizer", "state", 0, "momentum_buffer"), torch.full((2,), float("inf"))),
        (("optimizer", "state"), None),
        (("ledger", "sums"), [float("inf")]),
        (("schedule", "last_epoch"), 3.5),
        (("schedule", "last_epoch"), True),
        (("schedule", "base_lrs"), []),
        (("schedule", "base_lrs"), [float("nan")]),
        (("schedule", "base_lrs"), None),
        (("schedule",), {}),
        (("scaler", "scale"), "1"),
        (("average", "steps"), {1: 2}),
        (("average", "steps"), -1),
        (("average",), []),
    ],
)
def test_values_that_are_none(place: tuple[Any, ...], value: object) -> None:
    state = copy.deepcopy(STATE)
    container = state
    for key in place[:-1]:
        container = container[key]
    container[place[-1]] = value
    with pytest.raises((ValueError, TypeError, KeyError, AttributeError)):
        check_training(state, STATE)
