"""Attention transfer by hand and by its laws."""

import math

import pytest
import torch

from nets.distillers.attention import attention
from tests.nets.distillers.scenes import STUDENT, TEACHER, features, lesson, made, single


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
