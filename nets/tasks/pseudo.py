"""Objects of images without labels: what a teacher detects in them, with shapes that never change.

They are the detections of `nets.postprocess` for scores of 0.5 and more, of which a prior can have
one at most. For lower ones a prior speaks for its likeliest class alone: two objects in one place
would teach that it is neither.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from nets.multibox_loss import at_least_float32
from nets.outputs import Detections, Outputs, Targets
from nets.rows import looks_at_all, over_classes
from utils.boxes import decode, iou

# Priors of an image that are looked at, the surest first, and objects of one at most: no image of
# VOC has more than 42 objects, and in most of its images there are fewer than four.
CANDIDATES, SLOTS = 400, 50
# Of two boxes of a class that overlap by more, the lower score goes; as in `nets.postprocess`.
OVERLAP = 0.45


@torch.no_grad()
def pseudo_objects(
    outputs: Outputs, priors: Tensor, least_score: float, wanted: Tensor
) -> Detections:
    """What a network detects in some images of a batch.

    Args:
        outputs: logits `[B, P, K + 1]`, offsets `[B, P, 4]`.
        priors: `[P, 4]`, cxcywh in image fractions.
        least_score: that a detection has at least, above 0.
        wanted: `[B]` bool, which images; of the others nothing is detected.

    Returns:
        `Detections`, `[B, D, ...]`. D is `SLOTS` where shapes must not depend on values; elsewhere
        it is the most of any image, at most `SLOTS`.
    """
    scores, labels = over_classes(torch.softmax, at_least_float32(outputs.logits))[..., 1:].max(-1)
    scores = scores.masked_fill(~(scores >= least_score) | ~wanted[:, None], 0)
    count = len(priors) if looks_at_all(scores.device) else int((scores > 0).sum(1).max())
    scores, place = scores.sort(dim=1, descending=True, stable=True)
    scores, place = (x[:, : min(CANDIDATES, count)] for x in (scores, place))
    labels = labels.gather(1, place) + 1
    offsets = outputs.offsets.gather(1, place[..., None].expand(-1, -1, 4)).to(priors.dtype)
    boxes = decode(offsets, priors[place]).clamp_(0, 1)
    hides = (iou(boxes, boxes) > OVERLAP) & (labels[:, :, None] == labels[:, None])
    best, real = pick(scores > 0, hides)
    return Detections(
        boxes.gather(1, best[..., None].expand(-1, -1, 4)) * real[..., None],
        scores.gather(1, best) * real,
        labels.gather(1, best) * real,
    )


def pick(left: Tensor, hides: Tensor) -> tuple[Tensor, Tensor]:
    """Takes the best candidate that is left, and away what it hides, until `SLOTS` are full.

    Args:
        left: `[B, C]` bool, candidates by falling score.
        hides: `[B, C, C]` bool, symmetric: whether one is not to stand beside the other.

    Returns:
        Which ones, `[B, D]`, and whether there still was one, `[B, D]` bool.
    """
    count = left.shape[1]
    chosen, real = [left.new_zeros(len(left), 0, dtype=torch.long)], [left[:, :0]]
    hides = hides | torch.eye(count, dtype=torch.bool, device=hides.device)
    for _ in range(min(SLOTS, count)):
        if not looks_at_all(left.device) and not left.any():
            break
        best = left.int().argmax(1, keepdim=True)  # the first one
        chosen.append(best)
        real.append(left.gather(1, best))
        left = left & ~hides.gather(1, best[..., None].expand(-1, -1, count))[:, 0]
    return torch.cat(chosen, 1), torch.cat(real, 1)


def doubted(found: Detections, sure_score: float) -> Detections:
    """The same detections, of which those with lower scores have label -1.

    As of difficult objects: the priors that they would have are neither taught nor mined, so what a
    network is in doubt about is not taught as background.
    """
    doubtful = (found.scores < sure_score) & (found.labels > 0)
    return found._replace(labels=found.labels.masked_fill(doubtful, -1))


def completed(targets: Targets, unlabelled: Tensor, found: Detections) -> Targets:
    """The objects of a batch, of which some images, `unlabelled` `[B]`, have those that were found.

    M becomes the larger one of the M of `targets` and the D of `found`.
    """
    most = max(targets.labels.shape[1], found.labels.shape[1])

    def padded(boxes: Tensor, labels: Tensor) -> Targets:
        room = most - labels.shape[1]
        return Targets(F.pad(boxes, (0, 0, 0, room)), F.pad(labels, (0, room)))

    told, seen = padded(*targets), padded(found.boxes.to(targets.boxes.dtype), found.labels)
    return Targets(
        torch.where(unlabelled[:, None, None], seen.boxes, told.boxes),
        torch.where(unlabelled[:, None], seen.labels, told.labels),
    )
