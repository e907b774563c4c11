"""Every setting of every script, once: a frozen dataclass is schema, defaults and help.

utils/cli.py makes command lines of the fields; a run stores its settings in its checkpoints.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

# The class list of a run to which neither a flag nor a checkpoint tells another.
CLASSES = "model_data/voc_classes.txt"

# No setting is meant to be larger, and torch's integers and float32 hold it and its square.
LARGEST = 1e9
# What training does with objects that are marked difficult.
DIFFICULT = ("ignore", "train", "background")
# How loud a teacher is in the course of a run, see nets/tasks/schedule.py.
KD_SCHEDULES = ("constant", "cosine", "linear")
# Which settings a run takes where none are given, see utils/recipes.py.
RECIPES = ("auto", "paper", "scratch", "finetune")
# What post-processing keeps.
NMS = "of two boxes of a class that overlap (IoU) by more, the lower score goes"
PER_CLASS = "candidates of a class that are looked at"
TOP_K = "most detections of an image"
ARITHMETICS = ("auto", "off", "bf16", "fp16")


def option(
    default: Any,
    help: str,  # noqa: A002
    choices: Sequence[str] | None = None,
    *,
    positional: bool = False,
) -> Any:
    """A field with its default, its help and, where few values make sense, those values.

    A positional one is given without a flag.
    """
    metadata = {"help": help, "choices": choices, "positional": positional}
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True)
class DataConfig:
    """Where images and class names come from."""

    data: str = option("VOCdevkit", "VOC devkit: the folder that holds VOC2007, VOC2012, ...")
    classes: str = option(
        "",
        "class list, one name a line, or a checkpoint that knows its classes; without: that of the "
        f"checkpoint given, else {CLASSES}",
    )
    skip_bad: bool = option(False, "leave out images and annotations with errors, and list them")
    cache: str = option("auto", "where decoded images live", ("auto", "device", "ram", "none"))
    workers: int = option(4, "threads that decode images, or copy them for a GPU")
    device: str = option("auto", "auto takes a GPU where there is one", ("auto", "cpu", "cuda"))
    batch_size: int = option(32, "images a forward pass")

    def __post_init__(self) -> None:
        """Refuses values that no run can work with."""
        at_least(self, 1, "workers", "batch_size")


@dataclass(frozen=True)
class TrainConfig(DataConfig):
    """Training of one network. The defaults are the paper's schedule for VOC07+12: 120,000 steps
    of 32 images are 232 epochs, the rate falls after 80,000 and 100,000.
    """

    # What is None is decided by the recipe once the number of steps is known; see utils/recipes.py.

    train: tuple[str, ...] = option(
        ("VOC2007/trainval", "VOC2012/trainval"), "splits to train on, as YEAR/SPLIT"
    )
    val: tuple[str, ...] = option(
        (),
        "splits whose mAP chooses best.pth, not those to report on; none: the last network is it",
    )
    backbone: str = option(
        "", "spec, e.g. resnet34 or 'mobilenetv2(width=0.35)'; without: vgg16, or that of --weights"
    )
    pretrained: bool = option(True, "start the backbone from ImageNet weights")
    weights: str = option(
        "",
        "start from this checkpoint, ours or another project's; of one that knows other classes "
        "the class heads begin anew",
    )
    name: str = option("ssd300", "the run's folder under --logs")
    logs: str = option("logs", "where runs are written")
    resume: bool = option(False, "go on from the run's last.pth")
    seed: int = option(0, "decides initial weights, data order and augmentation")

    accumulate: int = option(
        1, "parts of a batch that go through the network one after the other; saves memory"
    )
    epochs: int = option(232, "passes over the training splits")
    recipe: str = option(
        "auto",
        "decides those settings whose defaults name it: the paper's schedule, or what learns from "
        "random weights, or from learned ones; auto takes one by what the run starts from and how "
        "long it is, and says so",
        RECIPES,
    )
    optimizer: str = option(None, "optimiser", ("sgd", "adamw"))
    lr: float = option(None, "learning rate after warm-up")
    momentum: float = option(0.9, "momentum of SGD, first beta of AdamW")
    weight_decay: float = option(None, "for weights of convolutions; norms and biases have none")
    schedule: str = option(None, "learning-rate schedule", ("multistep", "cosine"))
    milestones: tuple[float, ...] = option(
        (2 / 3, 5 / 6), "parts of the run after which multistep divides the rate by 10"
    )
    warmup: int = option(None, "steps over which the rate rises from 0; at most a tenth of the run")
    clip_norm: float = option(0.0, "largest gradient norm; 0: no limit, as in the paper")
    freeze_epochs: int = option(0, "epochs at the start in which the backbone does not train")
    ema: float = option(None, "decay of the averaged weights, e.g. 0.999; 0 turns them off")
    amp: str = option(
        "auto",
        "arithmetic; auto is bf16 on a GPU that has it and on a CPU that is faster with it; off is "
        "float32 (on a GPU without TF32)",
        ARITHMETICS,
    )
    compile: bool = option(False, "compile the network and its loss with torch.compile")
    profile: bool = option(False, "profile some steps instead of training; writes trace.json")
    val_every: int = option(10, "epochs between validations (mAP and loss); 0: only at the end")
    patience: int = option(
        0,
        "validations without a better mAP on --val after which the run ends; 0: never; the "
        "schedule stays that of --epochs",
    )
    log_every: int = option(10, "steps between readings of the losses, each a row of metrics.jsonl")
    ledger_every: int = option(
        100, "steps between measurements of each term's gradient share; 0 turns the ledger off"
    )
    save_every: int = option(0, "steps between saves within an epoch; 0: only at its end")
    sync_bn: bool = option(False, "batch-norm statistics of all processes' images, on GPUs")
    difficult: str = option(
        "ignore",
        "objects marked difficult: neither taught nor mined, objects like others, or background",
        DIFFICULT,
    )
    expand: float = option(
        None,
        "largest zoom-out; 1 turns it off, as short runs want (it doubles the paper's schedule)",
    )

    neg_pos_ratio: float = option(3.0, "hard negatives for each positive")
    negatives_for_hard: int = option(100, "hard negatives of an image without positives")
    conf_weight: float = option(1.0, "factor of the confidence loss")
    loc_weight: float = option(1.0, "factor of the localisation loss")

    usual_backbone: ClassVar[str] = "vgg16"
    example_lines: ClassVar[tuple[str, ...]] = (
        "train_teacher.py --classes VOCdevkit/A/classes.txt --train A/train --val A/val",
        "train_teacher.py --backbone 'resnet18(width=0.25)' --no-pretrained --epochs 60",
        "train_teacher.py --backbone 'resnet18(width=0.25)' --no-pretrained --epochs 60 --resume",
    )

    @property
    def unlabelled_splits(self) -> tuple[str, ...]:
        """Splits of images without labels, where something can find their objects."""
        return ()

    @property
    def unlabelled_images(self) -> int:
        """How many images of a batch come from these."""
        return 0

    @property
    def chooses(self) -> bool:
        """Whether best.pth is the best of several validations."""
        return bool(self.val) and 0 < self.val_every < self.epochs

    def __post_init__(self) -> None:
        """Refuses values that no run can work with."""
        super().__post_init__()
        if not self.backbone and not self.weights:
            object.__setattr__(self, "backbone", self.usual_backbone)  # frozen is for later
        at_least(self, 1, "epochs", "accumulate", "log_every")
        at_least(self, 0, "freeze_epochs", "warmup", "val_every", "clip_norm", "weight_decay")
        at_least(self, 0, "save_every", "ledger_every", "patience")
        if self.patience and not self.chooses:
            raise ValueError(
                "--patience waits for a better mAP: give --val, and a --val-every below --epochs"
            )
        at_least(self, 0, "neg_pos_ratio", "negatives_for_hard", "conf_weight", "loc_weight")
        at_least(self, 1, "expand")
        above(self, 0, "lr")
        for name, low, high in (("ema", 0, 1), ("momentum", 0, 1)):
            if getattr(self, name) is not None and not low <= getattr(self, name) < high:
                raise ValueError(f"{flag(name)} must be in [0, 1), not {getattr(self, name)}")
        if any(not 0 < m < 1 for m in self.milestones):
            raise ValueError(f"--milestones must be parts of the run in (0, 1): {self.milestones}")
        if not self.train:
            raise ValueError("--train names no split; give at least one, as YEAR/SPLIT")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"--seed must be in 0 .. 2^32 - 1, not {self.seed}")
        inside = ".." not in Path(self.name).parts and not self.name.startswith(("/", "."))
        if not self.name or self.name != self.name.strip() or not inside:
            raise ValueError(f"--name must be a folder name, not {self.name!r}")


@dataclass(frozen=True)
class DistillConfig(TrainConfig):
    """Training of a student under a teacher."""

    usual_backbone: ClassVar[str] = "mobilenetv2"
    example_lines: ClassVar[tuple[str, ...]] = (
        "train_kd.py --teacher logs/teacher/best.pth --train MYSET/train --val MYSET/val",
        "train_kd.py --teacher logs/teacher/best.pth --preset soft --distill 'cwd(weight=80)' pkd",
        "train_kd.py --teacher-backbone resnet34 --teacher-epochs 30 --backbone mobilenetv2",
    )
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "tutorial": {
            "soft_weight": 0.3,
            "conf_weight": 0.7,
            "l2_weight": 0.5,
            "loc_weight": 1.0,
            "temperature": 1.0,
            "neg_w": 1.5,
            "distill": (),
        },
        # Chen et al., NIPS 2017, sec. 4: mu = 0.5 shares the classification loss, nu = 0.5; the
        # hint has gamma = 0.5 in eq. 1.
        "paper": {
            "soft_weight": 0.5,
            "conf_weight": 0.5,
            "l2_weight": 0.5,
            "loc_weight": 1.0,
            "temperature": 1.0,
            "neg_w": 1.5,
            "distill": ("hint(weight=0.5)",),
        },
        # docs/evidence.md: objects as without a teacher, and soft targets that nowhere did harm;
        # with neg_w 1 the teacher itself is the optimum.
        "soft": {
            "soft_weight": 0.5,
            "conf_weight": 1.0,
            "l2_weight": 0.0,
            "loc_weight": 1.0,
            "temperature": 2.0,
            "neg_w": 1.0,
            "distill": (),
        },
    }

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
        "soft", "decides those settings whose defaults name presets", tuple(presets)
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
        (),
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
        False, "go on without writing where the memo cannot be written, say on a full disk"
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
            raise ValueError("--share follows the ledger, which --ledger-every 0 turns off")
        above(self, 0, "temperature")
        self.check_first_stage()
        self.check_unlabelled()

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


@dataclass(frozen=True)
class MapConfig(DataConfig):
    """Evaluation on a split, of a network or of any detector's VOC result files."""

    example_lines: ClassVar[tuple[str, ...]] = (
        "get_map.py --weights logs/student/best.pth --split VOC2007/test --json map.json",
        "get_map.py --weights logs/student/best.pth --split MYSET/test --plots logs/student/plots",
        "get_map.py --detections results --classes model_data/voc_classes.txt",
    )

    weights: str = option("", "checkpoint, e.g. logs/RUN/best.pth, or exported network, *.onnx")
    detections: str = option("", "instead: a folder of files comp4_det_test_CLASS.txt")
    split: tuple[str, ...] = option(("VOC2007/test",), "splits to evaluate, as YEAR/SPLIT")
    batch_size: int = option(32, "images a forward pass, in each process")
    amp: str = option(
        "auto",
        "arithmetic; auto is what training measured the mAP in, off where that is not known",
        ARITHMETICS,
    )
    cache: str = option("none", "where decoded images live", ("auto", "device", "ram", "none"))
    json: str = option("", "write the result to this file")
    plots: str = option(
        "",
        "write pictures into this folder: precision-recall curves, the confusion matrix, "
        "and the images that agree least with their objects",
    )
    save_detections: str = option("", "write VOC result files into this folder")
    score: float = option(0.01, "detections have a score above this")
    nms: float = option(0.45, NMS)
    per_class: int = option(400, PER_CLASS)
    top_k: int = option(200, TOP_K)

    def __post_init__(self) -> None:
        """Refuses values that no run can work with."""
        super().__post_init__()
        if bool(self.weights) == bool(self.detections):
            raise ValueError("give either --weights, such as logs/RUN/best.pth, or --detections")
        if not self.split:
            raise ValueError("--split names no split; give at least one, as YEAR/SPLIT")
        if self.detections and not self.classes:
            raise ValueError("--detections needs --classes: result files do not name their order")
        limits = ("score", "nms", "per_class", "top_k")
        changed = [name for name in limits if getattr(self, name) != getattr(MapConfig, name)]
        if self.detections and changed:
            flag = changed[0].replace("_", "-")
            raise ValueError(f"--{flag} is a network's; --detections are evaluated as they are")
        check_limits(self)


