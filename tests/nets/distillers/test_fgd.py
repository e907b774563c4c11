"""Focal and global distillation by hand, by a slow loop, and by its laws."""

import math

import pytest
import torch

from nets.distillers.fgd import Context, focus
from nets.outputs import Targets
from tests.nets.distillers.scenes import (
    STUDENT,
    TEACHER,
    features,
    identity,
    lesson,
    made,
    single,
)

NONE = {"alpha": 0, "beta": 0, "gamma": 0, "lam": 0}


def left_half() -> Targets:
    """One image with one object over the left half of it."""
    return Targets(torch.tensor([[[0.0, 0.0, 0.5, 1.0]]]), torch.tensor([[2]]))


def softmax(values: list[float]) -> list[float]:
    powers = [math.exp(v) for v in values]
    return [p / sum(powers) for p in powers]


class TestFocalGlobal:
    # Four positions, one channel, the object in the first two. Teacher (0, 0, log 3, log 3) and
    # temperature 1: S_t = 4 (1, 1, 3, 3) / 8 = (1/2, 1/2, 3/2, 3/2). Student (2, 2, log 3, log 9).
    # log 3 = L.
    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ({"alpha": 1}, (4 / 2 + 4 / 2) / 2),  # two cells of weight 1/2, S 1/2, squares 4
            ({"beta": 1}, 0.5 * 1.5 * math.log(3) ** 2),  # two others, the last one off by L
            ({"lam": 1}, 4 + 4 + math.log(3) ** 2),  # R is the map itself at first
            (
                {"gamma": 1},  # S_s = 4 e^|F| / sum, C is 1 for a single channel
                sum(
                    abs(a - b)
                    for a, b in zip(
                        (0.5, 0.5, 1.5, 1.5),
                        [4 * p for p in softmax([2, 2, math.log(3), math.log(9)])],
                        strict=True,
                    )
                ),
            ),
        ],
    )
    def test_hand_worked(self, options, expected):
        distiller = identity(made("fgd", [1], [1], temperature=1, **NONE | options))
        student = single([[2.0, 2, math.log(3), math.log(9)]])
        teacher = single([[0.0, 0, math.log(3), math.log(3)]])
        value = distiller(student, teacher, lesson()._replace(targets=left_half()))
        assert value.item() == pytest.approx(expected, rel=1e-5)

    def test_against_a_slow_loop(self):
        options = {"temperature": 0.8, "alpha": 0.3, "beta": 0.2, "gamma": 0.1, "lam": 0.01}
        distiller = made("fgd", STUDENT, TEACHER, **options).double()
        for context in (*distiller.of_student, *distiller.of_teacher):
            torch.nn.init.normal_(context.transform[-1].weight)
        told = lesson()
        pair = [features(c, i, torch.float64) for i, c in enumerate((STUDENT, TEACHER))]
        values = []
        for k in range(3):
            ours = distiller.adapters[k](pair[0].features[k])
            total = 0.0
            for b in range(2):
                s, t = ours[b].tolist(), pair[1].features[k][b].tolist()
                channels, side = len(t), len(t[0])
                cells = [(y, x) for y in range(side) for x in range(side)]

                def looks(f, channels=channels, cells=cells):
                    where = [sum(abs(f[c][y][x]) for c in range(channels)) for y, x in cells]
                    what = [sum(abs(f[c][y][x]) for y, x in cells) for c in range(channels)]
                    spatial = softmax([v / channels / 0.8 for v in where])
                    channel = softmax([v / len(cells) / 0.8 for v in what])
                    return [v * len(cells) for v in spatial], [v * channels for v in channel]

                (s_s, c_s), (s_t, c_t) = looks(s), looks(t)
                sizes: dict[tuple[int, int], int] = {}
                for box, label in zip(
                    told.targets.boxes[b].tolist(), told.targets.labels[b].tolist(), strict=True
                ):
                    x1, y1, x2, y2 = (round(v * side, 5) for v in box)
                    touched = [
                        (y, x)
                        for y, x in cells
                        if math.floor(x1) <= x < math.ceil(x2)
                        and math.floor(y1) <= y < math.ceil(y2)
                        and label > 0
                    ]
                    for cell in touched:
                        sizes[cell] = min(sizes.get(cell, side**2), len(touched))
                background = len(cells) - len(sizes)
                for i, (y, x) in enumerate(cells):
                    weight = 0.3 / sizes[y, x] if (y, x) in sizes else 0.2 / background
                    for c in range(channels):
                        total += weight * s_t[i] * c_t[c] * (t[c][y][x] - s[c][y][x]) ** 2
                total += 0.1 * sum(abs(a - b) for a, b in zip(s_s, s_t, strict=True))
                total += 0.1 * sum(abs(a - b) for a, b in zip(c_s, c_t, strict=True))
            relation = distiller.of_teacher[k](pair[1].features[k]) - distiller.of_student[k](ours)
            total += 0.01 * sum(v**2 for v in relation.flatten().tolist())
            values.append(total / 2)
        value = distiller(*pair, told)
        assert value.item() == pytest.approx(sum(values) / 3, rel=1e-6)

    def test_the_blocks_of_both_train(self):
        distiller = made("fgd", STUDENT, TEACHER)
        optimizer = torch.optim.SGD(distiller.parameters(), lr=1)
        for _ in range(2):  # the first step moves what starts at 0, the second one all the rest
            optimizer.zero_grad()
            distiller(features(STUDENT, 0), features(TEACHER, 1), lesson()).backward()
            optimizer.step()
        for contexts in (distiller.of_student, distiller.of_teacher):
            assert all(p.grad.any() for p in contexts[0].transform[0].parameters())

    @pytest.mark.parametrize("option", ["alpha", "beta", "gamma", "lam"])
    def test_options_out_of_range_are_refused(self, option):
        with pytest.raises(ValueError, match=f"fgd: {option} must be a number of at least 0"):
            made("fgd", STUDENT, TEACHER, **{option: -1})
        with pytest.raises(ValueError, match="fgd: temperature must be a number above 0"):
            made("fgd", STUDENT, TEACHER, temperature=0)


