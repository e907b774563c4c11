"""Draws one picture of textured shapes on cluttered ground.

Each class has its shape and its texture, in any two colours. The blobs, bars and splinters around
that belong to no class wear the same textures, so that texture alone decides nothing.
"""

import math
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Outline = npt.NDArray[np.float64]  # [V, 2] corners x, y in pixels

PICTURE_SIDES = (240, 400)
OBJECT_SIDES = (30.0, 200.0)
MIN_VISIBLE = 0.4  # of an object's area; less would be a guess
DIFFICULT_VISIBLE = 0.6
DIFFICULT_SIDE = 22  # pixels
COUNT_ODDS = (0.04, 0.1, 0.16, 0.2, 0.2, 0.17, 0.13)  # of 0, 1, ... 6 objects
SUBPIXEL_BITS = 4  # OpenCV takes corners as fixed-point integers


class DrawnObject(NamedTuple):
    """`box` is VOC's xmin, ymin, xmax, ymax of the visible part: pixels from 1, ends included."""

    name: str
    box: tuple[int, int, int, int]
    difficult: bool


class Picture(NamedTuple):
    """`owner` says which object each pixel shows: k is `objects[k - 1]`, 0 is none."""

    pixels: Pixels  # [H, W, 3] RGB
    owner: Pixels  # [H, W]
    objects: list[DrawnObject]


def _regular(corners: int, inner: float = 1.0) -> Outline:
    """Corners on the unit circle from the top on; every second one drawn in to `inner`."""
    turn = np.arange(corners) * (2 * math.pi / corners) - math.pi / 2
    radius = np.where(np.arange(corners) % 2, inner, 1.0)
    return np.stack([np.cos(turn) * radius, np.sin(turn) * radius], axis=1)


def _cross(half_arm: float) -> Outline:
    arm = np.array([(-half_arm, -1), (half_arm, -1), (half_arm, -half_arm)])
    quarter_turn = np.array([(0, 1), (-1, 0)])
    return np.concatenate([arm @ np.linalg.matrix_power(quarter_turn, k) for k in range(4)])


SHAPES: dict[str, Outline] = {
    "cross": _cross(0.3),
    "disc": _regular(48),
    "square": np.array([(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)]),
    "star": _regular(10, inner=0.42),
    "triangle": _regular(3),
}

TEXTURES = {
    "cross": "dots",
    "disc": "stripes",
    "square": "noise",
    "star": "plain",
    "triangle": "checkerboard",
}


def draw_picture(rng: np.random.Generator) -> Picture:
    """A picture of 240..400 pixels a side with 0 to 6 objects, each at least 40% visible.

    An object is *difficult* where less than 60% of it is visible or its box is below 22 pixels.
    """
    low, high = PICTURE_SIDES
    height, width = (int(side) for side in rng.integers(low, high + 1, 2))
    pixels = _ground(rng, height, width)
    for _ in range(rng.integers(2, 6)):
        clutter = _cover(_clutter(rng, height, width), height, width)
        _paint(rng, pixels, clutter, str(rng.choice(list(TEXTURES.values()))))
    owner = np.zeros((height, width), np.uint8)
    names: list[str] = []
    areas: list[int] = []
    for _ in range(rng.choice(len(COUNT_ODDS), p=COUNT_ODDS)):
        name = str(rng.choice(list(SHAPES)))
        cover = _place(rng, SHAPES[name], owner, areas)
        if cover is None:
            continue
        names.append(name)
        areas.append(int(np.count_nonzero(cover >= 128)))
        owner[cover >= 128] = len(names)
        _paint(rng, pixels, cover, TEXTURES[name])
    grain = rng.integers(0, 16, pixels.shape, np.uint8)
    pixels = _uint8(cv2.subtract(cv2.add(pixels, grain), np.full_like(grain, 8)))  # saturating
    objects = [
        _describe(name, owner == number, area)
        for number, (name, area) in enumerate(zip(names, areas, strict=True), start=1)
    ]
    return Picture(pixels, owner, objects)


def _describe(name: str, visible: npt.NDArray[np.bool_], area: int) -> DrawnObject:
    rows, columns = np.flatnonzero(visible.any(axis=1)), np.flatnonzero(visible.any(axis=0))
    box = (int(columns[0]) + 1, int(rows[0]) + 1, int(columns[-1]) + 1, int(rows[-1]) + 1)
    side = max(box[2] - box[0], box[3] - box[1]) + 1
    hidden = np.count_nonzero(visible) < DIFFICULT_VISIBLE * area
    return DrawnObject(name, box, bool(hidden or side < DIFFICULT_SIDE))


def _place(
    rng: np.random.Generator, shape: Outline, owner: Pixels, areas: list[int]
) -> Pixels | None:
    """A new object's cover where it leaves enough of the others visible; None if none is found."""
    height, width = owner.shape
    for _ in range(10):
        turned = _turned(shape * rng.uniform(0.85, 1.15, 2), rng.uniform(-0.35, 0.35))  # 20 deg
        extent = np.ptp(turned, axis=0)
        side = math.exp(rng.uniform(*np.log(OBJECT_SIDES)))
        turned *= side / extent.max()
        extent = np.ptp(turned, axis=0)
        corner = rng.uniform(1, np.array([width, height]) - extent - 2)
        cover = _cover(turned - turned.min(axis=0) + corner, height, width)
        visible = np.bincount(owner[cover < 128], minlength=len(areas) + 1)[1:]
        if np.all(visible >= MIN_VISIBLE * np.array(areas)):
            return cover
    return None


