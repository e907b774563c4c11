"""Settings of stage 1, which those of stage 2 begin with."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from utils.config.data import ARITHMETICS, DataConfig
from utils.config.options import above, at_least, flag, option

# What training does with objects that are marked difficult.
DIFFICULT = ("ignore", "train", "background")
# Which settings a run takes where none are given, see utils/recipes.py.
RECIPES = ("auto", "paper", "scratch", "finetune")


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
