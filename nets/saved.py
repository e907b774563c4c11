"""Networks in files: a checkpoint knows its backbone, layout and class names.

The files of other projects know less; `nets.foreign` recognises and builds them.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from nets.exported import SUFFIX, Exported
from nets.foreign.convert import convert
from nets.foreign.networks import default_names, foreign_network
from nets.pruned import load_pruned_weights
from nets.ssd import SSD300, load_weights
from utils.engine.checkpoint import is_ours, load_tensors


def describe_network(model: SSD300, class_names: Sequence[str]) -> dict[str, Any]:
    """What a checkpoint has to hold besides the weights, so that the network can be built again."""
    about = {"backbone": model.spec, "layout": model.layout, "class_names": list(class_names)}
    return {**about, "pruned": True} if model.pruned else about


def load_network(
    path: str | Path, device: torch.device | None = None, class_names: Sequence[str] = ()
) -> tuple[SSD300, tuple[str, ...]]:
    """The network of a checkpoint, in evaluation mode, and its class names.

    Args:
        path: a checkpoint of this program, or one that `nets.foreign.convert` recognises.
        device: where to put it; default: CPU.
        class_names: the classes of another project's network; used where neither the project nor
            their number tells them, see `default_names`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, no checkpoint, its weights do not fit the network that it
            describes, or its class names are unknown.
    """
    if is_exported(path):
        raise ValueError(
            f"{path}: an exported network detects and does nothing else; give the checkpoint that "
            "it was made from"
        )
    content = load_tensors(path)
    try:
        if is_ours(content):
            check_entries(content)
            names = tuple(content["class_names"])
            model = SSD300(content["backbone"], len(names), layout=content["layout"])
            load = load_pruned_weights if content.get("pruned") else load_weights
            load(model, content["model"])
        else:
            foreign = convert(content)
            names = default_names(foreign) or tuple(class_names)
            model = foreign_network(foreign, names)
    except KeyError as error:
        raise ValueError(f"{path}: the checkpoint has no entry {error}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return model.to(device).eval(), names


def load_detector(
    path: str | Path, device: torch.device | None = None, class_names: Sequence[str] = ()
) -> tuple[SSD300 | Exported, tuple[str, ...]]:
    """What `load_network` returns, or a network that `tools.export` wrote; both can detect.

    Raises:
        FileNotFoundError, ValueError: see `load_network` and `nets.exported.Exported`.
    """
    if is_exported(path):
        exported = Exported(path, device).to(device)
        return exported, exported.class_names
    return load_network(path, device, class_names)


def is_exported(path: str | Path) -> bool:
    """Whether a name is that of an exported network."""
    return Path(path).suffix.lower() == SUFFIX


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
