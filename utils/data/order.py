"""Which images make the batches of a run, and the chances that decide how each is shown.

All of it follows from the settings and the number of the step alone, so a run that stopped goes on
with the very batches that it would have had.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from utils.data.augment import uniforms
from utils.data.views import Views


class Stretch(NamedTuple):
    """Consecutive images of one pass over a split.

    number: of the pass, which decides their order and how they are shown: the epoch, or, of images
        without labels, -1, -2 and so on, so that no two passes of a run have the same number.
    start, stop: places in its order.
    """

    number: int
    start: int
    stop: int


class Order:
    """The batches of a run.

    An epoch is a pass over the labelled images; its incomplete last batch is left out. Those
    without labels go round by themselves: a pass over them begins where the one before ends, within
    a batch or an epoch. In a batch the two kinds alternate, so that equal parts of it (those of
    processes, say) have equal numbers of either, or differ by one.

    Args:
        labelled: how many images with labels a store has; they come first.
        unlabelled: how many without come behind them.
        batch_size: images of a batch.
        unlabelled_a_batch: how many of these are without labels; 0 where there are none.
        seed: decides.
        views: of each image, see `utils.data.views`; 0: it is never shown the same way twice.

    Attributes:
        steps: batches of an epoch.
    """

    def __init__(
        self,
        labelled: int,
        unlabelled: int,
        batch_size: int,
        unlabelled_a_batch: int,
        seed: int,
        views: int = 0,
    ) -> None:
        assert bool(unlabelled) == bool(unlabelled_a_batch)
        self.labelled, self.unlabelled, self.seed = labelled, unlabelled, seed
        self.views = Views(labelled + unlabelled, views) if views else None
        self.free, self.own = unlabelled_a_batch, batch_size - unlabelled_a_batch
        self.steps = labelled // self.own
        # How many of the first images of a batch are without labels; then who stands where.
        before = [place * self.free // batch_size for place in range(batch_size + 1)]
        self.places = torch.tensor(
            [
                self.own + low if high > low else place - low
                for place, (low, high) in enumerate(pairwise(before))
            ]
        )
        # A step needs one pass over the labelled images and, where one ends, two over the others.
        kept = 3 if unlabelled else 1
        self.permutation = lru_cache(kept)(self._permutation)
        self.table = lru_cache(kept)(self._table)

    def indices(self, step: int) -> Tensor:
        """`[B]`, the positions in the store of the batch of a step, counted over the run."""
        return self._mixed([self._positions(stretch) for stretch in self._stretches(step)])

    def views_of(self, step: int) -> Tensor:
        """`[B]`, the views of these images, where there are views.

        They are counted image by image: at position i those from i * V on.
        """
        assert self.views
        parts = []
        for stretch in self._stretches(step):
            positions = self._positions(stretch)
            shown = self.views.shown(stretch.number)[positions]
            parts.append(positions * self.views.count + shown)
        return self._mixed(parts)

    def rows(self, step: int) -> Tensor:
        """`[B, COLUMNS]`, the chances of these images, see `utils.data.augment`."""
        return self._mixed(
            [
                self.table(number)[self.permutation(number)[start:stop]]
                for number, start, stop in self._stretches(step)
            ]
        )

    def _mixed(self, parts: Sequence[Tensor]) -> Tensor:
        """Brings what belongs to images with labels, then to those without, into their places."""
        return torch.cat(list(parts))[self.places]

    def _stretches(self, step: int) -> Iterator[Stretch]:
        epoch, position = divmod(step, self.steps)
        yield Stretch(epoch, position * self.own, (position + 1) * self.own)
        place, end = step * self.free, (step + 1) * self.free
        while place < end:
            number, start = divmod(place, self.unlabelled)
            stop = min(self.unlabelled, start + end - place)
            yield Stretch(-1 - number, start, stop)
            place += stop - start

    def _positions(self, stretch: Stretch) -> Tensor:
        number, start, stop = stretch
        return self.permutation(number)[start:stop] + (self.labelled if number < 0 else 0)

    def _permutation(self, number: int) -> Tensor:
        """The order of a pass."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
        return torch.randperm(self._count(number), generator=generator)

    def _table(self, number: int) -> Tensor:
        """A row for each image: what happens to it in a pass, in whichever batch it is."""
        if self.views:
            table = self.views.table(number)
            return table[self.labelled :] if number < 0 else table[: self.labelled]
        return uniforms(self._count(number), self.seed, number)

    def _count(self, number: int) -> int:
        return self.unlabelled if number < 0 else self.labelled
