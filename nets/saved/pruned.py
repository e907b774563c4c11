"""Networks that have fewer channels than their spec says; `tools.prune` makes them."""

import torch
from torch import Tensor, nn

from nets.ssd import SSD300, load_weights
from utils.data.augment import IMAGE_SIZE


def load_pruned_weights(model: SSD300, state: dict[str, Tensor]) -> None:
    """Narrows the layers of `model` to those in `state`, whose shapes say how, and loads them.

    Args:
        model: as its spec builds it.
        state: of the same network after some of its channels were removed.

    Raises:
        ValueError: `state` has something else than fewer channels, see `load_weights`, or its
            layers do not fit together.
    """
    for name, module in model.named_modules():
        if name:  # what the network itself holds has the size of the image
            narrow(module, f"{name}.", state)
    load_weights(model, state)
    model.pruned = True
    try:
        with torch.no_grad():
            _, logits, offsets = model.eval()(torch.zeros(1, 3, IMAGE_SIZE, IMAGE_SIZE))
    except RuntimeError as error:
        raise ValueError(f"its layers do not fit together: {error}") from error
    count = len(model.priors)
    if logits.shape[1:] != (count, model.classes + 1) or offsets.shape[1:] != (count, 4):
        raise ValueError(f"its heads do not serve {count} priors of {model.classes} classes")


def narrow(module: nn.Module, prefix: str, state: dict[str, Tensor]) -> None:
    """Gives a module's own tensors the smaller shapes that `state` has under `prefix`."""
    depthwise = isinstance(module, nn.Conv2d) and 1 < module.groups == module.in_channels
    own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
    for key, value in own:
        wanted = state.get(prefix + key)
        if isinstance(wanted, Tensor) and is_narrower(wanted.shape, value.shape):
            new = value.new_empty(wanted.shape)
            setattr(module, key, nn.Parameter(new) if isinstance(value, nn.Parameter) else new)
    if isinstance(module, nn.Conv2d):
        module.out_channels = len(module.weight)
        module.groups = module.out_channels if depthwise else module.groups
        module.in_channels = module.weight.shape[1] * module.groups
    if isinstance(module, nn.BatchNorm2d):
        module.num_features = len(module.weight)


def is_narrower(shape: torch.Size, own: torch.Size) -> bool:
    """Whether only the channels, the first two dimensions, are fewer, and some are left."""
    fewer = all(0 < a <= b for a, b in zip(shape[:2], own[:2], strict=False))
    return len(shape) == len(own) and shape != own and shape[2:] == own[2:] and fewer
