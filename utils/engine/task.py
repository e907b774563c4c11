"""What the engine trains, as far as it needs to know."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from utils.boxes import Detections, Targets

# Terms that count something: over processes, and parts of a batch, they add up.
COUNTS = ("positives", "pseudo_objects")


class Shown(NamedTuple):
    """A batch as a task sees it.

    images: `[B, 3, 300, 300]` float RGB 0..255.
    targets: the objects, in image fractions.
    rows: `[B]` int64, a number for each image, another one in every epoch and for every seed: what
        is random in a task follows from it.
    said: `[B, size]` uint8, records of what has been said of these images, see `utils.engine.memo`.
    unlabelled: `[B]` bool, images of which nobody has said what is on them; None: there are none.
    """

    images: Tensor
    targets: Targets
    rows: Tensor | None = None
    said: Tensor | None = None
    unlabelled: Tensor | None = None

    def parts(self, count: int) -> "list[Shown]":
        """Equal parts, `[B / count, ...]` each."""
        images, boxes, labels = (x.chunk(count) for x in (self.images, *self.targets))
        more = ([None] * count if x is None else x.chunk(count) for x in self[2:])
        targets = map(Targets, boxes, labels)
        return [Shown(*own) for own in zip(images, targets, *more, strict=True)]


class Task(nn.Module):
    """A network with its objective.

    `task(*shown)` returns `{"loss": total, "positives": count, **unweighted terms}`, where there
    are images without labels also `pseudo_objects`, how many it has found in them; with
    `ledger=True` also entries `ledger/...`, numbers to watch, see `utils.engine.ledger`. Given a
    `divisor`, it divides by that what it would divide by a count of these targets.

    Attributes:
        model: the network that is validated and saved; a task may hold more that trains.
        weights: the factor of each term in the total, before any schedule; that of a term with a
            share is only where it begins, and is in `weight/NAME` of what a call returns.
        progress: a scalar in 0..1, how much of the run is done; the trainer writes it.
        shares: which part of the gradient some terms are to have: their weights follow the ledger.
    """

    model: nn.Module
    weights: dict[str, float]
    progress: Tensor
    shares: Mapping[str, float]

    def __init__(self) -> None:
        super().__init__()
        self.shares = {}
        self.register_buffer("progress", torch.zeros(()), persistent=False)

    def factors(self, terms: Mapping[str, Any]) -> dict[str, Any]:
        """The factor of each term in the total of a call that returned `terms`, or their means."""
        del terms
        return self.weights

    def evaluate(self, images: Tensor, targets: Targets) -> tuple[dict[str, Tensor], Detections]:
        """The terms of a call, and what `model` detects."""
        raise NotImplementedError

    def others(self) -> dict[str, Callable[[Tensor], Detections]]:
        """What detects in images beside `model` and is worth seeing beside it, by name."""
        return {}

    def divisor(self, parts: Sequence[Shown]) -> Tensor:
        """What the task is to divide by in each of the equal parts of a batch.

        With it the mean of a term over the parts is the term of the batch in one piece.
        """
        raise NotImplementedError

    def freeze_backbone(self, frozen: bool) -> None:
        """Stops or resumes training of the part that comes with ImageNet weights."""
        raise NotImplementedError
