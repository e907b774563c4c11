"""Matching with losses, and post-processing, on raw outputs of realistic size."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks import scenes
from benchmarks.timing import Row, compare
from nets.matching import match
from nets.multibox_loss import MultiBoxLoss
from nets.multibox_loss_kd import MultiBoxLoss_KD
from nets.outputs import Outputs
from nets.postprocess import postprocess
from nets.priors import prior_boxes


def losses() -> Iterator[Row]:
    """Matching and loss, forward and backward, 32 x 8732 x 21."""
    priors, criterion = prior_boxes(), MultiBoxLoss()
    targets = scenes.random_targets()
    outputs = scenes.random_outputs()
    leaves = Outputs((), outputs.logits.requires_grad_(), outputs.offsets.requires_grad_())

    def backward(terms: dict[str, Tensor]) -> None:
        leaves.logits.grad = leaves.offsets.grad = None
        torch.stack(list(terms.values())).sum().backward()

    def ours() -> None:
        backward(criterion(leaves, match(targets, priors)))

    yield compare(
        "loss",
        "match + MultiBoxLoss, forward and backward",
        ours,
        "torchvision SSD.compute_loss",
        lambda: backward(scenes.torchvision_loss(leaves, targets)),
    )
    labels = match(targets, priors).labels.flatten()
    yield compare(
        "loss beside its floor",
        "match + MultiBoxLoss, forward and backward",
        ours,
        "dense cross-entropy alone (floor)",
        lambda: backward({"ce": F.cross_entropy(leaves.logits.flatten(0, 1), labels)}),
    )
    distil, teacher = MultiBoxLoss_KD(), scenes.random_outputs(seed=1)
    yield compare(
        "distillation loss",
        "match + MultiBoxLoss_KD, forward and backward",
        lambda: backward(distil(leaves, teacher, match(targets, priors))),
        "torchvision SSD.compute_loss",
        lambda: backward(scenes.torchvision_loss(leaves, targets)),
    )


def inference() -> Iterator[Row]:
    """Post-processing of a batch with about 3000 candidates an image."""
    priors, outputs = prior_boxes(), scenes.random_outputs(background=7.5)
    scores = outputs.logits.softmax(-1)[..., 1:]
    count = int((scores > 0.01).sum()) / len(scores)
    with torch.no_grad():
        yield compare(
            "post-processing",
            f"post-processing of 32 images ({count:.0f} candidates each)",
            lambda: postprocess(outputs, priors),
            "torchvision SSD",
            lambda: scenes.torchvision_postprocess(outputs),
            repeats=5,
        )
