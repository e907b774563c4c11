"""A split shown to a network: mean loss terms, and detections for the evaluator."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from utils.boxes import Detections, Targets
from utils.data.augment import resize
from utils.data.store import Store
from utils.metrics.evaluator import Evaluator
from utils.runtime.device import Precision
from utils.runtime.distributed import gather, is_main, rank, world_size

# How many images the page at the end of a run looks at for where others disagree.
LOOKED_AT = 100


class Seen(NamedTuple):
    """What a network said of a batch; on the CPU.

    number: which batch of the split.
    weight: of its terms in the means.
    indices: `[B]`, positions in the split.
    """

    number: int
    weight: float
    terms: dict[str, float]
    indices: Tensor
    detected: Detections


@torch.inference_mode()
def evaluate(
    predict: Callable[[Tensor, Targets], tuple[dict[str, Tensor], Detections]],
    store: Store,
    evaluator: Evaluator,
    precision: Precision,
    batch_size: int,
    most: int | None = None,
) -> dict[str, float]:
    """Shows every image of a split to a network and tells the evaluator what it found.

    Of several processes each takes every so-many-th batch, so that the batches are those of a
    single one; the evaluator of the main process receives everything, and the terms are added in
    the order of the split. What the other processes return means nothing.

    Args:
        predict: images `[B, 3, 300, 300]` and targets -> loss terms (may be empty) and detections.
        store: the split.
        evaluator: receives boxes in pixels of the original images.
        precision: device and arithmetic.
        batch_size: images a forward pass.
        most: look at so many images, spread over the split, instead of all.

    Returns:
        The mean of each term over the batches, weighted by their positives, so that the split
        counts as one batch (a batch without any, which is divided by its hard negatives, weighs as
        one positive); and `images_per_second` of `predict` (reading is not counted).
    """
    count = min(len(store), most or len(store))
    order = (torch.arange(count) * len(store) // count).split(batch_size)
    mine = range(rank(), len(order), world_size())
    batches = store.batches([order[number] for number in mine])
    hidden = not is_main() or None
    seen, seconds = [], 0.0
    for number, batch in zip(
        mine, tqdm(batches, "evaluation", len(mine), leave=False, disable=hidden), strict=True
    ):
        images, targets = resize(batch.images, batch.sizes, batch.targets)
        started = time.perf_counter()
        with precision.autocast():
            terms, detected = predict(channels_last(images), targets)
        detected = Detections(*(x.cpu() for x in detected))  # waits for the device
        seconds += time.perf_counter() - started
        weight = max(1.0, float(terms.pop("positives", 0)))
        values = {name: float(term) for name, term in terms.items()}
        seen.append(Seen(number, weight, values, batch.indices, detected))
    parts = gather((seen, seconds))
    everything = sorted((s for part, _ in parts for s in part), key=lambda s: s.number)
    for one in everything:
        tell(evaluator, store, one)
    slowest = max((seconds for _, seconds in parts), default=math.nan)
    return {**mean_terms(everything), "images_per_second": count / slowest}


def look_beside(
    others: Mapping[str, Callable[[Tensor], Detections]],
    store: Store,
    class_names: Sequence[str],
    precision: Precision,
    batch_size: int,
) -> dict[str, Evaluator]:
    """What others detect in some images of a split, see `LOOKED_AT` and `Task.others`, by name."""
    evaluators = {name: Evaluator(class_names) for name in others}
    for name, detect in others.items():

        def predict(
            images: Tensor, targets: Targets, detect: Callable[[Tensor], Detections] = detect
        ) -> tuple[dict[str, Tensor], Detections]:
            del targets
            return {}, detect(images)

        evaluate(predict, store, evaluators[name], precision, batch_size, LOOKED_AT)
    return evaluators


def tell(evaluator: Evaluator, store: Store, seen: Seen) -> None:
    """Gives the evaluator the images of a batch, in pixels of the originals."""
    boxes, scores, labels = seen.detected
    for i, index in enumerate(seen.indices.tolist()):
        sample, real = store.samples[index], labels[i] > 0
        truth = sample.annotation
        pixels = torch.tensor((truth.width, truth.height)).repeat(2)
        evaluator.update(
            sample.image_id,
            boxes=boxes[i][real] * pixels,
            scores=scores[i][real],
            labels=labels[i][real],
            truth_boxes=truth.boxes,
            truth_labels=truth.labels,
            difficult=truth.difficult,
        )


def mean_terms(batches: list[Seen]) -> dict[str, float]:
    """The weighted mean of each term over the batches."""
    sums: dict[str, float] = {}
    weights = 0.0
    for batch in batches:
        weights += batch.weight
        for name, value in batch.terms.items():
            sums[name] = sums.get(name, 0.0) + batch.weight * value
    return {name: total / weights for name, total in sums.items()}


def channels_last(images: Tensor) -> Tensor:
    """The memory layout in which convolutions are fastest on CPUs and GPUs."""
    return images.contiguous(memory_format=torch.channels_last)
