"""MultiBoxLoss plus what a teacher has to say: soft targets and a bound for the regression."""

import math

import torch
from torch import Tensor

from nets.multibox_loss import MultiBoxLoss, at_least_float32, log_probabilities, masked_sum
from nets.outputs import Matches, Outputs
from utils.runtime.distributed import mean_over_processes


class MultiBoxLoss_KD(MultiBoxLoss):
    """The distillation objective for SSD, over the priors that MultiBoxLoss selects.

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
        super().__init__(neg_pos_ratio, negatives_for_hard)
        if not 0 < temperature < math.inf:
            raise ValueError(f"temperature must be above 0, not {temperature}")
        if neg_w < 0 or pos_w < 0:
            raise ValueError(f"neg_w and pos_w must not be negative, not {neg_w} and {pos_w}")
        if not math.isfinite(reg_m):
            raise ValueError(f"reg_m must be a finite number, not {reg_m}")
        self.neg_w, self.pos_w = neg_w, pos_w
        self.temperature, self.reg_m = temperature, reg_m

    def forward(  # type: ignore[override]  # a teacher is one argument more
        self, student: Outputs, teacher: Outputs, matches: Matches
    ) -> dict[str, Tensor]:
        """The four unweighted terms.

        Args:
            student: what learns; gradients flow here alone.
            teacher: outputs over the same priors and classes.
            matches: what both were asked to predict.

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
        log_p = log_probabilities(student.logits)
        selection = self.select(log_p, matches)
        positive, negative, divisor = selection
        divergence = self.soft_target(student.logits, teacher.logits.detach(), log_p)
        bounded = self.bounded_l2(
            at_least_float32(student.offsets),
            at_least_float32(teacher.offsets.detach()),
            at_least_float32(matches.offsets),
        )
        return {
            "soft": masked_sum(divergence, positive | negative) / divisor,
            "l2": masked_sum(bounded, positive) / divisor,
            **self.terms(log_p, student.offsets, matches, selection),
        }

    @torch.no_grad()
    def watch(self, student: Outputs, teacher: Outputs, matches: Matches) -> dict[str, Tensor]:
        """What tells whether the teacher is heard; scalars in 0..1.

        Returns:
            `bound_active`, the share of positives in which the teacher bound holds, so that `l2`
            has a gradient; `agreement`, the share of selected priors for which both name the same
            class (background included) as the likeliest; `agreement_on_positives`, the same over
            positives alone. 0 where there is nothing to count.
        """
        positive, negative, _ = self.select(log_probabilities(student.logits), matches)
        active = self.bounded_l2(
            *(at_least_float32(x.offsets) for x in (student, teacher, matches))
        ).gt(0)
        same = student.logits.argmax(-1) == teacher.logits.argmax(-1)
        return {
            "bound_active": fraction(active, positive),
            "agreement": fraction(same, positive | negative),
            "agreement_on_positives": fraction(same, positive),
        }

    def soft_target(self, student: Tensor, teacher: Tensor, log_p: Tensor | None = None) -> Tensor:
        """Weighted divergence of each prior.

        Args:
            student: `[B, P, K + 1]`, logits.
            teacher: `[B, P, K + 1]`, logits; no gradient flows to them.
            log_p: the student's `log_probabilities`, where they are known already.

        Returns:
            `[B, P]`.
        """
        if log_p is None or self.temperature != 1:
            log_p = self.softened(student)
        log_t = self.softened(teacher.detach())
        weights = log_t.new_full((log_t.shape[1], 1), self.pos_w)
        weights[:1].fill_(self.neg_w)
        columns = log_t.exp().mul_(weights) * (log_t - log_p)
        return self.temperature**2 * columns.sum(1)

    def softened(self, logits: Tensor) -> Tensor:
        """`log_probabilities` at temperature T."""
        if self.temperature != 1:
            # After the change to float32: half precision would round what T is to soften.
            logits = at_least_float32(logits) / self.temperature
        return log_probabilities(logits)

    def bounded_l2(self, student: Tensor, teacher: Tensor, truth: Tensor) -> Tensor:
        """Squared error of each prior's box where the teacher's is not worse, `[B, P, 4]` thrice ->
        `[B, P]`.
        """
        error_s = (student - truth).square().sum(-1)
        error_t = (teacher - truth).square().sum(-1)
        return error_s.masked_fill(~(error_s + self.reg_m > error_t), 0.0)


def fraction(which: Tensor, of: Tensor) -> Tensor:
    """How large a part of the marked places `of`, over all processes, is also marked in `which`."""
    counts = torch.stack(((which & of).sum(), of.sum())).float()
    part, whole = mean_over_processes(counts).unbind()
    return part / whole.where(whole > 0, 1.0)


def describe(outputs: Outputs) -> str:
    """`8732 priors x 21 columns`, for messages."""
    return f"{outputs.logits.shape[1]} priors x {outputs.logits.shape[2]} columns"
