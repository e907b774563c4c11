"""Pearson distillation by hand, by a slow loop, and by its laws."""

import numpy as np
import pytest
import torch

from tests.nets.distillers.scenes import (
    STUDENT,
    TEACHER,
    features,
    identity,
    lesson,
    made,
    single,
)


class TestPearson:
    @pytest.mark.parametrize(
        ("student", "expected"),
        [
            ([1.0, 2, 3], 0),  # r = 1
            ([3.0, 2, 1], 2),  # r = -1
            ([1.0, -2, 1], 1),  # r = 0
            # (0, 0, 3) against (-1, 0, 1): r = 3 / sqrt(6 x 2) = 0.8660, about means 1 and 0.
            ([0.0, 0, 3], 1 - 3 / 12**0.5),
        ],
    )
    def test_hand_worked(self, student, expected):
        distiller = identity(made("pkd", [1], [1]))
        value = distiller(single([student]), single([[4.0, 5, 6]]), lesson())
        assert value.item() == pytest.approx(expected, abs=1e-5)

    def test_against_numpys_correlation(self):
        distiller = made("pkd", STUDENT, TEACHER, maps=(0, 1)).double()
        pair = [features(c, i, torch.float64) for i, c in enumerate((STUDENT, TEACHER))]
        values = []
        for k in (0, 1):
            ours = distiller.adapters[k](pair[0].features[k]).detach().numpy()
            theirs = pair[1].features[k].detach().numpy()
            values.append(
                np.mean(
                    [
                        1 - np.corrcoef(ours[:, c].ravel(), theirs[:, c].ravel())[0, 1]
                        for c in range(ours.shape[1])
                    ]
                )
            )
        assert distiller(*pair, lesson()).item() == pytest.approx(np.mean(values), rel=1e-4)

    def test_neither_scale_nor_shift_matters(self):
        distiller = made("pkd", STUDENT, TEACHER)
        student, teacher = features(STUDENT, 0), features(TEACHER, 1)
        moved = teacher._replace(features=tuple(9 * f + 4 for f in teacher.features))
        torch.testing.assert_close(
            distiller(student, moved, lesson()),
            distiller(student, teacher, lesson()),
            rtol=1e-3,
            atol=1e-3,
        )
