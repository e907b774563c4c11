"""MultiBoxLoss plus what a teacher has to say: soft targets and a bound for the regression."""

import math

import torch
from torch import Tensor, nn

from nets.multibox_loss import MultiBoxLoss, Selection, at_least_float32
from nets.outputs import Matches, Outputs
from nets.rows import Rows
from utils.runtime.distributed import mean_over_processes


class MultiBoxLoss_KD(nn.Module):
    """The distillation objective for SSD: a `MultiBoxLoss`, and two terms over what it selects.

    With p = softmax(logits / T), s the student and t the teacher:

        soft = T^2 / N * sum over selected priors, sum over columns c of
               w_c p_t(c) (log p_t(c) - log p_s(c)),   w_0 = neg_w, w_c = pos_w for c > 0
        l2   = 1 / N * sum over positives of e_s where e_s + reg_m > e_t, else 0
               e_s = |o_s - o|^2, e_t = |o_t - o|^2, in encoded space

    conf, loc, N and the selection (mined with the student's loss) are those of `MultiBoxLoss`. T^2
    keeps the gradient's size independent of T (Hinton et al., sec. 2). With unequal weights `soft`
    may be negative: it is no divergence any more, only its gradient matters.

    Args:
        neg_pos_ratio, negatives_for_hard: see `MultiBoxLoss`.
        neg_w: weight of the background column, at least 0; 1.5 counters its large share.
        pos_w: weight of every class column, at least 0.
        temperature: T, above 0.
        reg_m: margin of the bound in squared encoded units; the student is left in peace once its
            error is below the teacher's by this much.

    Raises:
        ValueError: an argument is out of range.

    Source: Chen et al., "Learning Efficient Object Detection Models with Knowledge Distillation",
    NIPS 2017, eq. 2 to 4; Hinton et al., "Distilling the Knowledge in a Neural Network", 2015.
    """

    def __init__(
        self,
        neg_pos_ratio: float = 3.0,
        negatives_for_hard: int = 100,
        neg_w: float = 1.5,
        pos_w: float = 1.0,
        temperature: float = 1.0,
        reg_m: float = 0.0,
    ) -> None:
        super().__init__()
        self.objects = MultiBoxLoss(neg_pos_ratio, negatives_for_hard)
        if not 0 < temperature < math.inf:
            raise ValueError(f"temperature must be above 0, not {temperature}")
        if not (0 <= neg_w < math.inf and 0 <= pos_w < math.inf):
            raise ValueError(f"neg_w and pos_w must be at least 0, not {neg_w} and {pos_w}")
        if not math.isfinite(reg_m):
            raise ValueError(f"reg_m must be a finite number, not {reg_m}")
        self.neg_w, self.pos_w = neg_w, pos_w
        self.temperature, self.reg_m = temperature, reg_m

    def forward(
        self,
        student: Outputs,
        teacher: Outputs,
        matches: Matches,
        selection: Selection | None = None,
    ) -> dict[str, Tensor]:
        """The four unweighted terms.

        Args:
            student: what learns; gradients flow here alone.
            teacher: outputs over the same priors and classes.
            matches: what both were asked to predict.
            selection: what `select` has chosen, where it is known already.

        Returns:
            `{"soft", "l2", "conf", "loc"}`, scalars.

        Raises:
            ValueError: teacher and student disagree on the number of priors or classes.
        """
        if student.logits.shape != teacher.logits.shape:
            raise ValueError(
                f"the teacher predicts {describe(teacher)}, the student {describe(student)}; "
                "distillation compares prior with prior and class with class"
            )
        selection = selection or self.select(student, matches)
        ours, theirs = selection.take(student), selection.take(teacher)
        truth = at_least_float32(selection.positive.take(matches.offsets))
        divergence = self.soft_target(ours.logits, theirs.logits)
        bounded = self.bounded_l2(ours.offsets, theirs.offsets, truth)
        return {
            "soft": selection.chosen.total(divergence) / selection.divisor,
            "l2": selection.positive.total(bounded) / selection.divisor,
            **self.objects.terms(ours, matches, selection),
        }

    def select(
        self, student: Outputs, matches: Matches, divisor: Tensor | None = None
    ) -> Selection:
        """See `MultiBoxLoss.select`."""
        return self.objects.select(student, matches, divisor)

    def divisor(self, labels: Tensor, parts: int = 1) -> Tensor:
        """See `MultiBoxLoss.divisor`."""
        return self.objects.divisor(labels, parts)

    @torch.no_grad()
    def watch(
        self, student: Outputs, teacher: Outputs, matches: Matches, selection: Selection
    ) -> dict[str, Tensor]:
        """What tells whether the teacher is heard; scalars in 0..1.

        Returns:
            `bound_active`, the share of positives in which the teacher bound holds, so that `l2`
            has a gradient; `agreement`, the share of selected priors for which both name the same
            class (background included) as the likeliest; `agreement_on_positives`, the same over
            positives alone. 0 where there is nothing to count.
        """
        ours, theirs = selection.take(student), selection.take(teacher)
        chosen, positive = selection.chosen, selection.positive
        truth = at_least_float32(positive.take(matches.offsets))
        active = self.bounded_l2(ours.offsets, theirs.offsets, truth) > 0
        same = student.logits.argmax(-1) == teacher.logits.argmax(-1)
        return {
            "bound_active": fraction(active, positive),
            "agreement": fraction(chosen.take(same), chosen),
            "agreement_on_positives": fraction(positive.take(same), positive),
        }

    def soft_target(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Weighted divergence of each row.

        Args:
            student: `[N, K + 1]`, logits.
            teacher: `[N, K + 1]`, logits; no gradient flows to them.

        Returns:
            `[N]`.
        """
        log_s, log_t = self.softened(student), self.softened(teacher.detach())
        weights = log_t.new_full((log_t.shape[-1],), self.pos_w)
        weights[:1].fill_(self.neg_w)
        columns = log_t.exp().mul_(weights) * (log_t - log_s)
        return self.temperature**2 * columns.sum(-1)

    def softened(self, logits: Tensor) -> Tensor:
        """Log softmax at temperature T, at least float32."""
        # Divided after the change to float32: half precision would round what T is to soften.
        return (at_least_float32(logits) / self.temperature).log_softmax(-1)

    def bounded_l2(self, student: Tensor, teacher: Tensor, truth: Tensor) -> Tensor:
        """Squared error of each box where the teacher's is not worse, `[N, 4]` thrice -> `[N]`."""
        teacher = teacher.detach()
        error_s = (student - truth).square().sum(-1)
        error_t = (teacher - truth).square().sum(-1)
        return error_s.masked_fill(~(error_s + self.reg_m > error_t), 0.0)


def fraction(which: Tensor, of: Rows) -> Tensor:
    """How large a part of the rows `of`, over all processes, is marked in `which` `[N]`."""
    counts = torch.stack((of.total(which), of.mask.sum())).float()
    part, whole = mean_over_processes(counts).unbind()
    return part / whole.where(whole > 0, 1.0)


def describe(outputs: Outputs) -> str:
    """`8732 priors x 21 columns`, for messages."""
    return f"{outputs.logits.shape[1]} priors x {outputs.logits.shape[2]} columns"
