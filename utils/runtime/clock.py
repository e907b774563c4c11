"""What a program spends its time on."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Clock:
    """Adds up seconds by what they were spent on.

    A GPU works on while Python goes on: at the end of each part the clock waits for it.

    Attributes:
        seconds: name of a part -> its seconds so far, in the order of their first use.
    """

    def __init__(self, device: torch.device | None = None) -> None:
        self.seconds: dict[str, float] = {}
        self.device = device if device is not None and device.type == "cuda" else None

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Within, time counts as that of `name`."""
        started = time.perf_counter()
        try:
            yield
        finally:
            if self.device is not None:
                torch.cuda.synchronize(self.device)
            spent = time.perf_counter() - started
            self.seconds[name] = self.seconds.get(name, 0.0) + spent
