"""The box around a COCO mask: polygons, or run lengths, plain or packed into a string."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from tools.convert_data.source import Box, extent


def box_of_mask(segmentation: Any) -> Box:
    """The box around a COCO `segmentation`, xyxy in pixels.

    Args:
        segmentation: polygons `[[x, y, x, y, ...], ...]`, or `{"size": [height, width],
            "counts": ...}`, whose runs of 0 and 1 in turn go down the columns.

    Raises:
        ValueError, TypeError: it is neither, or empty.
    """
    if not segmentation:
        raise ValueError("has neither a box nor a mask")
    if isinstance(segmentation, dict):
        height, _ = (int(side) for side in segmentation.get("size") or (0, 0))
        counts = segmentation.get("counts")
        runs = unpacked(counts) if isinstance(counts, str) else [int(n) for n in counts or ()]
        return _box_of_runs(runs, height)
    if not all(isinstance(polygon, list) and len(polygon) % 2 == 0 for polygon in segmentation):
        raise ValueError("has a polygon that is no list of x, y, x, y, ...")
    return extent(
        [polygon[i : i + 2] for polygon in segmentation for i in range(0, len(polygon), 2)]
    )


def _box_of_runs(runs: Sequence[int], height: int) -> Box:
    if height < 1 or min(runs, default=0) < 0:
        raise ValueError("has a mask without a height or with negative runs")
    ends = list(accumulate(runs))
    boxes = []
    for start, end in zip(ends[::2], ends[1::2], strict=False):
        if end > start:
            first, last = start // height, (end - 1) // height
            # A run over a column's end fills both columns' edges, up and down.
            top, bottom = (start % height, (end - 1) % height + 1) if first == last else (0, height)
            boxes += [(first, top), (last + 1, bottom)]
    if not boxes:
        raise ValueError("has an empty mask")
    return extent(boxes)


def unpacked(text: str) -> list[int]:
    """Run lengths from COCO's string of them.

    Five bits a character, from 48 on, the lowest first; bit 6 says that more follow. From the
    third number on it is the difference to the last but one (`rleFrString` of maskApi.c).
    """
    runs: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            raise ValueError(f"has {character!r} in its run lengths")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift  # two's complement
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return runs
