"""State dicts of other projects' SSD300, listed from facts and filled the same on every machine."""

import zlib
from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import torch

Shapes = dict[str, tuple[int, ...]]

VGG_CHANNELS = {
    **{0: (64, 3), 2: (64, 64), 5: (128, 64), 7: (128, 128)},
    **{10: (256, 128), 12: (256, 256), 14: (256, 256)},
    **{17: (512, 256), **dict.fromkeys((19, 21, 24, 26, 28), (512, 512))},
}
EXTRA_CHANNELS = (
    *((256, 1024), (512, 256), (128, 512), (256, 128)),
    *((128, 256), (256, 128), (128, 256), (256, 128)),
)
SOURCES = (512, 1024, 512, 256, 256, 256)
PER_CELL = (4, 6, 6, 6, 4, 4)


def convolution(key: str, out: int, inputs: int, size: int = 3) -> Shapes:
    return {f"{key}.weight": (out, inputs, size, size), f"{key}.bias": (out,)}


def normalised(key: str, norm: str, out: int, inputs: int, size: int = 1) -> Shapes:
    """A convolution without bias and its batch norm."""
    parts = {f"{norm}.{name}": (out,) for name in ("weight", "bias", "running_mean", "running_var")}
    shape = (out, inputs, size, size)
    return {f"{key}.weight": shape, **parts, f"{norm}.num_batches_tracked": ()}


def joined(parts: Iterable[Shapes]) -> Shapes:
    return {key: shape for part in parts for key, shape in part.items()}


def vgg(prefix: str) -> Shapes:
    layers = joined(convolution(f"{prefix}.{i}", *c) for i, c in VGG_CHANNELS.items())
    fc6, fc7 = convolution(f"{prefix}.31", 1024, 512), convolution(f"{prefix}.33", 1024, 1024, 1)
    return layers | fc6 | fc7


def extras(prefix: str = "extras") -> Shapes:
    return joined(
        convolution(f"{prefix}.{i}", *channels, 1 + i % 2 * 2)
        for i, channels in enumerate(EXTRA_CHANNELS)
    )


def head(
    key: str, columns: int, sources: tuple[int, ...] = SOURCES, per_cell: tuple[int, ...] = PER_CELL
) -> Shapes:
    return joined(
        convolution(f"{key}.{i}", n * columns, channels)
        for i, (n, channels) in enumerate(zip(per_cell, sources, strict=True))
    )


def resnet(prefix: str = "resnet") -> Shapes:
    shapes = normalised(f"{prefix}.0", f"{prefix}.1", 64, 3, 7)
    inputs = 64
    for stage, (width, blocks) in enumerate(((64, 3), (128, 4), (256, 6)), start=4):
        for i in range(blocks):
            key = f"{prefix}.{stage}.{i}"
            shapes |= normalised(f"{key}.conv1", f"{key}.bn1", width, inputs)
            shapes |= normalised(f"{key}.conv2", f"{key}.bn2", width, width, 3)
            shapes |= normalised(f"{key}.conv3", f"{key}.bn3", 4 * width, width)
            if i == 0:
                key = f"{key}.downsample"
                shapes |= normalised(f"{key}.0", f"{key}.1", 4 * width, inputs)
            inputs = 4 * width
    return shapes


def inverted(key: str, inputs: int, hidden: int, out: int) -> Shapes:
    """Expansion (none where it would change nothing), depthwise, projection."""
    layers = [(hidden, inputs, 1)] if hidden != inputs else []
    layers.append((hidden, 1, 3))
    shapes = joined(
        normalised(f"{key}.conv.{i}.0", f"{key}.conv.{i}.1", *layer)
        for i, layer in enumerate(layers)
    )
    n = len(layers)
    return shapes | normalised(f"{key}.conv.{n}", f"{key}.conv.{n + 1}", out, hidden)


def mobilenet(prefix: str = "mobilenet") -> Shapes:
    shapes = normalised(f"{prefix}.0.0", f"{prefix}.0.1", 32, 3, 3)
    table = ((16, 1), (24, 2), (32, 3), (64, 4), (96, 3), (160, 3), (320, 1))
    channels = [32, *(out for out, blocks in table for _ in range(blocks))]
    for i, (inputs, out) in enumerate(pairwise(channels), start=1):
        shapes |= inverted(f"{prefix}.{i}", inputs, inputs * (1 if i == 1 else 6), out)
    return shapes | normalised(f"{prefix}.18.0", f"{prefix}.18.1", 1280, 320)


def listing(project: str, classes: int = 20) -> Shapes:
    """Key -> shape, in the order in which the project's modules were made."""
    columns = classes + 1
    if project == "lufficc":
        trunk = (
            vgg("backbone.vgg") | extras("backbone.extras") | {"backbone.l2_norm.weight": (512,)}
        )
        key = "box_head.predictor"
        return trunk | head(f"{key}.cls_headers", columns) | head(f"{key}.reg_headers", 4)
    if project == "bubbliiiing_mobilenetv2":
        table = ((1280, 256, 512), (512, 128, 256), (256, 128, 256), (256, 64, 64))
        more = joined(inverted(f"extras.{i}", *row) for i, row in enumerate(table))
        trunk = mobilenet() | more | {"L2Norm.weight": (96,)}
        tiling = ((96, 1280, 512, 256, 256, 64), (6,) * 6)
        return trunk | head("loc", 4, *tiling) | head("conf", columns, *tiling)
    norm, heads = {"L2Norm.weight": (512,)}, head("loc", 4) | head("conf", columns)
    if project == "amdegroot":
        return vgg("vgg") | norm | extras() | heads
    trunk = {"bubbliiiing_vgg": vgg("vgg"), "bubbliiiing_resnet50": resnet()}[project]
    return trunk | extras() | norm | heads


def filled(shapes: Shapes) -> dict[str, torch.Tensor]:
    """Weights that depend on key and shape alone: scaled as He et al., norms near 1."""
    return {key: weight(key, shape) for key, shape in shapes.items()}


def weight(key: str, shape: tuple[int, ...]) -> torch.Tensor:
    if key.endswith("num_batches_tracked"):
        return torch.tensor(0)
    values = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(shape)
    value = torch.from_numpy(values.astype(np.float32))
    if key.endswith("running_var"):
        return 1 + 0.1 * value.abs()
    if value.ndim == 4:
        return value * (2 / value[0].numel()) ** 0.5
    return 0.1 * value + key.endswith("weight")


def picture() -> torch.Tensor:
    """`[1, 3, 300, 300]` float RGB 0..255: 10 x 10 squares of random colours."""
    colours = np.random.RandomState(1000).randint(0, 256, (10, 10, 3))
    squares = torch.from_numpy(colours).float().permute(2, 0, 1)[None]
    return squares.repeat_interleave(30, dim=2).repeat_interleave(30, dim=3)
