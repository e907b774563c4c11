"""Training and evaluation. Which network it is, or whether it distils, is not known here."""

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import record_function
from tqdm import tqdm

from utils.augment import augment, resize, uniforms
from utils.boxes import Targets
from utils.checkpoint import load_checkpoint, save_checkpoint
from utils.config import TrainConfig
from utils.device import Precision
from utils.evaluator import Evaluator
from utils.log import RunLog, draw_curves
from utils.optim import AveragedModel, make_optimizer, make_schedule
from utils.readings import Readings
from utils.report import write_json
from utils.store import Batch, Store

# Boxes `[B, D, 4]` xyxy in image fractions, scores `[B, D]`, labels `[B, D]` with 0 as padding.
Detected = tuple[Tensor, Tensor, Tensor]


class Task(nn.Module):
    """What the engine trains.

    `task(images, targets)` returns `{"loss": total, "positives": count, **unweighted terms}`.

    Attributes:
        model: the network that is validated and saved; a task may hold more that trains.
        weights: the factor of each term in the total.
    """

    model: nn.Module
    weights: dict[str, float]

    def evaluate(self, images: Tensor, targets: Targets) -> tuple[dict[str, Tensor], Detected]:
        """The terms of a call, and what `model` detects."""
        raise NotImplementedError

    def freeze_backbone(self, frozen: bool) -> None:
        """Stops or resumes training of the part that comes with ImageNet weights."""
        raise NotImplementedError


