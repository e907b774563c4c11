"""The few things that change when several processes train one network."""

import torch.distributed as dist
from torch import Tensor


def mean_over_processes(value: Tensor) -> Tensor:
    """The mean of `value` (any shape) over all processes; `value` itself where there is only one.

    Dividing a local sum by the mean count, and averaging gradients as DDP does, equals one process
    dividing the whole sum by the whole count.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return value
    total = value.clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()
