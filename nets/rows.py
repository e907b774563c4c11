"""Which rows to look at: some hundreds of a batch's priors decide its loss, out of 8732 an image.

A CPU gathers those and computes nothing else. A GPU would have to wait to count them, so it
computes all and masks. The formulas are the same; only here do the two orders of work part.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

VECTOR = 16  # numbers of 32 bits that the widest CPUs work on at once


def looks_at_all(device: torch.device) -> bool:
    """Whether shapes must not depend on values: on a GPU, and in a compiled graph."""
    return device.type != "cpu" or torch.compiler.is_compiling()


class Rows:
    """The marked priors of a batch: N rows, or all B * P of them where a device looks at all.

    Law: `total(f(take(x)))` is the sum of `f(x)` over the marked priors, in either form, for every
    f that treats each row alone. What stands in unmarked rows has no effect, NaN included.

    Args:
        mask: `[B, P]` bool.
    """

    def __init__(self, mask: Tensor) -> None:
        self.mask = mask
        self.index = None if looks_at_all(mask.device) else mask.flatten().nonzero()[:, 0]

    def take(self, values: Tensor) -> Tensor:
        """`[B, P, ...]` -> `[N, ...]`."""
        rows = values.flatten(0, 1)
        return rows if self.index is None else rows.index_select(0, self.index)

    def total(self, values: Tensor) -> Tensor:
        """The sum of `[N]` over the marked rows, a scalar."""
        if self.index is None:
            values = values.masked_fill(~self.mask.flatten(), 0)
        return values.sum()


def largest_of_rows(values: Tensor, count: Tensor) -> Tensor:
    """The value of the `count`-th largest element of each row, `[B, P]` and `[B, 1]` -> `[B, 1]`.

    Of a count below 1 the largest, of one above P the smallest. There is no NaN, and no gradient.
    """
    place = values.shape[1] - count.clamp(1, values.shape[1])  # by rising order
    if looks_at_all(values.device):
        return values.sort(dim=1).values.gather(1, place)
    # NumPy's selection is vectorised, PyTorch's takes eight times as long.
    rows = zip(values.numpy(), place[:, 0].tolist(), strict=True)
    return values.new_tensor([np.partition(row, k)[k] for row, k in rows])[:, None]


def largest_place(values: Tensor) -> Tensor:
    """Where each row has its largest element, the first of equal ones: `[..., P]` -> `[...]`."""
    if looks_at_all(values.device):
        return values.argmax(-1)
    return torch.from_numpy(values.numpy().argmax(-1))  # vectorised, too


def in_order(values: Tensor) -> Tensor:
    """Where each row's elements are by size, equal ones by place: `[B, P]` uint8 -> int64."""
    if looks_at_all(values.device):
        return torch.sort(values, dim=1, stable=True).indices
    return torch.from_numpy(values.numpy().argsort(axis=1, kind="stable"))  # counts the bytes


def over_classes(softmax: Callable[[Tensor, int], Tensor], logits: Tensor) -> Tensor:
    """`softmax(logits, -1)`, of `torch.softmax` or `torch.log_softmax`.

    Along the innermost axis PyTorch fills a CPU's vectors with the columns of one row. What does
    not fill one, as seven columns, takes ten times as long as along another axis.
    """
    if looks_at_all(logits.device) or logits.shape[-1] >= VECTOR:
        return softmax(logits, -1)
    return softmax(logits.mT.contiguous(), -2).mT