def _turned(outline: Outline, angle: float) -> Outline:
    cos, sin = math.cos(angle), math.sin(angle)
    return np.asarray(outline @ np.array([[cos, sin], [-sin, cos]]), np.float64)


def _cover(outline: Outline, height: int, width: int) -> Pixels:
    """`[H, W]`: how much of each pixel the outline covers, 0..255."""
    cover = np.zeros((height, width), np.uint8)
    corners = np.rint(outline * (1 << SUBPIXEL_BITS)).astype(np.int32)
    cv2.fillPoly(cover, [corners], 255, cv2.LINE_AA, SUBPIXEL_BITS)
    return cover


def _ground(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """A gradient between two colours, clouds, and straight lines."""
    ends = rng.integers(40, 216, (2, 2, 3)).astype(np.uint8)
    ends[1] = ends[0] // 2 + ends[1] // 2  # a mild gradient: objects must stand out
    coarse = cv2.resize(ends, (width // 24, height // 24), interpolation=cv2.INTER_LINEAR)
    clouds = rng.integers(0, 65, coarse.shape, np.uint8)
    coarse = cv2.subtract(cv2.add(coarse, clouds), np.full_like(clouds, 32))
    pixels = _uint8(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))
    for _ in range(rng.integers(2, 8)):
        x0, x1 = (int(x) for x in rng.integers(0, width, 2))
        y0, y1 = (int(y) for y in rng.integers(0, height, 2))
        colour = [int(value) for value in rng.integers(0, 256, 3)]
        cv2.line(pixels, (x0, y0), (x1, y1), colour, int(rng.integers(1, 4)), cv2.LINE_AA)
    return pixels


def _clutter(rng: np.random.Generator, height: int, width: int) -> Outline:
    """Something of no class: a long blob, a bar or a splinter, always thrice as long as wide."""
    kind = rng.integers(3)
    if kind == 0:
        outline = _regular(24) * (1, rng.uniform(0.15, 0.33))
    elif kind == 1:
        outline = SHAPES["square"] * (1, rng.uniform(0.08, 0.33))
    else:
        turns = np.sort(rng.uniform(0, 2 * math.pi, 8))
        outline = np.stack([np.cos(turns), 0.3 * np.sin(turns)], axis=1)
        outline *= rng.uniform(0.4, 1, (8, 1))
    outline = _turned(outline * rng.uniform(8, 50), rng.uniform(0, math.pi))
    return outline + rng.uniform(0, (width, height))


def _paint(rng: np.random.Generator, pixels: Pixels, cover: Pixels, kind: str) -> None:
    """Lays a texture over the covered pixels, in two colours that differ from what is there."""
    x, y, width, height = cv2.boundingRect(cover)
    if width == 0:
        return  # clutter outside of the picture
    patch = pixels[y : y + height, x : x + width]
    light, dark = _colours(rng, np.array(cv2.mean(patch)[:3]))
    texture = np.where(_pattern(rng, kind, height, width)[..., None], light, dark)
    alpha = cover[y : y + height, x : x + width, None].astype(np.uint16)  # 255 * 255 fits
    patch[:] = (patch * (255 - alpha) + texture * alpha) // 255


def _colours(rng: np.random.Generator, ground: npt.NDArray[np.float64]) -> Pixels:
    """`[2, 3]`: the best of a few random pairs, contrasting with each other and the ground."""
    pairs = rng.integers(0, 256, (6, 2, 3))
    apart = np.abs(pairs[:, 0] - pairs[:, 1]).sum(axis=1)
    stands_out = np.abs(pairs - ground).sum(axis=2).min(axis=1)
    return _uint8(pairs[np.argmax(np.minimum(apart, stands_out))])


def _pattern(rng: np.random.Generator, kind: str, height: int, width: int) -> npt.NDArray[np.bool_]:
    """`[H, W]`: where a texture is light; a few periods an object, so it survives resizing."""
    period = max(3, round(max(height, width) * rng.uniform(0.09, 0.18)))
    y, x = np.ogrid[:height, :width]
    if kind == "stripes":
        across, down = rng.choice([(1, 0), (0, 1), (1, 1), (1, -1), (2, 1)])
        light = (across * x + down * y) // period % 2 == 0
    elif kind == "checkerboard":
        light = (x // period + y // period) % 2 == 0
    elif kind == "dots":
        pitch = 2 * period
        light = (x % pitch - period) ** 2 + (y % pitch - period) ** 2 > (0.6 * period) ** 2
    elif kind == "noise":
        block = max(2, period // 2)
        blocks = rng.integers(0, 2, (height // block + 1, width // block + 1), np.uint8)
        light = blocks[y // block, x // block] == 1
    else:
        assert kind == "plain", kind
        light = np.ones((height, width))
    return np.asarray(light, np.bool_)


def _uint8(values: npt.ArrayLike) -> Pixels:
    return np.asarray(values, np.uint8)
