"""Detection on images as they are: units, order, and nothing to see."""

import numpy as np
import pytest
import torch

from nets.detect import detect, detect_images
from nets.outputs import Outputs
from nets.postprocess import Limits
from nets.ssd import SSD300
from utils.boxes import encode


class Fixed(SSD300):
    """Sees class 2 in a given box, whatever the image; remembers what it was shown."""

    def __init__(self, box: tuple[float, float, float, float], score: float = 0.9) -> None:
        super().__init__("resnet18(width=0.125)", 2)
        self.box, self.score = torch.tensor(box), score
        self.seen: list[torch.Tensor] = []

    def forward(self, images: torch.Tensor) -> Outputs:
        self.seen.append(images)
        logits = torch.tensor([1.0, 1e-12, 1e-12]).log().repeat(len(images), 8732, 1)
        logits[:, 4000] = torch.tensor([1 - self.score, 1e-12, self.score]).log()
        offsets = encode(self.box.expand(8732, 4), self.priors).expand(len(images), -1, -1)
        return Outputs((), logits, offsets)


@pytest.fixture
def model() -> Fixed:
    return Fixed((0.25, 0.5, 0.75, 1.0)).eval()


def picture(height: int, width: int, value: int = 100) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def test_boxes_are_in_pixels_of_each_image(model):
    # Of a picture 400 wide and 200 high: x .25 .. .75 is 100 .. 300, y .5 .. 1 is 100 .. 200.
    wide, high, large = detect_images(
        model, [picture(200, 400), picture(60, 40), picture(900, 1500)]
    )
    assert wide.boxes == [pytest.approx([100, 100, 300, 200], abs=0.01)]
    assert high.boxes == [pytest.approx([10, 30, 30, 60], abs=0.01)]
    assert large.boxes == [pytest.approx([375, 450, 1125, 900], abs=0.01)]
    assert wide.labels == [2]
    assert wide.scores == [pytest.approx(0.9)]


def test_what_the_network_is_shown(model):
    # 0..255, 300 x 300, and the whole picture: its left half is dark, its right half bright.
    half = picture(100, 200, 10)
    half[:, 100:] = 200
    detect_images(model, [half])
    (seen,) = model.seen
    assert seen.shape == (1, 3, 300, 300)
    assert seen.dtype == torch.float32
    torch.testing.assert_close(seen[:, :, :, :145], torch.full((1, 3, 300, 145), 10.0))
    torch.testing.assert_close(seen[:, :, :, 155:], torch.full((1, 3, 300, 145), 200.0))


def test_channels_stay_rgb(model):
    red = picture(50, 50, 0)
    red[..., 0] = 255
    detect_images(model, [red])
    assert model.seen[0].mean((0, 2, 3)).tolist() == pytest.approx([255, 0, 0])


def test_a_batch_equals_single_images():
    torch.manual_seed(0)
    model = SSD300("resnet18(width=0.125)", 2).eval()
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (h, w, 3), np.uint8) for h, w in ((80, 120), (300, 200))]
    together = detect_images(model, pictures, Limits(0.36))
    for image, expected in zip(pictures, together, strict=True):
        (alone,) = detect_images(model, [image], Limits(0.36))
        assert alone.labels == expected.labels
        np.testing.assert_allclose(alone.scores, expected.scores, atol=1e-4)


def test_the_score_threshold():
    quiet = Fixed((0.2, 0.2, 0.6, 0.6), score=0.4).eval()
    (nothing,) = detect_images(quiet, [picture(30, 30)])
    assert nothing == ([], [], [])
    (found,) = detect_images(quiet, [picture(30, 30)], Limits(score=0.3))
    assert found.labels == [2]
    assert detect(quiet, torch.zeros(1, 3, 300, 300)).labels[0, :2].tolist() == [2, 0]


def test_no_gradient():
    model = SSD300("resnet18(width=0.125)", 2).eval()
    assert not detect(model, torch.zeros(1, 3, 300, 300), Limits(0.0)).scores.requires_grad
