"""Is the teacher any good, or better than what it is to teach?"""

import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nets.detect import detect
from nets.outputs import Detections, Targets
from nets.ssd import SSD300
from utils.data.store import Store
from utils.engine.evaluation import channels_last, evaluate
from utils.engine.trainer import Trainer
from utils.metrics.evaluator import Evaluator
from utils.runtime.distributed import most_of_processes

SECONDS = 3.0  # for what a network detects in a sample of the validation images
FEW, MANY = 8, 128  # images of a sample, at least and at most


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


def judge_teacher(
    trainer: Trainer,
    network: SSD300,
    images: Store,
    which: str,
    names: Sequence[str],
    warm: bool,
) -> list[str]:
    """Measures the teacher on a sample of labelled images; returns what speaks against it."""
    sample = choose_sample(trainer, network, images)
    if not sample:
        print(f"preflight: the teacher is too slow here to see {FEW} images; its mAP is not known")
        return []
    evaluator = MixedUp(names)
    teacher = mean_ap(trainer, network, sample, evaluator)
    mixed, moved = evaluator.best_move()
    text = f"teacher's mAP on {len(sample)} {which} images {100 * teacher:.1f} "
    text += f"(with its classes mixed up {100 * mixed:.1f})" if moved else "(of one class)"
    warnings = []
    if not teacher:
        warnings.append(
            "the teacher finds none of the objects; is it trained, and on this class list?"
        )
    elif teacher <= mixed:
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
    """As many labelled images, spread evenly, as `model` sees in `SECONDS`; None for a few.

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
    count = min(-most_of_processes(-int(SECONDS / seconds)), MANY, images.labelled)
    if count < min(FEW, images.labelled):
        return None
    chosen = torch.linspace(0, images.labelled - 1, count).long().tolist()
    samples = [images.samples[i] for i in chosen]
    return Store(samples, device, cache="none", workers=images.workers)


def mean_ap(trainer: Trainer, model: SSD300, sample: Store, evaluator: Evaluator) -> float:
    """The voc07 mAP of `model`, in the main process; nan in the others and without objects."""

    def predict(images: Tensor, targets: Targets) -> tuple[dict[str, Tensor], Detections]:
        del targets
        return {}, detect(model, images)

    evaluate(predict, sample, evaluator, trainer.precision, FEW)
    return evaluator.result("voc07").mean
