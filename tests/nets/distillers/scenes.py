"""A small world for distillers: two images, three source maps, and what two networks said of them.

The last map is a single cell, as SSD300's.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from nets.distillers import DISTILLERS, Distiller
from nets.matching import match
from nets.outputs import Lesson, Outputs, Targets
from nets.ssd import SSD300

STUDENT, TEACHER = (8, 16, 4), (12, 16, 24)
GRIDS, PER_CELL = (6, 3, 1), (2, 3, 2)
PRIORS = sum(n * n * per for n, per in zip(GRIDS, PER_CELL, strict=True))
COLUMNS = 3  # two classes and the background
OBJECTS = Targets(
    torch.tensor([[[0.1, 0.1, 0.4, 0.5], [0.3, 0.2, 1.0, 0.9]], [[0.6, 0.5, 0.9, 0.8], [0.0] * 4]]),
    torch.tensor([[1, 2], [2, 0]]),
)


def features(channels: tuple[int, ...], seed: int, dtype: torch.dtype = torch.float32) -> Outputs:
    """Random maps of these channels, logits and offsets."""
    generator = torch.Generator().manual_seed(seed)

    def leaf(values: Tensor) -> Tensor:
        return values.to(dtype).requires_grad_()

    maps = tuple(
        leaf(torch.randn(2, c, n, n, generator=generator).relu())
        for c, n in zip(channels, GRIDS, strict=True)
    )
    return Outputs(
        maps,
        leaf(2 * torch.randn(2, PRIORS, COLUMNS, generator=generator)),
        leaf(torch.randn(2, PRIORS, 4, generator=generator)),
    )


def priors() -> Tensor:
    """`PRIORS` boxes: in each cell of each map squares and upright boxes around its centre."""
    rows = []
    for n, per in zip(GRIDS, PER_CELL, strict=True):
        for y in range(n):
            for x in range(n):
                for k in range(per):
                    side = (k + 1.2) / n
                    rows.append([(x + 0.5) / n, (y + 0.5) / n, side, side * (1 + k / 2)])
    return torch.tensor(rows).clamp(0, 1)


class Heads(SSD300):
    """What a teacher has behind its source maps; frozen."""

    def __init__(self, channels: tuple[int, ...] = TEACHER, seed: int = 7) -> None:
        nn.Module.__init__(self)
        self.classes, self.per_cell = COLUMNS - 1, PER_CELL
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.conf, self.loc = (
                nn.ModuleList(
                    nn.Conv2d(c, per * columns, 3, padding=1)
                    for c, per in zip(channels, PER_CELL, strict=True)
                )
                for columns in (COLUMNS, 4)
            )
        self.eval().requires_grad_(False)


def lesson(objects: bool = True, targets: Targets = OBJECTS) -> Lesson:
    """What is to be learnt of the images; of those without objects some priors are negative."""
    targets = targets if objects else targets._replace(labels=torch.zeros_like(targets.labels))
    matches = match(targets, priors(), 0.3)
    positive = matches.labels > 0
    negative = torch.zeros_like(positive)
    negative[:, ::9] = True
    negative &= ~positive
    count = positive.sum() if objects else negative.sum()
    return Lesson(
        targets,
        matches,
        positive,
        negative,
        count.float(),
        priors(),
        Heads(),
        torch.tensor([11, 2**40 + 5]),
        torch.tensor(0.25),
    )


def rearranged(told: Lesson, order: list[int]) -> Lesson:
    """The lesson of a batch of these images."""

    def images(values: Tensor) -> Tensor:
        return values[order]

    return told._replace(
        targets=Targets(*map(images, told.targets)),
        matches=type(told.matches)(*map(images, told.matches)),
        positive=images(told.positive),
        negative=images(told.negative),
        divisor=told.divisor * len(order) / len(told.rows),
        rows=images(told.rows),
    )


def chosen(outputs: Outputs, order: list[int]) -> Outputs:
    """What was said of these images."""
    return Outputs(
        tuple(f[order] for f in outputs.features), outputs.logits[order], outputs.offsets[order]
    )


def made(name: str, student, teacher, **options) -> Distiller:
    """A distiller between maps of these channels, its initial weights always the same."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return DISTILLERS[name](student_channels=student, teacher_channels=teacher, **options)


def identity(distiller: Distiller) -> Distiller:
    """Adapters that change nothing."""
    adapted = distiller.compares_maps and distiller.adapts
    for adapter in distiller.adapters if adapted else ():
        nn.init.dirac_(adapter.weight)
        nn.init.zeros_(adapter.bias)
    return distiller


def single(values: list[list[float]]) -> Outputs:
    """One image, one map: a row of positions for each channel."""
    return Outputs(
        (torch.tensor(values)[None, :, None, :],), torch.zeros(1, 1, 2), torch.zeros(1, 1, 4)
    )


def bounds() -> list[tuple[int, int]]:
    """First prior of each map, and the first behind it."""
    ends = [0]
    for n, per in zip(GRIDS, PER_CELL, strict=True):
        ends.append(ends[-1] + n * n * per)
    return list(pairwise(ends))
