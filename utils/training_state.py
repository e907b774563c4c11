"""Whether what a checkpoint says of a training can be gone on with."""

import math
from typing import Any

import torch

COUNTED = ("schedule", "scaler", "average")  # parts with numbers that a step changes


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
        if new[part] is not None and state[part] is not None:
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
