"""What a teacher says of a view, in so few bytes that it can be written down.

Nearly all of what a teacher says of 8732 priors is "background, and I am sure". So a record keeps

- of the `LISTED` priors in which it sees most of an object, and of all that are to answer for one:
  the logits (which are only known up to what a softmax takes out), and the offsets, in float16;
- of every other prior: the log odds of its being anything but background;
- of the likeliest `SKETCHED` of these: how the odds are shared among the classes;
- of the rest that, not of each but of neighbours of one shape: the mean, over a block of a map's
  cells, of their log shares.

Shares of the third kind have four bits a class, everything else eight; those and logits in steps
that are the finer the nearer to the largest. What this does to a student's gradient is measured in
benchmarks/fidelity.py, see docs/distillers.md.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from nets.outputs import Outputs
from nets.priors import layout_named

FORMAT = 1  # of the bytes, and of what stands in them; a reader knows no other
LISTED = 400
SKETCHED = 4000  # fewer where there are so many classes that a record had more than MOST bytes
MOST = 40_000
BLOCKS = 4  # along a side of the finest map
STEPS, FEW_STEPS = 255, 15
HEAD = 24  # bytes: the format, and five numbers in float32
LARGEST = 60_000.0  # offset that float16 holds
ALIGNED = 4


class Scales(NamedTuple):
    """What eight-bit codes count in, each `[B, 1]` float32, for every view.

    low, high: the log odds of background priors lie between them.
    shares: the smallest mean log share of a class.
    sketched: how far a log share is below the largest of its prior, at most.
    logits: how far a logit is below the largest of its prior, at most.
    """

    low: Tensor
    high: Tensor
    shares: Tensor
    sketched: Tensor
    logits: Tensor


class AnswerRecord(nn.Module):
    """Outputs of a batch -> bytes -> outputs, all of it on the device that they are on.

    Args:
        layout: of the priors that the outputs are about.
        classes: K.
        listed, sketched: how many priors are written down one by one, see above.

    Attributes:
        size: bytes of a record.
    """

    group: Tensor

    def __init__(
        self, layout: str, classes: int, listed: int = LISTED, sketched: int = SKETCHED
    ) -> None:
        super().__init__()
        group, self.groups = groups(layout)
        self.priors, self.columns = len(group), classes + 1
        assert self.priors < 2**15, "indices have 16 bits, one of them for the sign"
        self.listed = min(listed, self.priors)
        # Which follows from the layout.
        self.register_buffer("group", group, persistent=False)
        pieces = [HEAD, self.priors, self.groups * classes]
        pieces += [2 * self.listed, self.listed * self.columns, self.listed * 8]
        self.packed = -(-classes // 2)  # bytes of four bits a class
        room = max(0, MOST - sum(pieces)) // (2 + self.packed)
        self.sketched = min(sketched, room, self.priors - self.listed)
        self.pieces = [*pieces, 2 * self.sketched, self.sketched * self.packed]
        used = sum(self.pieces)
        self.size = used + -used % ALIGNED

    @torch.no_grad()
    def encode(self, outputs: Outputs, positive: Tensor) -> Tensor:
        """The records of a batch; one of numbers that are not finite counts as absent.

        Args:
            outputs: P priors of the layout; features are not kept.
            positive: `[B, P]` bool, priors that are to be listed in any case.

        Returns:
            `[B, size]` uint8; the first byte is 0 where a record is absent.
        """
        logits, offsets = outputs.logits.float(), outputs.offsets.float()
        ratios = logits[..., 1:] - logits[..., :1]
        odds = ratios.logsumexp(-1)
        sure = odds.masked_fill(positive, torch.inf)
        index = sure.topk(self.listed + self.sketched, dim=1).indices
        counts = odds.scatter(1, index, -torch.inf)
        shares = self.mean_shares(ratios - odds[..., None], counts)
        index, next_index = index.split((self.listed, self.sketched), dim=1)
        below, apart = (
            rows.amax(-1, keepdim=True) - rows
            for rows in (chosen(logits, index), chosen(ratios, next_index))
        )
        boxes = chosen(offsets, index).clamp(-LARGEST, LARGEST).half()
        scales = Scales(
            odds.scatter(1, index, torch.inf).amin(1, keepdim=True),
            odds.scatter(1, index, -torch.inf).amax(1, keepdim=True),
            *(largest(x) for x in (shares, apart, below)),
        )
        finite = logits.isfinite().all(-1).all(-1) & offsets.isfinite().all(-1).all(-1)
        head = torch.zeros(len(logits), HEAD // 4, device=logits.device)
        head[:, 1:] = torch.cat(scales, dim=1)
        head = head.view(torch.uint8)
        head[:, 0] = finite * FORMAT
        span = (scales.high - scales.low).clamp(min=1e-6)
        parts = (
            code((odds - scales.low) / span),
            code(-shares.flatten(1) / scales.shares),
            index.short().view(torch.uint8),
            code((below.flatten(1) / scales.logits).sqrt()),
            boxes.flatten(1).view(torch.uint8),
            next_index.short().view(torch.uint8),
            pack(code((apart / scales.sketched[..., None]).sqrt(), FEW_STEPS)).flatten(1),
        )
        rest = head.new_zeros(len(head), self.size - sum(self.pieces))
        return torch.cat((head, *parts, rest), dim=1)

    def decode(self, records: Tensor) -> Outputs:
        """What `encode` was given, as far as records say it; float32.

        Logits are relative: those of a listed prior to its largest, those of others to background.
        Offsets of priors that are not listed are 0.

        Args:
            records: `[B, size]` uint8, none of them absent.
        """
        pieces = records[:, : sum(self.pieces)].split(self.pieces, dim=1)
        scales = Scales(*pieces[0][:, 4:].contiguous().view(torch.float32).split(1, dim=1))
        index, next_index = (pieces[i].contiguous().view(torch.int16).long() for i in (3, 6))
        odds, shares, below = (pieces[i].float() for i in (1, 2, 4))
        odds = odds * ((scales.high - scales.low).clamp(min=1e-6) / STEPS) + scales.low
        shares = shares * (-scales.shares / STEPS)
        batch, classes = len(records), self.columns - 1
        logits = odds.new_zeros(batch, self.priors, self.columns)
        of_group = shares.view(batch, self.groups, classes).log_softmax(-1)
        logits[..., 1:] = of_group.index_select(1, self.group) + odds[..., None]
        apart = unpack(pieces[7].reshape(batch, self.sketched, self.packed))[..., :classes]
        apart = (apart.float() / FEW_STEPS).square() * -scales.sketched[..., None]
        rows = apart.log_softmax(-1) + odds.gather(1, next_index)[..., None]
        fill(logits, next_index, functional.pad(rows, (1, 0)))
        rows = (below / STEPS).square() * -scales.logits
        fill(logits, index, rows.view(batch, self.listed, self.columns))
        offsets = odds.new_zeros(batch, self.priors, 4)
        boxes = pieces[5].contiguous().view(torch.float16).float()
        fill(offsets, index, boxes.view(batch, self.listed, 4))
        return Outputs((), logits, offsets)

    def mean_shares(self, shares: Tensor, odds: Tensor) -> Tensor:
        """The mean log share of each class in each group of priors.

        The likelier a prior shows an object, the more it counts: half as steeply as its odds rise,
        as if softened with T = 2.

        Args:
            shares: `[B, P, K]`, log p(class | no background).
            odds: `[B, P]`, log odds of an object; -inf for those that do not count.

        Returns:
            `[B, G, K]`, at most 0; a group of which nobody counts has 0 everywhere.
        """
        most = odds.amax(1, keepdim=True).clamp(min=-1e30)  # -inf where all are listed
        weight = ((odds - most) / 2).exp()
        total = shares.new_zeros(len(shares), self.groups, shares.shape[-1])
        total.index_add_(1, self.group, shares * weight[..., None])
        count = weight.new_zeros(len(weight), self.groups).index_add_(1, self.group, weight)
        return total / count.clamp(min=1e-30)[..., None]


def groups(layout: str) -> tuple[Tensor, int]:
    """Which group each prior is in, `[P]` int64, and how many there are.

    Priors of a group have one shape and lie in one block of one map's cells.
    """
    found: list[Tensor] = []
    begin = 0
    tiling = layout_named(layout)
    for side, per_cell in zip(tiling.grids, tiling.per_cell, strict=True):
        blocks = max(1, min(BLOCKS, side // 5))  # a block has some cells to take a mean over
        block = torch.arange(side) * blocks // side
        cell = block[:, None] * blocks + block
        numbers = cell[..., None] * per_cell + torch.arange(per_cell)
        found.append(begin + numbers.flatten())
        begin += blocks**2 * per_cell
    return torch.cat(found), begin


def code(values: Tensor, steps: int = STEPS) -> Tensor:
    """Numbers in 0..1 -> uint8; others are cut, NaN (0 / 0 of a scale) becomes 0."""
    return (values * steps).round().nan_to_num(nan=0).clamp(0, steps).to(torch.uint8)


def pack(codes: Tensor) -> Tensor:
    """`[..., K]` uint8 below 16 -> `[..., K / 2 rounded up]`, two in a byte."""
    low, high = functional.pad(codes, (0, codes.shape[-1] % 2)).unflatten(-1, (-1, 2)).unbind(-1)
    packed: Tensor = low | (high << 4)
    return packed


def unpack(packed: Tensor) -> Tensor:
    """What `pack` was given; behind it a 0 where their number was odd."""
    return torch.stack((packed & FEW_STEPS, packed >> 4), dim=-1).flatten(-2)


def largest(values: Tensor) -> Tensor:
    """`[B, ...]` -> `[B, 1]`, whatever the sign; 0 of nothing."""
    rows = functional.pad(values.abs().flatten(1), (0, 1))
    return rows.amax(1, keepdim=True)


def chosen(values: Tensor, index: Tensor) -> Tensor:
    """`[B, P, C]` and `[B, N]` -> `[B, N, C]`."""
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[-1]))


def fill(values: Tensor, index: Tensor, rows: Tensor) -> None:
    """Puts `[B, N, C]` into the rows `[B, N]` of `[B, P, C]`."""
    values.scatter_(1, index[..., None].expand(-1, -1, values.shape[-1]), rows)
