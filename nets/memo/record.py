"""What a teacher says of a view, in so few bytes that it can be written down.

Nearly all of what a teacher says of 8732 priors is "background, and I am sure". So a record keeps

- of the `LISTED` priors in which it sees most of an object, and of all that are to answer for one:
  the logits and the offsets;
- of every other prior: the log odds of its being anything but background;
- how these odds are shared among the classes, not by each prior but by neighbours of one shape:
  the mean, over a block of a map's cells, of their log shares.

All of it in eight bits, and the logits (which are only known up to what a softmax takes out) and
offsets in steps that are the finer the nearer to the largest logit, or to 0. What this does to the
gradient of a student is measured in benchmarks/fidelity.py, see docs/distillers.md.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from nets.outputs import Outputs
from nets.priors import layout_named

FORMAT = 1  # of the bytes, and of what stands in them; a reader knows no other
LISTED = 1000
BLOCKS = 4  # along a side of the finest map
STEPS = 255
HEAD = 24  # bytes: the format, and five numbers in float32
ALIGNED = 4


class Scales(NamedTuple):
    """What eight-bit codes count in, each `[B, 1]` float32, for every view.

    low, high: the log odds of background priors lie between them.
    shares: the smallest log share of a class.
    logits: how far a logit is below the largest of its prior, at most.
    offsets: the largest offset, whatever its sign.
    """

    low: Tensor
    high: Tensor
    shares: Tensor
    logits: Tensor
    offsets: Tensor


class AnswerRecord(nn.Module):
    """Outputs of a batch -> bytes -> outputs, all of it on the device that they are on.

    Args:
        layout: of the priors that the outputs are about.
        classes: K.
        listed: how many priors are written down one by one.

    Attributes:
        size: bytes of a record.
    """

    group: Tensor

    def __init__(self, layout: str, classes: int, listed: int = LISTED) -> None:
        super().__init__()
        group, self.groups = groups(layout)
        self.priors, self.columns = len(group), classes + 1
        assert self.priors < 2**15, "indices have 16 bits, one of them for the sign"
        self.listed = min(listed, self.priors)
        # Which follows from the layout.
        self.register_buffer("group", group, persistent=False)
        pieces = (HEAD, 2 * self.listed, self.priors, self.groups * classes)
        self.pieces = (*pieces, self.listed * self.columns, self.listed * 4)
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
        index = sure.topk(self.listed, dim=1).indices.sort(dim=1).values
        listed = torch.zeros_like(positive).scatter(1, index, True)
        shares = self.mean_shares(ratios - odds[..., None], odds.masked_fill(listed, -torch.inf))
        rows = chosen(logits, index)
        below = rows.amax(-1, keepdim=True) - rows
        boxes = chosen(offsets, index)
        others = odds.masked_fill(listed, torch.nan)
        scales = Scales(
            others.nan_to_num(nan=torch.inf).amin(1, keepdim=True),
            others.nan_to_num(nan=-torch.inf).amax(1, keepdim=True),
            *(x.abs().flatten(1).amax(1, keepdim=True) for x in (shares, below, boxes)),
        )
        finite = logits.isfinite().all(-1).all(-1) & offsets.isfinite().all(-1).all(-1)
        head = torch.zeros(len(logits), HEAD // 4, device=logits.device)
        head[:, 1:] = torch.cat(scales, dim=1)
        head = head.view(torch.uint8)
        head[:, 0] = finite * FORMAT
        span = (scales.high - scales.low).clamp(min=1e-6)
        parts = (
            index.short().view(torch.uint8),
            code((odds - scales.low) / span),
            code(-shares.flatten(1) / scales.shares),
            code((below.flatten(1) / scales.logits).sqrt()),
            code(0.5 + 0.5 * signed_sqrt(boxes.flatten(1) / scales.offsets), STEPS - 1),
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
        index = pieces[1].contiguous().view(torch.int16).long()
        odds, shares, below, boxes = (piece.float() for piece in pieces[2:])
        odds = odds * ((scales.high - scales.low).clamp(min=1e-6) / STEPS) + scales.low
        shares = shares * (-scales.shares / STEPS)
        batch, classes = len(records), self.columns - 1
        logits = odds.new_zeros(batch, self.priors, self.columns)
        of_group = shares.view(batch, self.groups, classes).log_softmax(-1)
        logits[..., 1:] = of_group.index_select(1, self.group) + odds[..., None]
        rows = (below / STEPS).square() * -scales.logits
        fill(logits, index, rows.view(batch, self.listed, self.columns))
        signed = boxes * (2 / (STEPS - 1)) - 1
        offsets = odds.new_zeros(batch, self.priors, 4)
        rows = signed * signed.abs() * scales.offsets
        fill(offsets, index, rows.view(batch, self.listed, 4))
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


def signed_sqrt(values: Tensor) -> Tensor:
    """Square root of the size, with the sign; NaN (0 / 0 of a scale) becomes 0."""
    return values.nan_to_num(nan=0).abs().sqrt().copysign(values)


def chosen(values: Tensor, index: Tensor) -> Tensor:
    """`[B, P, C]` and `[B, N]` -> `[B, N, C]`."""
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[-1]))


def fill(values: Tensor, index: Tensor, rows: Tensor) -> None:
    """Puts `[B, N, C]` into the rows `[B, N]` of `[B, P, C]`."""
    values.scatter_(1, index[..., None].expand(-1, -1, values.shape[-1]), rows)
