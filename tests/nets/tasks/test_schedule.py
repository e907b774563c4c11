"""How loud a teacher is: by hand, and at the borders between epochs."""

import math

import pytest
import torch

from nets.tasks.schedule import Schedule


def factor(schedule: Schedule, progress: float) -> float:
    return schedule.factor(torch.tensor(progress)).item()


@pytest.mark.parametrize(
    ("kind", "progress", "expected"),
    [
        ("constant", 0.7, 1),
        ("linear", 0, 1),
        ("linear", 0.25, 0.8),  # 1 - 0.8 / 4
        ("linear", 1, 0.2),
        ("cosine", 0, 1),
        ("cosine", 0.25, 0.2 + 0.8 * (1 + math.sqrt(0.5)) / 2),
        ("cosine", 0.5, 0.6),
        ("cosine", 1, 0.2),
    ],
)
def test_hand_worked(kind, progress, expected):
    assert factor(Schedule(kind, 0.2), progress) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("total", [3, 7, 11])
@pytest.mark.parametrize("steps", [1, 13, 97])
def test_epochs_begin_and_end_exactly(total, steps):
    for epochs in range(-total, total + 1):
        schedule = Schedule(epochs=epochs, of=total)
        heard = range(total + epochs, total) if epochs < 0 else range(epochs or total)
        for step in range(total * steps):
            expected = step // steps in heard
            assert factor(schedule, step / (total * steps)) == expected, (epochs, step)


@pytest.mark.parametrize("epochs", [0, 4, -4, -1])
def test_at_the_very_end_it_is_as_in_the_last_step(epochs):
    assert factor(Schedule(epochs=epochs, of=4), 1.0) == 1
    assert factor(Schedule(epochs=3, of=4), 1.0) == 0


def test_both_together():
    schedule = Schedule("linear", 0.0, epochs=-1, of=2)
    assert [factor(schedule, p) for p in (0.25, 0.5, 0.75)] == [0, 0.5, 0.25]


def test_whether_it_changes():
    assert not Schedule().changes
    assert not Schedule(epochs=4, of=4).changes
    assert not Schedule(epochs=-4, of=4).changes
    assert Schedule("cosine").changes
    assert Schedule(epochs=3, of=4).changes
    assert Schedule(epochs=-3, of=4).changes
