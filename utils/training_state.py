"""Whether what a checkpoint says of a training can be gone on with."""

import math
from typing import Any

import torch


def check_training(state: dict[str, Any]) -> None:
    """Raises ValueError, KeyError or TypeError where numbers that training goes on with are none.

    Weights are checked where they are loaded.
    """
    readings = state["readings"]
    counts = (state["epoch"], state["position"], readings["steps"])
    if not all(type(count) is int and count >= 0 for count in counts):
        raise ValueError(f"epoch, position and steps are {counts}")
    names, sums = readings["names"], readings["sums"]
    if not all(isinstance(n, str) for n in names) or not all(map(math.isfinite, sums)):
        raise ValueError(f"the readings are {readings}")
    if not isinstance(state["best"], float | int):
        raise ValueError(f"the best mAP is {state['best']!r}")
    for values in state["optimizer"]["state"].values():
        for name, value in values.items():
            if isinstance(value, torch.Tensor) and not value.isfinite().all():
                raise ValueError(f"the optimiser's {name} holds infinite values or NaN")
