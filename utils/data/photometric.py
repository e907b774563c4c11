"""Random brightness, contrast, saturation, hue and channel order of a whole batch.

Source: Liu et al., ECCV 2016, sec. 3.6, and the authors' code for the numbers.
"""

import torch
from torch import Tensor

from utils.runtime.device import constant

BRIGHTNESS, CONTRAST, SATURATION, HUE = 32.0, (0.5, 1.5), (0.5, 1.5), 18.0
PERMUTATIONS = ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))

PHOTOMETRIC = 10  # uniform numbers of an image: whether and how much, for each of the five


def distort(images: Tensor, u: Tensor) -> Tensor:
    """Random brightness, contrast, saturation, hue and channel order, each with p = 0.5.

    Contrast and saturation are factors, so the authors' random order of contrast and colour makes
    no difference before clipping.

    Args:
        images: `[B, 3, H, W]` float RGB 0..255.
        u: `[B, PHOTOMETRIC]` uniform numbers: whether and how much, for each of the five.

    Returns:
        The same shape, 0..255.
    """
    apply = u[:, 0::2] < 0.5
    amount = u[:, 1::2]

    def drawn(i: int, low: float, high: float, neutral: float) -> Tensor:
        value = low + (high - low) * amount[:, i]
        return value.masked_fill(~apply[:, i], neutral).view(-1, 1, 1, 1)

    coloured = change_colour(
        images,
        brightness=drawn(0, -BRIGHTNESS, BRIGHTNESS, 0.0),
        contrast=drawn(1, *CONTRAST, 1.0),
        saturation=drawn(2, *SATURATION, 1.0),
        hue=drawn(3, -HUE, HUE, 0.0),
    )
    which = (amount[:, 4] * len(PERMUTATIONS)).long().masked_fill(~apply[:, 4], 0)
    order = constant(PERMUTATIONS, images.device)[which]
    image = torch.arange(len(images), device=images.device)[:, None]
    return coloured[image, order].clamp_(0, 255)


def change_colour(
    images: Tensor, *, brightness: Tensor, contrast: Tensor, saturation: Tensor, hue: Tensor
) -> Tensor:
    """`(image + brightness) * contrast`, then saturation and hue changed as in HSV space.

    Let v be the largest channel x_c of a pixel, m the smallest, S the sum of all, C = v - m. On the
    hue circle of six sextants the pixel is |d_c| = 1 + (S - m - 2 x_c) / C away from channel c, on
    the side of the larger one of c's neighbours, and x_c = v - C clamp(|d_c| - 1, 0, 1). So hue and
    saturation change without a division, and neither C nor C (|d_c| - 1) depends on the brightness.
    The sign of d_c may change where the clamp gives 0 or 1 anyway, for turns of up to a sextant.

    Args:
        images: `[B, 3, H, W]` RGB of any scale.
        brightness: `[B, 1, 1, 1]` summand.
        contrast: `[B, 1, 1, 1]` factor, above 0.
        saturation: `[B, 1, 1, 1]` factor.
        hue: `[B, 1, 1, 1]` degrees, within +-60.

    Returns:
        The same shape, not clipped.
    """
    red, green, blue = images.split(1, dim=1)
    value = torch.maximum(torch.maximum(red, green), blue)
    least = torch.minimum(torch.minimum(red, green), blue)
    chroma = value - least
    below = torch.sub((red + green + blue).sub_(least), images, alpha=2)  # C (|d_c| - 1)
    sextants = hue / 60
    neighbours = (green, blue), (blue, red), (red, green)
    for channel, (after, before) in zip(below.split(1, dim=1), neighbours, strict=True):
        channel.addcmul_(torch.copysign(chroma, after - before), sextants)
    below.clamp_(max=chroma).clamp_(min=0)
    return below.mul_(-saturation * contrast).add_(value.add_(brightness).mul_(contrast))
