"""Norms by hand, and what a step that is skipped does to their mean."""

import math

import pytest
import torch
from torch import nn

from utils.config import TrainConfig
from utils.engine.gradients import measure, shown


def owners(*gradients: list[float] | None) -> list[nn.Parameter]:
    """Parameters with these gradients."""
    made = []
    for gradient in gradients:
        made.append(nn.Parameter(torch.zeros(2)))
        made[-1].grad = None if gradient is None else torch.tensor(gradient)
    return made


def values(found: dict[str, torch.Tensor]) -> dict[str, float]:
    return {name: value.item() for name, value in found.items()}


def test_the_norm_is_that_of_all_gradients_together_and_changes_none() -> None:
    parameters = owners([2.0, 4.0], None, [5.0, 6.0])
    # sqrt(4 + 16 + 25 + 36)
    assert values(measure(parameters)) == {"grad_norm": 9.0}
    assert parameters[0].grad.tolist() == [2.0, 4.0]
    assert TrainConfig().clip_norm == 0
    assert values(measure(owners(None))) == {"grad_norm": 0.0}


def test_the_norm_is_from_before_the_limit() -> None:
    parameters = owners([2.0, 4.0], [5.0, 6.0])
    assert values(measure(parameters, 3.0)) == {"grad_norm": 9.0, "clipped": 1.0}
    # Shortened from 9 to 3.
    torch.testing.assert_close(parameters[1].grad, torch.tensor([5 / 3, 2.0]))
    assert values(measure(parameters, 3.1))["clipped"] == 0


@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_a_skipped_step_counts_apart(bad: float) -> None:
    found = values(measure(owners([bad, 1.0]), 3.0, may_skip=True))
    assert found == {"grad_norm": 0.0, "clipped": 0.0, "skipped": 1.0}
    assert values(measure(owners([3.0, 4.0]), may_skip=True)) == {"grad_norm": 5.0, "skipped": 0.0}
    assert not math.isfinite(values(measure(owners([bad, 1.0])))["grad_norm"])


def test_the_mean_norm_is_that_of_the_steps_that_were_taken() -> None:
    # Norms 6 and 9 and a skipped step: the mean of what was added is 5, that of two norms 7.5.
    means = shown({"loss": 1.0, "grad_norm": 5.0, "skipped": 1 / 3})
    assert means == {"loss": 1.0, "grad_norm": pytest.approx(7.5), "skipped": 1 / 3}
    assert math.isnan(shown({"grad_norm": 0.0, "skipped": 1.0})["grad_norm"])
    untouched = {"loss": 2.0, "grad_norm": 3.3, "clipped": 0.5}
    assert shown(untouched) == untouched
