"""What trains a student: the objective of a detector, and what a teacher says of the same batch."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from nets.distillers import Distiller
from nets.matching import match
from nets.memo.record import AnswerRecord
from nets.multibox_loss_kd import MultiBoxLoss_KD
from nets.outputs import Detections, Lesson, Outputs, Targets
from nets.postprocess import postprocess
from nets.ssd import SSD300
from nets.tasks.cross_priors import on_student_priors
from nets.tasks.detection import DetectionTask
from nets.tasks.frozen import frozen
from nets.tasks.loudness import Loudness
from nets.tasks.pseudo import completed, doubted, pseudo_objects
from nets.tasks.schedule import KD_FACTOR, OF_OBJECTS, Schedule
from utils.engine.ledger import PREFIX, WEIGHT, gradient_norms, shares_of
from utils.engine.task import Shown


class DistillTask(DetectionTask):
    """Trains a student on objects and on what a teacher says about the same batch.

    Args:
        model: the student.
        teacher: a frozen copy is asked, which is never part of a checkpoint. Or how what it said is
            written down: then it is not asked but read, see `nets.memo`.
        criterion: `MultiBoxLoss_KD`.
        distillers: further terms by name; their adapters train along.
        weights: factor of each term, distillers included.
        match_priors: let the two have different priors, see `CrossPriors`. What is written down is
            on the student's.
        schedule: how loud all teacher terms are together in the course of the run.
        pseudo_score: what a detection of the teacher needs to be an object of an image without
            labels, see `nets.tasks.pseudo`.
        pseudo_doubt: the least score of those that are neither an object there nor background; 0:
            there are none.
        shares: of the gradient that terms are to have before the schedule makes them quieter; their
            weights follow, see `Loudness`.

    Raises:
        ValueError: the two differ in number of classes, or, without `match_priors`, in priors; or
            there cannot be such shares.
    """

    def __init__(
        self,
        model: SSD300,
        teacher: SSD300 | AnswerRecord,
        criterion: MultiBoxLoss_KD,
        weights: Mapping[str, float],
        distillers: Mapping[str, Distiller] | None = None,
        match_priors: bool = False,
        schedule: Schedule | None = None,
        pseudo_score: float = 0.5,
        pseudo_doubt: float = 0.0,
        shares: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(model, criterion, weights)
        self.criterion: MultiBoxLoss_KD = criterion
        self.teacher = frozen(teacher) if isinstance(teacher, SSD300) else teacher.eval()
        self.on_student_priors: nn.Module = nn.Identity()
        if isinstance(teacher, SSD300):
            self.on_student_priors = on_student_priors(model, teacher, match_priors)
        self.distillers = nn.ModuleDict(distillers)
        self.schedule = schedule or Schedule()
        self.pseudo_score, self.pseudo_doubt = pseudo_score, pseudo_doubt
        self.loudness = Loudness(shares or {}, self.weights)
        self.shares = self.loudness.shares
        self.weights |= self.loudness.starts
        for name in self.shares.keys() & self.distillers.keys():
            self.loudness.spare(name, self.distillers[name])
        # A teacher is never saved inside a student.
        nn.Module.register_state_dict_post_hook(self, without_teacher)
        nn.Module.register_load_state_dict_post_hook(self, without_teacher_keys)

    def factors(self, terms: Mapping[str, Any]) -> dict[str, Any]:
        """See `Task.factors`; those of what the teacher says follow the schedule."""
        factor = terms.get(KD_FACTOR, 1)
        return {
            name: weight if name in OF_OBJECTS else weight * factor
            for name, weight in self.unscheduled(terms).items()
        }

    def others(self) -> dict[str, Callable[[Tensor], Detections]]:
        """See `Task.others`: the teacher, where it is here."""
        network = self.teacher
        if isinstance(network, AnswerRecord):
            return {}
        return {"teacher": lambda images: postprocess(network(images), network.priors)}

    def unscheduled(self, terms: Mapping[str, Any]) -> dict[str, Any]:
        """The weight of each term before the schedule; that of one with a share is in `terms`."""
        return {name: terms.get(WEIGHT + name, weight) for name, weight in self.weights.items()}

    def measure(self, terms: dict[str, Tensor], features: Sequence[Tensor]) -> dict[str, Tensor]:
        """See `DetectionTask.measure`; weights that follow it are among what is returned."""
        norms = gradient_norms(terms, self.unscheduled(terms), features)
        weights: dict[str, Tensor] = self.loudness.hear(norms)
        return weights | shares_of(norms, self.factors(terms | weights))

    def train(self, mode: bool = True) -> "DistillTask":
        """As every module's; the teacher stays in evaluation mode."""
        super().train(mode)
        self.teacher.eval()
        return self

    def objective(
        self, outputs: Outputs, shown: Shown, ledger: bool = False, divisor: Tensor | None = None
    ) -> dict[str, Tensor]:
        """See `DetectionTask.objective`; the teacher sees the very same images.

        Where neither the teacher nor what it said of them is here (it is written down of images to
        learn from alone), the terms are those in which no teacher speaks.
        """
        said, priors = self.hear(shown), self.model.priors
        targets = self.objects(shown, said)
        matches = match(targets, priors)
        if said is None:
            objects = self.criterion.objects(outputs, matches, divisor)
            return {**objects, "positives": (matches.labels > 0).sum()}
        with torch.no_grad():
            teacher: Outputs = self.on_student_priors(said)
        rows = shown.rows
        selection = self.criterion.select(outputs, matches, divisor)
        terms: dict[str, Tensor] = self.criterion(outputs, teacher, matches, selection)
        lesson = Lesson(
            targets,
            matches,
            selection.positive.mask,
            selection.negative,
            selection.divisor,
            priors,
            cast(SSD300, self.teacher),  # those that look at it are given no other
            torch.arange(len(shown.images), device=priors.device) if rows is None else rows,
            self.progress,
        )
        for name, distiller in self.distillers.items():
            terms[name] = distiller(outputs, teacher, lesson)
        if self.schedule.changes:
            terms[KD_FACTOR] = self.schedule.factor(self.progress)
        if shown.unlabelled is not None:
            pseudo = (targets.labels > 0) & shown.unlabelled[:, None]
            terms["pseudo_objects"] = pseudo.sum()
        terms |= self.loudness.weights()
        terms["positives"] = (matches.labels > 0).sum()
        if ledger:
            watched = self.criterion.watch(outputs, teacher, matches, selection)
            terms |= {PREFIX + name: value for name, value in watched.items()}
        return terms

    @torch.no_grad()
    def hear(self, shown: Shown) -> Outputs | None:
        """What the teacher says, or has said, of a batch, on its own priors, or on the student's.

        What is written down is on the student's.
        """
        if isinstance(self.teacher, AnswerRecord):
            return None if shown.said is None else self.teacher.decode(shown.said)
        outputs: Outputs = self.teacher(shown.images)
        return outputs

    def objects(self, shown: Shown, said: Outputs | None = None) -> Targets:
        """See `DetectionTask.objects`; where there are no labels it is what the teacher detects."""
        if shown.unlabelled is None:
            return shown.targets
        least = self.pseudo_doubt or self.pseudo_score
        found = doubted(self.detected(shown, said, least), self.pseudo_score)
        return completed(shown.targets, shown.unlabelled, found)

    def detected(
        self, shown: Shown, said: Outputs | None = None, least_score: float | None = None
    ) -> Detections:
        """What the teacher detects in the images without labels, of which there must be some.

        Args:
            shown: the batch.
            said: what `hear` says of it, where that is known already.
            least_score: in place of the task's own.
        """
        said = said or self.hear(shown)
        assert shown.unlabelled is not None
        assert said is not None
        written = isinstance(self.teacher, AnswerRecord)
        priors = self.model.priors if written else self.teacher.priors
        score = self.pseudo_score if least_score is None else least_score
        return pseudo_objects(said, cast(Tensor, priors), score, shown.unlabelled)


TEACHER = "teacher."


def without_teacher(task: nn.Module, state: dict[str, Tensor], prefix: str, _: Any) -> None:
    """Takes the teacher's entries out of a task's state."""
    del task
    for key in [key for key in state if key.startswith(prefix + TEACHER)]:
        del state[key]


def without_teacher_keys(task: nn.Module, keys: Any) -> None:
    """Misses no entries of the teacher when a state is loaded."""
    del task
    keys.missing_keys[:] = [key for key in keys.missing_keys if not key.startswith(TEACHER)]
