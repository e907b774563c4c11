"""Which settings a run takes where none are given."""

import math
from dataclasses import replace

import pytest

from utils.config import RECIPES, DistillConfig, TrainConfig
from utils.recipes import RECIPES as TABLE
from utils.recipes import averaging, choose, describe, follow


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (TrainConfig(), "paper"),
        (TrainConfig(epochs=20), "finetune"),
        (TrainConfig(epochs=99), "finetune"),
        (TrainConfig(epochs=100), "paper"),
        (TrainConfig(pretrained=False), "scratch"),
        (TrainConfig(weights="some.pth"), "finetune"),
        (TrainConfig(weights="some.pth", pretrained=False), "finetune"),
        (TrainConfig(recipe="scratch"), "scratch"),
        (DistillConfig(epochs=5, pretrained=False), "scratch"),
    ],
)
def test_auto_looks_at_what_a_run_starts_from_and_how_long_it_is(
    config: TrainConfig, name: str
) -> None:
    assert choose(config)[0] == name


def test_flags_know_every_recipe() -> None:
    assert ("auto", *TABLE) == RECIPES


@pytest.mark.parametrize("recipe", TABLE)
def test_a_recipe_decides_everything(recipe: str) -> None:
    followed = follow(TrainConfig(recipe=recipe), 1000)
    assert None not in vars(followed).values()
    # Once more changes nothing: a run's files hold what was decided.
    assert follow(followed, 5) == followed
    assert replace(followed) == followed


def test_what_is_given_beats_the_recipe() -> None:
    given = {"optimizer": "sgd", "lr": 0.5, "ema": 0.0, "expand": 2.0, "warmup": 0}
    followed = follow(TrainConfig(recipe="scratch", **given), 1000)
    assert {key: getattr(followed, key) for key in given} == given
    assert followed.schedule == "cosine"


def test_the_paper_s_schedule_to_the_letter() -> None:
    c = follow(TrainConfig(), 120_000)
    assert (c.optimizer, c.lr, c.momentum, c.weight_decay) == ("sgd", 1e-3, 0.9, 5e-4)
    assert (c.schedule, c.warmup, c.ema, c.expand) == ("multistep", 0, 0, 4)
    assert [m * 120_000 for m in c.milestones] == pytest.approx([80_000, 100_000])


@pytest.mark.parametrize(("epochs", "expand"), [(99, 1.0), (100, 4.0)])
def test_a_run_from_nothing_zooms_out_from_100_epochs_on(epochs: int, expand: float) -> None:
    assert follow(TrainConfig(recipe="scratch", epochs=epochs), 1000).expand == expand


def test_adam_s_rate_follows_the_root_of_the_batch() -> None:
    small, large = (
        follow(TrainConfig(recipe="scratch", batch_size=batch), 1000) for batch in (8, 32)
    )
    assert large.lr / small.lr == pytest.approx(math.sqrt(32 / 8))


@pytest.mark.parametrize(
    ("backbone", "rate"),
    [
        ("resnet18(width=0.125)", 0.003),  # 0.004 would be too much
        ("resnet18(width=0.25)", 0.002),
        ("resnet18(width=0.5, attention='se')", 0.001),
        ("resnet34", 0.0005),
        ("mobilenetv2(width=0.5)", 0.002),
        ("vgg16_bn", 0.0005),
    ],
)
def test_adam_s_rate_falls_with_the_width(backbone: str, rate: float) -> None:
    config = TrainConfig(recipe="scratch", batch_size=16, backbone=backbone)
    assert follow(config, 1000).lr == pytest.approx(rate)
    assert follow(replace(config, recipe="finetune"), 1000).lr == pytest.approx(rate / 3)


@pytest.mark.parametrize(("steps", "remembered"), [(1, 2), (1000, 100), (10**6, 5000)])
def test_the_average_remembers_a_tenth_of_the_run(steps: int, remembered: int) -> None:
    assert averaging(steps) == pytest.approx(1 - 1 / remembered)


def test_one_line_says_which_recipe_and_why() -> None:
    given = TrainConfig(pretrained=False, lr=0.01, epochs=10)
    line = describe(given, follow(given, 1000))
    assert line.startswith("recipe scratch (it starts from random weights): adamw, rate 0.01, ")
    assert "\n" not in line
