"""From raw outputs to boxes with scores."""

import torch
from torch import Tensor
from torchvision.ops import batched_nms

from nets.multibox_loss import log_probabilities
from nets.outputs import Detections, Outputs
from utils.boxes import decode


def postprocess(
    outputs: Outputs,
    priors: Tensor,
    score_threshold: float = 0.01,
    iou_threshold: float = 0.45,
    per_class: int = 400,
    per_image: int = 200,
) -> Detections:
    """What each image of a batch shows.

    Softmax; the best `per_class` priors of each class whose score is above the threshold; decoded
    and clipped boxes; non-maximum suppression class by class; the best `per_image` of what is left.

    Args:
        outputs: logits `[B, P, K + 1]`, offsets `[B, P, 4]`.
        priors: `[P, 4]`, cxcywh in image fractions.
        score_threshold: scores must be above it.
        iou_threshold: of two boxes that overlap by more, the lower score goes.
        per_class: candidates of a class before suppression.
        per_image: D, detections of an image after it.

    Returns:
        `Detections`, `[B, per_image, ...]`, by falling score; boxes xyxy in image fractions.

    Source: Liu et al., ECCV 2016, sec. 3.5 "Inference time": 0.01, 0.45 and 200; candidates 400 as
    in the authors' Caffe code.
    """
    scores = log_probabilities(outputs.logits)[:, 1:].exp()  # [B, K, P]
    batch, classes, _ = scores.shape
    candidate_scores, prior = scores.topk(min(per_class, scores.shape[-1]), dim=-1)
    kept = candidate_scores > score_threshold
    image, label, _ = kept.nonzero(as_tuple=True)
    candidate_scores, prior = candidate_scores[kept], prior[kept]
    boxes = decode(outputs.offsets.float()[image, prior], priors[prior]).clamp(0, 1)

    # batched_nms moves each group to a place of its own; in float32 the last groups of a large
    # batch would lose the digits that decide close calls.
    group = image * classes + label
    survivors = batched_nms(boxes.double(), candidate_scores.double(), group, iou_threshold)
    # nms returns falling scores; a stable sort by image keeps them falling within each image.
    survivors = survivors[image[survivors].argsort(stable=True)]
    image, label = image[survivors], label[survivors]
    first = torch.searchsorted(image, torch.arange(batch, device=image.device))
    rank = torch.arange(len(image), device=image.device) - first[image]
    survivors, image, label, rank = (x[rank < per_image] for x in (survivors, image, label, rank))

    result = Detections(
        boxes.new_zeros(batch, per_image, 4),
        boxes.new_zeros(batch, per_image),
        label.new_zeros(batch, per_image),
    )
    result.boxes[image, rank] = boxes[survivors]
    result.scores[image, rank] = candidate_scores[survivors]
    result.labels[image, rank] = label + 1
    return result
