"""The SSD training objective: confidence and localisation over positives and hard negatives."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nets.outputs import Matches, Outputs
from utils.runtime.distributed import mean_over_processes


def mine_hard_negatives(
    log_p: Tensor, labels: Tensor, neg_pos_ratio: float = 3.0, negatives_for_hard: int = 100
) -> Tensor:
    """Chooses, per image, the background priors that the network is most wrong about.

    Args:
        log_p: `[B, K + 1, P]`, see `log_probabilities`; no gradient flows through the choice.
        labels: `[B, P]`, 0 background, > 0 positive.
        neg_pos_ratio: negatives chosen for each positive, at least 0.
        negatives_for_hard: negatives chosen in an image without positives.

    Returns:
        `[B, P]` bool. Among equally hard priors the one with the lower index is chosen.

    Source: Liu et al., ECCV 2016, sec. 2.2 "Hard negative mining" (ratio at most 3:1), mined in
    each image as its text says. `negatives_for_hard` keeps images without objects useful.
    """
    positive = labels > 0
    positives = positive.sum(1, keepdim=True)
    wanted = (positives * neg_pos_ratio).long().masked_fill(positives == 0, negatives_for_hard)
    background_loss = log_p.detach()[:, 0].abs()  # abs, not minus: no -0.0
    return mark_largest(background_loss.masked_fill(positive, -1.0), wanted) & ~positive


def mark_largest(values: Tensor, count: Tensor) -> Tensor:
    """Marks the `count` largest non-negative values of each row, without sorting.

    The bits of a non-negative float, read as an integer, keep its order. So the smallest value that
    is still wanted is found bit by bit: a bit belongs to it if enough values reach the number with
    that bit set. Unlike a sort this is exact and the same on every device, and several times
    faster on a CPU.

    Args:
        values: `[B, P]` float32 or float64; negative values are never marked.
        count: `[B, 1]` int64, at least 0; may exceed what there is.

    Returns:
        `[B, P]` bool; of equal values the one with the lower index is marked.
    """
    integer, bits = (torch.int64, 63) if values.dtype == torch.float64 else (torch.int32, 31)
    least = torch.zeros_like(count, dtype=integer)
    for bit in reversed(range(bits)):
        trial = least | (1 << bit)
        # Compared in place as floats: on a CPU twice as fast as summing booleans.
        reached = values.clone().ge_(trial.view(values.dtype)).sum(1, keepdim=True)
        least = torch.where(reached >= count, trial, least)
    numbers = values.view(integer)
    above, equal = numbers > least, numbers == least
    room = count - above.sum(1, keepdim=True)
    return above | (equal & (equal.cumsum(1) <= room))


class MultiBoxLoss(nn.Module):
    """Confidence and localisation loss of SSD.

    `conf` is the cross-entropy summed over positives and mined negatives, `loc` the smooth L1
    summed over the positives' four encoded offsets; both are divided by N, the positives of the
    batch (over all processes). A batch without a single positive is divided by its mined negatives
    instead, so it neither spikes nor turns NaN.

    Args:
        neg_pos_ratio: hard negatives for each positive, at least 0.
        negatives_for_hard: hard negatives of an image without positives, at least 0.

    Raises:
        ValueError: an argument is out of range.

    Source: Liu et al., ECCV 2016, eq. 1 to 3.
    """

    def __init__(self, neg_pos_ratio: float = 3.0, negatives_for_hard: int = 100) -> None:
        super().__init__()
        if neg_pos_ratio < 0 or negatives_for_hard < 0:
            raise ValueError(
                "neg_pos_ratio and negatives_for_hard must not be negative, not "
                f"{neg_pos_ratio} and {negatives_for_hard}"
            )
        self.neg_pos_ratio = neg_pos_ratio
        self.negatives_for_hard = negatives_for_hard

    def select(self, log_p: Tensor, matches: Matches) -> tuple[Tensor, Tensor, Tensor]:
        """The priors that count and what their sums are divided by.

        Args:
            log_p: `[B, K + 1, P]`, see `log_probabilities`.
            matches: what the priors were asked to predict.

        Returns:
            positive `[B, P]` bool, negative `[B, P]` bool (mined), N (a scalar, at least 1).
        """
        positive = matches.labels > 0
        negative = mine_hard_negatives(
            log_p, matches.labels, self.neg_pos_ratio, self.negatives_for_hard
        )
        counts = torch.stack((positive.sum(), negative.sum())).float()
        n_positive, n_negative = mean_over_processes(counts).unbind()
        # Below 1 only where a process has less than one on average, or nothing was mined at all.
        divisor = torch.where(n_positive > 0, n_positive, n_negative.clamp(min=1))
        return positive, negative, divisor

    def forward(self, outputs: Outputs, matches: Matches) -> dict[str, Tensor]:
        """`{"conf", "loc"}`, unweighted scalars; see the class."""
        log_p = log_probabilities(outputs.logits)
        return self.terms(log_p, outputs.offsets, matches, self.select(log_p, matches))

    def terms(
        self,
        log_p: Tensor,
        offsets: Tensor,
        matches: Matches,
        selection: tuple[Tensor, Tensor, Tensor],
    ) -> dict[str, Tensor]:
        """`forward` over priors that `select` has chosen."""
        positive, negative, divisor = selection
        by_prior = log_p.transpose(1, 2).flatten(0, 1)
        cross_entropy = F.nll_loss(by_prior, matches.labels.flatten(), reduction="none")
        distance = F.smooth_l1_loss(
            at_least_float32(offsets),
            at_least_float32(matches.offsets),
            reduction="none",
        ).sum(-1)
        return {
            "conf": masked_sum(cross_entropy, (positive | negative).flatten()) / divisor,
            "loc": masked_sum(distance, positive) / divisor,
        }


def log_probabilities(logits: Tensor) -> Tensor:
    """Log softmax over the classes, `[B, P, K + 1]` -> `[B, K + 1, P]`, at least float32.

    Classes come before priors as losses and mining read them; in memory nothing is moved.
    """
    return at_least_float32(logits).log_softmax(-1).transpose(1, 2)


def masked_sum(values: Tensor, mask: Tensor) -> Tensor:
    """The sum of `values` where `mask` holds; what stands elsewhere has no effect, NaN included."""
    return values.masked_fill(~mask, 0.0).sum()


def at_least_float32(values: Tensor) -> Tensor:
    """Half precision becomes float32, in which sums of losses are safe; float64 stays as it is."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
