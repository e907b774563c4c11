"""Cross-head distillation by hand, by a slow loop, and by its laws."""

import math

import pytest
import torch
from torch import nn

from nets.ssd import SSD300
from nets.tasks.building import build_distillers
from tests.nets.distillers.scenes import (
    STUDENT,
    TEACHER,
    bounds,
    features,
    identity,
    lesson,
    made,
)


def softmax(logits: list[float]) -> list[float]:
    powers = [math.exp(z) for z in logits]
    return [p / sum(powers) for p in powers]


class TestCrossHead:
    def test_hand_worked(self):
        # Heads that say the same whatever they see, so only their bias counts: on the last map,
        # a single cell of two priors, logits (0, 0, 0) and offsets (1, 0, 0, 0).
        # The teacher's p there is (1/2, 1/4, 1/4): KL = 1/2 log(3/2) + 1/2 log(3/4) = 0.0589, for
        # two priors in each of two images; its offsets are (3.5, 0, 0, 0): smooth L1 is 2.5 - 0.5
        # = 2, at one positive. N is 8.
        told = lesson()
        for heads in (told.teacher.conf, told.teacher.loc):
            for head in heads:
                nn.init.zeros_(head.weight)
                nn.init.zeros_(head.bias)
        told.teacher.loc[2].bias.data[[0, 4]] = 1
        positive = torch.zeros_like(told.positive)
        positive[1, -1] = True
        told = told._replace(positive=positive, divisor=torch.tensor(8.0))
        teacher = features(TEACHER, 1)
        with torch.no_grad():
            teacher.logits[:, -2:] = torch.tensor([1 / 2, 1 / 4, 1 / 4]).log()
            teacher.offsets[:, -2:] = torch.tensor([3.5, 0, 0, 0])
        divergence = 0.5 * math.log(3 / 2) + 0.5 * math.log(3 / 4)
        value = made("crosskd", STUDENT, TEACHER, maps=(2,))(features(STUDENT, 0), teacher, told)
        assert value.item() == pytest.approx((4 * divergence + 2) / 8, rel=1e-5)

    @pytest.mark.parametrize("maps", [(0, 1, 2), (1,), (2, 0)])
    def test_against_a_slow_loop(self, maps):
        distiller = made("crosskd", STUDENT, TEACHER, temperature=2, maps=maps).double()
        told = lesson()
        told.teacher.double()
        pair = [features(c, i, torch.float64) for i, c in enumerate((STUDENT, TEACHER))]
        total, seen = 0.0, 0
        for i, k in enumerate(maps):
            source = distiller.adapters[i](pair[0].features[k])
            conf, loc = told.teacher.conf[k](source), told.teacher.loc[k](source)
            first, end = bounds()[k]
            side = source.shape[-1]
            per_cell = (end - first) // side**2
            for b in range(2):
                for index in range(first, end):
                    cell, prior = divmod(index - first, per_cell)
                    y, x = divmod(cell, side)
                    z = [conf[b, prior * 3 + c, y, x].item() / 2 for c in range(3)]
                    p, q = softmax((pair[1].logits[b, index] / 2).tolist()), softmax(z)
                    total += 4 * sum(a * math.log(a / c) for a, c in zip(p, q, strict=True))
                    if told.positive[b, index]:
                        seen += 1
                        for c in range(4):
                            wanted = pair[1].offsets[b, index, c]
                            d = abs(loc[b, prior * 4 + c, y, x] - wanted).item()
                            total += d * d / 2 if d < 1 else d - 0.5
        assert seen
        value = distiller(*pair, told)
        assert value.item() == pytest.approx(total / told.divisor.item(), rel=1e-6)

    def test_a_student_with_the_teachers_maps_has_nothing_to_learn(self):
        told, teacher = lesson(), features(TEACHER, 1)
        logits, offsets = (
            torch.cat(
                [
                    head(f).permute(0, 2, 3, 1).reshape(2, -1, columns)
                    for head, f in zip(heads, teacher.features, strict=True)
                ],
                dim=1,
            )
            for heads, columns in ((told.teacher.conf, 3), (told.teacher.loc, 4))
        )
        teacher = teacher._replace(logits=logits, offsets=offsets)
        value = identity(made("crosskd", TEACHER, TEACHER))(teacher, teacher, told)
        assert value.item() == pytest.approx(0, abs=1e-5)

    def test_without_boxes_offsets_do_not_matter(self):
        student, teacher = features(STUDENT, 0), features(TEACHER, 1)
        moved = teacher._replace(offsets=teacher.offsets + 1)
        for boxes in (True, False):
            distiller = made("crosskd", STUDENT, TEACHER, boxes=boxes)
            same = distiller(student, teacher, lesson()) == distiller(student, moved, lesson())
            assert same.item() is not boxes

    def test_the_students_own_heads_are_left_alone(self):
        student = features(STUDENT, 0)
        made("crosskd", STUDENT, TEACHER)(student, features(TEACHER, 1), lesson()).backward()
        assert student.logits.grad is None
        assert student.offsets.grad is None

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"temperature": 0}, "crosskd: temperature must be a number above 0, not 0"),
            ({"boxes": "no"}, "crosskd: boxes must be one of True, False"),
        ],
    )
    def test_options_out_of_range_are_refused(self, options, message):
        with pytest.raises(ValueError, match=message):
            made("crosskd", STUDENT, TEACHER, **options)


def test_other_priors_on_equal_grids_are_refused():
    tiny = "resnet18(width=0.125)"
    student, teacher = SSD300(tiny, 2), SSD300(tiny, 2, layout="torchvision")
    assert build_distillers(["hint"], student, teacher)
    with pytest.raises(ValueError, match=r"crosskd asks .* heads about .*'torchvision'"):
        build_distillers(["crosskd"], student, teacher)
