"""Distillation between different prior sets: the teacher's predictions on the student's priors."""

import torch
from torch import Tensor, nn

from nets.outputs import Outputs
from nets.ssd import SSD300
from utils.boxes import cxcywh_to_xyxy, encode, iou

# Rows of the IoU matrix at a time: so few stay in the cache; all 8732 would take gigabytes.
ROWS = 64


class CrossPriors(nn.Module):
    """Gives each student prior the prediction of the teacher prior that overlaps it most.

    Logits are copied. Offsets are encoded anew, so that they lead from the student's prior to the
    very box that the teacher predicts: `decode(theirs, teacher)[index] == decode(ours, student)`.
    That box depends on the offsets linearly, per prior, so a factor and a shift do it: no box is
    formed, and nothing can overflow in a logarithm.

    Law: where both sets are equal, nothing changes, bit for bit.

    Args:
        student: `[P, 4]`, cxcywh, image fractions, width and height > 0.
        teacher: `[Q, 4]`, the same.
    """

    index: Tensor
    factor: Tensor
    shift: Tensor

    def __init__(self, student: Tensor, teacher: Tensor) -> None:
        super().__init__()
        student, teacher = student.detach().cpu(), teacher.detach().cpu()
        self.equal = torch.equal(student, teacher)
        index = nearest(student, teacher)
        chosen = teacher[index]
        ours, theirs = student.double(), chosen.double()
        factor = torch.cat((theirs[:, 2:] / ours[:, 2:], torch.ones_like(ours[:, 2:])), dim=1)
        shift = encode(cxcywh_to_xyxy(theirs), ours)
        same = (student == chosen).all(dim=1, keepdim=True)  # rounding must not move these
        # They follow from the two prior sets, so no checkpoint holds them.
        self.register_buffer("index", index, persistent=False)
        self.register_buffer("factor", factor.masked_fill(same, 1).float(), persistent=False)
        self.register_buffer("shift", shift.masked_fill(same, 0).float(), persistent=False)

    def forward(self, teacher: Outputs) -> Outputs:
        """Logits `[B, Q, K + 1]` and offsets `[B, Q, 4]` -> P in place of Q; features are kept."""
        if self.equal:
            return teacher
        offsets = teacher.offsets[:, self.index] * self.factor + self.shift
        return Outputs(teacher.features, teacher.logits[:, self.index], offsets)


def nearest(student: Tensor, teacher: Tensor) -> Tensor:
    """`[P]` int64: for each student prior the teacher prior with the largest IoU.

    Of several the lowest is taken; but a prior that both sets have at the same place is its own.
    """
    corners = cxcywh_to_xyxy(teacher)
    index = torch.cat(
        [iou(cxcywh_to_xyxy(rows), corners).argmax(dim=1) for rows in student.split(ROWS)]
    )
    shared = min(len(student), len(teacher))
    own = (student[:shared] == teacher[:shared]).all(dim=1)
    index[:shared] = torch.where(own, torch.arange(shared), index[:shared])
    return index


def on_student_priors(student: SSD300, teacher: SSD300, match_priors: bool) -> nn.Module:
    """What brings the teacher's outputs to the student's priors; raises as `check_compatible`."""
    check_compatible(student, teacher, match_priors)
    return CrossPriors(student.priors, teacher.priors) if match_priors else nn.Identity()


def check_compatible(student: SSD300, teacher: SSD300, match_priors: bool = False) -> None:
    """Raises ValueError unless both predict equally many classes over the same priors.

    With `match_priors` the priors may differ.
    """
    if student.classes != teacher.classes:
        raise ValueError(
            f"the teacher knows {teacher.classes} classes, the student {student.classes}; "
            "train both on one class list"
        )
    if not match_priors and not torch.equal(student.priors.cpu(), teacher.priors.cpu()):
        raise ValueError(
            f"the teacher's prior layout is {teacher.layout!r} ({len(teacher.priors)} priors), the "
            f"student's {student.layout!r} ({len(student.priors)}); distillation compares prior i "
            f"with prior i, and the student ({student.spec}) does not serve {teacher.layout!r} as "
            "it is built; give both one layout, or pass --match-priors"
        )
