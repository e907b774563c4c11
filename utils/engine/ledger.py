"""The ledger of a loss: how much each weighted term pulls at the network, measured now and then.

A term's value says little about its influence: a large loss can have a small gradient. So the
ledger compares gradients, where all terms act on the same numbers: at the source maps, which are
what the heads and the feature-level distillers see. A map's gradient includes what reaches it
through the later maps that are made of it.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from utils.runtime.distributed import mean_over_processes

PREFIX = "ledger/"
SHARE, WEIGHTED = PREFIX + "share/", PREFIX + "weighted/"
# What is read, beside the terms, of a weight that changes; in every step, unlike the ledger.
WEIGHT = "weight/"
# In half precision small gradients vanish; a share does not change with a factor common to all.
SCALE = 1024.0


def gradient_shares(
    terms: Mapping[str, Tensor], weights: Mapping[str, float | Tensor], features: Sequence[Tensor]
) -> dict[str, Tensor]:
    """Each weighted term's part of the sum of all terms' gradient norms at the source maps.

    See `gradient_norms`, which it asks, and `shares_of`.
    """
    return shares_of(gradient_norms(terms, weights, features), weights)


def gradient_norms(
    terms: Mapping[str, Tensor], weights: Mapping[str, float | Tensor], features: Sequence[Tensor]
) -> dict[str, Tensor]:
    """The norm of each unweighted term's gradient at the source maps, but for a common factor.

    Costs for each term a backward pass through the heads, the extras and the part of the backbone
    behind its first source map; the graph stays usable.

    Args:
        terms: unweighted scalars, with their graph.
        weights: how much each counts, which is what half precision has to hold the gradient of;
            terms of weight 0.0 are not looked at.
        features: source maps `[B, C, H, W]`.

    Returns:
        A float32 scalar for each of `weights`, the same in all processes; 0 where no gradient
        reaches the maps.

    Source: gradient norms at the last shared layer, as in Chen et al., "GradNorm", ICML 2018,
    sec. 3.1.
    """
    shared = [feature for feature in features if feature.requires_grad]
    # A weight on the device is never asked whether it is 0: that would wait.
    scales = {n: SCALE * w for n, w in weights.items() if isinstance(w, Tensor) or w != 0}
    squares = [square(scale * terms[name], shared) for name, scale in scales.items()]
    # The maps of all processes' images together are those of the whole batch.
    norms = mean_over_processes(torch.stack(squares)).sqrt().unbind() if squares else ()
    found = {n: norm / scale for (n, scale), norm in zip(scales.items(), norms, strict=True)}
    return {name: found.get(name, terms[name].new_zeros(())) for name in weights}


def shares_of(
    norms: Mapping[str, Tensor], weights: Mapping[str, float | Tensor]
) -> dict[str, Tensor]:
    """`ledger/share/NAME` in 0..1 for each of `weights`: its part of the sum of weighted norms.

    Where no gradient reaches the maps at all, every share is 0.
    """
    pulls = torch.stack([weight * norms[name] for name, weight in weights.items()])
    # Of gradients beyond half precision no share is known; training itself skips such a step.
    shares = (pulls / pulls.sum().clamp(min=torch.finfo(torch.float32).tiny)).nan_to_num()
    return {SHARE + name: share for name, share in zip(weights, shares.unbind(), strict=True)}


def square(value: Tensor, inputs: Sequence[Tensor]) -> Tensor:
    """The squared norm of the gradient of a scalar at all of `inputs` together; float32."""
    if not value.requires_grad or not inputs:
        return value.new_zeros(())
    gradients = torch.autograd.grad(value, inputs, retain_graph=True, allow_unused=True)
    squares = [gradient.float().square().sum() for gradient in gradients if gradient is not None]
    return torch.stack(squares).sum() if squares else value.new_zeros(())


def split(terms: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What a task returned, detached: the loss terms, and the ledger's entries."""
    detached = {name: term.detach() for name, term in terms.items()}
    entries = {name: term for name, term in detached.items() if name.startswith(PREFIX)}
    return {name: term for name, term in detached.items() if name not in entries}, entries


def weighted(means: Mapping[str, float], weights: Mapping[str, float]) -> dict[str, float]:
    """`ledger/weighted/NAME`: what each term adds to the total."""
    return {WEIGHTED + name: weight * means[name] for name, weight in weights.items()}


def describe(metrics: Mapping[str, float]) -> str:
    """`gradient shares soft 12 % conf 55 % ...  bound active 81 %`; empty without entries."""
    shares = {name: value for name, value in metrics.items() if name.startswith(SHARE)}
    others = {
        name: value
        for name, value in metrics.items()
        if name.startswith(PREFIX) and not name.startswith((SHARE, WEIGHTED))
    }
    words = [f"{name.removeprefix(SHARE)} {100 * value:.0f} %" for name, value in shares.items()]
    parts = ["gradient shares " + " ".join(words)] if words else []
    for name, value in others.items():
        parts.append(f"{name.removeprefix(PREFIX).replace('_', ' ')} {100 * value:.0f} %")
    return "  ".join(parts)
