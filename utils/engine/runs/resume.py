"""Going on with a run that was interrupted: is it this one, and can its state be gone on with?"""

import math
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch

from utils.config import TrainConfig
from utils.engine.rehearsal import keep_arithmetic
from utils.engine.runs.checkpoint import load_newest
from utils.engine.runs.folder import LAST, free_settings, settings
from utils.engine.trainer import Trainer
from utils.runtime.distributed import barrier, is_main
from utils.runtime.provenance import PROVENANCE, origin_of

COUNTED = ("schedule", "scaler", "average")  # parts with numbers that a step changes


def resume(trainer: Trainer, folder: Path, description: dict[str, Any]) -> dict[str, Any]:
    """Loads a run's last.pth, or the one before where that is damaged, into a new trainer.

    Returns:
        `description` as the run goes on with it: its weights came from where they first came from.

    Raises:
        FileNotFoundError, ValueError: there is none, it is damaged, or it is of another network or
            teacher, or of other settings.
    """
    content, path = load_newest(folder / LAST)
    if not isinstance(content.get("config"), dict):
        raise ValueError(f"{path}: has no settings; give a last.pth that a training wrote")
    known = check_teacher(content, description, path)
    check_same_run(content, description, trainer.config, path, free={"teacher"} if known else set())
    keep_arithmetic(trainer, content)
    try:
        check_training(content["training"], trainer.state_dict())
        trainer.load_state_dict(content["training"])
    except Exception as error:  # what is in a file may be anything
        why = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(
            f"{path}: its training state does not fit these settings ({why[:300]}); resume with "
            "the settings it was started with"
        ) from error
    barrier()  # until then another process may be reading
    if is_main() and path.name != LAST:
        path.replace(folder / LAST)  # or the next save would put the damaged one in its place
    begun = origin_of(content, "weights")
    origin = {**description.get(PROVENANCE, {}), **({"weights": begun} if begun else {})}
    return {**description, PROVENANCE: origin}


def check_teacher(content: dict[str, Any], description: dict[str, Any], path: Path) -> bool:
    """Raises ValueError where a checkpoint is of a teacher of other content, under whatever name.

    Returns:
        Whether that is known. It is not of older checkpoints, which is said in one line.
    """
    theirs, ours = (origin_of(said, "teacher") for said in (content, description))
    if theirs and theirs.get("sha256") != ours.get("sha256"):
        was, now = (f"{o.get('path')} (SHA-256 {o.get('sha256')})" for o in (theirs, ours))
        raise ValueError(
            f"{path}: its teacher is {was}, this run's {now if ours else 'none'}; resume with the "
            "teacher it was started with"
        )
    if ours and not theirs:
        print(f"{path} does not know its teacher's content; the paths of the two are compared")
    return bool(theirs)


def check_same_run(
    content: dict[str, Any],
    description: dict[str, Any],
    config: TrainConfig,
    path: Path,
    free: Collection[str],
) -> None:
    """Raises ValueError where a checkpoint is of another network or of other settings.

    Those in `free` may differ beside `free_settings`, and so may `--weights`: what a run once
    started from may have moved, or gone.
    """
    ours = {key: value for key, value in description.items() if key != PROVENANCE}
    check_settings({key: content.get(key) for key in ours}, ours, path, free)
    # What was no setting yet when the run was started had what is the default now.
    theirs = settings(type(config)()) | content["config"]
    check_settings(theirs, settings(config), path, {*free_settings(config), *free, "weights"})


def check_settings(
    theirs: dict[str, Any], ours: dict[str, Any], path: Path, free: Collection[str]
) -> None:
    """Raises ValueError where settings differ, but for those that are free to."""
    for key, value in theirs.items():
        if key not in free and (key not in ours or value != ours[key]):
            other = f"this run's {ours[key]!r}" if key in ours else "this run has no such setting"
            raise ValueError(
                f"{path}: its {key} is {value!r}, {other}; resume with the settings, and by the "
                "script, it was started with"
            )


def check_training(state: dict[str, Any], new: dict[str, Any]) -> None:
    """Raises ValueError, KeyError or TypeError where numbers that training goes on with are none.

    Weights are checked where they are loaded.

    Args:
        state: of the checkpoint.
        new: the same of a trainer that has done nothing yet.
    """
    for readings in (state["readings"], state["ledger"]):
        counts = (state["epoch"], state["position"], readings["steps"])
        if not all(type(count) is int and count >= 0 for count in counts):
            raise ValueError(f"epoch, position and steps are {counts}")
        names, sums = readings["names"], readings["sums"]
        if not all(isinstance(n, str) for n in names) or not all(map(math.isfinite, sums)):
            raise ValueError(f"the readings are {readings}")
    if not isinstance(state["best"], float | int):
        raise ValueError(f"the best mAP is {state['best']!r}")
    for part in COUNTED:
        off = part == "scaler" and {} in (new[part], state[part])  # only fp16 has one
        if new[part] is not None and state[part] is not None and not off:
            check_numbers(state[part], new[part], part)
    for values in state["optimizer"]["state"].values():
        for name, value in values.items():
            if isinstance(value, torch.Tensor) and not value.isfinite().all():
                raise ValueError(f"the optimiser's {name} holds infinite values or NaN")


def check_numbers(found: Any, new: Any, place: str) -> None:
    """Raises ValueError where `found` has no number of the kind that `new` has at the same place.

    Flags are not looked at: which of them there are depends on the version of torch.
    """
    if isinstance(new, dict):
        for key, value in new.items():
            if type(value) in (int, float, list):
                check_numbers(found[key], value, f"{place}.{key}")
    elif isinstance(new, list):
        if not isinstance(found, list) or len(found) != len(new):
            raise ValueError(f"{place} is {found!r}")
        for i, value in enumerate(new):
            check_numbers(found[i], value, f"{place}.{i}")
    elif type(new) in (int, float):
        whole = type(new) is float or type(found) is int
        if type(found) not in (int, float) or not whole or not 0 <= found < math.inf:
            raise ValueError(f"{place} is {found!r}")
