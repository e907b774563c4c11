"""A look at a distillation run before it costs a night; some seconds, and nothing changes."""

import math
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nets.detect import detect
from nets.memo.asking import Asked
from nets.outputs import Detections, Targets
from nets.ssd import SSD300
from nets.tasks import DistillTask
from utils.data.store import Store
from utils.engine import ledger
from utils.engine.evaluation import channels_last, evaluate
from utils.engine.rehearsal import rehearsal
from utils.engine.trainer import Trainer
from utils.metrics.evaluator import Evaluator
from utils.runtime.distributed import most_of_processes

SECONDS = 3.0  # for what a network detects in a sample of the validation images
FEW, MANY = 8, 128  # images of a sample, at least and at most
ON_A_CPU = 4  # images of the batch whose gradients are looked at
SILENT, LOUD = 0.005, 0.9  # gradient shares that are worth a warning


def preflight(
    trainer: Trainer, validation: Store | None, class_names: Sequence[str], *, warm: bool
) -> list[str]:
    """Prints what can be known of a distillation run before its first step.

    That the teacher is frozen and fits; its mAP on a sample of the validation images, without any
    of the training images, beside what its boxes reach with the classes mixed up and, where the
    student does not start from scratch, beside the student's; the share of each loss term in the
    gradient of one batch.

    Args:
        trainer: new; its task is a `DistillTask`.
        validation: images to look at, if any.
        class_names: names of the classes 1..K.
        warm: whether the student has been trained already.

    Returns:
        The warnings, which are printed, too.
    """
    task = trainer.task
    assert isinstance(task, DistillTask)
    shares = one_batch(trainer, task)
    teacher = loaded_teacher(trainer, task)
    started = time.perf_counter()
    print(f"preflight: {len(class_names)} classes and {len(task.model.priors)} priors in common")
    images, which = (validation, "validation") if validation else (trainer.store, "training")
    warnings = []
    if teacher is None:
        print("preflight: what the teacher says is in the memo; it is not loaded")
    else:
        assert not teacher.training
        assert not any(p.requires_grad for p in teacher.parameters())
        print("preflight: the teacher is frozen and in evaluation mode")
        warnings += judge_teacher(trainer, teacher, images, which, class_names, warm)
    print(f"preflight: at the start, {ledger.describe(shares)}")
    warnings += judge_shares(shares, task.weights)
    for warning in warnings:
        print(f"preflight: WARNING: {warning}")
    seconds = time.perf_counter() - started
    print(f"preflight: {seconds:.1f} s; --no-preflight leaves it out", flush=True)
    return warnings


class MixedUp(Evaluator):
    """An evaluator that also keeps what the same boxes are worth under other classes."""

    def __init__(self, class_names: Sequence[str]) -> None:
        super().__init__(class_names)
        count = len(class_names)
        shifts = sorted({s % count for s in (1, -1, 2, -2)} - {0})
        self.moved = {shift: Evaluator(class_names) for shift in shifts}

    def update(self, image_id: str, **values: Any) -> None:
        """See `Evaluator.update`; label k also counts as k + 1, k - 1 and so on, in a circle."""
        super().update(image_id, **values)
        for shift, evaluator in self.moved.items():
            labels = (values["labels"] - 1 + shift) % len(self.class_names) + 1
            evaluator.update(image_id, **{**values, "labels": labels})

    def best_move(self) -> tuple[float, int]:
        """The highest mAP under other classes and by how much these are moved; 0 of one class."""
        scores = [(e.result("voc07").mean, shift) for shift, e in self.moved.items()]
        return max(scores, default=(0.0, 0))


def loaded_teacher(trainer: Trainer, task: DistillTask) -> SSD300 | None:
    """The teacher, unless what it says is read and it had not to be asked of the first batch."""
    if isinstance(task.teacher, SSD300):
        return task.teacher
    assert trainer.memo
    assert isinstance(trainer.memo.answer, Asked)
    return trainer.memo.answer.teacher


