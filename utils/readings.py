"""Losses stay on the device while training runs; now and then they are read and checked."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from utils.voc import Sample


class Readings:
    """The loss terms of an epoch.

    Args:
        samples: the split, to name the images of a bad batch.
        weights: the factor of each term, for display.
    """

    def __init__(self, samples: Sequence[Sample], weights: Mapping[str, float]) -> None:
        self.samples, self.weights = samples, weights
        self.names: list[str] = []
        self.pending: list[tuple[Tensor, Tensor]] = []
        self.sums: list[float] = []
        self.steps = 0

    def add(self, terms: Mapping[str, Tensor], indices: Tensor) -> None:
        """Keeps the terms of a step, scalars on the device, and which images it saw."""
        self.names = list(terms)
        self.pending.append((torch.stack([t.float() for t in terms.values()]), indices))

    def read(self, place: str) -> dict[str, float]:
        """Fetches what is pending; returns the mean of each term since the start.

        Raises:
            FloatingPointError: a term is infinite or NaN; names every term of the first such step
                and its images. `place` says where training was.
        """
        rows = torch.stack([terms for terms, _ in self.pending]).tolist()
        for row, (_, indices) in zip(rows, self.pending, strict=True):
            if not all(map(math.isfinite, row)):
                terms = ", ".join(f"{n} {v:g}" for n, v in zip(self.names, row, strict=True))
                ids = " ".join(self.samples[i].image_id for i in indices.tolist())
                raise FloatingPointError(
                    f"the loss is not finite shortly before {place}: {terms}; images {ids}; "
                    "lower --lr or look at these images; last.pth is of the epoch before"
                )
        columns = [sum(column) for column in zip(*rows, strict=True)]
        before = self.sums or [0.0] * len(columns)
        self.sums = [a + b for a, b in zip(before, columns, strict=True)]
        self.steps += len(rows)
        self.pending.clear()
        return {n: s / self.steps for n, s in zip(self.names, self.sums, strict=True)}

    def describe(self, lr: float) -> str:
        """`loss 4.21 conf 2.31 (x0.7) ... lr 0.001`: means so far and each term's weight."""
        means = {n: s / self.steps for n, s in zip(self.names, self.sums, strict=True)}
        shown = [
            f"{name} {value:.3f}" + (f" (x{self.weights[name]:g})" if name in self.weights else "")
            for name, value in means.items()
            if name != "positives"
        ]
        return " ".join([*shown, f"lr {lr:.2g}"])
