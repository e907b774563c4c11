"""Decoupled distillation by hand, by a slow loop, and against the divergence it takes apart."""

import math

import pytest
import torch

from nets import rows
from nets.distillers.dkd import Decoupled
from nets.multibox_loss_kd import MultiBoxLoss_KD
from nets.outputs import Outputs
from tests.nets.distillers.scenes import STUDENT, TEACHER, features, lesson, made


def one(logits: list[float], label: int, student: list[float], **options: float) -> float:
    """The value of one image with one selected prior of this label."""
    told = lesson()
    told = told._replace(
        matches=told.matches._replace(labels=torch.tensor([[label]])),
        positive=torch.tensor([[label > 0]]),
        negative=torch.tensor([[label == 0]]),
        divisor=torch.tensor(1.0),
    )
    ours, theirs = (
        Outputs((), torch.tensor([[z]], dtype=torch.float64), torch.zeros(1, 1, 4))
        for z in (student, logits)
    )
    return made("dkd", [1], [1], **options)(ours, theirs, told).item()


def kl(p: list[float], q: list[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def softmax(logits: list[float]) -> list[float]:
    powers = [math.exp(z - max(logits)) for z in logits]
    return [p / sum(powers) for p in powers]


class TestDecoupled:
    def test_hand_worked(self):
        # Teacher p = (1/2, 3/8, 1/8), student (1/3, 1/3, 1/3), label 0.
        # TCKD = KL((1/2, 1/2) || (1/3, 2/3)) = 1/2 log(3/2) + 1/2 log(3/4) = 0.0589.
        # NCKD = KL((3/4, 1/4) || (1/2, 1/2)) = 3/4 log(3/2) + 1/4 log(1/2) = 0.1308.
        tckd = 0.5 * math.log(3 / 2) + 0.5 * math.log(3 / 4)
        nckd = 0.75 * math.log(3 / 2) + 0.25 * math.log(1 / 2)
        teacher, student = [math.log(p) for p in (1 / 2, 3 / 8, 1 / 8)], [0.0, 0.0, 0.0]
        assert one(teacher, 0, student) == pytest.approx(tckd + 2 * nckd)
        assert one(teacher, 0, student, alpha=3, beta=0) == pytest.approx(3 * tckd)
        # With T = 2 logits twice as large mean the same, and the value is 4 times as large.
        twice = [2 * z for z in teacher]
        assert one(twice, 0, student, temperature=2) == pytest.approx(4 * (tckd + 2 * nckd))

    def test_against_a_slow_loop(self):
        distiller, told = made("dkd", STUDENT, TEACHER, alpha=0.7, beta=3, temperature=2), lesson()
        pair = [features(c, i, torch.float64) for i, c in enumerate((STUDENT, TEACHER))]
        total = 0.0
        for b, i in (told.positive | told.negative).nonzero().tolist():
            y = told.matches.labels[b, i].item()
            p_s, p_t = (softmax([z / 2 for z in said.logits[b, i].tolist()]) for said in pair)
            tckd = kl([p_t[y], 1 - p_t[y]], [p_s[y], 1 - p_s[y]])
            others = [c for c in range(len(p_s)) if c != y]
            q_s, q_t = ([p[c] / (1 - p[y]) for c in others] for p in (p_s, p_t))
            total += 4 * (0.7 * tckd + 3 * kl(q_t, q_s))
        assert told.positive.any()
        value = distiller(*pair, told)
        assert value.item() == pytest.approx(total / told.divisor.item(), rel=1e-9)

    def test_its_parts_add_up_to_the_usual_divergence(self):
        # KL = TCKD + (1 - p_t(y)) NCKD (eq. 5), prior by prior: beta changes with each.
        generator = torch.Generator().manual_seed(0)
        criterion = MultiBoxLoss_KD(neg_w=1, pos_w=1)
        for label in (0, 1, 3):
            teacher, student = torch.randn(2, 4, generator=generator, dtype=torch.float64)
            beta = 1 - softmax(teacher.tolist())[label]
            divergence = criterion.soft_target(student[None], teacher[None]).item()
            assert one(
                teacher.tolist(), label, student.tolist(), alpha=1, beta=beta
            ) == pytest.approx(divergence)

    def test_with_one_class_there_is_nothing_else(self):
        # Two columns: without the label one is left, with certainty.
        assert one([1.0, 2.0], 1, [2.0, 1.0], alpha=0) == 0

    def test_of_an_equal_there_is_nothing_to_learn(self):
        assert one([1.0, 2.0, 5.0], 2, [1.0, 2.0, 5.0]) == pytest.approx(0, abs=1e-12)

    def test_sure_teachers_and_students_are_finite(self):
        assert one([1e4, 0.0, 3.0], 0, [0.0, 1e4, 3.0]) < 1e6
        distiller = Decoupled(student_channels=[1], teacher_channels=[1])
        logits = torch.tensor([[0.0, 1e4, 3.0]], requires_grad=True)
        torch.stack(
            [part.exp().sum() for part in distiller.parts(logits, torch.tensor([1]))]
        ).sum().backward()
        assert logits.grad.isfinite().all()

    def test_only_selected_priors_count(self):
        distiller, told = made("dkd", STUDENT, TEACHER), lesson()
        student, teacher = features(STUDENT, 0), features(TEACHER, 1)
        distiller(student, teacher, told).backward()
        assert torch.equal(student.logits.grad.any(-1), told.positive | told.negative)

    @pytest.mark.parametrize("everything", [False, True])
    def test_ignored_priors_change_nothing(self, everything, monkeypatch):
        distiller, told = made("dkd", STUDENT, TEACHER), lesson()
        pair = features(STUDENT, 0), features(TEACHER, 1)
        expected = distiller(*pair, told)
        labels = told.matches.labels.masked_fill(~(told.positive | told.negative), -1)
        ignored = told._replace(matches=told.matches._replace(labels=labels))
        monkeypatch.setattr(rows, "looks_at_all", lambda _: everything)
        torch.testing.assert_close(distiller(*pair, ignored), expected)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"alpha": -1}, "dkd: alpha must be a number of at least 0, not -1"),
            ({"beta": math.nan}, "dkd: beta must be a number of at least 0, not nan"),
            ({"temperature": 0}, "dkd: temperature must be a number above 0, not 0"),
        ],
    )
    def test_options_out_of_range_are_refused(self, options, message):
        with pytest.raises(ValueError, match=message):
            made("dkd", STUDENT, TEACHER, **options)
