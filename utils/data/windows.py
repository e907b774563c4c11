"""What part of an image is shown: expansion, crop and mirroring choose a window.

Source: Liu et al., ECCV 2016, sec. 2.2 "Data augmentation" and 3.6, the authors' Caffe code
(weiliu89/caffe, branch ssd: ssd_pascal.py, sampler.cpp) and its port amdegroot/ssd.pytorch.

- As the authors: expansion up to 4 x; crops that some object overlaps by .1, .3, .5 (which the port
  leaves out), .7 or .9; equal chances for the canvas and each kind that found a crop; 50 trials;
  an object stays while its centre is inside.
- As the port: the two sides of a crop are drawn one by one, .3 to 1 of the canvas (the paper says
  .1 to 1), and may differ by a factor of 2 in pixels. The authors draw a scale and an aspect, in
  fractions of the canvas. A crop keeps some object, where there is one; theirs may keep none.
- On our own account: all kinds look at the same trials, and an image without objects may be cropped
  (theirs is not: even the crop without a least overlap wants an object).
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from utils.boxes import Targets, iou
from utils.runtime.device import constant

EXPANSION = 4.0
CROP_IOU = (0.1, 0.3, 0.5, 0.7, 0.9, 0.0)  # the last one is the free crop
CROP_SIDE, CROP_ASPECT, CROP_TRIALS = (0.3, 1.0), (0.5, 2.0), 50

CHOICE = 6  # uniform numbers that choose a window, the trials apart
WINDOW = CHOICE + 4 * CROP_TRIALS


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
        u: `[B, WINDOW]` uniform numbers.
        expansion: at least 1.

    Returns:
        windows `[B, 4]` xyxy in pixels of the image (beyond it where expanded), mirrored `[B]`.
    """
    image = whole(sizes)
    size = image[:, 2:]
    scale = (1 + (expansion - 1) * u[:, 1:2]).masked_fill(u[:, 0:1] >= 0.5, 1.0)
    origin = -(scale - 1) * size * u[:, 2:4]
    canvas = torch.cat((origin, origin + scale * size), dim=-1)

    trials = crop_trials(canvas, u[:, CHOICE:])  # [B, T, 4]
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
