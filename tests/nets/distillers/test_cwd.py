"""Channel-wise distillation by hand and by its laws."""

import math

import pytest
import torch

from tests.nets.distillers.scenes import STUDENT, TEACHER, features, identity, lesson, made, single


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
