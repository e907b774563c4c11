"""The batched SSD augmentation against per-image loops and hand arithmetic."""

import numpy as np
import pytest
import torch
from torch import Tensor

from utils.boxes import Targets, iou
from utils.data import augment as a
from utils.data.augment import (
    COLUMNS,
    IMAGENET_MEAN,
    WINDOW,
    augment,
    choose_windows,
    move_into,
    qualifies,
    resample,
    resize,
    uniforms,
)
from utils.data.photometric import PHOTOMETRIC

PLAIN = 0.9  # a gate of 0.9 is closed: p = 0.5


def scene(batch: int = 3, seed: int = 0) -> tuple[Tensor, Tensor, Targets]:
    """Random images of several sizes in squares of 80, with up to 4 objects."""
    rng = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (batch, 3, 80, 80), generator=rng, dtype=torch.uint8)
    sizes = torch.tensor([[60.0, 80.0], [80.0, 40.0], [80.0, 80.0]])[torch.arange(batch) % 3]
    low = torch.rand(batch, 4, 2, generator=rng) * 30
    boxes = torch.cat((low, low + 5 + 5 * torch.rand(batch, 4, 2, generator=rng)), -1)
    labels = torch.randint(0, 4, (batch, 4), generator=rng)
    return images, sizes, Targets(boxes, labels)


def test_resizing_is_bilinear_interpolation_between_pixel_centres() -> None:
    images, sizes, targets = scene(1)
    result, moved = resize(images, sizes, targets)
    # Output column 100 has its centre at (100 + 0.5) * 80 / 300 = 26.8 pixels from the left edge,
    # that is 0.3 of the way from the centre of pixel 26 (26.5) to that of pixel 27. Output row 7
    # is at 7.5 * 60 / 300 = 1.5: exactly the centre of row 1.
    left, right = images[0, :, 1, 26].float(), images[0, :, 1, 27].float()
    torch.testing.assert_close(result[0, :, 7, 100], 0.7 * left + 0.3 * right, atol=1e-3, rtol=0)
    expected = targets.boxes[0] / torch.tensor([80.0, 60.0, 80.0, 60.0])
    torch.testing.assert_close(moved.boxes[0], expected)


def test_resizing_never_shows_the_padding_of_the_store() -> None:
    images = torch.zeros(1, 3, 80, 80, dtype=torch.uint8)
    images[:, :, :30, :50] = 200
    nothing = Targets(torch.zeros(1, 0, 4), torch.zeros(1, 0, dtype=torch.long))
    result, _ = resize(images, torch.tensor([[30.0, 50.0]]), nothing)
    torch.testing.assert_close(result, torch.full_like(result, 200.0), atol=1e-2, rtol=0)


def test_outside_of_the_image_is_the_mean_and_mirroring_swaps_sides() -> None:
    images = torch.zeros(1, 3, 80, 80, dtype=torch.uint8)
    images[:, :, :, 40:] = 100
    rows = torch.full((1, COLUMNS), PLAIN)
    # Expansion to 2.2 x (gate open, 1 + 3 * 0.4), image in the top left corner; no crop, mirrored.
    rows[0, PHOTOMETRIC : PHOTOMETRIC + WINDOW] = torch.tensor([0.1, 0.4, 0.0, 0.0, 0.0, 0.1])
    box = Targets(torch.tensor([[[0.0, 0.0, 40.0, 80.0]]]), torch.tensor([[2]]))
    result, moved = augment(images, torch.tensor([[80.0, 80.0]]), box, rows)
    side = 1 / 2.2
    # The object spans 0..0.5 of the image, 0..0.5/2.2 of the canvas; mirrored it ends at 1.
    torch.testing.assert_close(moved.boxes[0, 0], torch.tensor([1 - side / 2, 0.0, 1.0, side]))
    assert result[0, 0, 10, 299] == 0
    assert result[0, 0, 10, round(300 * (1 - 0.75 * side))] == 100
    torch.testing.assert_close(result[0, :, 299, 0], torch.tensor(IMAGENET_MEAN))
    torch.testing.assert_close(result[0, :, 10, 0], torch.tensor(IMAGENET_MEAN))


def test_every_gate_is_open_half_of_the_time() -> None:
    u = uniforms(4000, seed=3, epoch=1)
    assert u.shape == (4000, COLUMNS)
    for gate in (0, 2, 4, 6, 8, PHOTOMETRIC, PHOTOMETRIC + 5):
        assert abs(float((u[:, gate] < 0.5).float().mean()) - 0.5) < 0.04


