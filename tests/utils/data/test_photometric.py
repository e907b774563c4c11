"""Colour changes in both forms against colorsys in double precision, and arithmetic by hand."""

import colorsys
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from utils.data.photometric import (
    PERMUTATIONS,
    PHOTOMETRIC,
    Colours,
    choose_colours,
    recolour,
    recolour_one,
)

PLAIN = 0.9  # a gate of 0.9 is closed: p = 0.5
Recolour = Callable[[Tensor, Colours], Tensor]


def one_by_one(images: Tensor, colours: Colours) -> Tensor:
    """`recolour` by means of `recolour_one`."""
    pictures = images.permute(0, 2, 3, 1).contiguous().numpy()
    results = [recolour_one(picture, colours, i) for i, picture in enumerate(pictures)]
    return torch.from_numpy(np.stack(results)).permute(0, 3, 1, 2)


both_forms = pytest.mark.parametrize("change", [recolour, one_by_one], ids=["at once", "by one"])


def colours_of(
    brightness: tuple[float, ...] = (0.0,),
    contrast: tuple[float, ...] = (1.0,),
    saturation: tuple[float, ...] = (1.0,),
    hue: tuple[float, ...] = (0.0,),
) -> Colours:
    """Changes that leave the order of channels; what is not given does nothing."""
    amounts = torch.broadcast_tensors(
        *(torch.tensor(x) for x in (brightness, contrast, saturation, hue))
    )
    return Colours(*amounts, order=torch.arange(3).expand(len(amounts[0]), 3))


def pixel(*channels: float) -> Tensor:
    """`[1, 3, 1, 1]`."""
    return torch.tensor(channels).view(1, 3, 1, 1)


def by_colorsys(
    pixel: Tensor, brightness: float, contrast: float, saturation: float, degrees: float
) -> list[float]:
    """One pixel `[3]` in 0..255, one step after another, in double precision."""
    linear = [(x + brightness) * contrast for x in pixel.tolist()]
    # colorsys wants 0..1; hue and saturation do not change when all channels are scaled.
    h, s, v = colorsys.rgb_to_hsv(*(x / 1024 for x in linear))
    return [1024 * x for x in colorsys.hsv_to_rgb((h + degrees / 360) % 1, s * saturation, v)]


@both_forms
@pytest.mark.parametrize("degrees", [-60.0, -18.0, 0.0, 11.0, 18.0, 60.0])
def test_colour_changes_equal_colorsys(change: Recolour, degrees: float) -> None:
    images = torch.rand(2, 3, 9, 9, generator=torch.Generator().manual_seed(0)) * 223 + 32
    # Every order and every tie of the three channels: the borders of all sextants, and grey.
    for i, channels in enumerate(product((40.0, 90.0, 250.0), repeat=3)):
        images[:, :, i // 9, i % 9] = torch.tensor(channels)
    amounts = {"brightness": (-31.0, 20.0), "contrast": (1.4, 0.6), "saturation": (0.6, 0.9)}
    result = change(images, colours_of(**amounts, hue=(degrees, degrees)))
    for b, y, x in np.ndindex(2, 9, 9):
        chosen = [v[b] for v in amounts.values()]
        expected = by_colorsys(images[b, :, y, x], *chosen, degrees)
        np.testing.assert_allclose(result[b, :, y, x].numpy(), expected, atol=5e-4)


@both_forms
def test_saturation_above_one_keeps_the_largest_channel(change: Recolour) -> None:
    result = change(pixel(100.0, 50.0, 20.0), colours_of(saturation=(1.5,)))
    # v = 100; the others are 50 and 80 below it, times 1.5: 100 - 75 and 100 - 120.
    torch.testing.assert_close(result, pixel(100.0, 25.0, -20.0), atol=1e-4, rtol=0)


@both_forms
def test_a_brightness_below_black_changes_hues_all_the_same(change: Recolour) -> None:
    image = pixel(30.0, 10.0, 0.0)
    turned = change(image, colours_of(hue=(15.0,)))
    darker = change(image, colours_of(brightness=(-32.0,), hue=(15.0,)))
    torch.testing.assert_close(darker, turned - 32)
    # Red is largest, green rises by 15 / 60 of the chroma 30: 10 + 7.5.
    torch.testing.assert_close(turned, pixel(30.0, 17.5, 0.0), atol=1e-4, rtol=0)


@both_forms
def test_black_stays_black_however_colours_turn(change: Recolour) -> None:
    result = change(pixel(0.0, 0.0, 0.0), colours_of(saturation=(1.5,), hue=(-18.0,)))
    assert torch.equal(result, pixel(0.0, 0.0, 0.0))


@both_forms
def test_photometric_distortion_by_hand(change: Recolour) -> None:
    def changed(**numbers: tuple[float, float]) -> Tensor:
        u = torch.full((1, PHOTOMETRIC), PLAIN)
        for i, name in enumerate(("brightness", "contrast", "saturation", "hue", "order")):
            u[0, 2 * i : 2 * i + 2] = torch.tensor(numbers.get(name, (PLAIN, PLAIN)))
        return change(pixel(100.0, 50.0, 20.0), choose_colours(u))

    close = {"atol": 1e-4, "rtol": 0}
    torch.testing.assert_close(changed(), pixel(100.0, 50.0, 20.0), **close)
    # Brightness -32 + 64 * 0.75 = +16, then contrast 0.5 + 0.25 = 0.75: (100 + 16) * 0.75 = 87.
    result = changed(brightness=(0.0, 0.75), contrast=(0.0, 0.25))
    torch.testing.assert_close(result, pixel(87.0, 49.5, 27.0), **close)
    # Saturation 0.5, hue -18 + 36 * 0.75 = +9 degrees = 0.15 sextants: green rises by 0.15 * 80 to
    # 62; then 38 and 80 below red become 19 and 40.
    result = changed(saturation=(0.0, 0.0), hue=(0.0, 0.75))
    torch.testing.assert_close(result, pixel(100.0, 81.0, 60.0), **close)
    # The fourth of six channel orders: 1, 2, 0.
    torch.testing.assert_close(changed(order=(0.0, 0.5)), pixel(50.0, 20.0, 100.0), **close)


@both_forms
def test_every_channel_order_comes_up(change: Recolour) -> None:
    u = torch.full((6, PHOTOMETRIC), PLAIN)
    u[:, 8] = 0.0
    u[:, 9] = (torch.arange(6) + 0.5) / 6
    expected = torch.tensor([100.0, 50.0, 20.0])[torch.tensor(PERMUTATIONS)]
    result = change(pixel(100.0, 50.0, 20.0).expand(6, 3, 1, 1), choose_colours(u))
    torch.testing.assert_close(result.reshape(6, 3), expected)


@both_forms
def test_the_input_is_kept(change: Recolour) -> None:
    image = pixel(250.0, 128.0, 5.0)
    result = change(image, colours_of(brightness=(32.0,)))
    torch.testing.assert_close(result, pixel(282.0, 160.0, 37.0))
    assert torch.equal(image, pixel(250.0, 128.0, 5.0))
