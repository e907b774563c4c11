"""The SSD augmentation of a batch.

Expansion, crop, mirroring and resizing only choose a *window* of the image, possibly reaching over
its border; each image is resampled once. What happens to an image is decided by one row of uniform
numbers, so it depends on (seed, epoch, image) alone and not on workers, processes or a resume.

All that is decided is decided for the batch, on every device. Who then resamples and recolours has
two forms, which agree: tensors in one go for a GPU, OpenCV image by image for a CPU.

Source: Liu et al., ECCV 2016, sec. 2.2 "Data augmentation" and 3.6; see `windows`, `photometric`.
Resizing is always bilinear, as in the PyTorch ports; the authors draw one of five interpolations.
"""

from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np
import torch
from cv2.typing import MatLike
from torch import Tensor
from torch.nn import functional as F

from utils.boxes import Targets
from utils.data.photometric import PHOTOMETRIC, Colours, choose_colours, recolour, recolour_one
from utils.data.windows import EXPANSION, WINDOW, choose_windows, move_into, whole
from utils.runtime.device import constant

IMAGE_SIZE = 300
# Another number whenever the same row of `uniforms` comes to show something else.
AUGMENTATION = 1
# RGB in 0..255. What is shown outside the image, since a network normalises it to nothing.
IMAGENET_MEAN = (123.675, 116.28, 103.53)

COLUMNS = PHOTOMETRIC + WINDOW


def uniforms(images: int, seed: int, epoch: int) -> Tensor:
    """The randomness of an epoch: `[images, COLUMNS]` in 0..1, on the CPU, a row for each image."""
    # Two odd constants keep (seed, epoch) pairs apart; the generator takes the lowest 32 bits.
    generator = torch.Generator().manual_seed((seed * 1_000_003 + epoch * 7_919 + 1) % 2**63)
    return torch.rand(images, COLUMNS, generator=generator)


def numbers(rows: Tensor) -> Tensor:
    """A number for each row of `uniforms`, `[B, COLUMNS]` -> `[B]` int64, of 48 bits.

    It is another one in every epoch and for every seed, so that further randomness can follow from
    it. Two of a million images have the same one with a probability of 0.002.
    """
    # Uniform numbers of float32 are multiples of 2^-24.
    high, low = (rows[:, :2] * 2**24).long().unbind(1)
    return (high << 24) | low


def augment(
    images: Tensor, sizes: Tensor, targets: Targets, rows: Tensor, expansion: float = EXPANSION
) -> tuple[Tensor, Targets]:
    """Distorts, expands, crops, mirrors and resizes every image of a batch.

    Args:
        images: `[B, 3, S, S]` uint8 RGB; each image lies in the top left corner.
        sizes: `[B, 2]`, its height and width in pixels.
        targets: boxes in pixels.
        rows: `[B, COLUMNS]`, its rows of `uniforms`.
        expansion: the largest factor by which the canvas exceeds the image; 1 never expands.

    Returns:
        images `[B, 3, 300, 300]` float RGB 0..255, and the targets in fractions of them. An object
        whose centre is outside its window becomes padding (label 0).
    """
    windows, mirrored = choose_windows(sizes, targets, rows[:, PHOTOMETRIC:], expansion)
    colours = choose_colours(rows[:, :PHOTOMETRIC])
    show = form_on(images.device)
    shown = show(images, sizes, sample_points(sizes, windows, mirrored), colours)
    return shown, move_into(windows, mirrored, targets)


def resize(images: Tensor, sizes: Tensor, targets: Targets) -> tuple[Tensor, Targets]:
    """`augment` without chance: the whole image, resized to 300 x 300."""
    windows = whole(sizes)
    mirrored = torch.zeros_like(sizes[:, 0], dtype=torch.bool)
    show = form_on(images.device)
    shown = show(images, sizes, sample_points(sizes, windows, mirrored), None)
    return shown, move_into(windows, mirrored, targets)


class Points(NamedTuple):
    """Where the columns and rows of each result lie in its image, all `[B, 300]`.

    x, y: in pixels, 0 being the image's left or upper edge.
    inside_x, inside_y: whether that is within the image, bool.
    """

    x: Tensor
    y: Tensor
    inside_x: Tensor
    inside_y: Tensor


