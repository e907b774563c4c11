"""The SSD augmentation of a whole batch, on whatever device it lies.

Expansion, crop, mirroring and resizing only choose a *window* of the image, possibly reaching over
its border; the batch is resampled once. What happens to an image is decided by one row of uniform
numbers, so it depends on (seed, epoch, image) alone and not on workers, processes or a resume.

Source: Liu et al., ECCV 2016, sec. 2.2 "Data augmentation" and 3.6; numbers of the authors' code.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from utils.boxes import Targets, iou
from utils.data.photometric import PHOTOMETRIC, distort
from utils.runtime.device import constant

IMAGE_SIZE = 300
# RGB in 0..255. What is shown outside the image, since a network normalises it to nothing.
IMAGENET_MEAN = (123.675, 116.28, 103.53)

EXPANSION = 4.0
CROP_IOU = (0.1, 0.3, 0.5, 0.7, 0.9, 0.0)  # the last one is the free crop
CROP_SIDE, CROP_ASPECT, CROP_TRIALS = (0.3, 1.0), (0.5, 2.0), 50

WINDOW = 6  # uniform numbers that choose a window, the trials apart
COLUMNS = PHOTOMETRIC + WINDOW + 4 * CROP_TRIALS


def uniforms(images: int, seed: int, epoch: int) -> Tensor:
    """The randomness of an epoch: `[images, COLUMNS]` in 0..1, on the CPU, a row for each image."""
    # Two odd constants keep (seed, epoch) pairs apart; the generator takes 64 bits.
    generator = torch.Generator().manual_seed((seed * 1_000_003 + epoch * 7_919 + 1) % 2**63)
    return torch.rand(images, COLUMNS, generator=generator)


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
    resampled, outside = resample(images, sizes, windows, mirrored)
    shown = distort(resampled, rows[:, :PHOTOMETRIC])
    fill = constant(IMAGENET_MEAN, images.device).view(3, 1, 1)
    shown.lerp_(fill, outside.to(shown.dtype))  # either the one or the other
    return shown, move_into(windows, mirrored, targets)


def resize(images: Tensor, sizes: Tensor, targets: Targets) -> tuple[Tensor, Targets]:
    """`augment` without chance: the whole image, resized to 300 x 300."""
    windows = whole(sizes)
    mirrored = torch.zeros_like(sizes[:, 0], dtype=torch.bool)
    resampled, _ = resample(images, sizes, windows, mirrored)
    return resampled, move_into(windows, mirrored, targets)


def whole(sizes: Tensor) -> Tensor:
    """The window that is the image itself: `[B, 2]` (height, width) -> `[B, 4]` xyxy pixels."""
    size = sizes.flip(-1).float()
    return torch.cat((torch.zeros_like(size), size), dim=-1)


def choose_windows(
    sizes: Tensor, targets: Targets, u: Tensor, expansion: float = EXPANSION
) -> tuple[Tensor, Tensor]:
    """What part of each image is shown, and whether it is mirrored.

    Expansion (p = 0.5) places the image in a canvas of up to `expansion` x its sides. Then one of:
    the whole canvas; a crop of which some object reaches an IoU of .1, .3, .5, .7 or .9; a free
    crop. Each kind of crop takes the first of 50 trials that qualifies, and one of the kinds that
    found any is drawn with equal chances. Crops keep the centre of some object, where there is one.

    Args:
        sizes: `[B, 2]` (height, width).
        targets: boxes in pixels.
        u: `[B, WINDOW + 4 * CROP_TRIALS]` uniform numbers.
        expansion: at least 1.

    Returns:
        windows `[B, 4]` xyxy in pixels of the image (beyond it where expanded), mirrored `[B]`.
    """
    image = whole(sizes)
    size = image[:, 2:]
    scale = (1 + (expansion - 1) * u[:, 1:2]).masked_fill(u[:, 0:1] >= 0.5, 1.0)
    origin = -(scale - 1) * size * u[:, 2:4]
    canvas = torch.cat((origin, origin + scale * size), dim=-1)

    trials = crop_trials(canvas, u[:, WINDOW:])  # [B, T, 4]
    found = qualifies(trials, targets)  # [B, T, kinds]
    first = found.int().argmax(dim=1)  # the first True; 0 where there is none
    crops = trials.gather(1, first[..., None].expand(-1, -1, 4))
    options = torch.cat((canvas[:, None], crops), dim=1)  # [B, 1 + kinds, 4]
    possible = F.pad(found.any(dim=1), (1, 0), value=True)
    # The k-th of n possible options, k uniform in 1..n, is where the running count reaches k.
    count = possible.cumsum(dim=1)
    wanted = (u[:, 4:5] * count[:, -1:]).long() + 1
    chosen = (count >= wanted).int().argmax(dim=1)
    windows = options.gather(1, chosen[:, None, None].expand(-1, 1, 4))[:, 0]
    return windows, u[:, 5] < 0.5


def crop_trials(canvas: Tensor, u: Tensor) -> Tensor:
    """`[B, 4]` xyxy and `[B, 4 T]` uniform numbers -> `[B, T, 4]` windows inside the canvas."""
    u = u.view(len(u), -1, 4)
    low, high = canvas[:, None, :2], canvas[:, None, 2:]
    side = (high - low) * (CROP_SIDE[0] + (CROP_SIDE[1] - CROP_SIDE[0]) * u[..., :2])
    origin = low + (high - low - side) * u[..., 2:]
    return torch.cat((origin, origin + side), dim=-1)


def qualifies(trials: Tensor, targets: Targets) -> Tensor:
    """Which trials each kind of crop accepts: `[B, T, 4]` -> `[B, T, len(CROP_IOU)]` bool."""
    width, height = (trials[..., 2:] - trials[..., :2]).unbind(-1)
    shape = (height >= CROP_ASPECT[0] * width) & (height <= CROP_ASPECT[1] * width)
    real = (targets.labels > 0)[:, None]  # [B, 1, M]
    shown = (contains_centre(trials, targets.boxes) & real).any(-1) | ~real.any(-1)
    # 0 for padding and for images without objects, so that only the free crop takes these.
    overlap = F.pad(iou(trials, targets.boxes) * real, (1, 0)).amax(-1)
    return (shape & shown)[..., None] & (overlap[..., None] >= constant(CROP_IOU, overlap.device))


def contains_centre(windows: Tensor, boxes: Tensor) -> Tensor:
    """Whether the centre of each box is in each window: `[B, T, 4]`, `[B, M, 4]` -> `[B, T, M]`."""
    centre = ((boxes[..., :2] + boxes[..., 2:]) / 2)[:, None]
    low, high = windows[:, :, None, :2], windows[:, :, None, 2:]
    return ((centre > low) & (centre < high)).all(-1)


def move_into(windows: Tensor, mirrored: Tensor, targets: Targets) -> Targets:
    """Targets in pixels of the image -> in fractions of its window, clipped to it."""
    kept = contains_centre(windows[:, None], targets.boxes)[:, 0]
    origin = windows[:, None, :2].repeat(1, 1, 2)
    side = (windows[:, None, 2:] - windows[:, None, :2]).repeat(1, 1, 2)
    boxes = ((targets.boxes - origin) / side).clamp(0, 1)
    flipped = torch.stack((1 - boxes[..., 2], boxes[..., 1], 1 - boxes[..., 0], boxes[..., 3]), -1)
    boxes = torch.where(mirrored[:, None, None], flipped, boxes)
    return Targets(boxes * kept[..., None], targets.labels * kept)


def resample(
    images: Tensor, sizes: Tensor, windows: Tensor, mirrored: Tensor
) -> tuple[Tensor, Tensor]:
    """Shows the windows at 300 x 300, bilinearly, in one pass.

    Args:
        images: `[B, 3, S, S]` uint8.
        sizes: `[B, 2]` (height, width).
        windows: `[B, 4]` xyxy in pixels.
        mirrored: `[B]` bool.

    Returns:
        images `[B, 3, 300, 300]` float 0..255, the border repeated outside of the image, and
        whether a pixel is outside of it, `[B, 1, 300, 300]` bool.
    """
    cells = (torch.arange(IMAGE_SIZE, device=images.device) + 0.5) / IMAGE_SIZE
    across = torch.where(mirrored[:, None], 1 - cells, cells)
    x = windows[:, 0:1] + across * (windows[:, 2:3] - windows[:, 0:1])  # [B, 300], pixel edges
    y = windows[:, 1:2] + cells * (windows[:, 3:4] - windows[:, 1:2])
    height, width = sizes[:, 0:1].float(), sizes[:, 1:2].float()
    outside_x, outside_y = (x <= 0) | (x >= width), (y <= 0) | (y >= height)
    outside = outside_y[:, None, :, None] | outside_x[:, None, None, :]
    # The store pads with zeros to S x S: the border must be the image's, not the padding's.
    x, y = (x.clamp(min=0.5).minimum(width - 0.5), y.clamp(min=0.5).minimum(height - 0.5))
    x, y = x * (2 / images.shape[-1]) - 1, y * (2 / images.shape[-2]) - 1
    grid = torch.stack(torch.broadcast_tensors(x[:, None, :], y[:, :, None]), dim=-1)
    return F.grid_sample(images.float(), grid, align_corners=False), outside
