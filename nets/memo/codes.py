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


def span(low: Tensor, high: Tensor) -> Tensor:
    """How far it is from one to the other; above 0."""
    return (high - low).clamp(min=1e-6)
