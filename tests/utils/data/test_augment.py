"""The augmentation in both forms against an oracle, hand arithmetic, and each other."""

from collections.abc import Iterator

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from tests.utils.data.scenes import natural, scene
from utils.boxes import Targets
from utils.data import augment as module
from utils.data.augment import (
    COLUMNS,
    IMAGENET_MEAN,
    Form,
    augment,
    form_on,
    numbers,
    resize,
    sample_points,
    show_at_once,
    show_one_by_one,
    uniforms,
)
from utils.data.photometric import PHOTOMETRIC, choose_colours
from utils.data.windows import CHOICE, choose_windows, move_into, whole

PLAIN = 0.9  # a gate of 0.9 is closed: p = 0.5
FORMS = {"at once": show_at_once, "one by one": show_one_by_one}


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Form:
    """Each of the two forms, which `augment` and `resize` use then."""
    chosen = FORMS[request.param]
    monkeypatch.setattr(module, "form_on", lambda _: chosen)
    return chosen


both_forms = pytest.mark.usefixtures("form")


def nothing(batch: int) -> Targets:
    return Targets(torch.zeros(batch, 0, 4), torch.zeros(batch, 0, dtype=torch.long))


def test_the_device_chooses_the_form() -> None:
    assert form_on(torch.device("cpu")) is show_one_by_one
    assert form_on(torch.device("cuda", 0)) is show_at_once


@both_forms
def test_resizing_is_bilinear_interpolation_between_pixel_centres() -> None:
    images, sizes, targets = scene(1)
    result, moved = resize(images, sizes, targets)
    # Output column 112 has its centre at (112 + 0.5) * 80 / 300 = 30 pixels from the left edge:
    # half of the way from the centre of pixel 29 (29.5) to that of pixel 30. Output row 7 is at
    # 7.5 * 60 / 300 = 1.5: exactly the centre of row 1.
    left, right = images[0, :, 1, 29].float(), images[0, :, 1, 30].float()
    torch.testing.assert_close(result[0, :, 7, 112], (left + right) / 2, atol=1e-3, rtol=0)
    expected = targets.boxes[0] / torch.tensor([80.0, 60.0, 80.0, 60.0])
    torch.testing.assert_close(moved.boxes[0], expected)


