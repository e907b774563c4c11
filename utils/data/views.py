"""Views: the few ways in which each image is shown where a teacher's answers are written down.

Without them an image is never shown the same way twice. With V views of each, all of which are
shown equally often, what somebody has to say of an image need be asked V times and no more.
"""

import torch
from torch import Tensor

from utils.data.augment import uniforms

# Of the views, not of a run: every student sees the same ones, or no two could share answers.
SEED = 0


class Views:
    """`count` views of each of `images` images, the same in every run.

    View v of an image is what the augmentation with `SEED` makes of it in pass v over the images.
    Pass e of a run shows of image i the view (e + a number of i's own) mod V: so a pass mixes the
    views, as many of each as of any other (or one more), and V passes show an image in all of its.

    Args:
        images: of the split.
        count: V, at least 1.
    """

    def __init__(self, images: int, count: int) -> None:
        assert count > 0
        self.images, self.count = images, count
        generator = torch.Generator().manual_seed(SEED)
        self.starts = torch.randperm(images, generator=generator) % count

    def shown(self, number: int) -> Tensor:
        """Which view of each image a pass shows: `[images]` int64, 0..V - 1."""
        return (self.starts + number) % self.count

    def table(self, number: int) -> Tensor:
        """What `uniforms` is without views: the row of each image decides how it is shown."""
        shown = self.shown(number)
        table = uniforms(self.images, SEED, 0)
        for view in range(1, self.count):
            rows = shown == view
            table[rows] = uniforms(self.images, SEED, view)[rows]
        return table
