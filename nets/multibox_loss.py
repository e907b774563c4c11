"""The SSD training objective: confidence and localisation over positives and hard negatives."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nets.outputs import Matches, Outputs
from nets.rows import Rows, largest_of_rows, looks_at_all, over_classes
from utils.runtime.distributed import mean_over_processes


class Selection(NamedTuple):
    """The priors that count.

    positive: those that answer for an object.
    chosen: these and the mined negatives.
    divisor: N, a scalar above 0: what sums over them are divided by.
    """

    positive: Rows
    chosen: Rows
    divisor: Tensor

    @property
    def negative(self) -> Tensor:
        """`[B, P]` bool: the mined ones."""
        return self.chosen.mask & ~self.positive.mask

    def take(self, outputs: Outputs) -> "Said":
        """What a network said there, at least float32."""
        return Said(
            at_least_float32(self.chosen.take(outputs.logits)),
            at_least_float32(self.positive.take(outputs.offsets)),
        )


class Said(NamedTuple):
    """What a network said of the priors that count.

    logits: `[N, K + 1]`, of all that are chosen.
    offsets: `[M, 4]`, of the positives.
    """

    logits: Tensor
    offsets: Tensor


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
        if not (0 <= neg_pos_ratio < math.inf and 0 <= negatives_for_hard < math.inf):
            raise ValueError(
                "neg_pos_ratio and negatives_for_hard must be numbers of at least 0, not "
                f"{neg_pos_ratio} and {negatives_for_hard}"
            )
        self.neg_pos_ratio = neg_pos_ratio
        self.negatives_for_hard = negatives_for_hard

    def forward(
        self, outputs: Outputs, matches: Matches, divisor: Tensor | None = None
    ) -> dict[str, Tensor]:
        """`{"conf", "loc"}`, unweighted scalars; see the class, and `select` for `divisor`."""
        selection = self.select(outputs, matches, divisor)
        return self.terms(selection.take(outputs), matches, selection)

    def select(
        self, outputs: Outputs, matches: Matches, divisor: Tensor | None = None
    ) -> Selection:
        """The priors that count for what a network said of a batch.

        `divisor` is N where the batch is only a part of what it is counted over.
        """
        positive = matches.labels > 0
        negative = mine_hard_negatives(
            outputs.logits, matches.labels, self.neg_pos_ratio, self.negatives_for_hard
        )
        if divisor is None:
            divisor = self.divisor(matches.labels)
        return Selection(Rows(positive), Rows(positive | negative), divisor)

    def divisor(self, labels: Tensor, parts: int = 1) -> Tensor:
        """N, which depends on the matches alone: how many negatives are mined is known before.

        Args:
            labels: `[B, P]`, see `Matches`.
            parts: how many equal parts of the batch go through the network one after the other; N
                is the mean over them, so that the mean of their terms is the term of the batch.
        """
        negatives = negatives_wanted(labels, self.neg_pos_ratio, self.negatives_for_hard)
        mined = negatives.minimum((labels == 0).sum(1, keepdim=True))
        counts = torch.stack(((labels > 0).sum(), mined.sum())).float() / parts
        n_positive, n_negative = mean_over_processes(counts).unbind()
        # Below 1 only where a part has less than one on average, or nothing was mined at all.
        return torch.where(n_positive > 0, n_positive, n_negative.clamp(min=1))

    def terms(self, said: Said, matches: Matches, selection: Selection) -> dict[str, Tensor]:
        """`forward` for what was said of the priors that `select` has chosen."""
        # Ignored priors are never chosen; where all rows are looked at, they need a valid column.
        labels = selection.chosen.take(matches.labels).clamp(min=0)
        cross_entropy = F.cross_entropy(said.logits, labels, reduction="none")
        truth = at_least_float32(selection.positive.take(matches.offsets))
        distance = F.smooth_l1_loss(said.offsets, truth, reduction="none").sum(-1)
        return {
            "conf": selection.chosen.total(cross_entropy) / selection.divisor,
            "loc": selection.positive.total(distance) / selection.divisor,
        }


def mine_hard_negatives(
    logits: Tensor, labels: Tensor, neg_pos_ratio: float = 3.0, negatives_for_hard: int = 100
) -> Tensor:
    """Chooses, per image, the background priors that the network is most wrong about.

    Args:
        logits: `[B, P, K + 1]`; no gradient flows through the choice.
        labels: `[B, P]`, 0 background, > 0 positive, < 0 ignored.
        neg_pos_ratio: negatives chosen for each positive, at least 0.
        negatives_for_hard: negatives chosen in an image without positives.

    Returns:
        `[B, P]` bool. Among equally hard priors the one with the lower index is chosen.

    Source: Liu et al., ECCV 2016, sec. 2.2 "Hard negative mining" (ratio at most 3:1), mined in
    each image as its text says. `negatives_for_hard` keeps images without objects useful.
    """
    wanted = negatives_wanted(labels, neg_pos_ratio, negatives_for_hard)
    candidate = labels == 0
    return mark_largest(background_loss(logits).masked_fill(~candidate, -1.0), wanted) & candidate


def negatives_wanted(labels: Tensor, neg_pos_ratio: float, negatives_for_hard: int) -> Tensor:
    """How many hard negatives each image is to have, `[B, P]` -> `[B, 1]` int64."""
    positives = (labels > 0).sum(1, keepdim=True)
    return (positives * neg_pos_ratio).long().masked_fill(positives == 0, negatives_for_hard)


@torch.no_grad()
def background_loss(logits: Tensor) -> Tensor:
    """-log p_0 of every prior, `[B, P, K + 1]` -> `[B, P]`, at least float32; not NaN."""
    # An image at a time stays in a CPU's cache: in half precision a third of the time.
    parts = (logits,) if looks_at_all(logits.device) else logits.split(1)
    columns = [over_classes(torch.log_softmax, at_least_float32(x))[..., 0] for x in parts]
    # What is not finite must be chosen, so that it shows in the loss.
    return torch.cat(columns).neg_().nan_to_num_(nan=torch.inf, posinf=torch.inf)


def mark_largest(values: Tensor, count: Tensor) -> Tensor:
    """Marks the `count` largest values of each row.

    Args:
        values: `[B, P]`, no NaN.
        count: `[B, 1]` int64, at least 0; may exceed what there is.

    Returns:
        `[B, P]` bool; of equal values the one with the lower index is marked.
    """
    least = largest_of_rows(values, count)
    above, equal = values > least, values == least
    room = count - above.sum(1, keepdim=True)
    return above | (equal & (equal.cumsum(1) <= room))


def at_least_float32(values: Tensor) -> Tensor:
    """Half precision becomes float32, in which sums of losses are safe; float64 stays as it is."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
