"""Priors against the literal numbers of Liu et al.'s Caffe configuration for VOC."""

import pytest
import torch
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList

from nets.priors import LAYOUTS, layout_named, prior_boxes
from utils.boxes import cxcywh_to_xyxy

# The first prior of each map: 38^2 x 4 = 5776, + 19^2 x 6 = 7942, + 10^2 x 6 = 8542,
# + 5^2 x 6 = 8692, + 3^2 x 4 = 8728, + 1 x 4 = 8732.
STARTS = (0, 5776, 7942, 8542, 8692, 8728, 8732)

# The first cell of each map in pixels of 300: (centre, shapes). In each: s, sqrt(s s'), then
# s sqrt(2) x s / sqrt(2), its transpose, and the same with 3 where the map has it. Sides above
# 300 are clipped.
FIRST_CELLS = [
    # s = 30, sqrt(30 * 60) = 42.4264; 30 * 1.4142 = 42.4264, 30 / 1.4142 = 21.2132
    (4, [(30, 30), (42.4264, 42.4264), (42.4264, 21.2132), (21.2132, 42.4264)]),
    # s = 60, sqrt(60 * 111) = 81.6088; 60 * 1.7321 = 103.9230, 60 / 1.7321 = 34.6410
    (
        8,
        [
            (60, 60),
            (81.6088, 81.6088),
            (84.8528, 42.4264),
            (42.4264, 84.8528),
            (103.9230, 34.6410),
            (34.6410, 103.9230),
        ],
    ),
    # s = 111, sqrt(111 * 162) = 134.0970
    (
        16,
        [
            (111, 111),
            (134.0970, 134.0970),
            (156.9777, 78.4889),
            (78.4889, 156.9777),
            (192.2576, 64.0859),
            (64.0859, 192.2576),
        ],
    ),
    # s = 162, sqrt(162 * 213) = 185.7579
    (
        32,
        [
            (162, 162),
            (185.7579, 185.7579),
            (229.1026, 114.5513),
            (114.5513, 229.1026),
            (280.5922, 93.5307),
            (93.5307, 280.5922),
        ],
    ),
    # s = 213, sqrt(213 * 264) = 237.1329; 213 * 1.4142 = 301.2275, clipped
    (50, [(213, 213), (237.1329, 237.1329), (300, 150.6137), (150.6137, 300)]),
    # s = 264, sqrt(264 * 315) = 288.3747; 264 * 1.4142 = 373.3524, clipped
    (150, [(264, 264), (288.3747, 288.3747), (300, 186.6762), (186.6762, 300)]),
]


def test_count():
    assert prior_boxes().shape == (8732, 4)
    assert prior_boxes().dtype == torch.float32
    assert LAYOUTS["paper"].per_cell == (4, 6, 6, 6, 4, 4)


@pytest.mark.parametrize("k", range(6))
def test_first_cell_of_each_map(k):
    centre, shapes = FIRST_CELLS[k]
    cell = prior_boxes()[STARTS[k] : STARTS[k] + len(shapes)] * 300
    expected = torch.tensor([(centre, centre, w, h) for w, h in shapes])
    torch.testing.assert_close(cell, expected.float(), atol=2e-4, rtol=0)


@pytest.mark.parametrize("k", range(6))
def test_cells_go_row_by_row(k):
    tiling = LAYOUTS["paper"]
    grid, step = tiling.grids[k], tiling.steps[k]
    of_map = prior_boxes()[STARTS[k] : STARTS[k + 1]] * 300
    cells = of_map.view(grid, grid, -1, 4)
    # Only the last row and column of the 10 x 10 map lie outside: 9.5 * 32 = 304, clipped to 300.
    centres = ((torch.arange(grid) + 0.5) * step).clamp(max=300)
    torch.testing.assert_close(cells[..., 0], centres[None, :, None].expand(cells.shape[:3]))
    torch.testing.assert_close(cells[..., 1], centres[:, None, None].expand(cells.shape[:3]))
    # Every cell has the shapes of the first.
    assert torch.equal(cells[..., 2:], cells[:1, :1, :, 2:].expand_as(cells[..., 2:]))


def test_the_stored_numbers_are_clipped_not_the_boxes():
    priors = prior_boxes()
    assert priors.min() > 0
    assert priors.max() == 1
    # The corner cell's square of 30 px around 4 px reaches 11 px over the border.
    assert (priors[0, 0] - priors[0, 2] / 2).item() * 300 == pytest.approx(4 - 15, abs=1e-4)
    # Clipped are the long sides of ratio 2 in the last two maps: 9 + 1 cells, two priors each.
    assert (priors[:, 2:] == 1).sum() == 20


def test_torchvision_layout_equals_torchvisions_generator():
    generator = DefaultBoxGenerator(
        [[2], [2, 3], [2, 3], [2, 3], [2], [2]],
        scales=[0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05],
        steps=[8, 16, 32, 64, 100, 300],
    )
    images = ImageList(torch.zeros(1, 3, 300, 300), [(300, 300)])
    maps = [torch.zeros(1, 1, grid, grid) for grid in (38, 19, 10, 5, 3, 1)]
    (expected,) = generator(images, maps)
    priors = cxcywh_to_xyxy(prior_boxes("torchvision")) * 300
    torch.testing.assert_close(priors, expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout(layout):
    tiling, priors = LAYOUTS[layout], prior_boxes(layout)
    cells = [grid * grid for grid in tiling.grids]
    assert len(priors) == sum(n * per for n, per in zip(cells, tiling.per_cell, strict=True))
    assert (priors[:, 2:] > 0).all()
    assert (priors[:, 2:] <= 1).all()


def test_unknown_layouts_are_refused():
    for function in (prior_boxes, layout_named):
        with pytest.raises(ValueError, match="no prior layout 'mine'; choose one of paper"):
            function("mine")
