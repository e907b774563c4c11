"""The steps of a training run in their order. Which network it is, is not known here."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import repeat
from typing import Any

import torch
from torch import Tensor
from torch.profiler import record_function

from utils.config import TrainConfig
from utils.data.augment import augment, numbers
from utils.data.order import Order
from utils.data.store import Batch, Store
from utils.engine.evaluation import evaluate
from utils.engine.ledger import split, weighted
from utils.engine.memo import Memo
from utils.engine.readings import Readings
from utils.engine.task import Shown, Task
from utils.engine.updates import Updates
from utils.metrics.evaluator import Evaluator
from utils.runtime.device import Precision
from utils.runtime.distributed import is_main, own_part, spread_buffers


def nothing() -> None:
    """Does nothing."""


class Trainer(Updates):
    """A task in training: its updates, one batch of a store after the other, epoch by epoch.

    Of several processes each has a trainer; they stay equal except for the statistics of norms,
    of which the main process's count.

    Args:
        task: on its device already.
        store: the training images; at least one batch of them.
        config: the run's settings; its batch is that of all processes together.
        precision: device and arithmetic.
        memo: of what somebody says of the store's images; without, nobody is asked.
    """

    def __init__(
        self,
        task: Task,
        store: Store,
        config: TrainConfig,
        precision: Precision,
        memo: Memo | None = None,
    ) -> None:
        self.memo = memo
        self.order = Order(
            store.labelled,
            len(store) - store.labelled,
            config.batch_size,
            config.unlabelled_images,
            config.seed,
            memo.views if memo else 0,
        )
        self.steps_per_epoch = self.order.steps
        assert self.steps_per_epoch > 0
        super().__init__(task, config, precision, config.epochs * self.steps_per_epoch)
        self.store = store
        self.epoch = 0  # epochs done
        self.position = 0  # steps done of the one after them
        self.readings = Readings(store.samples)  # of those steps
        self.ledger = Readings(store.samples)  # of those among them that kept one
        self.best = -math.inf
        self.timed = 0, 0.0  # after how many steps a clock was last looked at, and what it said
        self.augment = augment
        if config.compile and precision.device.type != "cpu":  # where OpenCV augments
            self.augment = torch.compile(augment)

    @property
    def steps(self) -> int:
        """Steps done since the run began."""
        return self.epoch * self.steps_per_epoch + self.position

    @property
    def early(self) -> bool:
        """Whether weights follow the coming step, besides those that the ledger measures.

        They do in the run's first 8 steps, from the 16th on in every fourth, and from the 1024th on
        128 times in every doubling of its steps: at first gradients change fast, and batches differ
        by far more than a share may be off.
        """
        bits = self.steps.bit_length()
        interval = 2 ** max(0, min(2, bits - 3), bits - 8)
        return bool(self.task.shares) and self.steps % interval == 0

    @property
    def at_once(self) -> int:
        """How many images go through the network of this process at a time."""
        return len(own_part(torch.empty(self.config.batch_size))) // self.config.accumulate

    def train_one_epoch(self) -> dict[str, float]:
        """One pass over the training images; returns the mean of every term.

        Raises:
            FloatingPointError: a loss became infinite or NaN.
        """
        means = self.train_steps()
        self.next_epoch()
        return means

    def train_steps(self, after_step: Callable[[], None] = nothing) -> dict[str, float]:
        """What is left of an epoch's steps; returns the mean of every term over all of them.

        Between any two steps, and before `next_epoch`, `state_dict` is complete but for readings
        that are pending; `after_step` may read and save it, or end training by raising.

        Raises:
            FloatingPointError: a loss became infinite or NaN.
        """
        self.prepare()
        steps = range(self.steps, (self.epoch + 1) * self.steps_per_epoch)
        order = [self.order.indices(step) for step in steps]
        batches = self.store.batches(map(own_part, order))
        said = self.remembered(steps)
        for step, indices, batch, known in zip(steps, order, batches, said, strict=True):
            every = self.config.ledger_every
            due = every > 0 and self.position % every == 0
            shown = self.shown(batch, step, known)
            terms, entries = split(self.step(shown, due or self.early))
            self.readings.add(terms, indices)
            if due:
                self.ledger.add(entries, indices)
            self.position += 1
            if self.steps % self.config.log_every == 0:
                self.read()
            after_step()
        if self.memo:
            self.memo.check(all_of_them=True)
        return self.read()

    def prepare(self) -> None:
        """Puts the task into the mode of the coming steps."""
        self.freeze(self.epoch < self.config.freeze_epochs)
        self.timed = self.steps, time.perf_counter()

    def read(self) -> dict[str, float]:
        """The mean of every term over the epoch's steps so far; refuses losses as `Readings`."""
        place = f"epoch {self.epoch + 1}, step {self.position}"
        means = self.readings.read(place)
        self.ledger.read(place)
        return means

    def latest(self) -> dict[str, float]:
        """Of the last step that was read: its terms, and the pace since this was last asked."""
        (before, then), self.timed = self.timed, (self.steps, time.perf_counter())
        rate = (self.steps - before) * self.config.batch_size / (self.timed[1] - then)
        return {**self.readings.latest, "lr": self.last_lr, "images_per_second": rate}

    def watched(self) -> dict[str, float]:
        """The ledger of the epoch so far: each term's weighted mean, and what `Task` watches."""
        means = self.readings.means()
        return {**weighted(means, self.task.factors(means)), **self.ledger.means()}

    def next_epoch(self) -> None:
        """Closes an epoch whose steps are done."""
        self.epoch += 1
        self.position = 0
        self.readings = Readings(self.store.samples)
        self.ledger = Readings(self.store.samples)

    def remembered(self, steps: Sequence[int]) -> Iterator[Tensor | None]:
        """What the memo knows of this process's part of each step's batch; None without a memo."""
        if not self.memo:
            return repeat(None, len(steps))
        return self.memo.batches([own_part(self.order.views_of(step)) for step in steps])

    def shown(self, batch: Batch, step: int, known: Tensor | None = None) -> Shown:
        """What the network sees of this process's part of a batch, or of its first images.

        Args:
            batch: what the store has of them.
            step: whose batch it is, counted over the run; it decides how each is augmented.
            known: what `remembered` has said of it. Without, the memo is looked into now, and what
                is not in it is asked for and not written down.
        """
        shown = self.augmented(batch, step)
        return self.completed(shown, step, known) if self.memo else shown

    def augmented(self, batch: Batch, step: int) -> Shown:
        """`shown` without what the memo has to say of it."""
        with record_function("augment"):
            rows = own_part(self.order.rows(step))[: len(batch.indices)]
            rows = rows.to(self.precision.device, non_blocking=True)
            seen = self.augment(batch.images, batch.sizes, batch.targets, rows, self.config.expand)
            return Shown(*seen, numbers(rows), unlabelled=batch.unlabelled)

    def completed(self, shown: Shown, step: int, known: Tensor | None) -> Shown:
        """`shown` with what the memo has to say of it; see `shown`."""
        assert self.memo
        views = own_part(self.order.views_of(step))[: len(shown.images)]
        (read,) = self.memo.batches([views]) if known is None else (known,)
        with record_function("memo"):
            parts = self.config.accumulate if known is not None else 1
            said = self.memo.complete(read, views, shown, parts, keep=known is not None)
        return shown._replace(said=said)

    def validate(self, store: Store, evaluator: Evaluator) -> dict[str, float]:
        """Loss terms by the rule of training, and `mAP` (voc07), of the network to keep.

        Of several processes the main one returns them, and its evaluator is told what was detected.
        """
        spread_buffers(self.model)
        trained, self.task.model = self.task.model, self.model
        self.task.eval()
        self.task.progress.fill_(self.progress)
        try:
            terms = evaluate(self.task.evaluate, store, evaluator, self.precision, self.at_once)
        finally:
            self.task.model = trained
        return {**terms, "mAP": evaluator.result("voc07").mean} if is_main() else {}

    def state_dict(self) -> dict[str, Any]:
        """Everything that a later process needs to go on as if nothing had happened.

        Data order and augmentation follow from seed, epoch and image; nothing else is random.
        """
        return {
            **super().state_dict(),
            "epoch": self.epoch,
            "position": self.position,
            "order": self.order_facts(),
            "readings": self.readings.state_dict(),
            "ledger": self.ledger.state_dict(),
            "best": self.best,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from what `state_dict` returned.

        Raises:
            ValueError: its batches were others than this run's.
        """
        if state["order"] != self.order_facts():
            raise ValueError(f"it had {state['order']}, now it would have {self.order_facts()}")
        super().load_state_dict(state)
        self.epoch, self.position = state["epoch"], state["position"]
        self.readings.load_state_dict(state["readings"])
        self.ledger.load_state_dict(state["ledger"])
        self.best = state["best"]

    def order_facts(self) -> dict[str, int]:
        """What an epoch's batches depend on."""
        config, order = self.config, self.order
        facts = {"images": order.labelled, "batch_size": config.batch_size, "seed": config.seed}
        if order.unlabelled:
            facts |= {"unlabelled": order.unlabelled, "of them in a batch": order.free}
        return facts
