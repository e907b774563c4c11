"""Detection on batches and on images as they are."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nets.outputs import Detections
from nets.postprocess import EVALUATED, SHOWN, Limits, postprocess
from nets.saved.exported import Exported
from nets.ssd import SSD300
from utils.boxes import Targets
from utils.data.augment import resize
from utils.data.images import pad_to_square
from utils.data.store import LARGEST_SIDE, Store
from utils.engine.evaluation import evaluate
from utils.metrics.evaluator import Evaluator
from utils.runtime.clock import Clock
from utils.runtime.device import Precision
from utils.show.report import cost


class Found(NamedTuple):
    """What an image shows, best first: boxes `[D, 4]` xyxy in its pixels, scores, labels 1..K."""

    boxes: list[list[float]]
    scores: list[float]
    labels: list[int]

    def only(self, labels: Sequence[int]) -> "Found":
        """What of it has one of some labels."""
        kept = [i for i, label in enumerate(self.labels) if label in labels]
        boxes, scores = [self.boxes[i] for i in kept], [self.scores[i] for i in kept]
        return Found(boxes, scores, [self.labels[i] for i in kept])


@torch.no_grad()
def detect(
    model: SSD300 | Exported,
    images: Tensor,
    limits: Limits = EVALUATED,
    clock: Clock | None = None,
) -> Detections:
    """What an evaluation-mode network shows in `[B, 3, 300, 300]` float RGB 0..255.

    An exported network has its post-processing inside.
    """
    clock = clock or Clock()
    with clock.part("network"):
        if isinstance(model, Exported):
            return model.detect(images, limits)
        outputs = model(images)
    with clock.part("post-processing"):
        return postprocess(outputs, model.priors, *limits)


def detect_split(
    model: SSD300 | Exported,
    store: Store,
    evaluator: Evaluator,
    precision: Precision,
    batch_size: int,
    limits: Limits = EVALUATED,
) -> dict[str, float]:
    """Tells an evaluator what a network detects in a split; returns `images_per_second`."""

    def predict(images: Tensor, targets: Targets) -> tuple[dict[str, Tensor], Detections]:
        del targets
        return {}, detect(model, images, limits)

    return evaluate(predict, store, evaluator, precision, batch_size)


def cost_of(model: SSD300 | Exported) -> dict[str, float]:
    """`utils.show.report.cost`; an exported network remembers that of the one it was made from."""
    return model.cost if isinstance(model, Exported) else cost(model)


def as_shown(images: Sequence[npt.NDArray[np.uint8]], device: torch.device) -> Tensor:
    """Images of any size, `[H, W, 3]` uint8 RGB each, as a network sees them.

    They go through the very steps that evaluation on a split goes through.

    Returns:
        `[B, 3, 300, 300]` float RGB 0..255.
    """
    count = len(images)
    squares = np.empty((count, LARGEST_SIDE, LARGEST_SIDE, 3), np.uint8)
    sizes = [pad_to_square(*pair) for pair in zip(images, squares, strict=True)]
    batch = torch.from_numpy(squares).to(device).permute(0, 3, 1, 2)
    nothing = Targets(torch.zeros(count, 0, 4), torch.zeros(count, 0, dtype=torch.long))
    resized, _ = resize(batch, torch.tensor(sizes, device=device).float(), nothing.to(device))
    return resized


def detect_images(
    model: SSD300 | Exported,
    images: Sequence[npt.NDArray[np.uint8]],
    limits: Limits = SHOWN,
    clock: Clock | None = None,
) -> list[Found]:
    """What an evaluation-mode network shows in images of any size, `[H, W, 3]` uint8 RGB each.

    Args:
        model: the network.
        images: B of them, as they are.
        limits: what post-processing keeps.
        clock: is told what time goes to: `network`, the images' resizing included, and
            `post-processing`.
    """
    clock = clock or Clock()
    with clock.part("network"):
        shown = as_shown(images, model.priors.device)
    detections = detect(model, shown, limits, clock)
    with clock.part("post-processing"):
        boxes, scores, labels = (x.cpu() for x in detections)
        results = []
        for i, image in enumerate(images):
            height, width = image.shape[:2]
            real = labels[i] > 0
            pixels = boxes[i][real] * torch.tensor((width, height, width, height))
            results.append(Found(*(x.tolist() for x in (pixels, scores[i][real], labels[i][real]))))
    return results
