"""Detection on batches and on images as they are."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nets.exported import Exported
from nets.outputs import Detections
from nets.postprocess import postprocess
from nets.ssd import SSD300
from utils.boxes import Targets
from utils.data.augment import resize
from utils.data.images import pad_to_square
from utils.data.store import LARGEST_SIDE
from utils.show.report import cost


class Found(NamedTuple):
    """What an image shows, best first: boxes `[D, 4]` xyxy in its pixels, scores, labels 1..K."""

    boxes: list[list[float]]
    scores: list[float]
    labels: list[int]


@torch.no_grad()
def detect(model: SSD300 | Exported, images: Tensor, score_threshold: float = 0.01) -> Detections:
    """What an evaluation-mode network shows in `[B, 3, 300, 300]` float RGB 0..255."""
    if isinstance(model, Exported):
        return model.detect(images, score_threshold)
    return postprocess(model(images), model.priors, score_threshold)


def cost_of(model: SSD300 | Exported) -> dict[str, float]:
    """`utils.show.report.cost`; an exported network remembers that of the one it was made from."""
    return model.cost if isinstance(model, Exported) else cost(model)


def detect_images(
    model: SSD300 | Exported, images: Sequence[npt.NDArray[np.uint8]], score_threshold: float = 0.5
) -> list[Found]:
    """What an evaluation-mode network shows in images of any size, `[H, W, 3]` uint8 RGB each.

    They go through the very steps that evaluation on a split goes through.
    """
    device = model.priors.device
    count = len(images)
    squares = np.empty((count, LARGEST_SIDE, LARGEST_SIDE, 3), np.uint8)
    sizes = [pad_to_square(*pair) for pair in zip(images, squares, strict=True)]
    batch = torch.from_numpy(squares).to(device).permute(0, 3, 1, 2)
    nothing = Targets(torch.zeros(count, 0, 4), torch.zeros(count, 0, dtype=torch.long))
    resized, _ = resize(batch, torch.tensor(sizes, device=device).float(), nothing.to(device))
    boxes, scores, labels = (x.cpu() for x in detect(model, resized, score_threshold))
    results = []
    for i, image in enumerate(images):
        height, width = image.shape[:2]
        real = labels[i] > 0
        pixels = boxes[i][real] * torch.tensor((width, height, width, height))
        results.append(Found(pixels.tolist(), scores[i][real].tolist(), labels[i][real].tolist()))
    return results
