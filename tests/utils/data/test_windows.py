"""The choice of windows against a loop over images and trials, and against hand arithmetic."""

import numpy as np
import torch
from torch import Tensor

from tests.utils.data.scenes import scene
from utils.boxes import Targets, iou
from utils.data import windows as w
from utils.data.windows import CHOICE, WINDOW, choose_windows, move_into, qualifies


def numbers(images: int, seed: int = 0) -> Tensor:
    """`[images, WINDOW]` uniform numbers."""
    return torch.rand(images, WINDOW, generator=torch.Generator().manual_seed(seed))


def test_crops_equal_a_loop_over_images_and_trials() -> None:
    _, sizes, targets = scene(60, seed=5)
    u = numbers(60, seed=5)
    windows, mirrored = choose_windows(sizes, targets, u)
    for i in range(60):
        expected, flip = loop_window(sizes[i], targets.boxes[i], targets.labels[i], u[i].tolist())
        np.testing.assert_allclose(windows[i].numpy(), expected, rtol=1e-4, atol=1e-3)
        assert bool(mirrored[i]) == flip


def loop_window(
    size: Tensor, boxes: Tensor, labels: Tensor, u: list[float]
) -> tuple[list[float], bool]:
    """One image's window, written from the description in `choose_windows`."""
    height, width = size.tolist()
    ratio = 1 + 3 * u[1] if u[0] < 0.5 else 1.0
    x0, y0 = -(ratio - 1) * width * u[2], -(ratio - 1) * height * u[3]
    canvas_w, canvas_h = ratio * width, ratio * height
    objects = [box for box, label in zip(boxes.tolist(), labels.tolist(), strict=True) if label]
    options = [[x0, y0, x0 + canvas_w, y0 + canvas_h]]
    for minimum in (0.1, 0.3, 0.5, 0.7, 0.9, 0.0):
        for trial in range(w.CROP_TRIALS):
            v = u[CHOICE + 4 * trial : CHOICE + 4 * trial + 4]
            side_x, side_y = canvas_w * (0.3 + 0.7 * v[0]), canvas_h * (0.3 + 0.7 * v[1])
            left, top = x0 + v[2] * (canvas_w - side_x), y0 + v[3] * (canvas_h - side_y)
            window = [left, top, left + side_x, top + side_y]
            if not 0.5 <= side_y / side_x <= 2:
                continue
            centres = [((b[0] + b[2]) / 2, (b[1] + b[3]) / 2) for b in objects]
            inside = [left < x < window[2] and top < y < window[3] for x, y in centres]
            if objects and not any(inside):
                continue
            overlaps = [float(iou(torch.tensor([window]), torch.tensor([b]))) for b in objects]
            best = max(overlaps, default=0.0)
            if best >= minimum:
                options.append(window)
                break
    return options[int(u[4] * len(options))], u[5] < 0.5


def test_an_object_stays_while_its_centre_is_inside() -> None:
    window = torch.tensor([[10.0, 10.0, 50.0, 50.0]])
    boxes = torch.tensor([[[0.0, 20.0, 30.0, 40.0], [0.0, 20.0, 19.0, 40.0], [20.0, 20, 30, 30]]])
    moved = move_into(window, torch.tensor([False]), Targets(boxes, torch.tensor([[1, 2, 0]])))
    # The first has its centre at x = 15 > 10: clipped to 10..30, that is 0..0.5 of 40 pixels.
    assert moved.labels.tolist() == [[1, 0, 0]]
    torch.testing.assert_close(moved.boxes[0, 0], torch.tensor([0.0, 0.25, 0.5, 0.75]))
    assert torch.equal(moved.boxes[0, 1], torch.zeros(4))


def test_a_centre_on_the_edge_is_outside() -> None:
    window = torch.tensor([[[10.0, 10.0, 50.0, 50.0]]])
    centres = torch.tensor([[10.0, 30.0], [50.0, 30.0], [30.0, 10.0], [30.0, 50.0], [11.0, 49.0]])
    boxes = torch.cat((centres - 5, centres + 5), dim=1)[None]
    assert w.contains_centre(window, boxes).tolist() == [[[False] * 4 + [True]]]


def test_images_without_objects_are_cropped_freely() -> None:
    _, sizes, _ = scene(3)
    for objects in (0, 2):
        nothing = Targets(torch.zeros(3, objects, 4), torch.zeros(3, objects, dtype=torch.long))
        found = qualifies(w.crop_trials(w.whole(sizes), numbers(3)[:, CHOICE:]), nothing)
        assert not found[..., :5].any()
        assert found[..., 5].any()


def test_an_ignored_object_chooses_no_crop() -> None:
    _, sizes, _ = scene(3)
    ignored = Targets(0.8 * w.whole(sizes)[:, None], torch.full((3, 1), -1))
    found = qualifies(w.crop_trials(w.whole(sizes), numbers(3)[:, CHOICE:]), ignored)
    assert not found[..., :5].any()
    assert found[..., 5].any()
