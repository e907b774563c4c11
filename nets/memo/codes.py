"""Numbers -> codes of few bits -> bytes."""

import torch
from torch import Tensor
from torch.nn import functional

STEPS, FEW_STEPS = 255, 15  # of eight bits, and of four


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


def extremes(values: Tensor, of: Tensor) -> tuple[Tensor, Tensor]:
    """The least and the largest of the marked ones, `[B, P]` twice -> `[B, 1]` twice; of none of
    them, infinity and minus infinity.
    """
    return (
        values.masked_fill(~of, torch.inf).amin(1, keepdim=True),
        values.masked_fill(~of, -torch.inf).amax(1, keepdim=True),
    )


def in_columns(values: Tensor) -> Tensor:
    """`[B, P, C]` -> `[B, size_in_columns(P, C)]` uint8: a byte a number, in even steps from the
    least of its column to the largest, which are there in float32.
    """
    low, high = values.amin(1), values.amax(1)
    codes = code((values - low[:, None]) / span(low, high)[:, None])
    ends = torch.cat((low, high), dim=1).view(torch.uint8)
    return torch.cat((ends, codes.flatten(1)), dim=1)


def from_columns(written: Tensor, columns: int) -> Tensor:
    """What `in_columns` was given, up to half a step; float32."""
    ends, codes = written.split((8 * columns, written.shape[1] - 8 * columns), dim=1)
    # A copy, because bytes become floats only where they begin at a multiple of 4.
    numbers = ends.clone(memory_format=torch.contiguous_format).view(torch.float32)
    low, high = numbers.view(-1, 1, 2 * columns).split(columns, dim=2)
    values: Tensor = codes.unflatten(1, (-1, columns)) * (span(low, high) / STEPS) + low
    return values


def size_in_columns(rows: int, columns: int) -> int:
    """Bytes that `in_columns` makes of `rows` x `columns` numbers."""
    return (8 + rows) * columns


def span(low: Tensor, high: Tensor) -> Tensor:
    """How far it is from one to the other; above 0."""
    return (high - low).clamp(min=1e-6)
