"""Every distiller keeps one contract; then each by hand and by its own laws."""

import math

import pytest
import torch
from torch import nn

from nets.distillers import DISTILLERS, Distiller
from nets.distillers.attention import attention
from nets.outputs import Lesson, Outputs, Targets
from tests.nets.test_multibox_loss import matched
from utils.spec import build

STUDENT, TEACHER = (8, 16, 4), (12, 16, 24)
GRIDS = (6, 3, 1)


def features(channels: tuple[int, ...], seed: int, dtype=torch.float32) -> Outputs:
    """Two images; the last map is a single cell, as SSD300's."""
    generator = torch.Generator().manual_seed(seed)
    maps = tuple(
        torch.randn(2, c, n, n, generator=generator).relu().to(dtype).requires_grad_()
        for c, n in zip(channels, GRIDS, strict=True)
    )
    return Outputs(maps, torch.zeros(2, 10, 3), torch.zeros(2, 10, 4))


def lesson(objects: bool = True) -> Lesson:
    """Two images of 10 priors, one of them positive where there are objects; no teacher."""
    labels = torch.zeros(2, 10, dtype=torch.long)
    labels[0, 3] = int(objects)
    priors = torch.rand(10, 4)
    return Lesson(
        Targets(torch.zeros(2, 1, 4), labels[:, 3:4]),
        matched(labels, torch.zeros(2, 10, 4)),
        labels > 0,
        torch.zeros(2, 10, dtype=torch.bool),
        torch.tensor(1.0),
        priors,
        nn.Identity(),
    )


def made(name: str, student, teacher, **options) -> Distiller:
    """A distiller between maps of these channels."""
    return DISTILLERS[name](student_channels=student, teacher_channels=teacher, **options)


def identity(distiller: Distiller) -> Distiller:
    """Adapters that change nothing."""
    for adapter in getattr(distiller, "adapters", ()):
        nn.init.dirac_(adapter.weight)
        nn.init.zeros_(adapter.bias)
    return distiller


@pytest.fixture(params=sorted(DISTILLERS))
def name(request) -> str:
    return request.param


class TestContract:
    @pytest.mark.parametrize("objects", [True, False])
    def test_a_finite_scalar(self, name, objects):
        distiller = made(name, STUDENT, TEACHER)
        value = distiller(features(STUDENT, 0), features(TEACHER, 1), lesson(objects))
        assert value.shape == ()
        assert value.isfinite()
        assert value > 0

    def test_gradient_to_the_student_and_the_adapters_alone(self, name):
        distiller = made(name, STUDENT, TEACHER)
        student, teacher = features(STUDENT, 0), features(TEACHER, 1)
        distiller(student, teacher, lesson()).backward()
        for f in student.features[:2]:  # the single cell may have nothing to teach
            assert f.grad.any()
            assert f.grad.isfinite().all()
        assert all(f.grad is None for f in teacher.features)
        adapted = [p for p in distiller.parameters() if p.grad is not None]
        assert all(p.grad.isfinite().all() for p in adapted)
        assert bool(adapted) == bool(list(distiller.parameters()))

    def test_dead_features_stay_finite(self, name):
        distiller = made(name, STUDENT, TEACHER)
        student, teacher = features(STUDENT, 0), features(TEACHER, 1)
        for f in (*student.features, *teacher.features):
            f.data.zero_()
        value = distiller(student, teacher, lesson())
        value.backward()
        assert value.isfinite()
        assert all(f.grad is None or f.grad.isfinite().all() for f in student.features)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision(self, name, dtype):
        distiller = made(name, STUDENT, TEACHER)
        student, teacher = features(STUDENT, 0, dtype), features(TEACHER, 1, dtype)
        with torch.autocast("cpu", dtype):
            value = distiller(student, teacher, lesson())
        value.backward()
        assert value.dtype == torch.float32
        assert value.isfinite()
        exact = distiller(features(STUDENT, 0), features(TEACHER, 1), lesson())
        torch.testing.assert_close(value, exact, rtol=0.05, atol=0.01)
        assert student.features[0].grad.isfinite().all()

    def test_large_half_precision_features_do_not_overflow(self, name):
        # 300^2 = 90,000 is above float16's 65,504.
        distiller = made(name, STUDENT, TEACHER)
        student, teacher = features(STUDENT, 0), features(TEACHER, 1)
        student, teacher = (
            x._replace(features=tuple((f * 300).half() for f in x.features))
            for x in (student, teacher)
        )
        with torch.autocast("cpu", torch.float16):
            assert distiller(student, teacher, lesson()).isfinite()

    def test_images_may_be_permuted(self, name):
        distiller = made(name, STUDENT, TEACHER)
        student, teacher = features(STUDENT, 0), features(TEACHER, 1)
        flipped = [
            x._replace(features=tuple(f.flip(0) for f in x.features)) for x in (student, teacher)
        ]
        torch.testing.assert_close(
            distiller(*flipped, lesson()), distiller(student, teacher, lesson())
        )

    def test_the_weight_is_kept_and_not_applied(self, name):
        heavy, plain = (
            made(name, STUDENT, TEACHER, weight=3),
            made(name, STUDENT, TEACHER),
        )
        heavy.load_state_dict(plain.state_dict())
        pair = features(STUDENT, 0), features(TEACHER, 1)
        assert (heavy.weight, plain.weight) == (3, 1)
        assert torch.equal(heavy(*pair, lesson()), plain(*pair, lesson()))

    @pytest.mark.parametrize("weight", [-1, math.nan])
    def test_negative_weights_are_refused(self, name, weight):
        with pytest.raises(ValueError, match="weight must be a number of at least 0"):
            made(name, STUDENT, TEACHER, weight=weight)

    def test_it_learns(self, name):
        distiller = made(name, STUDENT, TEACHER)
        student, teacher = features(STUDENT, 0), features(TEACHER, 1)
        optimizer = torch.optim.Adam([*student.features, *distiller.parameters()], lr=0.02)
        first = distiller(student, teacher, lesson()).item()
        for _ in range(60):
            loss = distiller(student, teacher, lesson())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert loss.item() < first / 2


