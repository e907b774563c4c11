"""Batches of bytes, of images above all, that threads fetch ahead of their consumer."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

# Batches that are fetched ahead of the one in use.
AHEAD = 4

Square = npt.NDArray[np.uint8]


def prefetch(
    order: Sequence[Tensor],
    fetch: Callable[[int, Square], object],
    shape: tuple[int, ...],
    *,
    workers: int,
    pinned: bool,
) -> Iterator[Tensor]:
    """What belongs to each batch in `order`, `[B, *shape]` uint8, in that order.

    At most `AHEAD` batches beside the one in use exist at any time. The threads end with the
    iterator, also where the consumer stops early.

    Args:
        order: `[B]` positions each.
        fetch: puts what belongs to a position into an array of `shape`. It runs in threads; what
            it raises is raised where its batch would have come.
        shape: of an image, `(side, side, 3)`, or of whatever it is.
        workers: threads, at least 1.
        pinned: into memory that a GPU reads by itself. Every batch gets a new piece, and torch
            hands one out again no sooner than the copies from it to a GPU are done.
    """
    with ThreadPoolExecutor(workers, thread_name_prefix="fetch") as pool:

        def start(indices: Tensor) -> tuple[Tensor, list[Future[object]]]:
            images = torch.empty(len(indices), *shape, dtype=torch.uint8, pin_memory=pinned)
            squares = zip(indices.tolist(), images.numpy(), strict=True)
            return images, [pool.submit(fetch, index, square) for index, square in squares]

        waiting = iter(order)
        running = deque(map(start, islice(waiting, AHEAD)))
        try:
            while running:
                images, jobs = running.popleft()
                for job in jobs:
                    job.result()
                yield images
                running.extend(map(start, islice(waiting, 1)))
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
