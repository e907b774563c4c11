"""Random brightness, contrast, saturation, hue and channel order.

Source: Liu et al., ECCV 2016, sec. 3.6; brightness, contrast and saturation as in the authors'
Caffe code (weiliu89/caffe, branch ssd: ssd_pascal.py, im_transforms.cpp) and in its port
(amdegroot/ssd.pytorch: augmentations.py). Where these differ, this is the port's way: the hue turns
by up to 18 degrees, and half of the images get one of the six channel orders. The authors turn it
by up to 18 of OpenCV's 180 steps, which are 36 degrees, and leave channels in order
(`random_order_prob` is 0 for VOC). They also round and clip after each change; here, once.
"""

from typing import NamedTuple

import cv2
import numpy as np
import torch
from cv2.typing import MatLike
from torch import Tensor

from utils.runtime.device import constant

BRIGHTNESS, CONTRAST, SATURATION, HUE = 32.0, (0.5, 1.5), (0.5, 1.5), 18.0
PERMUTATIONS = ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))

PHOTOMETRIC = 10  # uniform numbers of an image: whether and how much, for each of the five


class Colours(NamedTuple):
    """How the colours of each image change.

    brightness, contrast: `[B]`, the image becomes (image + brightness) * contrast.
    saturation: `[B]`, a factor.
    hue: `[B]`, degrees.
    order: `[B, 3]`, which channel becomes red, green and blue.
    """

    brightness: Tensor
    contrast: Tensor
    saturation: Tensor
    hue: Tensor
    order: Tensor


def choose_colours(u: Tensor) -> Colours:
    """Brightness, contrast, saturation, hue and channel order, each with p = 0.5.

    Contrast and saturation are factors, so the random order of contrast and colour, which the
    sources have, makes no difference before clipping.

    Args:
        u: `[B, PHOTOMETRIC]` uniform numbers: whether and how much, for each of the five.
    """
    apply = u[:, 0::2] < 0.5
    amount = u[:, 1::2]

    def drawn(i: int, low: float, high: float, neutral: float) -> Tensor:
        return (low + (high - low) * amount[:, i]).masked_fill(~apply[:, i], neutral)

    which = (amount[:, 4] * len(PERMUTATIONS)).long().masked_fill(~apply[:, 4], 0)
    return Colours(
        brightness=drawn(0, -BRIGHTNESS, BRIGHTNESS, 0.0),
        contrast=drawn(1, *CONTRAST, 1.0),
        saturation=drawn(2, *SATURATION, 1.0),
        hue=drawn(3, -HUE, HUE, 0.0),
        order=constant(PERMUTATIONS, u.device)[which],
    )


def recolour(images: Tensor, colours: Colours) -> Tensor:
    """All images of a batch at once, `[B, 3, H, W]` float RGB; not clipped."""
    amounts = (x.view(-1, 1, 1, 1) for x in colours[:-1])
    image = torch.arange(len(images), device=images.device)[:, None]
    return change_colour(images, *amounts)[image, colours.order]


def recolour_one(image: MatLike, colours: Colours, i: int) -> MatLike:
    """`recolour` for the i-th image alone, `[H, W, 3]` float32, by OpenCV."""
    brightness, contrast, saturation, hue = (float(x[i]) for x in colours[:-1])
    if saturation != 1 or hue != 0:
        # Of a colour of any scale OpenCV's H is in degrees, S in 0..1 and V the largest channel.
        # H may be 360 and more, but not negative.
        turn = np.array([[1, 0, 0, hue % 360], [0, saturation, 0, 0], [0, 0, 1, 0]])
        hsv = cv2.transform(cv2.cvtColor(image, cv2.COLOR_RGB2HSV), turn)
        image = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    ordered = np.eye(3)[colours.order[i].numpy()]
    return cv2.transform(image, contrast * np.column_stack((ordered, np.full(3, brightness))))


def change_colour(
    images: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor, hue: Tensor
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
