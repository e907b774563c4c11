"""What a teacher says of a view, in so few bytes that it can be written down.

Nearly all of what a teacher says of 8732 priors is "background, and I am sure". So a record keeps

- of the `LISTED` priors in which it sees most of an object, those first that are to answer for one:
  the logits (which are only known up to what a softmax takes out), and the offsets, in float16;
- of every other prior: the log odds of its being anything but background;
- of the likeliest of these, of as many as have room in `MOST` bytes: how the odds are shared among
  the classes, sketched in four bits a class;
- of the rest that, not of each but of neighbours of one shape: the mean, over a block of a map's
  cells, of their log shares;
- where somebody listens to all that is said (`whole`): of every prior the offsets and the logit of
  background, in 44 kB more.

Everything but offsets and sketches has eight bits; logits and sketches in steps that are the finer
the nearer to the largest. Which prior is of which kind needs no place of its own: a prior's odds
have codes of its kind. What this does to a student's gradient is measured in
benchmarks/fidelity.py, see docs/distillers.md.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from nets.memo.codes import (
    FEW_STEPS,
    STEPS,
    code,
    extremes,
    from_columns,
    in_columns,
    largest,
    pack,
    size_in_columns,
    span,
    unpack,
)
from nets.outputs import Outputs
from nets.priors import layout_named
from nets.rows import in_order, over_classes

FORMAT = 2  # of the bytes, and of what stands in them; a reader knows no other
LISTED = 400
SURE = 1e4  # added to the log odds of priors that are listed first
MOST = 40_000  # bytes; more where there are so many classes that what is listed does not fit
BLOCKS = 4  # along a side of the finest map
# Codes of the odds: of the rest from 0, of sketched priors from here on, and of a listed prior.
FIRST_SKETCHED, OF_LISTED = 128, 255
REST_STEPS, SKETCHED_STEPS = FIRST_SKETCHED - 1, OF_LISTED - FIRST_SKETCHED - 1
COLUMNS = 5  # offsets and background, of every prior
LARGEST = 60_000.0  # offset that float16 holds
ALIGNED = 4


class Scales(NamedTuple):
    """What codes count in, each `[B, 1]` float32, for every view.

    low, high: the log odds of the rest lie between them.
    sketched_low, sketched_high: those of the sketched priors.
    shares: the smallest mean log share of a class.
    sketched: how far a log share is below the largest of its prior, at most.
    logits: how far a logit is below the largest of its prior, at most.
    """

    low: Tensor
    high: Tensor
    sketched_low: Tensor
    sketched_high: Tensor
    shares: Tensor
    sketched: Tensor
    logits: Tensor


HEAD = 4 * (1 + len(Scales._fields))  # bytes: the format, and the scales in float32


class AnswerRecord(nn.Module):
    """Outputs of a batch -> bytes -> outputs, all of it on the device that they are on.

    Args:
        layout: of the priors that the outputs are about.
        classes: K.
        listed: how many priors are written down in full.
        most: bytes of a record but for what `whole` adds; what is left is filled with sketches.
        whole: keep the offsets of every prior, and its logits as they are.

    Attributes:
        size: bytes of a record.
        sketched: how many priors are.
    """

    group: Tensor

    def __init__(
        self,
        layout: str,
        classes: int,
        listed: int = LISTED,
        most: int = MOST,
        *,
        whole: bool = False,
    ) -> None:
        super().__init__()
        self.layout, self.whole = layout, whole
        group, self.groups = groups(layout)
        self.priors, self.columns = len(group), classes + 1
        self.listed = min(listed, self.priors)
        # Which follows from the layout.
        self.register_buffer("group", group, persistent=False)
        pieces = [HEAD, self.priors, self.groups * classes]
        pieces += [self.listed * self.columns, self.listed * 8]
        self.packed = -(-classes // 2)  # bytes of four bits a class
        room = max(0, most - sum(pieces)) // self.packed
        self.sketched = min(room, self.priors - self.listed)
        pieces += [self.sketched * self.packed]
        self.pieces = [*pieces, size_in_columns(self.priors, COLUMNS) if whole else 0]
        used = sum(self.pieces)
        self.size = used + -used % ALIGNED

    @torch.no_grad()
    def encode(self, outputs: Outputs, positive: Tensor) -> Tensor:
        """The records of a batch; one of numbers that are not finite counts as absent.

        Args:
            outputs: P priors of the layout; features are not kept.
            positive: `[B, P]` bool, priors that are to be listed first. Of more than are listed the
                others have boxes that nobody remembers: they come back as the priors' own.

        Returns:
            `[B, size]` uint8; the first byte is 0 where a record is absent.
        """
        logits, offsets = outputs.logits.float(), outputs.offsets.float()
        ratios = logits[..., 1:] - logits[..., :1]
        odds = ratios.logsumexp(-1)
        codes, rest, ends = self.codes_of(odds, positive)
        index, next_index = self.places(codes)
        shares = self.mean_shares(ratios - odds[..., None], odds.masked_fill(~rest, -torch.inf))
        below, apart = (
            rows.amax(-1, keepdim=True) - rows
            for rows in (chosen(logits, index), chosen(ratios, next_index))
        )
        boxes = chosen(offsets, index).clamp(-LARGEST, LARGEST).half()
        scales = Scales(*ends, *(largest(x) for x in (shares, apart, below)))
        finite = logits.isfinite().all(-1).all(-1) & offsets.isfinite().all(-1).all(-1)
        head = torch.zeros(len(logits), HEAD // 4, device=logits.device)
        head[:, 1:] = torch.cat(scales, dim=1)
        head = head.view(torch.uint8)
        head[:, 0] = finite * FORMAT
        parts = (
            codes,
            code(-shares.flatten(1) / scales.shares),
            code((below.flatten(1) / scales.logits).sqrt()),
            boxes.flatten(1).view(torch.uint8),
            pack(code((apart / scales.sketched[..., None]).sqrt(), FEW_STEPS)).flatten(1),
            *([in_columns(torch.cat((offsets, logits[..., :1]), dim=-1))] if self.whole else []),
        )
        unused = head.new_zeros(len(head), self.size - sum(self.pieces))
        return torch.cat((head, *parts, unused), dim=1)

    def decode(self, records: Tensor) -> Outputs:
        """What `encode` was given, as far as records say it; float32.

        Unless the record is `whole`, logits are relative, those of a listed prior to its largest,
        those of others to background, and offsets of priors that are not listed are 0.

        Args:
            records: `[B, size]` uint8, none of them absent.
        """
        pieces = records[:, : sum(self.pieces)].split(self.pieces, dim=1)
        scales = Scales(*pieces[0][:, 4:].contiguous().view(torch.float32).split(1, dim=1))
        index, next_index = self.places(pieces[1])
        odds, shares, below = (piece.float() for piece in pieces[1:4])
        odds = odds_of(odds, scales)
        shares = shares * (-scales.shares / STEPS)
        batch, classes = len(records), self.columns - 1
        logits = odds.new_zeros(batch, self.priors, self.columns)
        of_group = shares.view(batch, self.groups, classes).log_softmax(-1)
        logits[..., 1:] = of_group.index_select(1, self.group) + odds[..., None]
        apart = unpack(pieces[5].reshape(batch, self.sketched, self.packed))[..., :classes]
        apart = (apart.float() / FEW_STEPS).square() * -scales.sketched[..., None]
        rows = over_classes(torch.log_softmax, apart) + odds.gather(1, next_index)[..., None]
        fill(logits, next_index, functional.pad(rows, (1, 0)))
        rows = (below / STEPS).square() * -scales.logits
        fill(logits, index, rows.view(batch, self.listed, self.columns))
        offsets = odds.new_zeros(batch, self.priors, 4)
        if self.whole:
            offsets, background = from_columns(pieces[6], COLUMNS).split((4, 1), dim=-1)
            offsets = offsets.contiguous()
            logits += background - logits[..., :1]
        boxes = pieces[4].contiguous().view(torch.float16).float()
        fill(offsets, index, boxes.view(batch, self.listed, 4))
        return Outputs((), logits, offsets)

    def codes_of(self, odds: Tensor, positive: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """The log odds `[B, P]` in eight bits, which say of what kind a prior is, too.

        Returns:
            The codes, `[B, P]` uint8; which priors are neither listed nor sketched, `[B, P]` bool;
            and the first four of `Scales`.
        """
        sure = torch.where(positive, odds + SURE, odds)
        likeliest = sure.topk(self.listed + self.sketched, dim=1).indices
        kinds = likeliest.split((self.listed, self.sketched), dim=1)
        listed, sketched = (torch.zeros_like(positive).scatter(1, i, True) for i in kinds)
        rest = ~(listed | sketched)
        low, high = extremes(odds, rest)
        next_low, next_high = extremes(odds, sketched)
        of_rest = code((odds - low) / span(low, high), REST_STEPS)
        of_next = code((odds - next_low) / span(next_low, next_high), SKETCHED_STEPS)
        codes = of_rest.where(rest, of_next + FIRST_SKETCHED).masked_fill(listed, OF_LISTED)
        return codes, rest, (low, high, next_low, next_high)

    def places(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Which priors are listed and which are sketched, in the order in which they are kept.

        Args:
            codes: `[B, P]` uint8, of the odds.

        Returns:
            `[B, N]` twice, int64: by falling code, and where those are equal by number.
        """
        order = in_order(OF_LISTED - codes)
        pieces = (self.listed, self.sketched, self.priors - self.listed - self.sketched)
        listed, sketched, _ = order.split(pieces, dim=1)
        return listed, sketched

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


def odds_of(codes: Tensor, scales: Scales) -> Tensor:
    """What `AnswerRecord.codes_of` was given; anything for listed priors."""
    low, high, next_low, next_high = scales[:4]
    of_rest = codes * (span(low, high) / REST_STEPS) + low
    of_next = (codes - FIRST_SKETCHED) * (span(next_low, next_high) / SKETCHED_STEPS) + next_low
    return of_rest.where(codes < FIRST_SKETCHED, of_next)


def chosen(values: Tensor, index: Tensor) -> Tensor:
    """`[B, P, C]` and `[B, N]` -> `[B, N, C]`."""
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[-1]))


def fill(values: Tensor, index: Tensor, rows: Tensor) -> None:
    """Puts `[B, N, C]` into the rows `[B, N]` of `[B, P, C]`."""
    values.scatter_(1, index[..., None].expand(-1, -1, values.shape[-1]), rows)