class TestFocus:
    def test_hand_worked(self):
        # On 4 x 4 cells [0.1, 0.6] x [0, 0.25] touches 3 x 1 cells, [0, 0.25] x [0, 0.5] 1 x 2.
        targets = Targets(
            torch.tensor([[[0.1, 0.0, 0.6, 0.25], [0.0, 0.0, 0.25, 0.5], [0.0, 0.0, 1.0, 1.0]]]),
            torch.tensor([[1, 2, -1]]),  # the last one is ignored
        )
        objects, background = focus(targets, 4, 4)
        expected = torch.zeros(4, 4)
        expected[0, 1:3], expected[:2, 0] = 1 / 3, 1 / 2  # the smaller one has the corner
        assert torch.equal(objects[0, 0], expected)
        assert torch.equal(background[0, 0], (expected == 0) / 12)

    @pytest.mark.parametrize("count", [0, 2])
    def test_without_objects_all_is_background(self, count):
        targets = Targets(torch.zeros(1, count, 4), torch.zeros(1, count, dtype=torch.long))
        objects, background = focus(targets, 3, 3)
        assert not objects.any()
        torch.testing.assert_close(background, torch.full((1, 1, 3, 3), 1 / 9))

    def test_an_object_everywhere_leaves_no_background(self):
        targets = Targets(torch.tensor([[[0.0, 0, 1, 1]]]), torch.tensor([[1]]))
        objects, background = focus(targets, 2, 2)
        assert torch.equal(objects, torch.full((1, 1, 2, 2), 0.25))
        assert not background.any()

    def test_the_smallest_object_has_a_cell(self):
        targets = Targets(torch.tensor([[[0.5, 0.5, 0.5001, 0.5001]]]), torch.tensor([[1]]))
        assert focus(targets, 5, 5)[0].sum() == 1


def test_a_context_starts_as_the_map_itself():
    x = torch.randn(2, 6, 3, 3)
    assert torch.equal(Context(6)(x), x)
    assert Context(1)(x[:, :1]).isfinite().all()
