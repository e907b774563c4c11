"""Every distiller keeps one contract; what each computes is tested in `tests/nets/distillers`."""

import math
from collections.abc import Iterator

import pytest
import torch

from nets import rows
from nets.distillers import DISTILLERS
from nets.distillers.base import NETWORK, OBJECTS, OUTPUTS
from nets.outputs import Outputs
from tests.nets.distillers.scenes import (
    STUDENT,
    TEACHER,
    chosen,
    features,
    identity,
    lesson,
    made,
    rearranged,
)
from utils.spec import build

# Those whose value is not the mean over the images: statistics of the batch, or a common divisor.
OVER_THE_BATCH = {"crosskd", "dkd", "hint", "imitation", "pkd"}
# Those that a student which says what its teacher says has nothing to learn from.
AGREES = ["attention", "cwd", "dkd", "fgd", "fsp", "objectness", "pkd"]


def leaves(said: Outputs) -> list[torch.Tensor]:
    """All that a network said."""
    return [*said.features, said.logits, said.offsets]


def louder(said: Outputs, factor: float) -> Outputs:
    """Its features in half precision, `factor` times as large."""
    return said._replace(features=tuple((f * factor).half() for f in said.features))


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
        assert value >= 0
        assert value > 0 or not objects

    def test_gradient_to_the_student_and_the_adapters_alone(self, name):
        distiller = made(name, STUDENT, TEACHER)
        student, teacher = features(STUDENT, 0), features(TEACHER, 1)
        told = lesson()
        distiller(student, teacher, told).backward()
        if distiller.compares_maps:
            # The single cell may have nothing to teach.
            assert all(f.grad.any() for f in student.features[:2])
        else:
            assert student.logits.grad.any()
            assert all(f.grad is None for f in student.features)
        assert all(x.grad is None or x.grad.isfinite().all() for x in leaves(student))
        assert all(x.grad is None for x in leaves(teacher))
        assert all(p.grad is None for p in told.teacher.parameters())
        adapted = [p for p in distiller.parameters() if p.grad is not None]
        assert all(p.grad.isfinite().all() for p in adapted)
        assert bool(adapted) == bool(list(distiller.parameters()))

    def test_what_is_dead_stays_finite(self, name):
        distiller = made(name, STUDENT, TEACHER)
        student, teacher = features(STUDENT, 0), features(TEACHER, 1)
        for x in (*leaves(student), *leaves(teacher)):
            x.data.zero_()
        value = distiller(student, teacher, lesson())
        assert value.isfinite()
        if value.requires_grad:
            value.backward()
        assert all(x.grad is None or x.grad.isfinite().all() for x in leaves(student))

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
        assert all(x.grad is None or x.grad.isfinite().all() for x in leaves(student))

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_large_half_precision_features_do_not_overflow(self, name, dtype):
        # 300^2 = 90,000 is above float16's 65,504.
        distiller = made(name, STUDENT, TEACHER)
        student, teacher = (louder(x, 300) for x in (features(STUDENT, 0), features(TEACHER, 1)))
        with torch.autocast("cpu", dtype):
            assert distiller(student, teacher, lesson()).isfinite()

    def test_what_it_asks_of_the_teacher(self, name):
        """Of those that ask for objects a record is enough, see `nets.memo`: logits up to a
        constant of each prior, and the offsets of those that are to be objects. Of others something
        is missed; whoever asks for outputs needs nothing else.
        """
        distiller = made(name, STUDENT, TEACHER)
        student, teacher, told = features(STUDENT, 0), features(TEACHER, 1), lesson()
        kept = teacher.offsets.detach() * told.positive[..., None]
        shift = torch.arange(kept.shape[1])[:, None] / 10
        record = Outputs((), teacher.logits.detach() + shift, kept)
        expected = distiller(student, teacher, told)
        if distiller.compares_maps:
            assert distiller.asks_for == NETWORK
        else:
            outputs = teacher._replace(features=())
            nobody = told._replace(teacher=None)
            assert torch.equal(distiller(student, outputs, nobody), expected)
            same = torch.isclose(distiller(student, record, nobody), expected, rtol=1e-4)
            assert distiller.asks_for == (OBJECTS if same else OUTPUTS)

    def test_images_may_be_permuted(self, name):
        distiller = made(name, STUDENT, TEACHER)
        pair = features(STUDENT, 0), features(TEACHER, 1)
        flipped = [chosen(said, [1, 0]) for said in pair]
        torch.testing.assert_close(
            distiller(*flipped, rearranged(lesson(), [1, 0])), distiller(*pair, lesson())
        )

    def test_a_batch_twice_is_worth_a_batch_once(self, name):
        distiller = made(name, STUDENT, TEACHER)
        pair = features(STUDENT, 0), features(TEACHER, 1)
        twice = [chosen(said, [0, 1, 0, 1]) for said in pair]
        torch.testing.assert_close(
            distiller(*twice, rearranged(lesson(), [0, 1, 0, 1])), distiller(*pair, lesson())
        )

    def test_the_batch_is_the_mean_of_its_images(self, name):
        if name in OVER_THE_BATCH:
            return
        distiller = made(name, STUDENT, TEACHER)
        pair, told = (features(STUDENT, 0), features(TEACHER, 1)), lesson()
        alone = [
            distiller(*(chosen(said, [i]) for said in pair), rearranged(told, [i])) for i in (0, 1)
        ]
        torch.testing.assert_close(torch.stack(alone).mean(), distiller(*pair, told))

    def test_one_graph_for_all_batches(self, name):
        torch._dynamo.reset()
        distiller = made(name, STUDENT, TEACHER)
        compiled = torch.compile(distiller, fullgraph=True, backend="eager")
        pair = features(STUDENT, 0), features(TEACHER, 1)
        torch.testing.assert_close(compiled(*pair, lesson()), distiller(*pair, lesson()))
        with torch.compiler.set_stance("fail_on_recompile"):
            for seed in (2, 3):
                again = features(STUDENT, seed), features(TEACHER, seed + 5)
                told = rearranged(lesson(), [1, 0])
                moved = told._replace(
                    rows=told.rows + 1, progress=told.progress + seed / 8, teacher=lesson().teacher
                )
                torch.testing.assert_close(compiled(*again, moved), distiller(*again, moved))
        torch._dynamo.reset()

    def test_both_orders_of_work_agree(self, name, monkeypatch):
        distiller, told = made(name, STUDENT, TEACHER), lesson()
        found = []
        for whole in (False, True):
            monkeypatch.setattr(rows, "looks_at_all", lambda _, whole=whole: whole)
            student, teacher = features(STUDENT, 0), features(TEACHER, 1)
            value = distiller(student, teacher, told)
            value.backward()
            found.append([value, *(x.grad for x in leaves(student) if x.grad is not None)])
        for few, many in zip(*found, strict=True):
            torch.testing.assert_close(few, many)

    def test_the_weight_is_kept_and_not_applied(self, name):
        heavy, plain = made(name, STUDENT, TEACHER, weight=3), made(name, STUDENT, TEACHER)
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
        optimizer = torch.optim.Adam([*leaves(student), *distiller.parameters()], lr=0.02)
        first = distiller(student, teacher, lesson()).item()
        for _ in range(60):
            loss = distiller(student, teacher, lesson())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert loss.item() < first / 2


