"""What changes from step to step of a training run. Which network it is, is not known here."""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import record_function
from tqdm import tqdm

from utils.boxes import Targets
from utils.config import TrainConfig
from utils.data.augment import augment, numbers, uniforms
from utils.data.store import Batch, Store
from utils.engine.evaluation import channels_last, evaluate
from utils.engine.ledger import split, weighted
from utils.engine.optim import AveragedModel, make_optimizer, make_schedule, measure_gradient
from utils.engine.readings import Readings
from utils.engine.task import Task
from utils.metrics.evaluator import Evaluator
from utils.runtime.device import Precision
from utils.runtime.distributed import (
    average_gradients,
    is_main,
    kept_apart,
    own_part,
    spread_buffers,
)


def eagerly() -> AbstractContextManager[None]:
    """Suspends torch.compile: the inside of a compiled graph cannot be asked for its gradients."""
    context: AbstractContextManager[None] = torch.compiler.set_stance("force_eager")
    return context


def nothing() -> None:
    """Does nothing."""


def terms_of_batch(parts: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The terms of a batch from those of its equal parts: means, but `positives` is a count."""
    if len(parts) == 1:
        return parts[0]
    columns = {name: torch.stack([part[name] for part in parts]) for name in parts[0]}
    return {n: x.sum() if n == "positives" else x.mean() for n, x in columns.items()}


class Trainer:
    """A task in training: everything that changes from step to step, and nothing else.

    Of several processes each has a trainer; they stay equal except for the statistics of norms,
    of which the main process's count.

    Args:
        task: on its device already.
        store: the training images; at least one batch of them.
        config: the run's settings; its batch is that of all processes together.
        precision: device and arithmetic.
    """

    def __init__(self, task: Task, store: Store, config: TrainConfig, precision: Precision) -> None:
        self.task = task.to(memory_format=torch.channels_last)
        self.parallel: nn.Module = self.task  # the task, with gradients averaged over processes
        self.knows_graph = False  # whether it has seen a backward since it was made
        self.frozen: bool | None = None
        self.store, self.config, self.precision = store, config, precision
        self.steps_per_epoch = len(store) // config.batch_size
        assert self.steps_per_epoch > 0
        self.optimizer = make_optimizer(task, config)
        self.schedule = make_schedule(self.optimizer, config, config.epochs * self.steps_per_epoch)
        self.scaler = torch.GradScaler(
            precision.device.type, enabled=precision.dtype is torch.float16
        )
        if self.scaler.is_enabled():
            # Without gradients it does nothing, but it counts: a schedule that goes on before any
            # step of its optimiser warns, and the scaler may skip the first.
            self.optimizer.step()
        self.average = AveragedModel(task.model, config.ema) if config.ema else None
        self.epoch = 0  # epochs done
        self.position = 0  # steps done of the one after them
        self.readings = Readings(store.samples, task.weights)  # of those steps
        self.ledger = Readings(store.samples, {})  # of those among them that kept one
        self.best = -math.inf
        self.timed = 0, 0.0  # after how many steps a clock was last looked at, and what it said
        self.augment = augment
        if config.compile:
            task.compile()
            if precision.device.type != "cpu":  # where OpenCV augments
                self.augment = torch.compile(augment)

    @property
    def steps(self) -> int:
        """Steps done since the run began."""
        return self.epoch * self.steps_per_epoch + self.position

    @property
    def at_once(self) -> int:
        """How many images go through the network of this process at a time."""
        return len(own_part(torch.empty(self.config.batch_size))) // self.config.accumulate

    @property
    def progress(self) -> float:
        """How much of the run is done, 0..1."""
        return self.steps / (self.config.epochs * self.steps_per_epoch)

    @property
    def lr(self) -> float:
        """The learning rate of the next step."""
        return float(self.schedule.get_last_lr()[0])

    @property
    def last_lr(self) -> float:
        """The learning rate of the last step."""
        step = max(0, self.schedule.last_epoch - 1)
        return float(self.schedule.base_lrs[0] * self.schedule.lr_lambdas[0](step))

    @property
    def model(self) -> nn.Module:
        """The network to validate and to keep: the averaged one where there is an average."""
        return self.average.model if self.average else self.task.model

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
        order = self.epoch_order()[self.position :]
        # Row i decides what happens to image i, wherever and in whichever batch it is processed.
        table = uniforms(len(self.store), self.config.seed, self.epoch)
        title, hidden = f"epoch {self.epoch + 1}/{self.config.epochs}", not is_main() or None
        with tqdm(order, title, leave=False, disable=hidden, initial=self.position) as bar:
            batches = self.store.batches(map(own_part, order))
            for indices, batch in zip(order, batches, strict=True):
                every = self.config.ledger_every
                due = every > 0 and self.position % every == 0
                terms, entries = split(self.step(*self.shown(batch, table), due))
                self.readings.add(terms, indices)
                if due:
                    self.ledger.add(entries, indices)
                self.position += 1
                bar.update()
                if self.steps % self.config.log_every == 0:
                    self.read()
                    bar.set_postfix_str(self.readings.describe(self.lr))
                after_step()
        return self.read()

    def prepare(self) -> None:
        """Puts the task into the mode of the coming steps."""
        self.task.train()
        frozen = self.epoch < self.config.freeze_epochs
        self.task.freeze_backbone(frozen)
        if frozen != self.frozen:
            self.frozen, self.parallel = frozen, average_gradients(self.task)
            self.knows_graph = False
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
        self.readings = Readings(self.store.samples, self.task.weights)
        self.ledger = Readings(self.store.samples, {})

    def shown(self, batch: Batch, table: Tensor) -> tuple[Tensor, Targets, Tensor]:
        """A batch as the network sees it; its rows of `table` decide how.

        Returns:
            Images, targets, and the `numbers` of these rows.
        """
        with record_function("augment"):
            rows = table[batch.indices].to(self.precision.device, non_blocking=True)
            shown = self.augment(batch.images, batch.sizes, batch.targets, rows, self.config.expand)
            return *shown, numbers(rows)

    def step(
        self, images: Tensor, targets: Targets, rows: Tensor | None = None, ledger: bool = False
    ) -> dict[str, Tensor]:
        """One update of the weights; the returned terms are on the device, nothing waits.

        Among them is what `measure_gradient` says of it. With `ledger` they come with the entries
        of `utils.engine.ledger`; the update is the same.
        """
        self.task.progress.fill_(self.progress)
        self.optimizer.zero_grad(set_to_none=True)
        terms = self.gradients(images, targets, rows, ledger)
        with record_function("optimiser"):
            self.scaler.unscale_(self.optimizer)
            clip, may_skip = self.config.clip_norm, self.scaler.is_enabled()
            gradient = measure_gradient(self.task.parameters(), clip, may_skip=may_skip)
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.schedule.step()
            if self.average:
                self.average.update()
        return {**terms, **gradient}

    def gradients(
        self, images: Tensor, targets: Targets, rows: Tensor | None, ledger: bool
    ) -> dict[str, Tensor]:
        """Adds the gradient of a batch to the parameters, part by part; returns its terms.

        What is divided by a count is divided by that of the whole batch, so the parts' mean is the
        batch's, but for the statistics of batch norms and for the ledger, which are of a part.
        """
        parts = self.config.accumulate
        divisor = self.task.divisor(targets, parts) if parts > 1 else None
        said: list[dict[str, Tensor]] = []
        numbers_of = [None] * parts if rows is None else rows.chunk(parts)
        chunks = (x.chunk(parts) for x in (images, *targets))
        for own, boxes, labels, own_rows in zip(*chunks, numbers_of, strict=True):
            last = len(said) == parts - 1
            with nullcontext() if last or not self.knows_graph else kept_apart(self.parallel):
                said.append(self.part(own, Targets(boxes, labels), own_rows, ledger, divisor))
        self.knows_graph = True
        return terms_of_batch(said)

    def part(
        self,
        images: Tensor,
        targets: Targets,
        rows: Tensor | None,
        ledger: bool,
        divisor: Tensor | None,
    ) -> dict[str, Tensor]:
        """Adds the gradient of one of a batch's parts to the parameters; returns its terms."""
        with (
            record_function("network and loss"),
            self.precision.autocast(),
            eagerly() if ledger and self.config.compile else nullcontext(),
        ):
            terms: dict[str, Tensor] = self.parallel(
                channels_last(images), targets, rows, ledger, divisor
            )
        with record_function("backward"):
            self.scaler.scale(terms["loss"] / self.config.accumulate).backward()
        return {name: term.detach() for name, term in terms.items()}

    def epoch_order(self) -> list[Tensor]:
        """The batches of this epoch as positions; the incomplete last one is left out."""
        generator = torch.Generator().manual_seed(self.config.seed * 1_000_003 + self.epoch)
        order = torch.randperm(len(self.store), generator=generator)
        return list(
            order[: self.steps_per_epoch * self.config.batch_size].view(
                self.steps_per_epoch, self.config.batch_size
            )
        )

    def validate(self, store: Store, class_names: Sequence[str]) -> dict[str, float]:
        """Loss terms by the rule of training, and `mAP` (voc07), of the network to keep.

        Of several processes the main one returns them.
        """
        spread_buffers(self.model)
        trained, self.task.model = self.task.model, self.model
        self.task.eval()
        self.task.progress.fill_(self.progress)
        try:
            evaluator = Evaluator(class_names)
            terms = evaluate(self.task.evaluate, store, evaluator, self.precision, self.at_once)
        finally:
            self.task.model = trained
        return {**terms, "mAP": evaluator.result("voc07").mean} if is_main() else {}

    def state_dict(self) -> dict[str, Any]:
        """Everything that a later process needs to go on as if nothing had happened.

        Data order and augmentation follow from seed, epoch and image; nothing else is random.
        """
        return {
            "task": self.task.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": self.average.state_dict() if self.average else None,
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
            ValueError: it stopped within an epoch whose batches are others than this run's.
        """
        if state["position"] and state["order"] != self.order_facts():
            raise ValueError(
                f"it stopped within an epoch with {state['order']}, these are {self.order_facts()}"
            )
        self.task.load_state_dict(state["task"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.scaler.load_state_dict(state["scaler"])
        if self.average and state["average"]:
            self.average.load_state_dict(state["average"])
        self.epoch, self.position = state["epoch"], state["position"]
        self.readings.load_state_dict(state["readings"])
        self.ledger.load_state_dict(state["ledger"])
        self.best = state["best"]

    def order_facts(self) -> dict[str, int]:
        """What an epoch's batches depend on."""
        config = self.config
        return {"images": len(self.store), "batch_size": config.batch_size, "seed": config.seed}
