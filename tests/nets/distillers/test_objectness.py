"""Output distillation by hand, by a slow loop, and by its laws."""

import math

import pytest
import torch

from nets.distillers.base import OBJECTS, OUTPUTS
from nets.outputs import Outputs
from tests.nets.distillers.scenes import STUDENT, TEACHER, features, lesson, made


def said(logits: list[float], offsets: tuple[float, ...] = (0, 0, 0, 0)) -> Outputs:
    """One image, one prior."""
    return Outputs((), torch.tensor([[logits]]), torch.tensor([[offsets]], dtype=torch.float32))


def softmax(logits: list[float]) -> list[float]:
    powers = [math.exp(z) for z in logits]
    return [p / sum(powers) for p in powers]


class TestObjectness:
    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            # The teacher's p is (1/4, 3/4): objectness 3/4. The student's logits are (0, 0).
            # (log 3)^2 / 2 = 0.6035; offsets apart by (2, 0, 0, 0): 4 / 4 = 1.
            ({"kind": "l2", "scaled": False, "boxes": False}, math.log(3) ** 2 / 2),
            ({"kind": "l2", "scaled": False}, math.log(3) ** 2 / 2 + 1),
            ({"kind": "l2"}, 0.75 * (math.log(3) ** 2 / 2 + 1)),
            # 1/4 log(1/4 / 1/2) + 3/4 log(3/4 / 1/2) = 0.1308.
            (
                {"temperature": 1, "boxes": False},
                0.75 * (0.25 * math.log(0.5) + 0.75 * math.log(1.5)),
            ),
            # sigmoid of (0, 0) is 1/2 in both columns: log 2 whatever the teacher says.
            ({"kind": "bce", "boxes": False}, 0.75 * math.log(2)),
        ],
    )
    def test_hand_worked(self, options, expected):
        distiller = made("objectness", [1], [1], **options)
        value = distiller(said([0.0, 0]), said([0.0, math.log(3)], (2, 0, 0, 0)), lesson())
        assert value.item() == pytest.approx(expected, rel=1e-6)

    def test_it_softens_by_20_unless_told_otherwise(self):
        silent, told = made("objectness", [1], [1]), made("objectness", [1], [1], temperature=20)
        pair = said([0.0, 0]), said([0.0, math.log(3)])
        assert torch.equal(silent(*pair, lesson()), told(*pair, lesson()))

    @pytest.mark.parametrize(
        ("options", "what"),
        [({}, OUTPUTS), ({"boxes": False}, OBJECTS), ({"kind": "l2", "boxes": False}, OUTPUTS)],
    )
    def test_what_is_compared_decides_what_it_asks_for(self, options, what):
        assert made("objectness", STUDENT, TEACHER, **options).asks_for == what

    @pytest.mark.parametrize("kind", ["kl", "l2", "bce"])
    @pytest.mark.parametrize("scaled", [True, False])
    def test_against_a_slow_loop(self, kind, scaled):
        softened = {"temperature": 3} if kind == "kl" else {}
        distiller = made("objectness", STUDENT, TEACHER, kind=kind, scaled=scaled, **softened)
        pair = [features(c, i, torch.float64) for i, c in enumerate((STUDENT, TEACHER))]
        total = 0.0
        rows = [x.detach().flatten(0, 1).tolist() for p in pair for x in (p.logits, p.offsets)]
        for z_s, o_s, z_t, o_t in zip(*rows, strict=True):
            if kind == "kl":
                p_s, p_t = (softmax([z / 3 for z in logits]) for logits in (z_s, z_t))
                d = 9 * sum(b * math.log(b / a) for a, b in zip(p_s, p_t, strict=True))
            elif kind == "l2":
                d = sum((a - b) ** 2 for a, b in zip(z_s, z_t, strict=True)) / len(z_s)
            else:
                d = 0.0
                for a, b in zip(z_s, z_t, strict=True):
                    q, p = 1 / (1 + math.exp(-a)), 1 / (1 + math.exp(-b))
                    d -= (p * math.log(q) + (1 - p) * math.log(1 - q)) / len(z_s)
            d += sum((a - b) ** 2 for a, b in zip(o_s, o_t, strict=True)) / 4
            total += d * (1 - softmax(z_t)[0] if scaled else 1)
        value = distiller(*pair, lesson())
        assert value.item() == pytest.approx(total / len(rows[0]), rel=1e-9)

    @pytest.mark.parametrize("kind", ["kl", "l2", "bce"])
    def test_an_equal_has_no_gradient(self, kind):
        distiller = made("objectness", STUDENT, TEACHER, kind=kind)
        student, teacher = features(STUDENT, 0), features(TEACHER, 0)
        with torch.no_grad():
            student.logits.copy_(teacher.logits)
            student.offsets.copy_(teacher.offsets)
        distiller(student, teacher, lesson()).backward()
        assert student.logits.grad.abs().max() < 1e-7
        assert not student.offsets.grad.any()

    def test_where_the_teacher_sees_background_nothing_is_learnt(self):
        distiller = made("objectness", [1], [1])
        value = distiller(said([0.0, 5]), said([200.0, 0], (9, 9, 9, 9)), lesson())
        assert value.item() == 0

    @pytest.mark.parametrize("options", [{"temperature": 1}, {"kind": "l2"}, {"kind": "bce"}])
    def test_a_hundred_times_as_sure_is_finite(self, options):
        distiller = made("objectness", [1], [1], **options)
        assert distiller(said([2e4, 0.0]), said([0.0, 2e4]), lesson()).isfinite()

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"kind": "l1"}, "objectness: kind must be one of 'kl', 'l2', 'bce', not 'l1'"),
            ({"temperature": 0}, "objectness: temperature must be a number above 0, not 0"),
            ({"kind": "bce", "temperature": 3}, "temperature is of kind='kl', not of kind='bce'"),
            ({"scaled": None}, "objectness: scaled must be one of True, False"),
            ({"boxes": "no"}, "objectness: boxes must be one of True, False"),
        ],
    )
    def test_options_out_of_range_are_refused(self, options, message):
        with pytest.raises(ValueError, match=message):
            made("objectness", STUDENT, TEACHER, **options)
