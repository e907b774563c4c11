"""Which channels a network can do without, and the network without them.

Layers that are added, normalised together or feed one another share their channels; Torch-Pruning
finds these groups. Every group keeps the same share, so the network keeps its proportions: what a
pruned network can learn is decided by its widths more than by which channels it has inherited
(Liu et al., "Rethinking the Value of Network Pruning", ICLR 2019).
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from nets.ssd import SSD300
from utils.data.augment import IMAGE_SIZE
from utils.show.report import cost

UNIT = 8  # a multiple of this many channels is what vector units like
STEPS = 12  # halvings of the range of shares: to 1 / 4096
MEASURES = ("magnitude", "bn", "taylor")


class Separate(nn.Module):
    """An SSD300 whose heads' outputs stay apart, as no channel may be followed through them."""

    def __init__(self, model: SSD300) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> list[Tensor]:
        """`[B, 3, 300, 300]` -> what each head says of its source map."""
        sources = self.model.sources(images)
        heads = (self.model.conf, self.model.loc)
        return [head(x) for row in heads for head, x in zip(row, sources, strict=True)]


def require_pruning() -> Any:
    """The module `torch_pruning`, an extra; raises ValueError where it is not installed."""
    try:
        import torch_pruning
    except ImportError as error:
        raise ValueError(
            "this needs Torch-Pruning; install it with: pip install -e '.[prune]'"
        ) from error
    return torch_pruning


def dependencies(model: SSD300) -> Any:
    """The `torch_pruning.DependencyGraph` of an evaluation-mode network."""
    device = model.priors.device
    example = torch.zeros(1, 3, IMAGE_SIZE, IMAGE_SIZE, device=device)
    graph = require_pruning().DependencyGraph()
    return graph.build_dependency(Separate(model), (example,), verbose=False)


def importances(model: SSD300, by: str) -> dict[str, Tensor]:
    """What each channel of each group is worth, by the name of the group's first layer.

    Args:
        model: in evaluation mode; with gradients of its loss for `taylor`.
        by: one of `MEASURES`: the norm of its weights, the scale of its batch norms, or how much
            the loss would change without it, to first order.

    Raises:
        ValueError: `bn` is asked for and a group has no batch norm.

    Source: Li et al., ICLR 2017 (magnitude); Liu et al., ICCV 2017 (bn); Molchanov et al., CVPR
    2019 (taylor); Fang et al., CVPR 2023 (groups).
    """
    measures = require_pruning().importance
    measure = {
        "magnitude": measures.GroupMagnitudeImportance,
        "bn": measures.BNScaleImportance,
        "taylor": measures.GroupTaylorImportance,
    }[by]()
    names = {module: name for name, module in model.named_modules()}
    heads = [*model.conf, *model.loc]
    found: dict[str, Tensor] = {}
    for group in dependencies(model).get_all_groups(heads, [nn.Conv2d]):
        name = names[group[0].dep.target.module]
        scores = measure(group)
        if scores is None or not len(scores):
            raise ValueError(
                f"--by {by}: {name} has no batch norm to be judged by; take --by magnitude"
            )
        if len(scores) > 1:  # one channel is no width: the map of a spatial attention
            found[name] = scores
    return found


def without(model: SSD300, scores: dict[str, Tensor], keep: float) -> SSD300:
    """A copy of `model` whose groups have the best share `keep` of their channels left.

    Raises:
        ValueError: a group would have none.
    """
    pruned = copy.deepcopy(model)
    graph = dependencies(pruned)
    for name, worth in sorted(scores.items(), key=lambda item: len(item[1])):  # refuses early
        count = kept(name, len(worth), keep)
        worst = worth.argsort(stable=True)[: len(worth) - count].tolist()
        layer = pruned.get_submodule(name)
        prune = graph.get_pruner_of_module(layer).prune_out_channels
        graph.get_pruning_group(layer, prune, worst).prune()
    pruned.pruned = True
    return pruned.eval()


def kept(name: str, channels: int, keep: float) -> int:
    """How many channels of a group stay: of at least 16 the nearest multiple of 8, or all.

    Raises:
        ValueError: none.
    """
    if round(keep * channels) < 1:
        raise ValueError(
            f"keeping {keep:.4g} of {channels} channels leaves {name} without any; "
            f"keep more than {0.5 / channels:.4g}"
        )
    if channels < 2 * UNIT:
        return round(keep * channels)
    return min(channels, max(UNIT, round(keep * channels / UNIT) * UNIT))


def largest(
    model: SSD300, scores: dict[str, Tensor], fits: Callable[[dict[str, float]], bool]
) -> SSD300:
    """The network with the largest share of channels whose cost `fits`; the cost grows with it.

    Raises:
        ValueError: not even the narrowest one does.
    """
    if fits(cost(model)):
        raise ValueError("the network is small enough as it is")
    low = 0.5 / min(map(len, scores.values())) + 1e-6
    best, high = without(model, scores, low), 1.0
    if not fits(cost(best)):
        least = cost(best)
        raise ValueError(
            f"the narrowest network has {least['parameters']:.0f} parameters and "
            f"{least['gflops']:.3f} GFLOPs still; choose a larger aim or a smaller --backbone"
        )
    for _ in range(STEPS):
        keep = (low + high) / 2
        candidate = without(model, scores, keep)
        if fits(cost(candidate)):
            best, low = candidate, keep
        else:
            high = keep
    return best