class Trainer:
    """A task in training: everything that changes from step to step, and nothing else.

    Args:
        task: on its device already.
        store: the training images; at least one batch of them.
        config: the run's settings.
        precision: device and arithmetic.
    """

    def __init__(self, task: Task, store: Store, config: TrainConfig, precision: Precision) -> None:
        self.task = task.to(memory_format=torch.channels_last)
        self.store, self.config, self.precision = store, config, precision
        self.steps_per_epoch = len(store) // config.batch_size
        assert self.steps_per_epoch > 0
        self.optimizer = make_optimizer(task, config)
        self.schedule = make_schedule(self.optimizer, config, config.epochs * self.steps_per_epoch)
        self.scaler = torch.GradScaler(
            precision.device.type, enabled=precision.dtype is torch.float16
        )
        self.average = AveragedModel(task.model, config.ema) if config.ema else None
        self.epoch = 0  # epochs done
        self.best = -math.inf
        self.augment = augment
        if config.compile:
            task.compile()
            self.augment = torch.compile(augment)

    @property
    def lr(self) -> float:
        """The learning rate of the next step."""
        return float(self.schedule.get_last_lr()[0])

    @property
    def model(self) -> nn.Module:
        """The network to validate and to keep: the averaged one where there is an average."""
        return self.average.model if self.average else self.task.model

    def train_one_epoch(self) -> dict[str, float]:
        """One pass over the training images; returns the mean of every term.

        Raises:
            FloatingPointError: a loss became infinite or NaN.
        """
        self.task.train()
        self.task.freeze_backbone(self.epoch < self.config.freeze_epochs)
        order = self.epoch_order()
        # Row i decides what happens to image i, wherever and in whichever batch it is processed.
        table = uniforms(len(self.store), self.config.seed, self.epoch)
        readings = Readings(self.store.samples, self.task.weights)
        title = f"epoch {self.epoch + 1}/{self.config.epochs}"
        with tqdm(order, title, leave=False, disable=None) as bar:
            for step, batch in enumerate(self.store.batches(order), start=1):
                readings.add(self.step(*self.shown(batch, table)), batch.indices)
                bar.update()
                if step % self.config.log_every == 0 or step == self.steps_per_epoch:
                    means = readings.read(f"epoch {self.epoch + 1}, step {step}")
                    bar.set_postfix_str(readings.describe(self.lr))
        self.epoch += 1
        return means

    def shown(self, batch: Batch, table: Tensor) -> tuple[Tensor, Targets]:
        """A batch as the network sees it; its rows of `table` decide how."""
        with record_function("augment"):
            rows = table[batch.indices].to(self.precision.device, non_blocking=True)
            return self.augment(batch.images, batch.sizes, batch.targets, rows, self.config.expand)

    def step(self, images: Tensor, targets: Targets) -> dict[str, Tensor]:
        """One update of the weights; the returned terms are on the device, nothing waits."""
        with record_function("network and loss"), self.precision.autocast():
            terms: dict[str, Tensor] = self.task(channels_last(images), targets)
        self.optimizer.zero_grad(set_to_none=True)
        with record_function("backward"):
            self.scaler.scale(terms["loss"]).backward()
        with record_function("optimiser"):
            if self.config.clip_norm:
                self.scaler.unscale_(self.optimizer)
                nn.utils.clip_grad_norm_(self.task.parameters(), self.config.clip_norm)
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.schedule.step()
            if self.average:
                self.average.update(self.task.model)
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
        """Loss terms by the rule of training, and `mAP` (voc07), of the network to keep."""
        trained, self.task.model = self.task.model, self.model
        self.task.eval()
        try:
            evaluator = Evaluator(class_names)
            terms = evaluate(
                self.task.evaluate, store, evaluator, self.precision, self.config.batch_size
            )
        finally:
            self.task.model = trained
        return {**terms, "mAP": evaluator.result("voc07").mean}

    def state_dict(self) -> dict[str, Any]:
        """Everything that a later process needs to go on as if nothing had happened."""
        return {
            "task": self.task.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": self.average.state_dict() if self.average else None,
            "epoch": self.epoch,
            "best": self.best,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from what `state_dict` returned."""
        self.task.load_state_dict(state["task"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.scaler.load_state_dict(state["scaler"])
        if self.average and state["average"]:
            self.average.load_state_dict(state["average"])
        self.epoch, self.best = state["epoch"], state["best"]


def fit(
    trainer: Trainer,
    validation: Store | None,
    class_names: Sequence[str],
    description: dict[str, Any],
    folder: Path,
) -> None:
    """Trains to the end of the schedule.

    Writes into `folder` after every epoch `last.pth` and a line of metrics.jsonl, and after every
    validation `curves.png` and, where the mAP is the best so far, `best.pth`.

    Args:
        trainer: new, or loaded with an earlier state.
        validation: images to validate on; without any, best.pth is the last network.
        class_names: names of the classes 1..K.
        description: what a checkpoint says about the network, see `nets.saved`.
        folder: the run's folder.
    """
    config = trainer.config
    content = {**description, "config": plain(dataclasses.asdict(config))}
    log = RunLog(folder, start=trainer.epoch)
    write_json(folder / "config.json", content)
    while trainer.epoch < config.epochs:
        started = time.perf_counter()
        metrics = {f"train/{k}": v for k, v in trainer.train_one_epoch().items()}
        metrics["images_per_second"] = (
            trainer.steps_per_epoch * config.batch_size / (time.perf_counter() - started)
        )
        metrics["lr"] = trainer.lr
        last = trainer.epoch == config.epochs
        validated = last or (config.val_every > 0 and trainer.epoch % config.val_every == 0)
        if validated:
            scores = trainer.validate(validation, class_names) if validation else {}
            metrics |= {k if k == "mAP" else f"val/{k}": v for k, v in scores.items()}
            # NaN (no object to find) is no reason to throw the first network away.
            if not metrics.get("mAP", math.inf) <= trainer.best:
                trainer.best = metrics.get("mAP", -math.inf)
                best = {**content, "model": trainer.model.state_dict(), "metrics": metrics}
                save_checkpoint(folder / "best.pth", best)
        log.write(trainer.epoch, metrics)
        save_checkpoint(
            folder / "last.pth",
            {**content, "model": trainer.model.state_dict(), "training": trainer.state_dict()},
        )
        print(summary(trainer.epoch, config.epochs, metrics))
        if validated:
            draw_curves(folder)
    log.close()


def resume(trainer: Trainer, folder: Path, description: dict[str, Any]) -> None:
    """Loads a run's last.pth into a new trainer.

    Raises:
        FileNotFoundError, ValueError: there is none, it is damaged, or it is of another network.
    """
    path = folder / "last.pth"
    content = load_checkpoint(path)
    for key, value in description.items():
        if content.get(key) != value:
            raise ValueError(
                f"{path}: its {key} is {content.get(key)!r}, this run's {value!r}; resume with the "
                "settings it was started with"
            )
    try:
        trainer.load_state_dict(content["training"])
    except (KeyError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"{path}: its training state does not fit these settings ({error}); resume with the "
            "settings it was started with"
        ) from error


@torch.inference_mode()
def evaluate(
    predict: Callable[[Tensor, Targets], tuple[dict[str, Tensor], Detected]],
    store: Store,
    evaluator: Evaluator,
    precision: Precision,
    batch_size: int,
) -> dict[str, float]:
    """Shows every image of a split to a network and tells the evaluator what it found.

    Args:
        predict: images `[B, 3, 300, 300]` and targets -> loss terms (may be empty) and detections.
        store: the split.
        evaluator: receives boxes in pixels of the original images.
        precision: device and arithmetic.
        batch_size: images a forward pass.

    Returns:
        The mean of each term over the batches, weighted by their positives, so that the split
        counts as one batch (a batch without any, which is divided by its hard negatives, weighs as
        one positive); and `images_per_second` of `predict` (reading is not counted).
    """
    sums: dict[str, float] = {}
    positives, seconds = 0.0, 0.0
    order = torch.arange(len(store)).split(batch_size)
    for batch in tqdm(store.batches(order), "evaluation", len(order), leave=False, disable=None):
        images, targets = resize(batch.images, batch.sizes, batch.targets)
        started = time.perf_counter()
        with precision.autocast():
            terms, detected = predict(channels_last(images), targets)
        boxes, scores, labels = (x.cpu() for x in detected)  # waits for the device
        seconds += time.perf_counter() - started
        share = max(1.0, float(terms.pop("positives", 0)))
        positives += share
        for name, term in terms.items():
            sums[name] = sums.get(name, 0.0) + share * float(term)
        for i, index in enumerate(batch.indices.tolist()):
            sample, real = store.samples[index], labels[i] > 0
            truth = sample.annotation
            pixels = torch.tensor((truth.width, truth.height)).repeat(2)
            evaluator.update(
                sample.image_id,
                boxes=boxes[i][real] * pixels,
                scores=scores[i][real],
                labels=labels[i][real],
                truth_boxes=truth.boxes,
                truth_labels=truth.labels,
                difficult=truth.difficult,
            )
    means = {name: total / positives for name, total in sums.items()}
    return {**means, "images_per_second": len(store) / seconds}


def channels_last(images: Tensor) -> Tensor:
    """The memory layout in which convolutions are fastest on CPUs and GPUs."""
    return images.contiguous(memory_format=torch.channels_last)


def plain(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings as JSON has them: tuples become lists."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in settings.items()}


def summary(epoch: int, epochs: int, metrics: dict[str, Any]) -> str:
    """`epoch 3/50  train/loss 4.210 ...` for the terminal."""
    shown = (f"{k} {v:.4g}" for k, v in metrics.items() if not k.endswith("positives"))
    return f"epoch {epoch}/{epochs}  " + "  ".join(shown)