def judge_teacher(
    trainer: Trainer,
    network: SSD300,
    images: Store,
    which: str,
    names: Sequence[str],
    warm: bool,
) -> list[str]:
    """Measures the teacher on a sample of images; returns what speaks against it."""
    sample = choose_sample(trainer, network, images)
    if not sample:
        print(f"preflight: the teacher is too slow here to see {FEW} images; its mAP is not known")
        return []
    evaluator = MixedUp(names)
    teacher = mean_ap(trainer, network, sample, evaluator)
    mixed, moved = evaluator.best_move()
    text = f"teacher's mAP on {len(sample)} {which} images {100 * teacher:.1f} "
    text += f"(with its classes mixed up {100 * mixed:.1f})"
    warnings = []
    if teacher <= mixed:
        warnings.append(
            f"the teacher's mAP, {100 * teacher:.1f}, is not above {100 * mixed:.1f}, which its "
            f"boxes reach with every class moved by {moved}; is it trained, and on this class list?"
        )
    if warm:
        model = trainer.task.model
        assert isinstance(model, SSD300)
        was_training = model.training
        student = mean_ap(trainer, model.eval(), sample, Evaluator(names))
        model.train(was_training)
        text += f", the student's {100 * student:.1f}"
        if student >= teacher:
            warnings.append(
                f"the student's mAP, {100 * student:.1f}, is already at the teacher's, "
                f"{100 * teacher:.1f}; a better teacher is needed"
            )
    print(f"preflight: {text}")
    return warnings


def choose_sample(trainer: Trainer, model: SSD300, images: Store) -> Store | None:
    """As many images, evenly spread over the split, as `model` sees in `SECONDS`; None for a few.

    Of a small split it is all images.
    """
    device = trainer.precision.device
    image = channels_last(torch.zeros(1, 3, 300, 300, device=device))
    for _ in range(2):  # the first pass warms up
        started = time.perf_counter()
        with trainer.precision.autocast():
            detect(model, image).scores.cpu()
        seconds = time.perf_counter() - started
    # The slowest process decides for all.
    count = min(-most_of_processes(-int(SECONDS / seconds)), MANY, len(images))
    if count < min(FEW, len(images)):
        return None
    chosen = torch.linspace(0, len(images) - 1, count).long().tolist()
    samples = [images.samples[i] for i in chosen]
    return Store(samples, device, cache="none", workers=images.workers)


def mean_ap(trainer: Trainer, model: SSD300, sample: Store, evaluator: Evaluator) -> float:
    """The voc07 mAP of `model`, in the main process; nan in the others and without objects."""

    def predict(images: Tensor, targets: Targets) -> tuple[dict[str, Tensor], Detections]:
        del targets
        return {}, detect(model, images)

    evaluate(predict, sample, evaluator, trainer.precision, FEW)
    return evaluator.result("voc07").mean


def one_batch(trainer: Trainer, task: DistillTask) -> dict[str, float]:
    """The ledger of the first batch that training will see, on a CPU of a few of its images."""
    most = ON_A_CPU if trainer.precision.device.type == "cpu" else math.inf
    with rehearsal(trainer, most) as batch, trainer.precision.autocast():
        task.progress.fill_(task.schedule.start)  # when the teacher is first listened to
        terms = task(*batch, ledger=True)
    return {name: float(value) for name, value in ledger.split(terms)[1].items()}


def judge_shares(shares: dict[str, float], weights: dict[str, float]) -> list[str]:
    """Which terms drown the others, and which will hardly be heard."""
    warnings = []
    for name, weight in weights.items():
        value = shares[ledger.SHARE + name]
        if weight > 0 and not value >= SILENT:
            warnings.append(
                f"{name} has {100 * value:.2g} % of the gradient and will hardly be heard; raise "
                "its weight or leave it out"
            )
        if len(weights) > 1 and value > LOUD:
            warnings.append(
                f"{name} has {100 * value:.0f} % of the gradient and drowns the other terms; lower "
                "its weight"
            )
    return warnings
