"""Losses stay on the device while training runs; now and then they are read and checked."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from utils.data.voc import Sample
from utils.engine.optim import NORM, over_taken_steps
from utils.engine.task import COUNTS
from utils.runtime.distributed import mean_over_processes, world_size


class Readings:
    """The loss terms of an epoch, over all processes: every one of them must read as often.

    Args:
        samples: the split, to name the images of a bad batch.
    """

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.samples = samples
        self.names: list[str] = []
        self.pending: list[tuple[Tensor, Tensor]] = []
        self.sums: dict[str, float] = {}  # by name: fp16 alone counts steps that it skips
        self.steps = 0
        self.latest: dict[str, float] = {}  # the terms of the last step that was read

    def add(self, terms: Mapping[str, Tensor], indices: Tensor) -> None:
        """Keeps the terms of a step, scalars on the device, and which images all processes saw."""
        self.names = list(terms)
        # Terms are divided by what is common to the processes, counts are of each.
        values = [t.float() * (world_size() if n in COUNTS else 1) for n, t in terms.items()]
        self.pending.append((torch.stack(values), indices))

    def read(self, place: str) -> dict[str, float]:
        """Fetches what is pending; returns the mean of each term since the start.

        The sums grow by one step at a time, so they do not depend on when they are read.

        Raises:
            FloatingPointError: a term, or the gradient, is infinite or NaN; names every term of the
                first such step and its images. `place` says where training was.
        """
        if not self.pending:
            return self.means()
        rows = mean_over_processes(torch.stack([terms for terms, _ in self.pending])).tolist()
        for row, (_, indices) in zip(rows, self.pending, strict=True):
            if not all(map(math.isfinite, row)):
                terms = ", ".join(f"{n} {v:g}" for n, v in zip(self.names, row, strict=True))
                ids = " ".join(self.samples[i].image_id for i in indices.tolist())
                bad = [n for n, v in zip(self.names, row, strict=True) if not math.isfinite(v)]
                what = "gradient of the loss" if bad == [NORM] else "loss"
                raise FloatingPointError(
                    f"the {what} is not finite shortly before {place}: {terms}; images {ids}; "
                    "lower --lr or look at these images; last.pth is from before that step"
                )
            latest = dict(zip(self.names, row, strict=True))
            self.sums |= {name: self.sums.get(name, 0.0) + v for name, v in latest.items()}
            self.steps += 1
            self.latest = over_taken_steps(latest)
        self.pending.clear()
        return self.means()

    def means(self) -> dict[str, float]:
        """The mean of each term over the steps that have been read; empty before the first."""
        if not self.steps:
            return {}
        return over_taken_steps({name: s / self.steps for name, s in self.sums.items()})

    def state_dict(self) -> dict[str, Any]:
        """What has been read; nothing may be pending."""
        assert not self.pending
        sums = list(self.sums.values())
        return {"names": list(self.sums), "sums": sums, "steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `state_dict` returned."""
        self.names = list(state["names"])
        self.sums = dict(zip(self.names, state["sums"], strict=True))
        self.steps = state["steps"]
