"""What a teacher knows that its student does not: both compared, positive by positive."""

import math
from typing import Any

import torch
from torch import Tensor

from nets.multibox_loss import background_loss, mine_hard_negatives
from nets.outputs import Matches, Outputs
from utils.boxes import area, decode, iou

SIDES = ("teacher", "student")
SIZES = ("small", "medium", "large")
# COCO's limits, 32^2 and 96^2 square pixels of the original image. A matched box is decoded with
# rounding; VOC's have whole pixels, so half a pixel less lets 32 x 32 be medium on every device.
SIZE_LIMITS = (32.0**2 - 0.5, 96.0**2 - 0.5)
TEMPERATURES = (1, 2, 4)
# Entropy, in nats, below which a soft target is called nearly one-hot: (0.98, 0.02) has
# -0.98 log 0.98 - 0.02 log 0.02 = 0.098.
NEARLY_ONE_HOT = 0.1


class Comparison:
    """Means of `readings` over a split, by class and size of the object; float64 sums on the CPU.

    Args:
        classes: K.
        priors: `[P, 4]`, cxcywh in image fractions; those of both networks.
        reg_m: margin of the teacher bound, see `MultiBoxLoss_KD`.
    """

    def __init__(self, classes: int, priors: Tensor, reg_m: float = 0.0) -> None:
        self.classes, self.priors, self.reg_m = classes, priors, reg_m
        self.sums: dict[str, Tensor] = {}
        self.positives = torch.zeros(classes, len(SIZES), dtype=torch.float64)
        self.hard_negatives = 0
        self.losses = dict.fromkeys(SIDES, 0.0)

    def update(self, student: Outputs, teacher: Outputs, matches: Matches, pixels: Tensor) -> None:
        """Adds a batch.

        Args:
            student: what it says about the images.
            teacher: what it says about them, over the same priors.
            matches: what both were asked to predict.
            pixels: `[B, 2]`, width and height of the original images.
        """
        image, prior = (matches.labels > 0).nonzero(as_tuple=True)
        boxes = decode(matches.offsets[image, prior].double(), self.priors[prior].double())
        size = size_of(area(boxes) * pixels.to(boxes)[image].prod(1))
        group = ((matches.labels[image, prior] - 1) * len(SIZES) + size).cpu()
        self._add(self.positives, group, torch.ones(len(group)))
        found = readings(student, teacher, matches, self.priors, self.reg_m)
        for name, values in found.items():
            self._add(self.sums.setdefault(name, torch.zeros_like(self.positives)), group, values)
        # As the loss mines them: by what the student is most wrong about.
        negative = mine_hard_negatives(student.logits, matches.labels)
        self.hard_negatives += int(negative.sum())
        for side, outputs in zip(SIDES, (teacher, student), strict=True):
            self.losses[side] += (
                background_loss(outputs.logits[negative][None]).double().sum().item()
            )

    def _add(self, sums: Tensor, group: Tensor, values: Tensor) -> None:
        sums.view(-1).index_add_(0, group, values.cpu().double())

    def means(self, label: int = 0, size: str = "") -> dict[str, Any]:
        """The mean of each reading, and the number of `positives`.

        Args:
            label: of the objects, 1..K; 0: all of them.
            size: one of `SIZES`; empty: all of them.

        Returns:
            `{"positives": 7, "iou": {"teacher": 0.7, "student": 0.6}, ...}`, the readings' names
            split at their slash; nan where there is no positive.
        """
        rows = slice(label - 1, label) if label else slice(None)
        column = SIZES.index(size) if size else 0
        columns = slice(column, column + 1) if size else slice(None)
        count = self.positives[rows, columns].sum()
        means: dict[str, Any] = {"positives": int(count)}
        for name, sums in self.sums.items():
            reading, slash, key = name.partition("/")
            mean = (sums[rows, columns].sum() / count).item()
            if slash:
                means.setdefault(reading, {})[key] = mean
            else:
                means[reading] = mean
        return means

    def hard_negative_loss(self) -> dict[str, float]:
        """Cross-entropy of both over the student's hard negatives, nan of none; their `number`."""
        number = self.hard_negatives
        means = {s: loss / number if number else math.nan for s, loss in self.losses.items()}
        return {"number": number, **means}


