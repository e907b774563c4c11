"""Images and objects for the tests of augmentation."""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from utils.boxes import Targets
from utils.data.voc import Sample
from utils.data.voc.annotation import no_objects


def scene(batch: int = 3, seed: int = 0) -> tuple[Tensor, Tensor, Targets]:
    """Random images of several sizes in squares of 80, with up to 4 objects."""
    rng = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (batch, 3, 80, 80), generator=rng, dtype=torch.uint8)
    sizes = torch.tensor([[60.0, 80.0], [80.0, 40.0], [80.0, 80.0]])[torch.arange(batch) % 3]
    low = torch.rand(batch, 4, 2, generator=rng) * 30
    boxes = torch.cat((low, low + 5 + 5 * torch.rand(batch, 4, 2, generator=rng)), -1)
    labels = torch.randint(0, 4, (batch, 4), generator=rng)
    return images, sizes, Targets(boxes, labels)


def natural(sizes: Tensor, side: int, seed: int = 0) -> Tensor:
    """Smooth pictures of all colours with a sharp edge each, `[B, 3, side, side]` uint8.

    Beside a picture, whose `[B, 2]` (height, width) is given, its square is zero.
    """
    rng = torch.Generator().manual_seed(seed)
    images = torch.zeros(len(sizes), 3, side, side, dtype=torch.uint8)
    for image, (height, width) in zip(images, sizes.int().tolist(), strict=True):
        coarse = torch.rand(1, 3, 5, 6, generator=rng) * 400 - 70
        smooth = F.interpolate(coarse, (height, width), mode="bicubic", align_corners=False)[0]
        smooth[:, height // 3 : height // 2, width // 4 : width // 2] *= 0.5
        image[:, :height, :width] = smooth.clamp(0, 255).round()
    return images


def without_labels(sample: Sample) -> Sample:
    """The same picture, of which nobody has said what is on it."""
    size = sample.annotation.width, sample.annotation.height
    return replace(sample, annotation=no_objects(*size), labelled=False)