@pytest.fixture(params=sorted(n for n, kind in DISTILLERS.items() if kind.compares_maps))
def of_maps(request) -> Iterator[str]:
    return request.param


class TestMaps:
    def test_the_chosen_ones_alone_are_looked_at(self, of_maps):
        distiller = made(of_maps, STUDENT, TEACHER, maps=(1, 0))
        student, teacher = features(STUDENT, 0), features(TEACHER, 1)
        distiller(student, teacher, lesson()).backward()
        assert student.features[2].grad is None
        assert all(f.grad.any() for f in student.features[:2])
        assert all(p.grad is not None for p in distiller.parameters())

    def test_by_default_all_of_them(self, of_maps):
        pair = features(STUDENT, 0), features(TEACHER, 1)
        asked, silent = (
            made(of_maps, STUDENT, TEACHER, maps=(0, 1, 2)),
            made(of_maps, STUDENT, TEACHER),
        )
        assert torch.equal(asked(*pair, lesson()), silent(*pair, lesson()))

    @pytest.mark.parametrize("maps", [(), (0, 0), (3,), (-1,), (0.5,), (True,), "0", 1, {0}])
    def test_others_are_refused(self, of_maps, maps):
        with pytest.raises(ValueError, match=r"maps must be different numbers from 0 .* to 2"):
            made(of_maps, STUDENT, TEACHER, maps=maps)


@pytest.mark.parametrize("kind", AGREES)
def test_of_an_equal_there_is_nothing_to_learn(kind):
    distiller = identity(made(kind, TEACHER, TEACHER))
    teacher = features(TEACHER, 1)
    assert distiller(teacher, teacher, lesson()).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("spec", ["cwd(tau='a')", "cwd(tau=1e999)", "hint(weight='a')"])
def test_options_that_are_no_numbers_are_refused(spec):
    with pytest.raises(ValueError, match="must be a number"):
        build(spec, DISTILLERS, "distiller", student_channels=[1] * 6, teacher_channels=[1] * 6)
