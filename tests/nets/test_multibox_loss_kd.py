"""MultiBoxLoss_KD by hand, against slow loops, and at its edges."""

import math

import pytest
import torch
from torch.nn import functional as F

from nets.multibox_loss import MultiBoxLoss
from nets.multibox_loss_kd import MultiBoxLoss_KD
from nets.outputs import Matches, Outputs
from tests.nets.test_multibox_loss import (
    log_softmax,
    matched,
    outputs,
    random_batch,
    slow_selection,
)

TERMS = ("soft", "l2", "conf", "loc")


def random_pair(**options: float) -> tuple[Outputs, Outputs, Matches]:
    """Student, teacher (of another seed) and matches."""
    student, matches = random_batch(**options)
    teacher, _ = random_batch(**{**options, "seed": options.get("seed", 0) + 1000})
    return student, teacher, matches


def slow_terms(
    student: Outputs,
    teacher: Outputs,
    matches: Matches,
    neg_w: float,
    pos_w: float,
    temperature: float,
    reg_m: float,
) -> dict[str, float]:
    """`soft` and `l2` in plain Python, from the formulas of Chen et al., eq. 3 and 4."""
    soft = l2 = 0.0
    count = mined = 0
    for i in range(len(matches.labels)):
        logits, labels = student.logits[i].tolist(), matches.labels[i].tolist()
        positive, negative = slow_selection(logits, labels, 3.0, 100)
        count, mined = count + len(positive), mined + len(negative)
        for p in positive + negative:
            log_s = log_softmax([z / temperature for z in logits[p]])
            log_t = log_softmax([z / temperature for z in teacher.logits[i, p].tolist()])
            for column, (s, t) in enumerate(zip(log_s, log_t, strict=True)):
                weight = pos_w if column else neg_w
                soft += temperature**2 * weight * math.exp(t) * (t - s)
        for p in positive:
            truth = matches.offsets[i, p].tolist()
            error_s, error_t = (
                sum((a - b) ** 2 for a, b in zip(who.offsets[i, p].tolist(), truth, strict=True))
                for who in (student, teacher)
            )
            if error_s + reg_m > error_t:
                l2 += error_s
    divisor = count or max(mined, 1)
    return {"soft": soft / divisor, "l2": l2 / divisor}


class TestSoftTargets:
    """One prior, a positive, so that N = 1; teacher p = (1/2, 1/4, 1/4), student uniform."""

    STUDENT = (0.0, 0.0, 0.0)
    TEACHER = (math.log(2), 0.0, 0.0)

    def soft(self, **options: float) -> float:
        student, teacher = (
            outputs(torch.tensor([[logits]]), torch.zeros(1, 1, 4))
            for logits in (self.STUDENT, self.TEACHER)
        )
        matches = matched(torch.tensor([[1]]), torch.zeros(1, 1, 4))
        return MultiBoxLoss_KD(**options)(student, teacher, matches)["soft"].item()

    # Background column: 1/2 log((1/2) / (1/3)) = 0.2027; class columns, each:
    # 1/4 log((1/4) / (1/3)) = -0.0719.
    BACKGROUND = math.log(3 / 2) / 2
    CLASSES = 2 * math.log(3 / 4) / 4

    def test_plain_divergence(self):
        # 0.2027 - 0.1438 = 0.0589
        assert self.soft(neg_w=1) == pytest.approx(self.BACKGROUND + self.CLASSES, rel=1e-5)

    def test_weights_are_on_columns(self):
        # The prior is a positive; its background column still has neg_w.
        # 1.5 * 0.2027 - 0.1438 = 0.1603
        assert self.soft() == pytest.approx(1.5 * self.BACKGROUND + self.CLASSES, rel=1e-5)
        # 2 * -0.1438: weighted, it may be negative.
        assert self.soft(neg_w=0, pos_w=2) == pytest.approx(2 * self.CLASSES, rel=1e-5)

    def test_temperature(self):
        # T = 2: the teacher's logits halve, p_t = (sqrt 2, 1, 1) / (sqrt 2 + 2) = (.4142, .2929,
        # .2929). 4 * (.4142 log(.4142 * 3) + 2 * .2929 log(.2929 * 3)) = 4 * (.08998 - .07576)
        p = [2**0.5 / (2**0.5 + 2), 1 / (2**0.5 + 2)]
        expected = 4 * (p[0] * math.log(3 * p[0]) + 2 * p[1] * math.log(3 * p[1]))
        assert expected == pytest.approx(4 * (0.08998 - 0.07576), abs=1e-4)
        assert self.soft(neg_w=1, temperature=2) == pytest.approx(expected, rel=1e-4)

    def test_gradient_hardly_depends_on_a_high_temperature(self):
        # Hinton et al., sec. 2.1: for T large against the logits the gradient is (z_s - z_t) / C
        # with zero-mean logits, whatever T: the reason for T^2.
        z_s = torch.tensor([[[0.3, -0.1, -0.2]]], dtype=torch.float64, requires_grad=True)
        z_t = torch.tensor([[[-0.2, 0.5, -0.3]]], dtype=torch.float64)
        criterion = MultiBoxLoss_KD(neg_w=1, temperature=1000)
        (gradient,) = torch.autograd.grad(criterion.soft_target(z_s, z_t).sum(), z_s)
        torch.testing.assert_close(gradient, (z_s - z_t).detach() / 3, atol=1e-3, rtol=0)

    def test_equals_kl_div_with_equal_weights(self):
        student, teacher, _ = random_pair(seed=1)
        ours = MultiBoxLoss_KD(neg_w=1, temperature=3).soft_target(student.logits, teacher.logits)
        log_s, log_t = (F.log_softmax(x.logits / 3, -1) for x in (student, teacher))
        theirs = 9 * F.kl_div(log_s, log_t, reduction="none", log_target=True).sum(-1)
        torch.testing.assert_close(ours, theirs)