class TestEqualFeatures:
    @pytest.mark.parametrize("kind", ["attention", "cwd"])
    def test_nothing_is_left_to_learn(self, kind):
        distiller = identity(made(kind, TEACHER, TEACHER))
        teacher = features(TEACHER, 1)
        assert distiller(teacher, teacher, lesson()).item() == pytest.approx(0, abs=1e-6)

    def test_hint_wants_the_teacher_at_unit_scale(self):
        distiller = identity(made("hint", TEACHER, TEACHER))
        teacher = features(TEACHER, 1)
        scaled = tuple(f / f.square().mean().sqrt() for f in teacher.features)
        value = distiller(teacher._replace(features=scaled), teacher, lesson())
        assert value.item() == pytest.approx(0, abs=1e-6)


def single(values: list[list[float]]) -> Outputs:
    """One image, one map: a row of positions for each channel."""
    return Outputs(
        (torch.tensor(values)[None, :, None, :],), torch.zeros(1, 1, 2), torch.zeros(1, 1, 4)
    )


class TestAttention:
    def test_hand_worked(self):
        # Sums of squares over channels: (9 + 16, 0) = (25, 0) -> (1, 0); (3, 4) -> (.6, .8).
        # |(.4, -.8)|^2 = .16 + .64.
        assert torch.equal(attention(single([[3.0, 0], [4, 0]]).features[0]), torch.eye(2)[:1])
        student, teacher = single([[3.0, 0], [4, 0]]), single([[math.sqrt(3), 2.0]])
        value = made("attention", [2], [1])(student, teacher, lesson())
        assert value.item() == pytest.approx(0.8)

    def test_scale_does_not_matter(self):
        student, teacher = features(STUDENT, 0), features(TEACHER, 1)
        louder = student._replace(features=tuple(7 * f for f in student.features))
        distiller = made("attention", STUDENT, TEACHER)
        torch.testing.assert_close(
            distiller(louder, teacher, lesson()), distiller(student, teacher, lesson())
        )

    def test_it_has_no_adapter(self):
        assert not list(made("attention", STUDENT, TEACHER).parameters())


class TestChannelWise:
    @pytest.mark.parametrize("tau", [1.0, 2.0])
    def test_hand_worked(self, tau):
        # Teacher softmax over two positions (3/4, 1/4) at any tau (logits tau log 3), student (1/2,
        # 1/2): KL = 3/4 log(3/2) + 1/4 log(1/2) = 0.1308. A second channel agrees: mean 0.0654.
        distiller = identity(made("cwd", [2], [2], tau=tau))
        student, teacher = single([[5.0, 5], [1, 1]]), single([[tau * math.log(3), 0], [2, 2]])
        divergence = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
        value = distiller(student, teacher, lesson())
        assert value.item() == pytest.approx(tau**2 * divergence / 2, rel=1e-5)

    def test_a_constant_added_to_a_channel_does_not_matter(self):
        distiller = identity(made("cwd", TEACHER, TEACHER))
        student, teacher = features(TEACHER, 0), features(TEACHER, 1)
        shifted = student._replace(features=tuple(f + 3 for f in student.features))
        torch.testing.assert_close(
            distiller(shifted, teacher, lesson()), distiller(student, teacher, lesson())
        )

    @pytest.mark.parametrize("tau", [0, -1, math.nan])
    def test_tau_out_of_range_is_refused(self, tau):
        with pytest.raises(ValueError, match="cwd: tau must be a number above 0"):
            made("cwd", STUDENT, TEACHER, tau=tau)


class TestHint:
    def test_hand_worked(self):
        # Teacher (1, 7): root mean square sqrt(50 / 2) = 5 -> (0.2, 1.4). Student (1, 1):
        # (0.8^2 + 0.4^2) / 2 = 0.4.
        distiller = identity(made("hint", [1], [1]))
        assert distiller(single([[1.0, 1]]), single([[1.0, 7]]), lesson()).item() == pytest.approx(
            0.4
        )

    def test_the_teachers_scale_does_not_matter(self):
        distiller = made("hint", STUDENT, TEACHER)
        student, teacher = features(STUDENT, 0), features(TEACHER, 1)
        louder = teacher._replace(features=tuple(100 * f for f in teacher.features))
        torch.testing.assert_close(
            distiller(student, louder, lesson()), distiller(student, teacher, lesson())
        )


@pytest.mark.parametrize("spec", ["cwd(tau='a')", "cwd(tau=1e999)", "hint(weight='a')"])
def test_options_that_are_no_numbers_are_refused(spec):
    with pytest.raises(ValueError, match="must be a number"):
        build(spec, DISTILLERS, "distiller", student_channels=[1] * 6, teacher_channels=[1] * 6)
