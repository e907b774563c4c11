"""Passes before the first step leave nothing behind; what they measure decides the arithmetic."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from tests.utils.engine.test_fit import CONFIG, names, store, trainer
from utils.data.store import Store
from utils.engine import rehearsal as module
from utils.engine.rehearsal import (
    SECONDS,
    bf16_gain,
    choose_arithmetic,
    keep_arithmetic,
    rehearsal,
)

__all__ = ["names", "store"]  # fixtures


@pytest.fixture(autouse=True)
def native(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU with bf16."""
    monkeypatch.setattr("utils.runtime.device.native_bf16", lambda: True)


def clock(monkeypatch: pytest.MonkeyPatch, *seconds: float) -> Iterator[float]:
    """Lets passes take these times by turns, float32 first."""
    times = iter(seconds)
    monkeypatch.setattr(module, "pass_seconds", lambda *_: next(times))
    return times


def test_nothing_is_left_behind(store: Store) -> None:
    run = trainer(store)
    before = {name: value.clone() for name, value in run.task.state_dict().items()}
    state = torch.get_rng_state()
    with rehearsal(run) as (images, targets, *_):
        assert images.shape == (3, 3, 300, 300)
        run.task(images, targets)["loss"].backward()
        torch.rand(3)
        assert not torch.equal(run.task.model[0].running_mean, before["model.0.running_mean"])
    for name, value in run.task.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.grad is None for p in run.task.parameters())
    with rehearsal(run, 2) as (images, *_):
        assert len(images) == 2


def test_measuring_changes_no_run(store: Store) -> None:
    plain, measured = trainer(store), trainer(store)
    assert bf16_gain(measured) > 0
    for run in (plain, measured):
        run.train_one_epoch()
    for a, b in zip(*(run.task.state_dict().values() for run in (plain, measured)), strict=True):
        assert torch.equal(a, b)


def test_the_time_of_other_processes_does_not_count(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, own = trainer(store).task, iter([10.0, 10.5])
    monkeypatch.setattr(module.time, "process_time", lambda: next(own))
    with rehearsal(trainer(store), 2) as batch:
        assert module.pass_seconds(task, batch, None) == 0.5


def test_the_first_rounds_do_not_count(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    # Two rounds to warm up; then medians 3 of 3, 9, 2 and 1.5 of 1.5, 1, 8.
    left = clock(monkeypatch, 50, 1, 1, 50, 3, 1.5, 9, 1, 2, 8)
    assert bf16_gain(trainer(store)) == 2
    assert not list(left)


def test_a_slow_network_is_measured_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    clock(monkeypatch, 3, 2)
    ticks = iter([0, SECONDS + 1])
    monkeypatch.setattr(module.time, "perf_counter", lambda: next(ticks))
    assert bf16_gain(trainer(store)) == 1.5


def test_the_main_process_decides_for_all(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    clock(monkeypatch, *[1.0, 3.0] * 5)
    monkeypatch.setattr(module, "is_main", lambda: False)
    said, answers = [], iter([0, 0, 0, 0, 0, 1500])

    def most_of_processes(own: int) -> int:
        said.append(own)
        return next(answers)

    monkeypatch.setattr(module, "most_of_processes", most_of_processes)
    assert bf16_gain(trainer(store)) == 1.5
    assert said == [0] * 6  # its own third is not heard


@pytest.mark.parametrize(
    ("gain", "dtype", "said"),
    [
        (1.38, torch.bfloat16, "1.38x as fast as float32 here"),
        (1.03, None, "bfloat16 is 1.03x as fast here"),
    ],
)
def test_bf16_is_taken_where_it_is_worth_it(
    gain: float,
    dtype: torch.dtype | None,
    said: str,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "bf16_gain", lambda _: gain)
    run = trainer(store)
    assert choose_arithmetic(run) == said
    assert run.precision.dtype is dtype


def test_nothing_is_measured_where_nothing_is_open(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "bf16_gain", lambda _: pytest.fail("measured"))
    for amp in ("off", "bf16"):
        run = trainer(store, replace(CONFIG, amp=amp))
        before = run.precision
        assert choose_arithmetic(run) == ""
        keep_arithmetic(run, {"arithmetic": {"device": "cpu", "dtype": "bfloat16"}})
        assert run.precision is before
    monkeypatch.setattr("utils.runtime.device.native_bf16", lambda: False)
    assert choose_arithmetic(trainer(store)) == ""


def test_an_older_checkpoint_goes_on_in_float32(store: Store) -> None:
    run = trainer(store)
    keep_arithmetic(run, {})
    assert run.precision.dtype is None
    keep_arithmetic(run, {"arithmetic": {"device": "cpu", "dtype": "bfloat16"}})
    assert run.precision.dtype is torch.bfloat16