class TestBoundedRegression:
    def l2(self, student: list[float], teacher: list[float], reg_m: float = 0.0) -> float:
        """Errors in the first offset alone, against truth 0; every box is a positive."""
        out_s, out_t = (
            outputs(torch.zeros(1, len(x), 2), F.pad(torch.tensor([x])[..., None], (0, 3)))
            for x in (student, teacher)
        )
        count = len(student)
        matches = matched(torch.ones(1, count, dtype=torch.long), torch.zeros(1, count, 4))
        return MultiBoxLoss_KD(reg_m=reg_m)(out_s, out_t, matches)["l2"].item()

    def test_each_box_has_its_own_bound(self):
        # e_s = 9, 1, 4; e_t = 4, 4, 1: the first and third are worse than the teacher.
        # (9 + 0 + 4) / 3. One comparison of the sums, 14 > 9, would give 14 / 3.
        assert self.l2([3, 1, 2], [2, -2, 1]) == pytest.approx(13 / 3)
        # The other way round, sums 6 < 9: a batch-wide bound would give 0, the boxes 5 / 3.
        assert self.l2([1, 1, 2], [2, -2, 1]) == pytest.approx(4 / 3)

    def test_as_good_as_the_teacher_is_good_enough(self):
        assert self.l2([2], [-2]) == 0

    def test_margin(self):
        # e_s = 4, e_t = 6.25: 4 + 2 <= 6.25, 4 + 2.5 > 6.25.
        assert self.l2([2], [2.5], reg_m=2) == 0
        assert self.l2([2], [2.5], reg_m=2.5) == 4
        # e_s = 4, e_t = 1, margin -3.5: 0.5 <= 1.
        assert self.l2([2], [1], reg_m=-3.5) == 0

    def test_all_four_offsets_count(self):
        # 1 + 4 + 9 + 16 = 30 > 0
        out = outputs(torch.zeros(1, 1, 2), torch.tensor([[[1.0, 2, 3, 4]]]))
        perfect = outputs(torch.zeros(1, 1, 2), torch.zeros(1, 1, 4))
        matches = matched(torch.ones(1, 1, dtype=torch.long), torch.zeros(1, 1, 4))
        assert MultiBoxLoss_KD()(out, perfect, matches)["l2"].item() == 30


