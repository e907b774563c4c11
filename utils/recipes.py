"""What a run uses where nobody says: optimiser, rate, schedule, averaged weights, zoom-out.

What learns follows from what a run starts from and how long it is, so a default that fits one of
them fails in another. Here is the one table; every flag that is given beats it.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, TypeVar

from utils import spec
from utils.config import TrainConfig

C = TypeVar("C", bound=TrainConfig)

LONG = 100  # epochs from which a run repays a slow start: the paper's schedule, and zooming out


def paper(config: TrainConfig, steps: int) -> dict[str, Any]:
    """Liu et al., ECCV 2016, sec. 3.1, to the letter; the rate is for their batch of 32 images."""
    del config, steps
    return {
        "optimizer": "sgd",
        "lr": 1e-3,
        "schedule": "multistep",
        "warmup": 0,
        "weight_decay": 5e-4,
        "ema": 0.0,
        "expand": 4.0,
    }


def scratch(config: TrainConfig, steps: int) -> dict[str, Any]:
    """For networks that have seen nothing."""
    return {
        "optimizer": "adamw",
        "lr": adam_rate(config),
        "schedule": "cosine",
        "warmup": min(500, steps // 10),
        "weight_decay": 5e-4,
        "ema": averaging(steps),
        "expand": 4.0 if config.epochs >= LONG else 1.0,
    }


def finetune(config: TrainConfig, steps: int) -> dict[str, Any]:
    """For networks that have learned something already: as `scratch`, but a third of its rate."""
    return {**scratch(config, steps), "lr": adam_rate(config) / 3}


RECIPES: dict[str, Callable[[TrainConfig, int], dict[str, Any]]] = {
    "paper": paper,
    "scratch": scratch,
    "finetune": finetune,
}


def adam_rate(config: TrainConfig) -> float:
    """What learns fast from random weights: less for wide networks, more for large batches.

    Measured for ResNet-18 of width 0.125 to 0.5 with 16 images, see docs/training.md; a MobileNet's
    maps are half as wide as those of a ResNet of the same width.

    Source: for the width Yang et al., "Tensor Programs V", NeurIPS 2021, table 3; for the batch
    Malladi et al., "On the SDEs and Scaling Rules for Adaptive Gradient Algorithms", NeurIPS 2022,
    sec. 5.
    """
    name, options = spec.parse(config.backbone or "resnet18")
    width: float = options.get("width", 1.0) / (2 if "mobilenet" in name else 1)
    return min(3e-3, 5e-4 / width) * math.sqrt(config.batch_size / 16)


def averaging(steps: int) -> float:
    """A decay that remembers a tenth of the run, at most 5000 steps."""
    return 1 - 1 / min(5000.0, max(2.0, steps / 10))


def choose(config: TrainConfig) -> tuple[str, str]:
    """The recipe of a run, and why."""
    if config.recipe != "auto":
        return config.recipe, "as asked"
    if config.weights:
        return "finetune", "it starts from --weights"
    if not config.pretrained:
        return "scratch", "it starts from random weights"
    if config.epochs < LONG:
        return "finetune", f"ImageNet weights, fewer than {LONG} epochs"
    return "paper", f"ImageNet weights, {LONG} epochs or more"


def follow(config: C, steps: int) -> C:
    """`config` with everything decided that was not given.

    Args:
        config: as it was given.
        steps: of the whole run.
    """
    name, _ = choose(config)
    decided = RECIPES[name](config, steps)
    missing = {key: value for key, value in decided.items() if getattr(config, key) is None}
    return dataclasses.replace(config, **missing)


def describe(given: TrainConfig, followed: TrainConfig) -> str:
    """`recipe scratch (it starts from random weights): adamw, rate 0.003, ...`, one line."""
    name, reason = choose(given)
    c = followed
    words = [f"{c.optimizer}, rate {c.lr:.3g}", f"{c.schedule} after {c.warmup} steps of warm-up"]
    words.append(f"averaged weights {c.ema:.4g}" if c.ema else "no averaged weights")
    words.append(f"zoom-out up to {c.expand:g}" if c.expand > 1 else "no zoom-out")
    return f"recipe {name} ({reason}): {', '.join(words)}"