def test_crops_equal_a_loop_over_images_and_trials() -> None:
    _, sizes, targets = scene(60, seed=5)
    u = uniforms(60, seed=5, epoch=0)[:, PHOTOMETRIC:]
    windows, mirrored = choose_windows(sizes, targets, u)
    for i in range(60):
        expected, flip = loop_window(sizes[i], targets.boxes[i], targets.labels[i], u[i].tolist())
        np.testing.assert_allclose(windows[i].numpy(), expected, rtol=1e-4, atol=1e-3)
        assert bool(mirrored[i]) == flip


def loop_window(
    size: Tensor, boxes: Tensor, labels: Tensor, u: list[float]
) -> tuple[list[float], bool]:
    """One image's window, written from the description of the authors' sampler."""
    height, width = size.tolist()
    ratio = 1 + 3 * u[1] if u[0] < 0.5 else 1.0
    x0, y0 = -(ratio - 1) * width * u[2], -(ratio - 1) * height * u[3]
    canvas_w, canvas_h = ratio * width, ratio * height
    objects = [box for box, label in zip(boxes.tolist(), labels.tolist(), strict=True) if label]
    options = [[x0, y0, x0 + canvas_w, y0 + canvas_h]]
    for minimum in (0.1, 0.3, 0.5, 0.7, 0.9, 0.0):
        for trial in range(a.CROP_TRIALS):
            v = u[WINDOW + 4 * trial : WINDOW + 4 * trial + 4]
            w, h = canvas_w * (0.3 + 0.7 * v[0]), canvas_h * (0.3 + 0.7 * v[1])
            left, top = x0 + v[2] * (canvas_w - w), y0 + v[3] * (canvas_h - h)
            window = [left, top, left + w, top + h]
            if not 0.5 <= h / w <= 2:
                continue
            centres = [((b[0] + b[2]) / 2, (b[1] + b[3]) / 2) for b in objects]
            inside = [left < x < left + w and top < y < top + h for x, y in centres]
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


def test_images_without_objects_are_cropped_freely_and_stay_finite() -> None:
    images, sizes, _ = scene(3)
    for objects in (0, 2):
        nothing = Targets(torch.zeros(3, objects, 4), torch.zeros(3, objects, dtype=torch.long))
        trials = a.crop_trials(a.whole(sizes), uniforms(3, 0, 0)[:, PHOTOMETRIC + WINDOW :])
        found = qualifies(trials, nothing)
        assert not found[..., :5].any()
        assert found[..., 5].any()
        result, moved = augment(images, sizes, nothing, uniforms(3, 0, 0))
        assert result.isfinite().all()
        assert not moved.labels.any()


def test_an_image_does_not_depend_on_its_batch() -> None:
    images, sizes, targets = scene(3)
    rows = uniforms(3, seed=1, epoch=2)
    whole, moved = augment(images, sizes, targets, rows)
    for i in range(3):
        one = Targets(*(x[i : i + 1] for x in targets))
        single, single_moved = augment(images[i : i + 1], sizes[i : i + 1], one, rows[i : i + 1])
        torch.testing.assert_close(single[0], whole[i])
        torch.testing.assert_close(single_moved.boxes[0], moved.boxes[i])


def test_randomness_is_decided_by_seed_and_epoch() -> None:
    assert torch.equal(uniforms(5, 1, 2), uniforms(5, 1, 2))
    assert torch.equal(uniforms(5, 1, 2), uniforms(9, 1, 2)[:5])  # row i is image i's
    for other in (uniforms(5, 2, 2), uniforms(5, 1, 3), uniforms(5, 2, 1)):
        assert not torch.equal(uniforms(5, 1, 2), other)


def test_a_box_follows_its_picture() -> None:
    """A white rectangle is where its augmented box says, whatever happens to the image."""
    images = torch.zeros(40, 3, 80, 80, dtype=torch.uint8)
    images[:, :, 24:56, 20:52] = 255
    boxes = torch.tensor([20.0, 24.0, 52.0, 56.0]).expand(40, 1, 4)
    targets = Targets(boxes, torch.ones(40, 1, dtype=torch.long))
    sizes = torch.full((40, 2), 80.0)
    windows, mirrored = choose_windows(sizes, targets, uniforms(40, 0, 0)[:, PHOTOMETRIC:])
    shown, _ = resample(images, sizes, windows, mirrored)
    moved = move_into(windows, mirrored, targets)
    for i in range(40):
        ys, xs = np.nonzero(shown[i, 0].numpy() > 127)
        found = [xs.min() / 300, ys.min() / 300, (xs.max() + 1) / 300, (ys.max() + 1) / 300]
        assert moved.boxes[i, 0].tolist() == pytest.approx(found, abs=1.5 / 300)
