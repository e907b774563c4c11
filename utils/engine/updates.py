"""What a step of training does to the weights. Where its batch comes from is not known here."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import record_function

from utils.config import TrainConfig
from utils.engine.evaluation import channels_last
from utils.engine.optim import AveragedModel, make_optimizer, make_schedule, measure_gradient
from utils.engine.task import COUNTS, Shown, Task
from utils.recipes import follow
from utils.runtime.device import Precision
from utils.runtime.distributed import average_gradients, kept_apart


def eagerly() -> AbstractContextManager[None]:
    """Suspends torch.compile: the inside of a compiled graph cannot be asked for its gradients."""
    context: AbstractContextManager[None] = torch.compiler.set_stance("force_eager")
    return context


def terms_of_batch(parts: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The terms of a batch from those of its equal parts: means, but of counts the sums."""
    if len(parts) == 1:
        return parts[0]
    columns = {name: torch.stack([part[name] for part in parts]) for name in parts[0]}
    return {n: x.sum() if n in COUNTS else x.mean() for n, x in columns.items()}


class Updates:
    """A task with all that changes its weights: optimiser, schedule, scaler, average.

    Args:
        task: on its device already.
        config: the run's settings, as given.
        precision: device and arithmetic.
        steps: how many there will be.

    Attributes:
        config: the settings, with what the recipe decides.
    """

    def __init__(self, task: Task, config: TrainConfig, precision: Precision, steps: int) -> None:
        self.task = task.to(memory_format=torch.channels_last)
        self.parallel: nn.Module = self.task  # the task, with gradients averaged over processes
        self.knows_graph = False  # whether it has seen a backward since it was made
        self.frozen: bool | None = None
        self.config = config = follow(config, steps)
        self.precision, self.total = precision, steps
        self.optimizer = make_optimizer(task, config)
        self.schedule = make_schedule(self.optimizer, config, steps)
        self.scaler = torch.GradScaler(
            precision.device.type, enabled=precision.dtype is torch.float16
        )
        if self.scaler.is_enabled():
            # Without gradients it does nothing, but it counts: a schedule that goes on before any
            # step of its optimiser warns, and the scaler may skip the first.
            self.optimizer.step()
        self.average = AveragedModel(task.model, config.ema) if config.ema else None
        if config.compile:
            task.compile()

    @property
    def progress(self) -> float:
        """How much of the run is done, 0..1."""
        return min(1.0, self.schedule.last_epoch / self.total)

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

    def freeze(self, frozen: bool) -> None:
        """Puts the task into training mode, with its backbone frozen or not."""
        self.task.train()
        self.task.freeze_backbone(frozen)
        if frozen != self.frozen:
            self.frozen, self.parallel = frozen, average_gradients(self.task)
            self.knows_graph = False

    def step(self, shown: Shown, ledger: bool = False) -> dict[str, Tensor]:
        """One update of the weights; the returned terms are on the device, nothing waits.

        Among them is what `measure_gradient` says of it. With `ledger` they come with the entries
        of `utils.engine.ledger`; the update is the same, unless weights follow them.
        """
        self.task.progress.fill_(self.progress)
        self.optimizer.zero_grad(set_to_none=True)
        terms = self.gradients(shown, ledger)
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

    def gradients(self, shown: Shown, ledger: bool) -> dict[str, Tensor]:
        """Adds the gradient of a batch to the parameters, part by part; returns its terms.

        What is divided by a count is divided by that of the whole batch, so the parts' mean is the
        batch's, but for the statistics of batch norms and for the ledger, which are of a part.
        """
        parts = shown._replace(images=channels_last(shown.images)).parts(self.config.accumulate)
        divisor = None
        if len(parts) > 1:
            with self.precision.autocast():
                divisor = self.task.divisor(parts)
        said: list[dict[str, Tensor]] = []
        for part in parts:
            last = len(said) == len(parts) - 1
            with nullcontext() if last or not self.knows_graph else kept_apart(self.parallel):
                said.append(self.part(part, ledger, divisor))
        self.knows_graph = True
        return terms_of_batch(said)

    def part(self, shown: Shown, ledger: bool, divisor: Tensor | None) -> dict[str, Tensor]:
        """Adds the gradient of one of a batch's parts to the parameters; returns its terms."""
        with (
            record_function("network and loss"),
            self.precision.autocast(),
            eagerly() if ledger and self.config.compile else nullcontext(),
        ):
            terms: dict[str, Tensor] = self.parallel(*shown, ledger, divisor)
        with record_function("backward"):
            self.scaler.scale(terms["loss"] / self.config.accumulate).backward()
        return {name: term.detach() for name, term in terms.items()}

    def state_dict(self) -> dict[str, Any]:
        """What later updates depend on."""
        return {
            "task": self.task.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": self.average.state_dict() if self.average else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from what `state_dict` returned."""
        self.task.load_state_dict(state["task"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        if state["scaler"]:  # of a run that was in fp16 before, too
            self.scaler.load_state_dict(state["scaler"])
        if self.average and state["average"]:
            self.average.load_state_dict(state["average"])
