"""Decoupled distillation: how sure of the label, and what else it could be, weighed apart."""

from collections.abc import Sequence

import torch
from torch import Tensor

from nets.distillers.base import Distiller, above_0, at_least_0, divergence
from nets.multibox_loss import at_least_float32
from nets.outputs import Lesson, Outputs
from nets.rows import Rows


class Decoupled(Distiller):
    """T^2 / N * sum over selected priors of alpha * TCKD + beta * NCKD.

    With p = softmax(logits / T) and y the prior's label (background is a label, too):

        TCKD = KL((p_t(y), 1 - p_t(y)) || (p_s(y), 1 - p_s(y)))
        NCKD = KL(q_t || q_s),   q = p without y, made to sum to 1

    TCKD + (1 - p_t(y)) * NCKD would be the usual divergence: there a sure teacher silences what it
    knows of the other classes. Selected are positives and mined negatives, N is that of the
    losses.

    Args:
        student_channels, teacher_channels, weight: see `Distiller`.
        alpha, beta: see above, at least 0.
        temperature: T, above 0.

    Raises:
        ValueError: an option is out of range.

    Source: Zhao et al., "Decoupled Knowledge Distillation", CVPR 2022, sec. 3.2, eq. 7.
    """

    def __init__(
        self,
        *,
        student_channels: Sequence[int],
        teacher_channels: Sequence[int],
        weight: float = 1.0,
        alpha: float = 1.0,
        beta: float = 2.0,
        temperature: float = 1.0,
    ) -> None:
        super().__init__(
            student_channels=student_channels, teacher_channels=teacher_channels, weight=weight
        )
        self.alpha = at_least_0("dkd: alpha", alpha)
        self.beta = at_least_0("dkd: beta", beta)
        self.temperature = above_0("dkd: temperature", temperature)

    def forward(self, student: Outputs, teacher: Outputs, lesson: Lesson) -> Tensor:
        """See `Distiller.forward`."""
        rows = Rows(lesson.positive | lesson.negative)
        # Where all rows are looked at, the ignored ones need a valid column.
        labels = rows.take(lesson.matches.labels).clamp(min=0)
        ours = self.parts(rows.take(student.logits), labels)
        theirs = self.parts(rows.take(teacher.logits.detach()), labels)
        target, others = (divergence(s, t) for s, t in zip(ours, theirs, strict=True))
        rated = self.alpha * target + self.beta * others
        return self.temperature**2 * rows.total(rated) / lesson.divisor

    def parts(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """What a prediction is made of, as logarithms, at least float32.

        Args:
            logits: `[N, K + 1]`.
            labels: `[N]`, columns.

        Returns:
            `[N, 2]`, log p(y) and log(1 - p(y)); `[N, K + 1]`, log q, -inf in column y.
        """
        logits = at_least_float32(logits) / self.temperature
        columns = torch.arange(logits.shape[-1], device=logits.device)
        others = logits.masked_fill(columns == labels[:, None], -torch.inf)
        log_p = logits.log_softmax(-1).gather(1, labels[:, None])
        log_rest = others.logsumexp(-1, keepdim=True) - logits.logsumexp(-1, keepdim=True)
        return torch.cat((log_p, log_rest), dim=1), others.log_softmax(-1)
