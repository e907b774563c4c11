"""Networks in files: a checkpoint knows its backbone, layout and class names.

The files of other projects know less; `utils.convert` recognises them, this module builds them.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nets.ssd import SSD300
from utils.checkpoint import is_ours, load_tensors
from utils.class_names import COCO, VOC
from utils.convert import Foreign, convert


def describe_network(model: SSD300, class_names: Sequence[str]) -> dict[str, Any]:
    """What a checkpoint has to hold besides the weights, so that the network can be built again."""
    return {"backbone": model.spec, "layout": model.layout, "class_names": list(class_names)}


def load_network(
    path: str | Path, device: torch.device | None = None, class_names: Sequence[str] = ()
) -> tuple[SSD300, tuple[str, ...]]:
    """The network of a checkpoint, in evaluation mode, and its class names.

    Args:
        path: a checkpoint of this program, or one that `utils.convert` recognises.
        device: where to put it; default: CPU.
        class_names: the classes of another project's network; used where neither the project nor
            their number tells them, see `default_names`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, no checkpoint, its weights do not fit the network that it
            describes, or its class names are unknown.
    """
    content = load_tensors(path)
    try:
        if is_ours(content):
            names = tuple(content["class_names"])
            model = SSD300(content["backbone"], len(names), layout=content["layout"])
            load_weights(model, content["model"])
        else:
            foreign = convert(content)
            names = default_names(foreign) or tuple(class_names)
            model = foreign_network(foreign, names)
    except KeyError as error:
        raise ValueError(f"{path}: the checkpoint has no entry {error}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return model.to(device).eval(), names


def default_names(foreign: Foreign) -> tuple[str, ...]:
    """The class names that 20 classes, or torchvision's 90, stand for; empty for other numbers.

    All of these projects order VOC's classes by the alphabet.
    """
    if foreign.project == "torchvision" and foreign.classes == len(COCO):
        return COCO
    return VOC if foreign.classes == len(VOC) else ()


def foreign_network(foreign: Foreign, class_names: Sequence[str]) -> SSD300:
    """The network of another project, with its own priors and normalisation.

    Raises:
        ValueError: the names are not as many as the classes, or the weights do not fit.
    """
    if len(class_names) != foreign.classes:
        raise ValueError(
            f"{foreign.project} weights with {foreign.classes} classes, for which "
            f"{len(class_names) or 'no'} names are given; list them in a file, one a line, and "
            "pass it as --classes, or first run python -m tools.import_weights with --classes"
        )
    model = SSD300(foreign.backbone, foreign.classes, layout=foreign.layout)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (foreign.mean, foreign.std))
    load_weights(model, {**foreign.state, "mean": mean, "std": std})
    return model


def load_weights(model: SSD300, state: dict[str, Tensor]) -> None:
    """Copies every entry of `state` into `model`, or none.

    Raises:
        ValueError: entries are missing, left over or of another shape; the first three are named.
    """
    own = model.state_dict()
    differences = [
        *(f"{key} is missing" for key in own if key not in state),
        *(f"{key} is unknown" for key in state if key not in own),
        *(
            f"{key} is {tuple(state[key].shape)} instead of {tuple(own[key].shape)}"
            for key in own
            if key in state and state[key].shape != own[key].shape
        ),
    ]
    if differences:
        listed = "; ".join(differences[:3])
        more = f" and {len(differences) - 3} more" if len(differences) > 3 else ""
        raise ValueError(
            f"the weights are not those of {model.spec} with {model.classes} classes: "
            f"{listed}{more}"
        )
    model.load_state_dict(state)
