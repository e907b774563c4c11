"""Optimiser groups, schedules, gradient norms and averaged weights, by hand arithmetic."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW

from utils.config import TrainConfig
from utils.engine.optim import (
    AveragedModel,
    make_optimizer,
    make_schedule,
    measure_gradient,
    over_taken_steps,
)
from utils.recipes import follow


def decided(**given: Any) -> TrainConfig:
    """A config of which everything is decided."""
    return follow(TrainConfig(recipe="paper", **given), steps=1)


def small() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))


def test_norms_and_biases_do_not_decay() -> None:
    model = small()
    optimizer = make_optimizer(model, decided(weight_decay=0.1))
    assert isinstance(optimizer, SGD)
    decayed, free = optimizer.param_groups
    assert [id(p) for p in decayed["params"]] == [id(model[0].weight)]
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.1, 0.0)
    assert len(free["params"]) == 3
    assert isinstance(make_optimizer(model, decided(optimizer="adamw")), AdamW)


def test_adamw_goes_on_with_what_was_frozen() -> None:
    model = small()
    optimizer = make_optimizer(model, TrainConfig(optimizer="adamw", lr=0.1, weight_decay=0))
    before = [p.detach().clone() for p in model.parameters()]
    for frozen in (True, False):
        model[0].requires_grad_(not frozen)
        optimizer.zero_grad()
        model(torch.ones(2, 3, 4, 4) * torch.arange(2.0).view(2, 1, 1, 1)).sum().backward()
        optimizer.step()
        # A first step of AdamW has the length of the rate: m / sqrt(v) is the gradient's sign.
        moved = (model[1].bias - before[3]).abs()
        torch.testing.assert_close(
            moved, torch.full((2,), 0.1 if frozen else 0.2), rtol=1e-3, atol=0
        )


def rates(config: TrainConfig, steps: int) -> list[float]:
    optimizer = SGD(small().parameters(), lr=config.lr)
    schedule = make_schedule(optimizer, config, steps)
    found = []
    for _ in range(steps):
        found.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return found


def test_multistep_falls_after_two_thirds_and_five_sixths() -> None:
    found = rates(decided(lr=1.0), 12)
    assert found == pytest.approx([1.0] * 8 + [0.1] * 2 + [0.01] * 2)


def test_warm_up_takes_at_most_a_tenth_of_the_run() -> None:
    assert rates(decided(lr=1.0, warmup=500), 40)[:5] == pytest.approx([0.25, 0.5, 0.75, 1, 1])


def test_cosine_falls_from_the_rate_to_nearly_nothing() -> None:
    found = rates(TrainConfig(lr=2.0, warmup=0, schedule="cosine"), 4)
    # 2 * (1 + cos(pi k / 4)) / 2 for k = 0..3
    assert found == pytest.approx([2.0, 1.7071068, 1.0, 0.2928932])


def test_cosine_begins_where_the_warm_up_ends() -> None:
    found = rates(TrainConfig(lr=2.0, warmup=2, schedule="cosine"), 20)
    # Two steps of warm-up, then 2 * (1 + cos(pi k / 18)) / 2: for k = 0, 3 and 9 of 18.
    assert found[:3] == pytest.approx([1.0, 2.0, 2.0])
    assert [found[2 + 3], found[2 + 9]] == pytest.approx([1.8660254, 1.0])


def test_the_average_follows_its_recursion() -> None:
    model = small()
    average = AveragedModel(model, decay=0.5)
    expected = model[0].weight.detach().clone()
    for step in (1, 2, 3):
        with torch.no_grad():
            model[0].weight += 1.0
            model[1].running_mean += 2.0
        model[1].num_batches_tracked += 5
        average.update()
        decay = min(0.5, (1 + step) / (10 + step))  # 2/11, 3/12, 4/13
        expected = decay * expected + (1 - decay) * model[0].weight.detach()
    torch.testing.assert_close(average.model[0].weight, expected)
    assert average.model[1].num_batches_tracked == 15
    assert not average.model[0].weight.requires_grad
    other = AveragedModel(small(), decay=0.5)
    other.load_state_dict(copy.deepcopy(average.state_dict()))
    assert other.steps == 3
    assert torch.equal(other.model[0].weight, average.model[0].weight)


@torch.no_grad()
def step(model: nn.Module, seed: int) -> None:
    """Changes every parameter and buffer in place, as training does."""
    rng = torch.Generator().manual_seed(seed)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor += torch.randn(tensor.shape, generator=rng)
        else:
            tensor += 1


def test_the_average_is_bit_for_bit_that_of_a_loop_over_the_state_dicts() -> None:
    model = nn.Sequential(small(), nn.Conv2d(2, 5, 3), nn.BatchNorm2d(5))
    model.to(memory_format=torch.channels_last)
    average = AveragedModel(model, decay=0.3)
    expected = copy.deepcopy(model.state_dict())
    for n in range(1, 8):
        step(model, n)
        average.update()
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                expected[name].lerp_(value, 1 - min(0.3, (1 + n) / (10 + n)))
            else:
                expected[name].copy_(value)
    for name, value in average.model.state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_loaded_weights_are_averaged_on() -> None:
    model = small()
    average = AveragedModel(model, decay=0.5)
    step(model, 1)
    average.update()
    saved, weights = copy.deepcopy(average.state_dict()), copy.deepcopy(model.state_dict())
    resumed = small()
    other = AveragedModel(resumed, decay=0.5)
    resumed.load_state_dict(weights)
    other.load_state_dict(saved)
    for network, its_average in ((model, average), (resumed, other)):
        step(network, 2)
        its_average.update()
    for name, value in average.model.state_dict().items():
        assert torch.equal(other.model.state_dict()[name], value), name


def test_a_network_without_norms_has_an_average() -> None:
    model = nn.Conv2d(1, 1, 1)
    average, before = AveragedModel(model, decay=0.5), model.weight.detach().clone()
    step(model, 1)
    average.update()
    # decay = min(0.5, 2/11)
    torch.testing.assert_close(average.model.weight, (2 * before + 9 * model.weight.detach()) / 11)


def test_an_average_over_tensors_that_no_longer_train_is_not_saved() -> None:
    model = small()
    average = AveragedModel(model, decay=0.5)
    average.state_dict()
    model[0].weight = nn.Parameter(torch.zeros(2, 3, 1, 1))
    with pytest.raises(AssertionError, match="no longer"):
        average.state_dict()


def test_what_is_frozen_from_the_start_is_not_optimised() -> None:
    model = small()
    model[0].requires_grad_(False)
    optimizer = make_optimizer(model, decided(lr=0.1))
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 2


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
    assert values(measure_gradient(parameters)) == {"grad_norm": 9.0}
    assert parameters[0].grad.tolist() == [2.0, 4.0]
    assert TrainConfig().clip_norm == 0
    assert values(measure_gradient(owners(None))) == {"grad_norm": 0.0}


def test_the_norm_is_from_before_the_limit() -> None:
    parameters = owners([2.0, 4.0], [5.0, 6.0])
    assert values(measure_gradient(parameters, 3.0)) == {"grad_norm": 9.0, "clipped": 1.0}
    # Shortened from 9 to 3.
    torch.testing.assert_close(parameters[1].grad, torch.tensor([5 / 3, 2.0]))
    assert values(measure_gradient(parameters, 3.1))["clipped"] == 0


@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_a_skipped_step_counts_apart(bad: float) -> None:
    found = values(measure_gradient(owners([bad, 1.0]), 3.0, may_skip=True))
    assert found == {"grad_norm": 0.0, "clipped": 0.0, "skipped": 1.0}
    assert values(measure_gradient(owners([3.0, 4.0]), may_skip=True)) == {
        "grad_norm": 5.0,
        "skipped": 0.0,
    }
    assert not math.isfinite(values(measure_gradient(owners([bad, 1.0])))["grad_norm"])


def test_the_mean_norm_is_that_of_the_steps_that_were_taken() -> None:
    # Norms 6 and 9 and a skipped step: the mean of what was added is 5, that of two norms 7.5.
    means = over_taken_steps({"loss": 1.0, "grad_norm": 5.0, "skipped": 1 / 3})
    assert means == {"loss": 1.0, "grad_norm": pytest.approx(7.5), "skipped": 1 / 3}
    assert math.isnan(over_taken_steps({"grad_norm": 0.0, "skipped": 1.0})["grad_norm"])
    untouched = {"loss": 2.0, "grad_norm": 3.3, "clipped": 0.5}
    assert over_taken_steps(untouched) == untouched