@dataclass(frozen=True)
class PredictConfig:
    """Detection on images or a video."""

    example_lines: ClassVar[tuple[str, ...]] = (
        "predict.py --weights logs/student/best.pth --source photo.jpg",
        "predict.py --weights logs/student/best.pth --source photos --score 0.3 --json",
        "predict.py --weights logs/student/best.pth --source camera:0 --frames 100",
    )

    weights: str = option("", "checkpoint, e.g. logs/RUN/best.pth, or exported network, *.onnx")
    source: str = option(
        "",
        "an image, a folder or pattern ('street/*.jpg') of images, a text file of paths, a video, "
        "a URL (http, rtsp), or camera:0",
    )
    out: str = option("logs/predict", "folder for the drawn results")
    json: bool = option(False, "also write detections.json and summary.json into --out")
    compare: str = option("", "show a second network beside --weights")
    classes: tuple[str, ...] = option((), "show these classes only, as cat dog or cat,dog")
    heatmap: tuple[str, ...] = option(
        (), "colour the images by where the network sees these classes, or all"
    )
    crops: str = option("", "write each detected object into a file of its own in this folder")
    counts: bool = option(False, "print how many objects of each class there are")
    show: bool = option(False, "open a window; q ends")
    score: float = option(0.5, "detections have a score above this")
    nms: float = option(0.45, NMS)
    per_class: int = option(400, PER_CLASS)
    top_k: int = option(200, TOP_K)
    batch_size: int = option(8, "images a forward pass")
    device: str = option("auto", "auto takes a GPU where there is one", ("auto", "cpu", "cuda"))
    amp: str = option(
        "auto",
        "arithmetic; auto is what training measured the mAP in, off where that is not known",
        ARITHMETICS,
    )
    frames: int = option(0, "stop a video after this many frames; 0: at its end")
    skip_bad: bool = option(False, "leave out unreadable images, and list them")

    def __post_init__(self) -> None:
        """Refuses values that no run can work with."""
        if not self.weights or not self.source:
            raise ValueError("--weights and --source are needed; see --help")
        at_least(self, 1, "batch_size")
        at_least(self, 0, "frames")
        check_limits(self)


def check_limits(config: MapConfig | PredictConfig) -> None:
    """Refuses limits that no post-processing can keep to."""
    for name in ("score", "nms"):
        if not 0 <= getattr(config, name) <= 1:
            raise ValueError(f"{flag(name)} must be in 0 .. 1, not {getattr(config, name)}")
    at_least(config, 1, "per_class", "top_k")


def flag(name: str) -> str:
    """`batch_size` -> `--batch-size`."""
    return "--" + name.replace("_", "-")


def at_least(config: Any, low: float, *names: str) -> None:
    """Raises ValueError for a field that is below `low`, or above all that can be meant."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not low <= value <= LARGEST:
            limit = f"at most {LARGEST:g}" if value > LARGEST else f"at least {low}"
            raise ValueError(f"{flag(name)} must be {limit}, not {value}")


def above(config: Any, low: float, *names: str) -> None:
    """Raises ValueError for a field that is not above `low`, or above all that can be meant."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not low < value <= LARGEST:
            limit = f"at most {LARGEST:g}" if value > LARGEST else f"above {low}"
            raise ValueError(f"{flag(name)} must be {limit}, not {value}")
