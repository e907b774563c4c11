"""States that a training cannot go on with."""

import copy
from typing import Any

import pytest
import torch

from utils.training_state import check_training

STATE: dict[str, Any] = {
    "epoch": 1,
    "position": 0,
    "best": 0.5,
    "readings": {"names": ["loss"], "sums": [1.5], "steps": 2},
    "optimizer": {"state": {0: {"momentum_buffer": torch.zeros(2), "step": 3}}},
}


def test_a_sound_state() -> None:
    check_training(STATE)
    check_training({**STATE, "best": float("-inf"), "optimizer": {"state": {}}})


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
        (("optimizer", "state"), None),
    ],
)
def test_values_that_are_none(place: tuple[Any, ...], value: object) -> None:
    state = copy.deepcopy(STATE)
    container = state
    for key in place[:-1]:
        container = container[key]
    container[place[-1]] = value
    with pytest.raises((ValueError, TypeError, AttributeError)):
        check_training(state)
