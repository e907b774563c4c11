"""Networks in files: a checkpoint knows its backbone, layout and class names.

The files of other projects know less; `nets.foreign` recognises and builds them.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from nets.foreign.convert import convert
from nets.foreign.networks import check_guess, check_number, default_names, foreign_network
from nets.postprocess import EVALUATED, Limits
from nets.saved.exported import SUFFIX, Exported
from nets.saved.pruned import load_pruned_weights
from nets.ssd import SSD300, load_weights, with_classes
from utils.engine.runs.checkpoint import is_ours, load_tensors
from utils.runtime.device import Precision, choose_precision, recorded_precision


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
    refuse_exported(path)
    return network_in(load_tensors(path), path, device, class_names)


def load_detector(
    path: str | Path, device: torch.device, amp: str = "auto", class_names: Sequence[str] = ()
) -> tuple[SSD300 | Exported, tuple[str, ...], Precision]:
    """What `load_network` returns, or a network that `tools.export` wrote, and its arithmetic.

    It is `amp`, see `choose_precision`; for `auto` that in which training measured the network's
    mAP, where the checkpoint says it for this kind of device, else float32. An exported network
    computes as it was exported, see `Exported.arithmetic`.

    Raises:
        FileNotFoundError, ValueError: see `load_network` and `nets.saved.exported.Exported`; or the
            device, or the exported network, does not have `amp`.
    """
    precision = choose_precision(device, amp)
    if is_exported(path):
        if precision.dtype and amp != "auto":
            raise ValueError(f"--amp {amp}: {path} is an exported network and computes as it is")
        exported = Exported(path, device).to(device)
        return exported, exported.class_names, Precision(device)
    content = load_tensors(path)
    model, names = network_in(content, path, device, class_names)
    if amp == "auto":
        record = content.get("arithmetic") if is_ours(content) else None
        precision = recorded_precision(record, device)
    return model, names, precision


def limits_for(model: SSD300 | Exported, limits: Limits) -> Limits:
    """`limits`, where the network can keep to them.

    Where an exported network was written with other ones than usual, and nobody asks for these, it
    says so: they hold.

    Raises:
        ValueError: an exported network has other ones built in.
    """
    if not isinstance(model, Exported):
        return limits
    for flag, asked, usual, built_in in (
        ("--nms", limits.iou, EVALUATED.iou, model.iou_threshold),
        ("--per-class", limits.per_class, EVALUATED.per_class, EVALUATED.per_class),
    ):
        if asked not in (usual, built_in):
            raise ValueError(f"{flag}: built into an exported network; export it anew")
    if limits.score < model.score_threshold or limits.iou != model.iou_threshold:
        print(
            f"the exported network's own limits hold: scores above {model.score_threshold:g}, "
            f"suppression at {model.iou_threshold:g}"
        )
    if limits.per_image > EVALUATED.per_image and not model.raw:
        print(f"the exported network finds at most {EVALUATED.per_image} objects an image")
    return limits


def network_in(
    content: Any,
    path: str | Path,
    device: torch.device | None = None,
    class_names: Sequence[str] = (),
) -> tuple[SSD300, tuple[str, ...]]:
    """`load_network` of what `load_tensors` has read from `path`."""
    model, names = built(content, path)
    with faults_of(path):
        if not is_ours(content):
            check_number(model.classes, class_names or names)
            check_guess(names, class_names)
    names = names or tuple(class_names)
    return model.to(device).eval(), names


def load_start(path: str | Path, class_names: Sequence[str]) -> tuple[SSD300, bool]:
    """The network of a checkpoint, to be trained on, and whether its class heads are new.

    They are, and drawn from torch's random numbers, where the checkpoint knows other classes: other
    names, or, where it tells none, another number of them. Everything else is kept.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: as `load_network`; or it knows the same classes in another order, which is more
            likely a mistake in the list than meant.
    """
    model, names = built(load_tensors(path), path)
    if sorted(names) == sorted(class_names):
        check_class_names(names, class_names, "--weights")
    elif names or model.classes != len(class_names):
        return with_classes(model, len(class_names)), True
    return model, False


def built(content: Any, path: str | Path) -> tuple[SSD300, tuple[str, ...]]:
    """The network in what `path` holds, and its class names where the file tells them."""
    with faults_of(path):
        names = names_in(content)
        if not is_ours(content):
            return foreign_network(convert(content)), names
        model = SSD300(content["backbone"], len(names), layout=content["layout"])
        load = load_pruned_weights if content.get("pruned") else load_weights
        load(model, content["model"])
        return model, names


def names_in(content: Any) -> tuple[str, ...]:
    """The class names that a checkpoint tells; raises KeyError or ValueError where it is none."""
    if not is_ours(content):
        return default_names(convert(content))
    check_entries(content)
    return tuple(content["class_names"])


@contextmanager
def faults_of(path: str | Path) -> Iterator[None]:
    """Within, what is wrong with the content of a file names the file."""
    try:
        yield
    except KeyError as error:
        raise ValueError(f"{path}: the checkpoint has no entry {error}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def refuse_exported(path: str | Path, flag: str = "") -> None:
    """Raises ValueError where a network is exported and a checkpoint is needed."""
    if is_exported(path):
        raise ValueError(
            f"{flag} {path}".strip() + ": an exported network detects and does nothing else; give "
            "the checkpoint that it was made from"
        )


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


def check_class_names(
    teacher: Sequence[str],
    student: Sequence[str],
    who: str = "the teacher",
    where: str = "--classes",
) -> None:
    """Raises ValueError unless `who`'s list and that in `where` are equal, order included."""
    remedy = f"use the list that {who} was trained with"
    if where == "--classes":
        remedy += ", which counts where --classes is left out"
    for i, (theirs, ours) in enumerate(zip(teacher, student, strict=False), start=1):
        if theirs != ours:
            raise ValueError(f"class {i} is {theirs!r} to {who} and {ours!r} in {where}; {remedy}")
    if len(teacher) != len(student):
        raise ValueError(
            f"{who} knows {len(teacher)} classes, {where} names {len(student)}; {remedy}"
        )
