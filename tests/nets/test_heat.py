"""Scores painted back: which cell, which class, which of several."""

import numpy as np
import pytest
import torch

from nets.heat import HEAT_SIDE, heat, heat_of_images
from nets.priors import LAYOUTS, prior_boxes
from nets.ssd import SSD300


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("place", [(0.2, 0.7), (0.9, 0.1)])
def test_a_prior_is_painted_where_it_sits(name: str, place: tuple[float, float]) -> None:
    layout, priors = LAYOUTS[name], prior_boxes(name)
    last_of_first = layout.grids[0] ** 2 * layout.per_cell[0]
    distance = (priors[:last_of_first, :2] - torch.tensor(place)).norm(dim=1)
    row = int(distance.argmin())
    logits = torch.zeros(2, len(priors), 4)
    logits[..., 0] = 30
    logits[1, row] = torch.tensor([0.1, 0.2, 0.6, 0.1]).log()
    nothing, painted = heat(logits, [2], layout)
    assert nothing.max() < 1e-6
    hottest = (painted > 0.9 * painted.max()).nonzero()
    y, x = ((hottest.float().mean(0) + 0.5) / HEAT_SIDE).tolist()
    # Half a cell of the grid, for steps of 8 pixels do not quite tile 300.
    assert abs(x - priors[row, 0]) <= 0.5 / layout.grids[0] + 0.01
    assert abs(y - priors[row, 1]) <= 0.5 / layout.grids[0] + 0.01
    # A cell of 38 is two places wide, each a quarter of a cell from the centre: (3 / 4)^2 of it.
    if layout.grids[0] == 38:
        assert float(painted.max()) == pytest.approx(0.6 * 0.75**2, abs=1e-3)


def test_the_surest_class_and_prior_count() -> None:
    layout = LAYOUTS["paper"]
    logits = torch.zeros(1, 8732, 4)
    logits[..., 0] = 30
    logits[0, -1] = torch.tensor([0.1, 0.2, 0.6, 0.1]).log()  # of the one cell of the last grid
    logits[0, -2] = torch.tensor([0.5, 0.3, 0.1, 0.1]).log()
    for labels, value in (([1], 0.3), ([2], 0.6), ([1, 2], 0.6), ([3], 0.1)):
        torch.testing.assert_close(
            heat(logits, labels, layout), torch.full((1, HEAT_SIDE, HEAT_SIDE), value)
        )


def test_of_images() -> None:
    model = SSD300("resnet18(width=0.125)", 3).eval()
    images = [np.zeros((40, 60, 3), np.uint8), np.full((90, 30, 3), 200, np.uint8)]
    heats = heat_of_images(model, images, [1, 3])
    assert [h.shape for h in heats] == [(HEAT_SIDE, HEAT_SIDE)] * 2
    assert all(((h >= 0) & (h <= 1)).all() for h in heats)
