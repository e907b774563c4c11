"""Settings of stage 2."""

from dataclasses import dataclass
from typing import Any, ClassVar

from utils.config.options import LARGEST, above, at_least, flag, option
from utils.config.presets import PRESETS
from utils.config.training import TrainConfig

# How loud a teacher is in the course of a run, see nets/tasks/schedule.py.
KD_SCHEDULES = ("constant", "cosine", "linear")


@dataclass(frozen=True)
class DistillConfig(TrainConfig):
    """Training of a student under a teacher."""

    usual_backbone: ClassVar[str] = "mobilenetv2"
    example_lines: ClassVar[tuple[str, ...]] = (
        "train_kd.py --teacher logs/teacher/best.pth --train MYSET/train --val MYSET/val",
        "train_kd.py --teacher logs/teacher/best.pth --preset soft --distill 'cwd(weight=80)' pkd",
        "train_kd.py --teacher-backbone resnet34 --teacher-epochs 30 --backbone mobilenetv2",
    )
    presets: ClassVar[dict[str, dict[str, Any]]] = PRESETS

    name: str = option("student", "the run's folder under --logs")
    backbone: str = option(
        "", "the student's spec, e.g. resnet18; without: mobilenetv2, or that of --weights"
    )
    teacher: str = option("", "the teacher's checkpoint; without one the teacher is trained first")
    teacher_backbone: str = option("vgg16", "spec of a teacher that is trained first")
    teacher_epochs: int = option(0, "epochs of a teacher that is trained first; 0: as --epochs")
    teacher_pretrained: bool = option(
        True, "start a teacher that is trained first from ImageNet weights, whatever the student"
    )
    preset: str = option(
        "objectness", "decides those settings whose defaults name presets", tuple(PRESETS)
    )
    # None is what a preset decides; a config that has been made holds the value. To
    # `dataclasses.replace` that value counts as given, so another preset does not change it.
    soft_weight: float = option(None, "factor of the soft-target loss")
    conf_weight: float = option(None, "factor of the confidence loss")
    l2_weight: float = option(None, "factor of the teacher-bounded regression")
    loc_weight: float = option(None, "factor of the localisation loss")
    temperature: float = option(None, "T, softens both distributions before they are compared")
    neg_w: float = option(None, "weight of the background column in the soft-target loss")
    distill: tuple[str, ...] = option(
        None,
        "further terms, see docs/distillers.md, e.g. 'cwd(tau=1, weight=80)' pkd; by itself: none",
    )
    pos_w: float = option(1.0, "weight of the class columns in the soft-target loss")
    reg_m: float = option(0.0, "margin of the teacher bound, in squared encoded units")
    share: tuple[str, ...] = option(
        None,
        "which part of the gradient at the source maps terms are to have, e.g. 'soft=0.4, "
        "cwd=0.2'; their weights follow the ledger",
    )
    kd_schedule: str = option(
        "constant",
        "how the weights of all teacher terms fall in the course of the run",
        KD_SCHEDULES,
    )
    kd_final: float = option(0.1, "what is left of them at the end; not with constant")
    kd_epochs: int = option(
        0, "listen to the teacher in the first so many epochs, negative: in the last; 0: in all"
    )
    teacher_views: int = option(
        0,
        "ways in which each image is shown; what the teacher says of each is written down and then "
        "read, by other students too; 0: never the same way twice, and the teacher is always asked",
    )
    memo: str = option(
        "", "where that is written: a folder of memos, or a memo; without: memo below --logs"
    )
    memo_best_effort: bool = option(
        False,
        "go on without writing where answers cannot be written into the memo, say on a full disk",
    )
    unlabelled: tuple[str, ...] = option(
        (),
        "splits of images without labels, as YEAR/SPLIT; their objects are what the teacher finds",
    )
    unlabelled_fraction: float = option(0.5, "part of every batch that comes from --unlabelled")
    pseudo_score: float = option(
        0.5, "score that a detection needs to count as an object of an unlabelled image"
    )
    pseudo_doubt: float = option(
        0.0,
        "detections there with lower scores, but at least this, are neither taught nor mined; 0: "
        "they are background",
    )
    pseudo_pictures: bool = option(
        False, "before the first step draw what the teacher finds there, into the run's pseudo.png"
    )
    match_priors: bool = option(False, "let student and teacher have different prior sets")
    preflight: bool = option(True, "look at teacher and loss terms before the first step")

    def __post_init__(self) -> None:
        """Lets the preset decide what is not given; refuses values that no run can work with."""
        if self.preset not in self.presets:
            raise ValueError(f"--preset must be one of {', '.join(self.presets)}: {self.preset!r}")
        if self.distill is not None and self.share is None:
            object.__setattr__(self, "share", ())  # a preset's shares are those of its own terms
        for name, value in self.presets[self.preset].items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        super().__post_init__()
        if self.profile and not self.teacher:
            raise ValueError("--profile needs --teacher: a profiled stage 1 trains no teacher")
        at_least(
            self, 0, "soft_weight", "l2_weight", "neg_w", "pos_w", "teacher_epochs", "kd_final"
        )
        at_least(self, -LARGEST, "reg_m")
        at_least(self, 0, "teacher_views")
        if abs(self.kd_epochs) > self.epochs:
            raise ValueError(
                f"--kd-epochs {self.kd_epochs} is more than the run's --epochs {self.epochs}"
            )
        if (self.memo or self.memo_best_effort) and not self.teacher_views:
            raise ValueError("--memo needs --teacher-views, such as 20; without, nothing is kept")
        if self.share and not self.ledger_every:
            raise ValueError(
                f"--share {' '.join(self.share)} (given, or by --preset) follows the ledger, which "
                "--ledger-every 0 turns off; leave that out, or pass --share by itself, and weights"
            )
        above(self, 0, "temperature")
        self.check_soft_targets()
        self.check_first_stage()
        self.check_unlabelled()

    def check_soft_targets(self) -> None:
        """Refuses settings of soft targets that nobody would ever hear of."""
        shares = [part.partition("=")[0] for text in self.share for part in text.split(",")]
        if self.soft_weight or "soft" in map(str.strip, shares):
            return
        for name in ("temperature", "neg_w"):
            value = getattr(self, name)
            if value != self.presets[self.preset][name]:
                raise ValueError(
                    f"{flag(name)} {value:g} is of soft targets, whose weight is 0 (given, or by "
                    f"--preset {self.preset}); pass --soft-weight, too, or --preset soft"
                )

    def check_first_stage(self) -> None:
        """Refuses what no teacher can be trained with, or is there for none."""
        if self.teacher and self.teacher_epochs:
            raise ValueError(
                "--teacher-epochs is for a teacher that is trained first; leave out that or "
                "--teacher"
            )
        if self.patience and 0 < self.teacher_epochs <= self.val_every:
            raise ValueError(
                f"--patience waits for a better mAP, but the teacher has only one: --val-every "
                f"{self.val_every} must be below --teacher-epochs {self.teacher_epochs}"
            )

    def check_unlabelled(self) -> None:
        """Refuses what no batch of images with and without labels can be made of."""
        if not 0 < self.pseudo_score <= 1:
            raise ValueError(f"--pseudo-score must be above 0, at most 1, not {self.pseudo_score}")
        if not 0 <= self.pseudo_doubt <= self.pseudo_score:
            raise ValueError(
                f"--pseudo-doubt must be in 0..{self.pseudo_score}, which --pseudo-score is, not "
                f"{self.pseudo_doubt}"
            )
        if not 0 < self.unlabelled_fraction < 1:
            raise ValueError(
                f"--unlabelled-fraction must be in (0, 1), not {self.unlabelled_fraction}"
            )
        if self.unlabelled and not 0 < self.unlabelled_images < self.batch_size:
            raise ValueError(
                f"--unlabelled-fraction {self.unlabelled_fraction} of --batch-size "
                f"{self.batch_size} leaves no image with labels, or none without; raise "
                "--batch-size, or choose a fraction closer to 0.5"
            )
        if self.pseudo_pictures and not (self.unlabelled and self.preflight):
            raise ValueError(
                "--pseudo-pictures is part of the look at --unlabelled before the first step; name "
                "such splits, and leave out --no-preflight"
            )

    @property
    def unlabelled_splits(self) -> tuple[str, ...]:
        """See `TrainConfig`."""
        return self.unlabelled

    @property
    def unlabelled_images(self) -> int:
        """See `TrainConfig`."""
        return round(self.batch_size * self.unlabelled_fraction) if self.unlabelled else 0
