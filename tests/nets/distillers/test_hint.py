"""Hints by hand and by their laws."""

import pytest
import torch

from tests.nets.distillers.scenes import STUDENT, TEACHER, features, identity, lesson, made, single


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

    def test_hint_wants_the_teacher_at_unit_scale(self):
        distiller = identity(made("hint", TEACHER, TEACHER))
        teacher = features(TEACHER, 1)
        scaled = tuple(f / f.square().mean().sqrt() for f in teacher.features)
        value = distiller(teacher._replace(features=scaled), teacher, lesson())
        assert value.item() == pytest.approx(0, abs=1e-6)
