"""Side-by-side timing: several ways to do one piece of work, in turn, and the medians."""

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch

from benchmarks.reaches import REACHES

Clock = Callable[[], float]  # does a piece of work and says how many milliseconds it took


class Row(NamedTuple):
    """One line of the table: what we need and what the other needs, in `unit`.

    name: under which `REACHES` knows it; others are for information.
    """

    name: str
    work: str
    beside: str
    ours: float
    other: float
    unit: str = "ms"

    @property
    def ratio(self) -> float:
        """Other over ours: how many times faster (or smaller) we are."""
        return self.other / self.ours

    @property
    def reach(self) -> float | None:
        """What the ratio has to be at least."""
        return REACHES.get(self.name)

    @property
    def verdict(self) -> str:
        """`ok`, `MISSED`, or empty where nothing has to be reached."""
        if self.reach is None:
            return ""
        return "ok" if self.ratio >= self.reach else "MISSED"

    def line(self) -> str:
        """For the terminal; `HEAD` stands above."""
        ours, other = (f"{value:.1f} {self.unit}" for value in (self.ours, self.other))
        reach = f">= {self.reach:.2f}" if self.reach else ""
        words = (self.work, self.beside, ours, other, f"{self.ratio:.2f}", reach, self.verdict)
        return LINE.format(*words)


LINE = "{:58} {:34} {:>11} {:>11} {:>6}  {:8} {}"
HEAD = LINE.format("work", "beside", "ours", "other", "ratio", "reach", "verdict")


def stopwatch(work: Callable[[], object]) -> Clock:
    """`work` with a clock. On a GPU it stops when the device is done."""

    def timed() -> float:
        synchronize()
        started = time.perf_counter()
        work()
        synchronize()
        return 1000 * (time.perf_counter() - started)

    return timed


def medians(*clocks: Clock, repeats: int, warm_ups: int = 1) -> list[float]:
    """The median of each; all of them run in turn, so that a busy moment meets all of them."""
    rounds = [[clock() for clock in clocks] for _ in range(warm_ups + repeats)]
    return list(map(statistics.median, zip(*rounds[warm_ups:], strict=True)))


def compare(
    name: str,
    work: str,
    ours: Callable[[], object],
    beside: str,
    other: Callable[[], object],
    repeats: int = 9,
    warm_ups: int = 1,
) -> Row:
    """Two ways to do one piece of work."""
    clocks = stopwatch(ours), stopwatch(other)
    return Row(name, work, beside, *medians(*clocks, repeats=repeats, warm_ups=warm_ups))


def synchronize() -> None:
    """Waits for the GPU, where there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
