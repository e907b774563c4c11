"""The gradient of a step: its norm is measured, and limited where that is asked for."""

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

NORM, CLIPPED, SKIPPED = "grad_norm", "clipped", "skipped"


@torch.no_grad()
def measure(
    parameters: Iterable[nn.Parameter], clip_norm: float = 0.0, *, may_skip: bool = False
) -> dict[str, Tensor]:
    """The norm of all gradients together; shortens them to `clip_norm` where they are longer.

    Args:
        parameters: with their gradients, unscaled; those without one are left out.
        clip_norm: 0 leaves all gradients as they are.
        may_skip: whether a step without a finite gradient is skipped, as the scaler of fp16 does;
            its norm then counts as 0, see `shown`.

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


def shown(means: Mapping[str, float]) -> dict[str, float]:
    """Means over steps as they are written down: `grad_norm` is that of the steps not skipped.

    It is NaN where all of them were.
    """
    taken = 1 - means.get(SKIPPED, 0.0)
    if NORM not in means or taken == 1:
        return dict(means)
    return {**means, NORM: means[NORM] / taken if taken > 0 else math.nan}
