"""Views are few, shown equally often, mixed in every epoch, and the same in every run."""

import pytest
import torch

from utils.data.augment import uniforms
from utils.data.views import SEED, Views


@pytest.mark.parametrize(("images", "count"), [(23, 5), (20, 4), (3, 7), (9, 1)])
def test_every_view_is_shown_equally_often(images: int, count: int) -> None:
    views = Views(images, count)
    for epoch in (0, 1, count + 2):
        times = views.shown(epoch).bincount(minlength=count)
        assert times.sum() == images
        assert times.max() - times.min() <= 1
    every = torch.stack([views.shown(epoch) for epoch in range(3, 3 + count)])
    assert (every.sort(dim=0).values == torch.arange(count)[:, None]).all()


def test_an_epoch_mixes_the_views() -> None:
    shown = Views(1000, 2).shown(0)
    # Neighbours have the same view by chance: 999 pairs, p = .5, standard deviation 15.8.
    same = int((shown[1:] == shown[:-1]).sum())
    assert abs(same - 499.5) < 80


def test_a_view_is_always_the_same_picture() -> None:
    views, images = Views(6, 3), 6
    for epoch in range(7):
        table = views.table(epoch)
        for i, view in enumerate(views.shown(epoch).tolist()):
            torch.testing.assert_close(table[i], uniforms(images, SEED, view)[i], rtol=0, atol=0)
    assert torch.equal(views.table(1), views.table(4))
    assert not torch.equal(views.table(1), views.table(2))
    assert torch.equal(Views(6, 3).table(5), views.table(5))
