"""A look at a distillation run before it costs a night; some seconds, and nothing changes."""

import math
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from nets.memo.asking import Asked
from nets.preflight.teacher import judge_teacher
from nets.preflight.unlabelled import judge_unlabelled
from nets.ssd import SSD300
from nets.tasks import DistillTask
from utils.data.store import Store
from utils.engine import ledger
from utils.engine.rehearsal import rehearsal
from utils.engine.trainer import Trainer
from utils.runtime.distributed import most_of_processes

ON_A_CPU = 4  # images of the batch whose gradients are looked at
SILENT, LOUD = 0.005, 0.9  # gradient shares that are worth a warning


def preflight(
    trainer: Trainer,
    validation: Store | None,
    class_names: Sequence[str],
    *,
    warm: bool,
    picture: Path | None = None,
) -> list[str]:
    """Prints what can be known of a distillation run before its first step.

    That the teacher is frozen and fits; its mAP on a sample of the validation images, without any
    of the training images, beside what its boxes reach with the classes mixed up and, where the
    student does not start from scratch, beside the student's; what it detects in images without
    labels, where there are some; the share of each loss term in the gradient of one batch.

    Args:
        trainer: new; its task is a `DistillTask`.
        validation: images to look at, if any.
        class_names: names of the classes 1..K.
        warm: whether the student has been trained already.
        picture: where to draw what the teacher detects in images without labels, if anywhere.

    Returns:
        The warnings, which are printed, too.
    """
    task = trainer.task
    assert isinstance(task, DistillTask)
    terms = one_batch(trainer, task)
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
    warnings += judge_unlabelled(trainer, task, class_names, picture)
    print(f"preflight: at the start, {ledger.describe(terms)}")
    if task.shares:
        weights = [f"{name} {terms[ledger.WEIGHT + name]:.3g}" for name in task.shares]
        print(f"preflight: weights that --share begins with: {' '.join(weights)}")
    warnings += judge_shares(terms, task.weights, task.shares)
    for warning in warnings:
        print(f"preflight: WARNING: {warning}")
    seconds = time.perf_counter() - started
    print(f"preflight: {seconds:.1f} s; --no-preflight leaves it out", flush=True)
    return warnings


def loaded_teacher(trainer: Trainer, task: DistillTask) -> SSD300 | None:
    """The teacher, unless what it says is read and it had not to be asked of the first batch.

    The same in all processes, which judge it together: where it was not asked of one's part of the
    batch, none looks at it.
    """
    if isinstance(task.teacher, SSD300):
        return task.teacher
    assert trainer.memo
    assert isinstance(trainer.memo.answer, Asked)
    teacher = trainer.memo.answer.teacher
    return None if most_of_processes(int(teacher is None)) else teacher


def one_batch(trainer: Trainer, task: DistillTask) -> dict[str, float]:
    """The terms of the first batch that training will see, on a CPU of a few of its images.

    With its ledger, for which weights that follow shares are those of the first step.
    """
    most = ON_A_CPU if trainer.precision.device.type == "cpu" else math.inf
    with rehearsal(trainer, most) as batch, trainer.precision.autocast():
        task.progress.fill_(task.schedule.start)  # when the teacher is first listened to
        terms = task(*batch, ledger=True)
    return {name: float(value.detach()) for name, value in terms.items()}


def judge_shares(
    terms: Mapping[str, float], weights: Mapping[str, float], asked: Collection[str] = ()
) -> list[str]:
    """Which terms drown the others, and which will hardly be heard.

    Args:
        terms: with the ledger's entries.
        weights: of all terms.
        asked: those terms whose shares `--share` decides.
    """
    warnings = []
    for name, weight in weights.items():
        value = terms[ledger.SHARE + name]
        if name in asked:
            if value == 0:
                warnings.append(
                    f"{name} has no gradient at the source maps here, so --share cannot decide its "
                    f"weight: it stays {terms[ledger.WEIGHT + name]:.3g} until there is one"
                )
            continue
        if weight > 0 and not value >= SILENT:
            warnings.append(
                f"{name} has {100 * value:.2g} % of the gradient and will hardly be heard; raise "
                "its weight, give it a --share, or leave it out"
            )
        if len(weights) > 1 and value > LOUD:
            warnings.append(
                f"{name} has {100 * value:.0f} % of the gradient and drowns the other terms; lower "
                "its weight, or give it a --share"
            )
    return warnings
