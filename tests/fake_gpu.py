"""A GPU that every machine has: its tensors have a shape and a device, and no numbers.

Under `FakeTensorMode` tensors on `cuda:0` exist without a GPU. Tensors of two devices in one
operation raise there, and so does whatever has to know a number or a shape that only the GPU
knows (`item`, `nonzero`, `equal`, boolean indexing): a real CPU would wait for it. `NeverWaits`
refuses the waits that such a GPU does not notice. Of autograd there is the forward half only: the
engine that runs backward asks for a real device.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

GPU = torch.device("cuda:0")
aten = torch.ops.aten
INDEXING = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default)


class Waits(AssertionError):  # noqa: N818  # it reads as what the code does
    """The CPU would wait for the GPU here."""


class NeverWaits(TorchDispatchMode):
    """Refuses copies between CPU and GPU that block, and indices that are copied or counted."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Looks at an operation, then runs it."""
        kwargs = kwargs or {}
        if func is aten._to_copy.default:
            refuse_copy(args[0].device, kwargs.get("device"), kwargs.get("non_blocking", False))
        elif func is aten.copy_.default:
            refuse_copy(args[1].device, args[0].device, any(args[2:]) or any(kwargs.values()))
        elif func in INDEXING and args[0].device == GPU:
            refuse_indices(args[1], fill=args[2] if len(args) > 2 else None)
        return func(*args, **kwargs)


def refuse_copy(source: torch.device, target: torch.device | None, non_blocking: bool) -> None:
    """Raises `Waits` for a copy between CPU and GPU, unless it is `non_blocking`."""
    if target is not None and source.type != target.type and not non_blocking:
        raise Waits(f"a copy from {source} to {target} that blocks")


def refuse_indices(indices: Sequence[Tensor | None], fill: Tensor | None) -> None:
    """Raises `Waits` for indices on the CPU, and for masks unless a number fills their places."""
    for index in indices:
        if index is None:
            continue
        if index.device != GPU:
            raise Waits("an index on the CPU: a copy to the GPU that blocks")
        number = fill is not None and fill.dim() == 0 and fill.device != GPU
        if index.dtype in (torch.bool, torch.uint8) and not number:
            raise Waits("a boolean index: its true elements have to be counted")


@contextmanager
def fake_gpu() -> Iterator[None]:
    """Within, `cuda:0` exists, knows every half precision, and whatever waits for it raises.

    Real tensors may be used and count as the CPU's; nothing within knows their numbers.
    """
    with (
        warnings.catch_warnings(),
        mock.patch("torch.cuda.amp.common.amp_definitely_not_available", return_value=False),
        mock.patch("torch.cuda.is_bf16_supported", return_value=True),
        mock.patch("torch.nn.Module.to", moved),
        mock.patch("torch.Tensor.backward", without_numbers),
        mock.patch("torch.autograd.grad", gradients_without_numbers),
        FakeTensorMode(allow_non_fake_inputs=True),
        NeverWaits(),
    ):
        # `copy.deepcopy` asks a tensor where its numbers are.
        warnings.filterwarnings("ignore", "Accessing the data pointer of FakeTensor", UserWarning)
        yield


def moved(
    module: nn.Module,
    device: torch.device | None = None,
    memory_format: torch.memory_format = torch.preserve_format,
) -> nn.Module:
    """In place of `module.to(device, memory_format=...)`, which cannot exchange fake tensors."""

    def to(tensor: Tensor) -> Tensor:
        layout = memory_format if tensor.dim() == 4 else torch.preserve_format
        return tensor.to(device or tensor.device, non_blocking=True, memory_format=layout)

    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                part._parameters[name] = nn.Parameter(
                    to(parameter.detach()), parameter.requires_grad
                )
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = to(buffer)
    return module


def without_numbers(loss: Tensor) -> None:
    """In place of `loss.backward()`: a gradient for every leaf of its graph that wants one."""
    assert loss.device == GPU
    assert loss.dim() == 0
    seen, nodes = set(), [loss.grad_fn]
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        nodes.extend(following for following, _ in node.next_functions)
        if hasattr(node, "variable"):
            node.variable.grad = torch.zeros_like(node.variable)


def gradients_without_numbers(
    output: Tensor, inputs: Sequence[Tensor], **options: Any
) -> list[Tensor]:
    """In place of `torch.autograd.grad`."""
    del options
    assert output.device == GPU
    return [torch.zeros_like(x) for x in inputs]
