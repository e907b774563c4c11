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
            check_entries(content)
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


def check_entries(content: dict[str, Any]) -> None:
    """Raises KeyError or ValueError unless what describes a network is of the right type."""
    kinds = {"backbone": str, "layout": str, "class_names": list, "model": dict}
    for key, kind in kinds.items():
        if not isinstance(content[key], kind):
            found = type(content[key]).__name__
            raise ValueError(f"its entry {key!r} is of type {found}, not {kind.__name__}")
    names = content["class_names"]
    if not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise ValueError(f"its class names are {names}, not different texts")


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
        ValueError: entries are missing, left over, of another shape or no finite numbers; the
            first three are named.
    """
    own = model.state_dict()
    misfits = {key: misfit(state[key], own[key]) for key in own if key in state}
    differences = [
        *(f"{key} is missing" for key in own if key not in state),
        *(f"{key} is unknown" for key in state if key not in own),
        *(f"{key} {fault}" for key, fault in misfits.items() if fault),
    ]
    if differences:
        listed = "; ".join(differences[:3])
        more = f" and {len(differences) - 3} more" if len(differences) > 3 else ""
        raise ValueError(
            f"the weights are not those of {model.spec} with {model.classes} classes: "
            f"{listed}{more}"
        )
    model.load_state_dict(state)


def misfit(value: Any, own: Tensor) -> str:
    """Why `value` cannot be copied into `own`; empty where it can."""
    if not isinstance(value, Tensor) or value.layout is not torch.strided or value.is_quantized:
        return "is no plain tensor"
    if value.shape != own.shape:
        return f"is {tuple(value.shape)} instead of {tuple(own.shape)}"
    if value.is_floating_point() != own.is_floating_point() or value.is_complex() or value.is_meta:
        return f"has {value.dtype} on {value.device} instead of {own.dtype}"
    return "" if value.isfinite().all() else "holds infinite values or NaN"