@pytest.mark.parametrize("sides", [(60, 80), (375, 500), (300, 300), (600, 600), (1, 1), (7, 400)])
def test_evaluation_shows_the_same_on_every_device(
    sides: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(cv2, "warpAffine")  # not exact enough in the versions 4 of OpenCV
    sizes = torch.tensor([sides]).float()
    images = natural(sizes, max(sides))
    points = sample_points(sizes, whole(sizes), torch.tensor([False]))
    ours, theirs = (form(images, sizes, points, None) for form in FORMS.values())
    torch.testing.assert_close(ours, theirs, atol=0.02, rtol=0)


# Sides of 80 and 60 pixels; the last two reach over the border, where it is repeated.
WINDOWS = {
    "all": (0.0, 0.0, 80.0, 60.0),
    "a crop": (11.3, 7.9, 61.4, 44.2),
    "less than a pixel": (30.2, 20.6, 30.9, 21.1),
    "a fine border": (-0.1, -0.1, 20.0, 60.1),
    "a wide border": (-90.0, -100.0, 200.0, 83.0),
}


@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_window_is_sampled_as_an_oracle_samples_it(
    form: Form, window: tuple[float, ...], mirrored: bool
) -> None:
    sizes = torch.tensor([[60.0, 80.0]])
    images = natural(sizes, 80)
    points = sample_points(sizes, torch.tensor([window]), torch.tensor([mirrored]))
    result = form(images, sizes, points, None)[0].permute(1, 2, 0).numpy()
    expected, inside = oracle(images[0, :, :60].permute(1, 2, 0).numpy(), window, mirrored)
    # OpenCV 4 rounds positions to 1/32 of a pixel, and the edge is 127 levels high: twice 2 off.
    assert np.abs(result - expected)[inside].max() < 5
    assert np.abs(result - expected)[inside].mean() < 0.2
    assert (result[~inside] == np.float32(IMAGENET_MEAN)).all()


def oracle(
    picture: np.ndarray, window: tuple[float, ...], mirrored: bool
) -> tuple[np.ndarray, np.ndarray]:
    """A window of `[H, W, 3]` in double precision; what of it is inside."""
    cells = (np.arange(300) + 0.5) / 300
    x = window[0] + (cells[::-1] if mirrored else cells) * (window[2] - window[0])
    y = window[1] + cells * (window[3] - window[1])
    inside = np.outer((y > 0) & (y < len(picture)), (x > 0) & (x < picture.shape[1]))
    # Pixel i, whose centre is at i + 0.5, becomes pixel i + 1: a point lies between the pixels
    # floor(x + 0.5) and the next one, and is as far from the first as that has cut off.
    padded = np.pad(picture.astype(float), ((1, 1), (1, 1), (0, 0)), mode="edge")
    x, y = x.clip(0, picture.shape[1]) + 0.5, y.clip(0, len(picture)) + 0.5
    left, top = x.astype(int).clip(max=picture.shape[1]), y.astype(int).clip(max=len(picture))
    a, b = (x - left)[:, None], (y - top)[:, None, None]
    rows = (1 - b) * padded[top] + b * padded[top + 1]
    return (1 - a) * rows[:, left] + a * rows[:, left + 1], inside


@both_forms
def test_resizing_never_shows_the_padding_of_the_store() -> None:
    images = torch.zeros(1, 3, 80, 80, dtype=torch.uint8)
    images[:, :, :30, :50] = 200
    result, _ = resize(images, torch.tensor([[30.0, 50.0]]), nothing(1))
    torch.testing.assert_close(result, torch.full_like(result, 200.0), atol=1e-2, rtol=0)


@both_forms
def test_outside_of_the_image_is_the_mean_and_mirroring_swaps_sides() -> None:
    images = torch.zeros(1, 3, 80, 80, dtype=torch.uint8)
    images[:, :, :, 40:] = 100
    rows = torch.full((1, COLUMNS), PLAIN)
    # Expansion to 2.2 x (gate open, 1 + 3 * 0.4), image in the top left corner; no crop, mirrored.
    rows[0, PHOTOMETRIC : PHOTOMETRIC + CHOICE] = torch.tensor([0.1, 0.4, 0.0, 0.0, 0.0, 0.1])
    box = Targets(torch.tensor([[[0.0, 0.0, 40.0, 80.0]]]), torch.tensor([[2]]))
    result, moved = augment(images, torch.tensor([[80.0, 80.0]]), box, rows)
    side = 1 / 2.2
    # The object spans 0..0.5 of the image, 0..0.5/2.2 of the canvas; mirrored it ends at 1.
    torch.testing.assert_close(moved.boxes[0, 0], torch.tensor([1 - side / 2, 0.0, 1.0, side]))
    assert result[0, 0, 10, 299] == 0
    assert result[0, 0, 10, round(300 * (1 - 0.75 * side))] == 100
    torch.testing.assert_close(result[0, :, 299, 0], torch.tensor(IMAGENET_MEAN))
    torch.testing.assert_close(result[0, :, 10, 0], torch.tensor(IMAGENET_MEAN))


def test_colours_are_clipped(form: Form) -> None:
    images = torch.tensor([250, 128, 5], dtype=torch.uint8).view(1, 3, 1, 1).expand(2, 3, 4, 4)
    sizes = torch.full((2, 2), 4.0)
    u = torch.full((2, PHOTOMETRIC), PLAIN)
    u[:, :2] = torch.tensor([[0.0, 0.0], [0.0, 1.0]])  # brightness -32 and +32
    points = sample_points(sizes, whole(sizes), torch.tensor([False, True]))
    result = form(images, sizes, points, choose_colours(u))[:, :, 150, 150]
    torch.testing.assert_close(result, torch.tensor([[218.0, 96.0, 0.0], [255.0, 160.0, 37.0]]))


def test_a_window_beside_the_image_shows_the_mean_alone(form: Form) -> None:
    images, sizes, _ = scene(1)
    points = sample_points(sizes, torch.tensor([[90.0, 0.0, 150.0, 60.0]]), torch.tensor([True]))
    colours = choose_colours(torch.zeros(1, PHOTOMETRIC))
    result = form(images, sizes, points, colours)
    mean = torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1)
    assert torch.equal(result, mean.expand(1, 3, 300, 300))


def test_the_two_forms_agree() -> None:
    """In natural images, of a pixel and of 512, shrunk by up to 4 x and grown by more."""
    sides = ((375, 500), (512, 512), (512, 333), (1, 1), (1, 90), (20, 30))
    sizes = torch.tensor(sides).float()
    images = natural(sizes, 512)
    boxes = torch.tensor((0.3, 0.2, 0.7, 0.9)) * sizes.flip(-1).repeat(1, 2)
    targets = Targets(boxes[:, None], torch.ones(len(sizes), 1, dtype=torch.long))
    for epoch in range(6):
        results = []
        for form in FORMS.values():
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(module, "form_on", lambda _, form=form: form)
                results.append(augment(images, sizes, targets, uniforms(len(sides), 0, epoch)))
        (ours, moved), (theirs, also_moved) = results
        assert torch.equal(moved.boxes, also_moved.boxes)
        assert torch.equal(moved.labels, also_moved.labels)
        assert_alike(ours, theirs)
        mean = torch.tensor(IMAGENET_MEAN).view(3, 1, 1)
        assert torch.equal((ours == mean).all(1), (theirs == mean).all(1))