def sample_points(sizes: Tensor, windows: Tensor, mirrored: Tensor) -> Points:
    """The centres of 300 x 300 equal cells of each window.

    Args:
        sizes: `[B, 2]` (height, width).
        windows: `[B, 4]` xyxy in pixels.
        mirrored: `[B]` bool.
    """
    cells = (torch.arange(IMAGE_SIZE, device=windows.device) + 0.5) / IMAGE_SIZE
    across = torch.where(mirrored[:, None], 1 - cells, cells)
    x = windows[:, 0:1] + across * (windows[:, 2:3] - windows[:, 0:1])
    y = windows[:, 1:2] + cells * (windows[:, 3:4] - windows[:, 1:2])
    return Points(x, y, (x > 0) & (x < sizes[:, 1:2]), (y > 0) & (y < sizes[:, 0:1]))


# Images `[B, 3, S, S]` uint8, their sizes `[B, 2]`, points, and colours or None, which leaves them
# -> `[B, 3, 300, 300]` float 0..255: bilinear between pixel centres, the outermost of them repeated
# up to the border of the image, and the mean outside of it.
Form = Callable[[Tensor, Tensor, Points, Colours | None], Tensor]


def form_on(device: torch.device) -> Form:
    """Who resamples and recolours. On a CPU, one by one takes a tenth of the time of at once."""
    return show_one_by_one if device.type == "cpu" else show_at_once


def show_at_once(images: Tensor, sizes: Tensor, points: Points, colours: Colours | None) -> Tensor:
    """The `Form` for a GPU: nothing waits and nothing depends on the numbers."""
    # The store pads with zeros to S x S: the border must be the image's, not the padding's.
    last = sizes.flip(-1).float() - 0.5
    x = points.x.clamp(min=0.5).minimum(last[:, 0:1]) * (2 / images.shape[-1]) - 1
    y = points.y.clamp(min=0.5).minimum(last[:, 1:2]) * (2 / images.shape[-2]) - 1
    grid = torch.stack(torch.broadcast_tensors(x[:, None, :], y[:, :, None]), dim=-1)
    shown = F.grid_sample(images.float(), grid, align_corners=False)
    if colours is not None:
        shown = recolour(shown, colours).clamp_(0, 255)
    inside = points.inside_y[:, None, :, None] & points.inside_x[:, None, None, :]
    mean = constant(IMAGENET_MEAN, images.device).view(3, 1, 1)
    return shown.lerp_(mean, (~inside).to(shown.dtype))  # either the one or the other


def show_one_by_one(
    images: Tensor, sizes: Tensor, points: Points, colours: Colours | None
) -> Tensor:
    """The `Form` for a CPU: what belongs together stays in its cache; in memory channels last."""
    pictures = images.permute(0, 2, 3, 1).numpy()
    shown = np.empty((len(pictures), IMAGE_SIZE, IMAGE_SIZE, 3), np.float32)
    for i, (height, width) in enumerate(sizes.int().tolist()):
        x, y, *inside = (line[i].numpy() for line in points)
        columns, rows = (np.flatnonzero(line) for line in inside)
        if not len(columns) or not len(rows):
            shown[i] = IMAGENET_MEAN
            continue
        part = sample(pictures[i, :height, :width], x[columns], y[rows])
        if colours is not None:
            part = np.clip(recolour_one(part, colours, i), 0, 255)
        last = IMAGE_SIZE - 1
        beside = (rows[0], last - rows[-1], columns[0], last - columns[-1])
        cv2.copyMakeBorder(part, *beside, cv2.BORDER_CONSTANT, dst=shown[i], value=IMAGENET_MEAN)
    return torch.from_numpy(shown).permute(0, 3, 1, 2)


def sample(picture: MatLike, x: MatLike, y: MatLike) -> MatLike:
    """A picture `[H, W, 3]` at evenly spaced columns x and rows y, as float32."""
    picture = picture.astype(np.float32, order="C")
    size = len(x), len(y)
    # Of the columns and of the rows: the step, and the first.
    lines = np.array([((line[-1] - line[0]) / max(1, len(line) - 1), line[0]) for line in (x, y)])
    # All of the picture, as evaluation shows it, is resized: that is faster, and exact. Warping
    # rounds positions to 1/32 of a pixel in the versions 4 of OpenCV, enough to move an AP.
    cells = np.divide(picture.shape[1::-1], size)
    if np.abs(lines - np.outer(cells, (1, 0.5))).max() < 1e-5:
        return cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR)
    (across, left), (down, top) = lines
    return cv2.warpAffine(
        picture,
        np.array([[across, 0, left - 0.5], [0, down, top - 0.5]]),  # it counts from pixel centres
        size,
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