class TestLaws:
    @pytest.mark.parametrize("positives", [0.0, 0.03, 0.3, 1.0])
    @pytest.mark.parametrize(
        "options",
        [
            {"neg_w": 1.5, "pos_w": 1.0, "temperature": 1.0, "reg_m": 0.0},
            {"neg_w": 0.5, "pos_w": 2.0, "temperature": 4.0, "reg_m": 3.0},
            {"neg_w": 1.0, "pos_w": 1.0, "temperature": 0.5, "reg_m": -2.0},
        ],
    )
    def test_equals_slow_loops(self, positives, options):
        batch = random_pair(seed=int(100 * positives), positives=positives)
        terms = MultiBoxLoss_KD(**options)(*batch)
        assert set(terms) == set(TERMS)
        for name, expected in slow_terms(*batch, **options).items():
            assert terms[name].item() == pytest.approx(expected, rel=1e-6)

    def test_conf_and_loc_are_those_of_the_plain_loss(self):
        student, teacher, matches = random_pair(seed=2)
        terms = MultiBoxLoss_KD(2.0, 9)(student, teacher, matches)
        for name, value in MultiBoxLoss(2.0, 9)(student, matches).items():
            assert torch.equal(terms[name], value)

    def test_a_student_equal_to_its_teacher(self):
        student, _, matches = random_pair(seed=3)
        terms = MultiBoxLoss_KD(temperature=2)(student, student, matches)
        assert terms["soft"].item() == 0
        assert terms["l2"].item() == 0

    def test_images_may_be_permuted(self):
        student, teacher, matches = random_pair(seed=4)
        order = torch.tensor([1, 2, 0])
        permuted = MultiBoxLoss_KD()(
            *(outputs(x.logits[order], x.offsets[order]) for x in (student, teacher)),
            Matches(*(x[order] for x in matches)),
        )
        for name, value in MultiBoxLoss_KD()(student, teacher, matches).items():
            torch.testing.assert_close(permuted[name], value)

    @pytest.mark.parametrize("name", TERMS)
    def test_gradient(self, name):
        student, teacher, matches = random_pair(
            images=2, priors=12, classes=3, seed=5, positives=0.3
        )
        criterion = MultiBoxLoss_KD(2, temperature=2)
        leaves = student.logits.requires_grad_(), student.offsets.requires_grad_()
        assert torch.autograd.gradcheck(
            lambda *x: criterion(outputs(*x), teacher, matches)[name], leaves
        )

    def test_no_gradient_to_the_teacher(self):
        student, teacher, matches = random_pair(seed=6)
        for x in (*student[1:], *teacher[1:]):
            x.requires_grad_()
        sum(MultiBoxLoss_KD()(student, teacher, matches).values()).backward()
        assert student.logits.grad.any()
        assert student.offsets.grad.any()
        assert teacher.logits.grad is None
        assert teacher.offsets.grad is None

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_is_summed_in_float32(self, dtype):
        student, teacher, matches = random_pair(seed=7)
        half = [outputs(x.logits.to(dtype), x.offsets.to(dtype)) for x in (student, teacher)]
        same = [outputs(x.logits.float(), x.offsets.float()) for x in half]
        matches = matches._replace(offsets=matches.offsets.float())
        for name, value in MultiBoxLoss_KD()(*half, matches).items():
            assert value.dtype == torch.float32
            assert torch.equal(value, MultiBoxLoss_KD()(*same, matches)[name])


