"""Flow matrices by hand, by a slow loop, and by their laws."""

import itertools

import pytest
import torch

from nets.distillers.fsp import gram, pooled
from nets.outputs import Outputs
from tests.nets.distillers.scenes import STUDENT, TEACHER, features, identity, lesson, made


def two_maps(fine: list[list[float]], coarse: float) -> Outputs:
    """One image: a channel of 2 x 2 cells and one of a single cell."""
    maps = torch.tensor(fine)[None, None], torch.full((1, 1, 1, 1), coarse)
    return Outputs(maps, torch.zeros(1, 1, 2), torch.zeros(1, 1, 4))


class TestFlow:
    def test_hand_worked(self):
        # The fine maps' maxima are 4 and 2: G_s = 4 x 3 = 12, G_t = 2 x 5 = 10, (12 - 10)^2 = 4.
        distiller = identity(made("fsp", [1, 1], [1, 1]))
        student, teacher = two_maps([[1.0, 4], [2, 0]], 3.0), two_maps([[2.0, 1], [0, 2]], 5.0)
        assert distiller(student, teacher, lesson()).item() == pytest.approx(4)

    def test_against_a_slow_loop(self):
        distiller = made("fsp", STUDENT, TEACHER).double()
        pair = [features(c, i, torch.float64) for i, c in enumerate((STUDENT, TEACHER))]
        maps = [
            [adapter(f) for adapter, f in zip(distiller.adapters, pair[0].features, strict=True)],
            list(pair[1].features),
        ]

        def flow(a, b, b_index: int, c: int, d: int) -> float:
            side, stride = b.shape[-1], a.shape[-1] // b.shape[-1]
            total = 0.0
            for y, x in itertools.product(range(side), range(side)):
                window = a[b_index, c, y * stride : (y + 1) * stride, x * stride : (x + 1) * stride]
                total += window.max().item() * b[b_index, d, y, x].item()
            return total / side**2

        values = []
        for k in (0, 1):
            squares = [
                (
                    flow(maps[0][k], maps[0][k + 1], b, c, d)
                    - flow(maps[1][k], maps[1][k + 1], b, c, d)
                )
                ** 2
                for b in range(2)
                for c in range(TEACHER[k])
                for d in range(TEACHER[k + 1])
            ]
            values.append(sum(squares) / len(squares))
        value = distiller(*pair, lesson())
        assert value.item() == pytest.approx(sum(values) / 2, rel=1e-9)

    def test_where_features_lie_does_not_matter_as_long_as_they_lie_together(self):
        a, b = torch.rand(1, 3, 4, 4), torch.rand(1, 2, 4, 4)
        torch.testing.assert_close(gram(a.flip(-1), b.flip(-1)), gram(a, b))
        assert not torch.allclose(gram(a.flip(-1), b), gram(a, b))

    def test_the_order_of_maps_does_not_matter(self):
        a, b = torch.rand(1, 3, 6, 6), torch.rand(1, 2, 3, 3)
        torch.testing.assert_close(gram(a, b), gram(b, a).transpose(1, 2))

    @pytest.mark.parametrize(
        ("fine", "coarse"),
        [*itertools.pairwise((38, 19, 10, 5, 3, 1)), *itertools.pairwise((19, 10, 5, 3, 2, 1))],
    )
    def test_pooling_serves_every_layout(self, fine, coarse):
        features = torch.rand(1, 1, fine, fine)
        assert pooled(features, coarse).shape == (1, 1, coarse, coarse)
        assert pooled(features, coarse).max() == features.max()  # no cell is left out
        assert pooled(features, fine) is features

    def test_a_single_map_is_refused(self):
        with pytest.raises(ValueError, match=r"fsp compares pairs of source maps; .* one, \(1,\)"):
            made("fsp", STUDENT, TEACHER, maps=(1,))