def assert_alike(ours: Tensor, theirs: Tensor) -> None:
    """Grey levels are: the versions of OpenCV differ in how exactly they place a pixel."""
    difference = (ours - theirs).abs()
    assert difference.mean() < 0.5
    assert (difference < 3).float().mean() > 0.99


@pytest.mark.parametrize("factor", [0.3, 4.0])
def test_the_two_forms_agree_at_the_ends_of_scale(factor: float) -> None:
    sizes = torch.tensor([[512.0, 512.0]])
    images = natural(sizes, 512)
    side = 512 * factor
    for origin in (37.3, -11.9, (512 - side) / 2):
        window = torch.tensor([[origin, origin, origin + side, origin + side]])
        points = sample_points(sizes, window, torch.tensor([False]))
        assert_alike(*(form(images, sizes, points, None) for form in FORMS.values()))


@pytest.fixture
def threads() -> Iterator[None]:
    """Restores the number of torch's threads."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
def test_results_on_a_cpu_depend_on_no_thread_no_layout_and_no_batch() -> None:
    assert cv2.getNumThreads() == 1
    images, sizes, targets = scene(3)
    rows = uniforms(3, seed=1, epoch=2)
    expected = augment(images, sizes, targets, rows)[0]
    assert expected.is_contiguous(memory_format=torch.channels_last)
    torch.set_num_threads(2)
    stored = images.contiguous(memory_format=torch.channels_last)
    assert torch.equal(augment(stored, sizes, targets, rows)[0], expected)
    last = Targets(*(x[2:] for x in targets))
    assert torch.equal(augment(images[2:], sizes[2:], last, rows[2:])[0], expected[2:])


def test_every_gate_is_open_half_of_the_time() -> None:
    u = uniforms(4000, seed=3, epoch=1)
    assert u.shape == (4000, COLUMNS)
    for gate in (0, 2, 4, 6, 8, PHOTOMETRIC, PHOTOMETRIC + 5):
        assert abs(float((u[:, gate] < 0.5).float().mean()) - 0.5) < 0.04


@both_forms
def test_images_without_objects_stay_finite() -> None:
    images, sizes, _ = scene(3)
    for objects in (0, 2):
        padding = Targets(torch.zeros(3, objects, 4), torch.zeros(3, objects, dtype=torch.long))
        result, moved = augment(images, sizes, padding, uniforms(3, 0, 0))
        assert result.isfinite().all()
        assert not moved.labels.any()


@both_forms
def test_an_image_does_not_depend_on_its_batch() -> None:
    images, sizes, targets = scene(3)
    rows = uniforms(3, seed=1, epoch=2)
    together, moved = augment(images, sizes, targets, rows)
    for i in range(3):
        one = Targets(*(x[i : i + 1] for x in targets))
        single, single_moved = augment(images[i : i + 1], sizes[i : i + 1], one, rows[i : i + 1])
        torch.testing.assert_close(single[0], together[i])
        torch.testing.assert_close(single_moved.boxes[0], moved.boxes[i])


def test_randomness_is_decided_by_seed_and_epoch() -> None:
    assert torch.equal(uniforms(5, 1, 2), uniforms(5, 1, 2))
    assert torch.equal(uniforms(5, 1, 2), uniforms(9, 1, 2)[:5])  # row i is image i's
    for other in (uniforms(5, 2, 2), uniforms(5, 1, 3), uniforms(5, 2, 1)):
        assert not torch.equal(uniforms(5, 1, 2), other)


def test_a_rows_number_is_made_of_its_first_two() -> None:
    rows = torch.zeros(3, COLUMNS)
    rows[:, :2] = torch.tensor([[0.0, 0.5], [0.5, 0.0], [1 - 2.0**-24, 2.0**-24]])
    # Of 24 bits each, the first one above the second.
    assert numbers(rows).tolist() == [2**23, 2**47, (2**24 - 1) * 2**24 + 1]


def test_a_box_follows_its_picture(form: Form) -> None:
    """A white rectangle is where its augmented box says, whatever happens to the image."""
    images = torch.zeros(40, 3, 80, 80, dtype=torch.uint8)
    images[:, :, 24:56, 20:52] = 255
    boxes = torch.tensor([20.0, 24.0, 52.0, 56.0]).expand(40, 1, 4)
    targets = Targets(boxes, torch.ones(40, 1, dtype=torch.long))
    sizes = torch.full((40, 2), 80.0)
    windows, mirrored = choose_windows(sizes, targets, uniforms(40, 0, 0)[:, PHOTOMETRIC:])
    shown = form(images, sizes, sample_points(sizes, windows, mirrored), None)
    moved = move_into(windows, mirrored, targets)
    for i in range(40):
        ys, xs = np.nonzero(shown[i, 0].numpy() > 127)
        found = [xs.min() / 300, ys.min() / 300, (xs.max() + 1) / 300, (ys.max() + 1) / 300]
        assert moved.boxes[i, 0].tolist() == pytest.approx(found, abs=1.5 / 300)
