"""What will be an object where nobody has labelled any: what the teacher detects in first views."""

import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from nets.tasks import DistillTask
from utils.engine.evaluation import channels_last
from utils.engine.trainer import Trainer
from utils.engine.updates import eagerly
from utils.runtime.distributed import is_main, own_part
from utils.show.draw import Picture, draw_boxes, side_by_side

SECONDS = 3.0  # for what the teacher detects
AT_ONCE = 8  # images that it looks at at a time
FEWEST, MANY = 8, 128  # views of those without labels
DRAWN = 8  # of them
FEW, TOO_MANY = 0.25, 3.0  # times the objects that a labelled image has
LOWER = (0.4, 0.3, 0.2, 0.1)  # scores that a warning speaks of


def judge_unlabelled(
    trainer: Trainer, task: DistillTask, names: Sequence[str], picture: Path | None
) -> list[str]:
    """Has the teacher look at images without labels; returns what speaks against doing so.

    Args:
        trainer: new.
        task: what it trains.
        names: of the classes 1..K.
        picture: the file to draw the first views into, if any.
    """
    store = trainer.store
    if store.labelled == len(store) or not is_main():
        return []
    scores: list[Tensor] = []  # of what is found in each view
    pictures: list[list[Picture]] = []
    for image, boxes, found, labels in first_views(trainer, task):
        scores.append(found[labels > 0])
        if picture and len(pictures) < DRAWN:
            sure = found >= task.pseudo_score
            pictures.append(drawn(image, boxes[sure], found[sure], labels[sure], names))
    if picture and pictures:
        picture.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(side_by_side(pictures, ("a view", "what the teacher finds"))).save(picture)
        print(f"preflight: what the teacher finds is drawn in {picture}")
    labelled = float((store.targets.labels[: store.labelled] > 0).sum() / store.labelled)
    return judged(scores, task.pseudo_score, labelled)


def first_views(trainer: Trainer, task: DistillTask) -> Iterator[tuple[Tensor, ...]]:
    """Some images without labels as training will show them first, and what the teacher detects.

    As many as `SECONDS` allow, but `FEWEST`, where training has so many.

    Yields:
        `[3, 300, 300]`, boxes `[D, 4]`, scores `[D]` and labels `[D]`, on the CPU.
    """
    order = trainer.order
    least = min(LOWER[-1], task.pseudo_score)
    started, yielded = time.perf_counter(), 0
    count = max(AT_ONCE, -(-trainer.config.batch_size // order.free))  # one of them is among these
    for step in range(-(-min(MANY, order.unlabelled) // order.free)):
        (batch,) = trainer.store.batches([own_part(order.indices(step))[:count]])
        # What is compiled is compiled for as many images as training has at a time.
        with eagerly() if trainer.config.compile else nullcontext():
            shown = trainer.shown(batch, step)
            with trainer.precision.autocast(), torch.no_grad():
                shown = shown._replace(images=channels_last(shown.images))
                found = task.detected(shown, least_score=least)
        assert shown.unlabelled is not None
        chosen = shown.unlabelled.cpu()
        yield from zip(*(x.cpu()[chosen] for x in (shown.images, *found)), strict=True)
        yielded += int(chosen.sum())
        if yielded >= FEWEST and time.perf_counter() - started > SECONDS:
            return


def drawn(
    image: Tensor, boxes: Tensor, scores: Tensor, labels: Tensor, names: Sequence[str]
) -> list[Picture]:
    """A view, and the view with what was found in it."""
    view = image.round().byte().permute(1, 2, 0).numpy()
    pixels = boxes * len(view)
    return [view, draw_boxes(view, pixels, labels.tolist(), names, scores.tolist())]


def judged(scores: Sequence[Tensor], least: float, labelled: float) -> list[str]:
    """Prints how many objects there will be; a warning where there are next to none.

    Args:
        scores: of what was detected in each view.
        least: what counts as an object.
        labelled: how many objects a labelled image has.
    """
    if not scores:
        return []  # this process has none in its part of the first batches

    def objects(score: float) -> float:
        return sum(int((of_view >= score).sum()) for of_view in scores) / len(scores)

    none = sum(not bool((of_view >= least).any()) for of_view in scores) / len(scores)
    mean = objects(least)
    print(
        f"preflight: in {len(scores)} unlabelled views the teacher finds {mean:.2f} objects each, "
        f"with a score of at least {least:g} ({none:.0%} have none); a labelled image has "
        f"{labelled:.2f}"
    )
    if mean > TOO_MANY * labelled:
        return [
            f"the teacher finds {mean:.2g} objects in an unlabelled image, labelled ones have "
            f"{labelled:.2g}; what is wrong of it is taught as an object: look at "
            "--pseudo-pictures, and raise --pseudo-score"
        ]
    if mean >= FEW * labelled:
        return []
    lower = [f"{score:g} finds {objects(score):.2g}" for score in LOWER if score < least]
    remedy = f"lower --pseudo-score ({', '.join(lower)}), or " if lower else ""
    few = f"only {mean:.2g} objects in an" if mean else "no object in any"
    return [
        f"the teacher finds {few} unlabelled image, labelled ones have {labelled:.2g}; what it "
        f"misses is taught as background: {remedy}take a better teacher"
    ]
