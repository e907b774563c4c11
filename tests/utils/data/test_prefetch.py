"""Threads that fetch ahead: in order, not too far, and gone when they are no longer needed."""

import threading
import time
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from utils.data.prefetch import AHEAD, Square, prefetch


def put(index: int, square: Square) -> None:
    """An image full of its own number, the later the sooner."""
    time.sleep(0.002 * (5 - index % 6))
    square[:] = index


def batches(count: int, fetch: object = put, workers: int = 3) -> Iterator[Tensor]:
    order = [torch.tensor([2 * i, 2 * i + 1]) for i in range(count)]
    return prefetch(order, fetch, (4, 4, 3), workers=workers, pinned=False)


def test_batches_come_in_the_order_asked_for() -> None:
    for i, images in enumerate(batches(12)):
        assert images.shape == (2, 4, 4, 3)
        assert images[:, 0, 0, 0].tolist() == [2 * i, 2 * i + 1]
        assert (images == images[:, :1, :1, :1]).all()


def test_a_batch_is_not_overwritten_by_later_ones() -> None:
    kept = list(batches(12))
    assert [int(images[0, 0, 0, 0]) for images in kept] == list(range(0, 24, 2))


def test_no_more_than_some_batches_are_fetched_ahead() -> None:
    begun: list[int] = []

    def note(index: int, _: Square) -> None:
        begun.append(index)

    stream = batches(20, note)
    for used in range(1, 5):
        next(stream)
        time.sleep(0.02)
        assert len(begun) <= 2 * (used + AHEAD)
    stream.close()  # type: ignore[attr-defined]  # it is a generator


def test_an_error_comes_in_place_of_its_batch() -> None:
    def fail(index: int, square: Square) -> None:
        if index == 5:
            raise ValueError("image 5 is broken")
        put(index, square)

    before = threading.active_count()
    stream = batches(9, fail)
    assert [int(next(stream)[0, 0, 0, 0]) for _ in range(2)] == [0, 2]
    with pytest.raises(ValueError, match="image 5 is broken"):
        next(stream)
    assert threading.active_count() == before


@pytest.mark.parametrize("used", [1, 3, 9])
def test_a_consumer_that_stops_leaves_no_thread_behind(used: int) -> None:
    before = threading.active_count()
    stream = batches(9)
    for _ in range(used):
        next(stream)
    stream.close()  # type: ignore[attr-defined]  # it is a generator
    assert threading.active_count() == before


def test_what_nobody_waits_for_is_not_fetched() -> None:
    begun: list[int] = []

    def slow(index: int, _: Square) -> None:
        begun.append(index)
        time.sleep(0.02)

    stream = batches(9, slow, workers=1)
    next(stream)
    stream.close()  # type: ignore[attr-defined]  # it is a generator
    assert len(begun) < 2 * AHEAD


def test_no_batches_are_no_work() -> None:
    assert list(batches(0)) == []
