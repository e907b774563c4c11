"""SSD300s of other projects, built from what `nets.foreign.convert` recognised."""

from collections.abc import Sequence

import torch

from nets.foreign.class_names import COCO, VOC
from nets.foreign.convert import Foreign
from nets.ssd import SSD300, load_weights


def default_names(foreign: Foreign) -> tuple[str, ...]:
    """The class names that 20 classes, or torchvision's 90, stand for; empty for other numbers.

    All of these projects order VOC's classes by the alphabet.
    """
    if foreign.project == "torchvision" and foreign.classes == len(COCO):
        return COCO
    return VOC if foreign.classes == len(VOC) else ()


NAMED = "python -m tools.import_weights SRC DST --classes FILE"


def check_number(classes: int, class_names: Sequence[str]) -> None:
    """Raises ValueError unless the names are as many as the classes of a network."""
    if len(class_names) != classes:
        raise ValueError(
            f"its network has {classes} classes, for which {len(class_names) or 'no'} names are "
            f"given; list them in a file, one a line, and write it anew with: {NAMED}"
        )


def check_guess(guessed: Sequence[str], class_names: Sequence[str]) -> None:
    """Raises ValueError where names are given and others were taken for granted.

    Which are right nobody can tell: VOC's teacher is asked about other classes by mistake, too.
    """
    if guessed and class_names and tuple(guessed) != tuple(class_names):
        raise ValueError(
            f"tells no names; its {len(guessed)} classes are taken for {guessed[0]}, {guessed[1]}, "
            f"..., and --classes begins with {class_names[0]}; if those are its own, write it "
            f"anew with: {NAMED}"
        )


def foreign_network(foreign: Foreign) -> SSD300:
    """The network of another project, with its own priors and normalisation.

    Raises:
        ValueError: the weights do not fit.
    """
    model = SSD300(foreign.backbone, foreign.classes, layout=foreign.layout)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (foreign.mean, foreign.std))
    load_weights(model, {**foreign.state, "mean": mean, "std": std})
    return model
