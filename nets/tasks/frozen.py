"""A network that only answers: what it would need to learn is gone, and so is the time for it."""

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from nets.ssd import SSD300
from utils.data.augment import IMAGE_SIZE


def frozen(model: SSD300) -> SSD300:
    """A copy of `model` that answers the same sooner and learns nothing.

    It is in evaluation mode, and every batch norm that directly follows a convolution has become
    part of it: w' = w * gamma / sigma, b' = beta - mu * gamma / sigma. Other norms stay. Gradients
    flow through it, to what is shown to it, and not to its weights.

    Law: outputs and source maps are those of `model` in evaluation mode, up to rounding.
    """
    model = copy.deepcopy(model).eval().requires_grad_(False)
    instead: dict[nn.Module, nn.Module] = {}
    for convolution, norm in normalised_convolutions(model):
        assert convolution not in instead, "it is normalised twice, so it cannot become another"
        instead[convolution] = fuse_conv_bn_eval(convolution, norm)
        instead[norm] = nn.Identity().eval()
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if child in instead:
                setattr(parent, name, instead[child])
    return model.to(memory_format=torch.channels_last)


def normalised_convolutions(model: SSD300) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Each batch norm whose input is what a convolution returns, with that convolution.

    Modules do not tell what flows where, so an image goes through the network. That nobody else
    looks at what a convolution returns before its norm does is taken for granted.
    """
    found: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []
    last: tuple[Tensor, nn.Conv2d] | None = None

    def after(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal last
        if isinstance(layer, nn.Conv2d):
            last = output, layer
        if isinstance(layer, nn.BatchNorm2d) and last and inputs[0] is last[0]:
            found.append((last[1], layer))

    kinds = (nn.Conv2d, nn.BatchNorm2d)
    hooks = [m.register_forward_hook(after) for m in model.modules() if isinstance(m, kinds)]
    with torch.no_grad():
        model(model.mean.new_zeros(1, 3, IMAGE_SIZE, IMAGE_SIZE))
    for hook in hooks:
        hook.remove()
    return found
