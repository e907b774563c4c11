"""Optimiser, learning-rate schedule, the size of gradients, and averaged weights."""

import copy
import math
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from utils.config import TrainConfig

NORM, CLIPPED, SKIPPED = "grad_norm", "clipped", "skipped"


def make_optimizer(module: nn.Module, config: TrainConfig) -> Optimizer:
    """SGD or AdamW over everything in `module` that trains.

    Weight decay applies to matrices and kernels alone: decaying biases, norms and L2Norm's scales
    only fights what they are for.
    """
    parameters = [p for p in module.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if config.optimizer == "adamw":
        # On a CPU one pass over a parameter instead of ten; on a GPU torch's own default. (A fused
        # SGD cannot go on with parameters that were frozen and have no momentum yet.)
        fused = True if all(p.device.type == "cpu" for p in parameters) else None
        return AdamW(groups, lr=config.lr, betas=(config.momentum, 0.999), fused=fused)
    return SGD(groups, lr=config.lr, momentum=config.momentum)


def make_schedule(optimizer: Optimizer, config: TrainConfig, steps: int) -> LambdaLR:
    """Linear warm-up, then multistep or cosine decay; advanced once a step, `steps` in all."""
    # A short run must not spend itself on warming up.
    warmup = min(config.warmup, steps // 10)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        if config.schedule == "multistep":
            return float(0.1 ** sum(step >= m * steps for m in config.milestones))
        progress = (step - warmup) / max(1, steps - warmup)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))

    return LambdaLR(optimizer, factor)


@torch.no_grad()
def measure_gradient(
    parameters: Iterable[nn.Parameter], clip_norm: float = 0.0, *, may_skip: bool = False
) -> dict[str, Tensor]:
    """The norm of all gradients together; shortens them to `clip_norm` where they are longer.

    Args:
        parameters: with their gradients, unscaled; those without one are left out.
        clip_norm: 0 leaves all gradients as they are.
        may_skip: whether a step without a finite gradient is skipped, as the scaler of fp16 does;
            its norm then counts as 0, see `over_taken_steps`.

    Returns:
        Scalars on the device, so that nothing waits: `grad_norm`, from before the limit; with a
        limit `clipped`, 1 where it acted; with `may_skip` `skipped`, 1 for a step to be skipped.
    """
    owners = list(parameters)
    norm = nn.utils.get_total_norm(p.grad for p in owners if p.grad is not None)
    found = {}
    if may_skip:
        finite = norm.isfinite()
        norm = norm.where(finite, 0.0)
        found[SKIPPED] = 1.0 - finite.float()
    if clip_norm:
        nn.utils.clip_grads_with_norm_(owners, clip_norm, norm)
        found[CLIPPED] = (norm > clip_norm).float()
    return {NORM: norm, **found}


def over_taken_steps(means: Mapping[str, float]) -> dict[str, float]:
    """Means over steps as they are written down: `grad_norm` is that of the steps not skipped.

    It is NaN where all of them were.
    """
    taken = 1 - means.get(SKIPPED, 0.0)
    if NORM not in means or taken == 1:
        return dict(means)
    return {**means, NORM: means[NORM] / taken if taken > 0 else math.nan}


class AveragedModel:
    """An exponential moving average of a network, buffers included.

    Early on it averages over the steps there were, decay = min(decay, (1 + n) / (10 + n)), so that
    a short run is not dominated by its initial weights. (torch's class of this name asks the device
    for its step count in every update, which makes the CPU wait.)

    Args:
        model: the network that trains, on its device. Its tensors are looked up once: from here on
            they change in place alone, as optimiser, norms and `load_state_dict` change them.
        decay: in [0, 1).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay
        self.steps = 0
        self.trained = model
        self.averages, self.copies = in_place(self.model)
        self.values, self.counters = in_place(model)

    @torch.no_grad()
    def update(self) -> None:
        """Takes in the weights after a step: two calls, however many tensors there are."""
        self.steps += 1
        taken = 1 - min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(self.averages, self.values, taken)
        if self.counters:
            torch._foreach_copy_(self.copies, self.counters)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs."""
        now = zip(chain(*in_place(self.trained)), self.values + self.counters, strict=True)
        assert all(a is b for a, b in now), "the network's tensors are no longer those averaged"
        return {"model": self.model.state_dict(), "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a checkpoint."""
        self.model.load_state_dict(state["model"])
        self.steps = state["steps"]


def in_place(module: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """The very tensors of a state dict: those that can be averaged, and the counters of norms."""
    tensors = list(module.state_dict(keep_vars=True).values())
    floats = [x for x in tensors if x.is_floating_point()]
    return floats, [x for x in tensors if not x.is_floating_point()]
