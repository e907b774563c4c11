"""How loud a teacher is in the course of a run."""

import math

import torch
from torch import Tensor

from utils.config import KD_SCHEDULES

OF_OBJECTS = ("conf", "loc")  # the terms in which no teacher speaks
KD_FACTOR = "kd_factor"  # what is read, beside the terms, of a schedule that changes


class Schedule:
    """The factor that all teacher terms have alike, beside their weights.

    From 1 at the start of the run to `final` at its end, along half a cosine or a line; 0 in the
    epochs in which the teacher is not listened to.

    Args:
        kind: one of `KD_SCHEDULES`; `constant` is 1 throughout.
        final: at least 0.
        epochs: listen in the first so many epochs, or, negative, in the last; 0 for all.
        of: how many epochs the run has, at least as many.
    """

    def __init__(
        self, kind: str = "constant", final: float = 1.0, epochs: int = 0, of: int = 1
    ) -> None:
        assert kind in KD_SCHEDULES, kind
        assert abs(epochs) <= of, (epochs, of)
        self.kind, self.final = kind, final
        # Progress is steps / all steps: in an epoch's first step exactly epochs done / of.
        self.start = (of + epochs) / of if epochs < 0 else 0.0
        self.end = epochs / of if 0 < epochs < of else math.inf

    @property
    def changes(self) -> bool:
        """Whether the factor is ever another than 1."""
        return self.kind != "constant" or self.start > 0 or self.end < 1

    def factor(self, progress: Tensor) -> Tensor:
        """The factor at `progress`, a scalar in 0..1; a scalar."""
        listens = (progress >= self.start) & (progress < self.end)
        if self.kind == "constant":
            return listens.to(progress.dtype)
        if self.kind == "cosine":
            progress = (1 - torch.cos(math.pi * progress)) / 2
        return (1 + (self.final - 1) * progress) * listens
