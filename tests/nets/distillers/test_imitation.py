"""Fine-grained imitation by hand, by a slow loop, and by its laws."""

from types import SimpleNamespace

import pytest
import torch

from nets.distillers.imitation import near_objects
from nets.outputs import Targets
from tests.nets.distillers.scenes import (
    STUDENT,
    TEACHER,
    bounds,
    features,
    identity,
    lesson,
    made,
    single,
)


def overlap(a: list[float], b: list[float]) -> float:
    """IoU of two xyxy boxes."""
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    both = width * height
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def three_cells(label: int = 1):
    """One row of three cells, each a prior of 0.5 x 1, and an object in the first two of them."""
    told = lesson()
    return told._replace(
        targets=Targets(torch.tensor([[[0.25, 0.0, 1.0, 1.0]]]), torch.tensor([[label]])),
        priors=torch.tensor([[0.25, 0.5, 0.5, 1], [0.5, 0.5, 0.5, 1], [0.75, 0.5, 0.5, 1]]),
        teacher=SimpleNamespace(priors_of_maps=lambda _: [3]),
    )


class TestFineGrained:
    # Of the object [0.25, 1] the priors [0, .5], [.25, .75] and [.5, 1] have .25 / 1 = 0.25,
    # .5 / .75 = 2/3 and 2/3. The teacher (1, 1, 1) is at unit scale; the student's errors are
    # 2, 3 and 4.
    @pytest.mark.parametrize(
        ("threshold", "expected"),
        [(0.5, (9 + 16) / 2), (0.374, (4 + 9 + 16) / 3), (0.376, (9 + 16) / 2)],
    )
    def test_hand_worked(self, threshold, expected):
        distiller = identity(made("imitation", [1], [1], threshold=threshold))
        student, teacher = single([[3.0, 4, 5]]), single([[1.0, 1, 1]])
        value = distiller(student, teacher, three_cells())
        assert value.item() == pytest.approx(expected)

    def test_without_a_threshold_a_cell_is_near_what_it_touches(self):
        # Of the object [0, .25] the prior [0, .5] has a half; [.25, .75] ends where it begins.
        distiller = identity(made("imitation", [1], [1], threshold=0))
        told = three_cells()
        told = told._replace(targets=told.targets._replace(boxes=torch.tensor([[[0, 0, 0.25, 1]]])))
        value = distiller(single([[3.0, 4, 5]]), single([[1.0, 1, 1]]), told)
        assert value.item() == pytest.approx(4)

    @pytest.mark.parametrize("label", [0, -1])
    def test_padding_and_ignored_objects_are_nobodys(self, label):
        distiller = identity(made("imitation", [1], [1]))
        student, teacher = single([[3.0, 4, 5]]), single([[1.0, 1, 1]])
        assert distiller(student, teacher, three_cells(label)).item() == 0

    def test_against_a_slow_loop(self):
        distiller = made("imitation", STUDENT, TEACHER, threshold=0.4).double()
        told = lesson()
        pair = [features(c, i, torch.float64) for i, c in enumerate((STUDENT, TEACHER))]
        corners = [
            [x - w / 2, y - h / 2, x + w / 2, y + h / 2] for x, y, w, h in told.priors.tolist()
        ]
        near: set[tuple[int, int]] = set()
        for b in range(2):
            for box, label in zip(
                told.targets.boxes[b].tolist(), told.targets.labels[b].tolist(), strict=True
            ):
                if label > 0:
                    found = [overlap(box, corner) for corner in corners]
                    near |= {(b, i) for i, v in enumerate(found) if v > 0.4 * max(found)}
        values = []
        for k, (first, end) in enumerate(bounds()):
            s, t = distiller.adapters[k](pair[0].features[k]), pair[1].features[k]
            t = t / t.square().mean().sqrt()
            cells = s.shape[-1] ** 2
            per_cell = (end - first) // cells
            errors = [
                sum((s[b, c, y, x] - t[b, c, y, x]).item() ** 2 for c in range(t.shape[1]))
                / t.shape[1]
                for b in range(2)
                for cell in range(cells)
                for y, x in [divmod(cell, s.shape[-1])]
                if any((b, first + cell * per_cell + i) in near for i in range(per_cell))
            ]
            values.append(sum(errors) / max(1, len(errors)))
        value = distiller(*pair, told)
        assert value.item() == pytest.approx(sum(values) / 3, rel=1e-6)

    def test_a_small_object_is_imitated_on_a_fine_map_alone(self):
        told = lesson(
            targets=Targets(torch.tensor([[[0.1, 0.1, 0.2, 0.2]]] * 2), torch.ones(2, 1).long())
        )
        near = near_objects(told, 0.5)
        fine, *coarse = [near[:, a:b].any().item() for a, b in bounds()]
        assert fine
        assert not any(coarse)

    def test_only_near_cells_have_gradient(self):
        distiller, told = made("imitation", STUDENT, TEACHER), lesson()
        student = features(STUDENT, 0)
        distiller(student, features(TEACHER, 1), told).backward()
        first, end = bounds()[0]
        near = near_objects(told, 0.5)[:, first:end].view(2, 6, 6, -1).any(-1)
        assert near.any()
        assert not near.all()
        assert torch.equal(student.features[0].grad.any(1), near)

    def test_without_any_object(self):
        told = lesson()
        empty = Targets(torch.zeros(2, 0, 4), torch.zeros(2, 0, dtype=torch.long))
        distiller = made("imitation", STUDENT, TEACHER)
        pair = features(STUDENT, 0), features(TEACHER, 1)
        assert distiller(*pair, told._replace(targets=empty)).item() == 0

    @pytest.mark.parametrize("threshold", [1, -0.5, "much"])
    def test_a_threshold_out_of_range_is_refused(self, threshold):
        with pytest.raises(ValueError, match="imitation: threshold must be"):
            made("imitation", STUDENT, TEACHER, threshold=threshold)


def test_priors_of_a_network_lie_map_by_map():
    teacher = lesson().teacher
    counts = teacher.priors_of_maps(features(TEACHER, 0).features)
    assert counts == [end - first for first, end in bounds()]