class TestWatch:
    """Whether the teacher is heard."""

    def test_by_slow_loops(self):
        student, teacher, matches = random_pair(positives=6)
        counts = {"bound_active": [0, 0], "agreement": [0, 0], "agreement_on_positives": [0, 0]}
        for i in range(len(matches.labels)):
            logits = student.logits[i].tolist()
            positive, negative = slow_selection(logits, matches.labels[i].tolist(), 3.0, 100)
            for p in positive + negative:
                same = logits[p].index(max(logits[p])) == int(teacher.logits[i, p].argmax())
                counts["agreement"][0] += same
                counts["agreement"][1] += 1
                if p in positive:
                    e_s, e_t = (
                        float((who.offsets[i, p] - matches.offsets[i, p]).square().sum())
                        for who in (student, teacher)
                    )
                    counts["bound_active"][0] += e_s > e_t
                    counts["agreement_on_positives"][0] += same
                    counts["bound_active"][1] += 1
                    counts["agreement_on_positives"][1] += 1
        criterion = MultiBoxLoss_KD()
        selection = criterion.select(student, matches)
        watched = criterion.watch(student, teacher, matches, selection)
        assert set(watched) == set(counts)
        for name, (part, whole) in counts.items():
            assert 0 < part < whole
            assert watched[name].item() == pytest.approx(part / whole)

    def test_without_positives(self):
        student, teacher, matches = random_pair(positives=0)
        criterion = MultiBoxLoss_KD()
        selection = criterion.select(student, matches)
        watched = criterion.watch(student, teacher, matches, selection)
        assert watched["bound_active"] == watched["agreement_on_positives"] == 0


class TestEdges:
    def test_a_batch_without_objects(self):
        student, teacher, matches = random_pair(positives=0.0)
        student.logits.requires_grad_()
        terms = MultiBoxLoss_KD()(student, teacher, matches)
        assert all(term.isfinite() for term in terms.values())
        assert terms["l2"].item() == terms["loc"].item() == 0
        terms["soft"].backward()
        assert student.logits.grad.isfinite().all()

    def test_certain_teachers_do_not_underflow(self):
        # In float32 softmax(0, 1000) is exactly (0, 1): log(softmax) would be -inf, 0 * inf NaN.
        # p_t = (0, 1), p_s = (1, 0): log p_t(1) - log p_s(1) = 0 - (0 - 1000) = 1000.
        student = outputs(torch.tensor([[[1000.0, 0]]], requires_grad=True), torch.zeros(1, 1, 4))
        teacher = outputs(torch.tensor([[[0.0, 1000]]]), torch.zeros(1, 1, 4))
        matches = matched(torch.tensor([[1]]), torch.zeros(1, 1, 4))
        soft = MultiBoxLoss_KD()(student, teacher, matches)["soft"]
        assert soft.item() == 1000
        soft.backward()
        assert student.logits.grad.tolist() == [[[1, -1]]]

    def test_meaningless_offsets_have_no_effect(self):
        student, teacher, matches = random_pair(seed=8)
        expected = MultiBoxLoss_KD()(student, teacher, matches)["l2"]
        matches.offsets[matches.labels == 0] = torch.nan
        assert torch.equal(MultiBoxLoss_KD()(student, teacher, matches)["l2"], expected)

    def test_another_number_of_priors_or_classes_is_refused(self):
        student, _, matches = random_pair()
        for shape, text in (((3, 40, 6), "40 priors x 6 columns"), ((3, 39, 5), "39 priors x 5")):
            teacher = outputs(torch.zeros(shape), torch.zeros(3, shape[1], 4))
            with pytest.raises(ValueError, match=f"teacher predicts {text}.*student 40 priors x 5"):
                MultiBoxLoss_KD()(student, teacher, matches)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"temperature": 0}, "temperature must be above 0, not 0"),
            ({"temperature": -1.0}, "temperature must be above 0"),
            ({"temperature": math.inf}, "temperature must be above 0"),
            ({"temperature": math.nan}, "temperature must be above 0"),
            ({"neg_w": -0.1}, "neg_w and pos_w must be at least 0"),
            ({"pos_w": math.nan}, "neg_w and pos_w must be at least 0"),
            ({"reg_m": math.nan}, "reg_m must be a finite number"),
            ({"reg_m": math.inf}, "reg_m must be a finite number"),
            (
                {"neg_pos_ratio": math.inf},
                "must be numbers of at least 0, not inf",
            ),
        ],
    )
    def test_values_out_of_range_are_refused(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            MultiBoxLoss_KD(**arguments)


def test_half_precision_is_softened_in_float32():
    rng = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(1, 50, 6, generator=rng).bfloat16() * 8 for _ in range(2))
    criterion = MultiBoxLoss_KD(temperature=3)
    exact = criterion.soft_target(student.float(), teacher.float())
    torch.testing.assert_close(criterion.soft_target(student, teacher), exact)
