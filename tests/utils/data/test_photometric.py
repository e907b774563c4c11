"""Colour changes against colorsys in double precision, and against arithmetic by hand."""

import colorsys
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from utils.data.photometric import PERMUTATIONS, PHOTOMETRIC, change_colour, distort

PLAIN = 0.9  # a gate of 0.9 is closed: p = 0.5


def column(*values: float) -> Tensor:
    """`[B, 1, 1, 1]`."""
    return torch.tensor(values).view(-1, 1, 1, 1)


def by_colorsys(
    pixel: Tensor, brightness: float, contrast: float, saturation: float, degrees: float
) -> list[float]:
    """One pixel `[3]` in 0..255, one step after another, in double precision."""
    linear = [(x + brightness) * contrast for x in pixel.tolist()]
    # colorsys wants 0..1; hue and saturation do not change when all channels are scaled.
    h, s, v = colorsys.rgb_to_hsv(*(x / 1024 for x in linear))
    return [1024 * x for x in colorsys.hsv_to_rgb((h + degrees / 360) % 1, s * saturation, v)]


@pytest.mark.parametrize("degrees", [-60.0, -18.0, 0.0, 11.0, 18.0, 60.0])
def test_colour_changes_equal_colorsys(degrees: float) -> None:
    images = torch.rand(2, 3, 9, 9, generator=torch.Generator().manual_seed(0)) * 223 + 32
    # Every order and every tie of the three channels: the borders of all sextants, and grey.
    for i, pixel in enumerate(product((40.0, 90.0, 250.0), repeat=3)):
        images[:, :, i // 9, i % 9] = torch.tensor(pixel)
    amounts = {"brightness": (-31.0, 20.0), "contrast": (1.4, 0.6), "saturation": (0.6, 0.9)}
    result = change_colour(
        images, **{k: column(*v) for k, v in amounts.items()}, hue=column(degrees, degrees)
    )
    for b, y, x in np.ndindex(2, 9, 9):
        chosen = [v[b] for v in amounts.values()]
        expected = by_colorsys(images[b, :, y, x], *chosen, degrees)
        np.testing.assert_allclose(result[b, :, y, x].numpy(), expected, atol=3e-4)


def test_saturation_above_one_keeps_the_largest_channel() -> None:
    image = torch.tensor([100.0, 50.0, 20.0]).view(1, 3, 1, 1)
    neutral = {"brightness": column(0.0), "contrast": column(1.0), "hue": column(0.0)}
    result = change_colour(image, **neutral, saturation=column(1.5))
    # v = 100; the others are 50 and 80 below it, times 1.5: 100 - 75 and 100 - 120.
    torch.testing.assert_close(result.flatten(), torch.tensor([100.0, 25.0, -20.0]))


def test_a_brightness_below_black_changes_hues_all_the_same() -> None:
    image = torch.tensor([30.0, 10.0, 0.0]).view(1, 3, 1, 1)
    neutral = {"contrast": column(1.0), "saturation": column(1.0), "hue": column(15.0)}
    turned = change_colour(image, brightness=column(0.0), **neutral)
    darker = change_colour(image, brightness=column(-32.0), **neutral)
    torch.testing.assert_close(darker, turned - 32)
    # Red is largest, green rises by 15 / 60 of the chroma 30: 10 + 7.5.
    torch.testing.assert_close(turned.flatten(), torch.tensor([30.0, 17.5, 0.0]))


def test_photometric_distortion_by_hand() -> None:
    images = torch.tensor([100.0, 50.0, 20.0]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    u = torch.full((1, PHOTOMETRIC), PLAIN)
    assert torch.equal(distort(images, u), images)
    u[0, 0:4] = torch.tensor([0.0, 0.75, 0.0, 0.25])
    # Brightness -32 + 64 * 0.75 = +16, then contrast 0.5 + 0.25 = 0.75: (100 + 16) * 0.75 = 87.
    torch.testing.assert_close(distort(images, u)[0, :, 0, 0], torch.tensor([87.0, 49.5, 27.0]))
    u = torch.full((1, PHOTOMETRIC), PLAIN)
    u[0, 4:8] = torch.tensor([0.0, 0.0, 0.0, 0.75])
    # Saturation 0.5, hue -18 + 36 * 0.75 = +9 degrees = 0.15 sextants: green rises by 0.15 * 80 to
    # 62; then 38 and 80 below red become 19 and 40.
    torch.testing.assert_close(distort(images, u)[0, :, 0, 0], torch.tensor([100.0, 81.0, 60.0]))
    u = torch.full((1, PHOTOMETRIC), PLAIN)
    u[0, 8:10] = torch.tensor([0.0, 0.5])  # the fourth of six channel orders: 1, 2, 0
    torch.testing.assert_close(distort(images, u)[0, :, 0, 0], torch.tensor([50.0, 20.0, 100.0]))


def test_every_channel_order_comes_up() -> None:
    images = torch.tensor([100.0, 50.0, 20.0]).view(1, 3, 1, 1).expand(6, 3, 1, 1)
    u = torch.full((6, PHOTOMETRIC), PLAIN)
    u[:, 8] = 0.0
    u[:, 9] = (torch.arange(6) + 0.5) / 6
    expected = torch.tensor([100.0, 50.0, 20.0])[torch.tensor(PERMUTATIONS)]
    torch.testing.assert_close(distort(images, u).view(6, 3), expected)


def test_the_result_is_clipped_and_the_input_is_kept() -> None:
    images = torch.tensor([250.0, 128.0, 5.0]).view(1, 3, 1, 1)
    u = torch.full((2, PHOTOMETRIC), PLAIN)
    u[:, 0] = 0.0
    u[:, 1] = torch.tensor([0.0, 1.0])
    result = distort(images.expand(2, 3, 1, 1), u)
    torch.testing.assert_close(result[0].flatten(), torch.tensor([218.0, 96.0, 0.0]))
    torch.testing.assert_close(result[1].flatten(), torch.tensor([255.0, 160.0, 37.0]))
    assert images.flatten().tolist() == [250.0, 128.0, 5.0]