def size_of(areas: Tensor) -> Tensor:
    """`[N]` square pixels -> `[N]` positions in `SIZES`; below 32^2, below 96^2, and from there."""
    return torch.bucketize(areas, areas.new_tensor(SIZE_LIMITS))


def readings(
    student: Outputs, teacher: Outputs, matches: Matches, priors: Tensor, reg_m: float = 0.0
) -> dict[str, Tensor]:
    """What is compared, one number for each of the N positives of a batch, image by image.

    Of either side, as `NAME/teacher` and `NAME/student`:

        box_error      |o_side - o|^2, in encoded space, as in the teacher bound
        iou            of the decoded box with the object
        probability    p(true class)
        cross_entropy  -log p(true class)
        accuracy       1 where the true class is the likeliest column, else 0
        background     1 where the background is the likeliest column, else 0

    Of both: `bound_active` is 1 where e_s + reg_m > e_t, so that the bound pulls at the student's
    box; `surer` where the teacher gives the true class more than the student does. Of the teacher:
    see `soft_target_readings`.

    Args:
        student: logits `[B, P, K + 1]`, offsets `[B, P, 4]`.
        teacher: the same, over the same priors.
        matches: what both were asked to predict.
        priors: `[P, 4]`, cxcywh in image fractions.
        reg_m: margin of the teacher bound, in squared encoded units.

    Returns:
        Name -> `[N]` float64.
    """
    image, prior = (matches.labels > 0).nonzero(as_tuple=True)
    label = matches.labels[image, prior]
    truth, own = matches.offsets[image, prior].double(), priors[prior].double()
    objects = decode(truth, own)
    found: dict[str, Tensor] = {}
    for side, outputs in zip(SIDES, (teacher, student), strict=True):
        offsets = outputs.offsets[image, prior].double()
        log_p = outputs.logits[image, prior].double().log_softmax(-1)
        log_true = log_p.gather(1, label[:, None])[:, 0]
        found[f"box_error/{side}"] = (offsets - truth).square().sum(-1)
        # A row is an image of one box to `iou`: [N, 1, 1].
        found[f"iou/{side}"] = iou(decode(offsets, own)[:, None], objects[:, None])[:, 0, 0]
        found[f"probability/{side}"] = log_true.exp()
        found[f"cross_entropy/{side}"] = -log_true
        likeliest = log_p.argmax(-1)
        found[f"accuracy/{side}"] = (likeliest == label).double()
        found[f"background/{side}"] = (likeliest == 0).double()
    active = found["box_error/student"] + reg_m > found["box_error/teacher"]
    surer = found["probability/teacher"] > found["probability/student"]
    found |= {"bound_active": active.double(), "surer": surer.double()}
    return found | soft_target_readings(teacher.logits[image, prior])


def soft_target_readings(logits: Tensor) -> dict[str, Tensor]:
    """How much more than a label the teacher's soft targets say, at each of `TEMPERATURES`.

    `entropy/T` in nats; `between_classes/T`, the part of it that is about *which* class: the
    entropy less that of object against background, (1 - p_0) H(class | object); `one_hot/T` is 1
    where the entropy is below `NEARLY_ONE_HOT`.

    Args:
        logits: `[N, K + 1]`, column 0 is background.

    Returns:
        Name -> `[N]` float64.
    """
    found = {}
    for temperature in TEMPERATURES:
        p = (logits.double() / temperature).softmax(-1)
        entropy = torch.special.entr(p).sum(-1)
        background = torch.special.entr(p[:, 0]) + torch.special.entr(p[:, 1:].sum(-1))
        found[f"entropy/{temperature}"] = entropy
        found[f"between_classes/{temperature}"] = (entropy - background).clamp(min=0)
        found[f"one_hot/{temperature}"] = (entropy < NEARLY_ONE_HOT).double()
    return found
