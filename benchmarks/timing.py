"""Side-by-side timing: two ways to do one piece of work, interleaved in one process, medians."""

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch


class Row(NamedTuple):
    """One line of the table: what we need, what the other needs (in `unit`), and the goal."""

    work: str
    other_name: str
    ours: float
    other: float
    reach: str
    unit: str = "ms"

    @property
    def ratio(self) -> float:
        """Other over ours: how many times faster (or smaller) we are."""
        return self.other / self.ours

    def line(self) -> str:
        """For the terminal."""
        ours, other = (f"{value:8.1f}{self.unit}" for value in (self.ours, self.other))
        return f"{self.work:46} {self.other_name:36} {ours} {other} {self.ratio:6.2f}  {self.reach}"


def compare(
    work: str,
    ours: Callable[[], object],
    other_name: str,
    other: Callable[[], object],
    reach: str,
    repeats: int = 9,
    warm_ups: int = 1,
) -> Row:
    """Runs both in turn, after the warm-ups, and takes the medians in milliseconds.

    On a GPU the clock stops when the device is done.
    """
    times: tuple[list[float], list[float]] = ([], [])
    for repeat in range(repeats + warm_ups):
        for work_of, milliseconds in zip((ours, other), times, strict=True):
            synchronize()
            started = time.perf_counter()
            work_of()
            synchronize()
            if repeat >= warm_ups:
                milliseconds.append(1000 * (time.perf_counter() - started))
    return Row(work, other_name, *map(statistics.median, times), reach)


def synchronize() -> None:
    """Waits for the GPU, where there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
