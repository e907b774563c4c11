"""Box arithmetic by hand, by law, and against torchvision."""

import pytest
import torch
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import box_iou

from utils.boxes import Targets, area, cxcywh_to_xyxy, decode, encode, iou, xyxy_to_cxcywh


def random_boxes(*shape: int, seed: int = 0) -> torch.Tensor:
    """`[*shape, 4]` xyxy in 0..1 with sides of at least 0.05."""
    numbers = torch.rand(*shape, 4, generator=torch.Generator().manual_seed(seed))
    low = numbers[..., :2] * 0.6
    return torch.cat((low, low + 0.05 + numbers[..., 2:] * 0.35), dim=-1)


class TestForms:
    def test_hand_worked(self):
        # 0.2..0.6 is 0.4 wide around 0.4; 0.1..0.9 is 0.8 high around 0.5.
        corners, centres = torch.tensor([0.2, 0.1, 0.6, 0.9]), torch.tensor([0.4, 0.5, 0.4, 0.8])
        torch.testing.assert_close(xyxy_to_cxcywh(corners), centres)
        torch.testing.assert_close(cxcywh_to_xyxy(centres), corners)

    def test_round_trip(self):
        boxes = random_boxes(3, 50)
        torch.testing.assert_close(cxcywh_to_xyxy(xyxy_to_cxcywh(boxes)), boxes)

    def test_area(self):
        # 2 x 3; inverted in x alone; inverted in both (not 1 x 1).
        boxes = torch.tensor([[1.0, 1, 3, 4], [3, 1, 1, 4], [2, 2, 1, 1]])
        assert area(boxes).tolist() == [6, 0, 0]


class TestIou:
    def test_hand_worked(self):
        a = torch.tensor([[0.0, 0, 4, 4]])
        b = torch.tensor(
            [
                [2.0, 2, 6, 6],  # 2 x 2 shared: 4 / (16 + 16 - 4)
                [0, 0, 4, 2],  # a half of it: 8 / 16
                [4, 0, 8, 4],  # touching
                [9, 9, 10, 10],  # apart in both directions
                [0, 0, 4, 4],  # the same
            ]
        )
        torch.testing.assert_close(iou(a, b), torch.tensor([[4 / 28, 0.5, 0, 0, 1]]))

    def test_equals_torchvision(self):
        a, b = random_boxes(20, seed=1), random_boxes(300, seed=2)
        torch.testing.assert_close(iou(a, b), box_iou(a, b))

    def test_batched_equals_single(self):
        a, b = random_boxes(4, 6, seed=3), random_boxes(50, seed=4)
        for i in range(4):
            assert torch.equal(iou(a, b)[i], iou(a[i], b))

    def test_symmetric(self):
        a, b = random_boxes(7, seed=5), random_boxes(9, seed=6)
        assert torch.equal(iou(a, b), iou(b, a).T)

    def test_empty_boxes_are_never_nan(self):
        point, inverted, box = [0.5, 0.5, 0.5, 0.5], [0.9, 0.9, 0.1, 0.1], [0.0, 0.0, 1.0, 1.0]
        boxes = torch.tensor([point, inverted, box])
        assert iou(boxes, boxes).tolist() == [[0, 0, 0], [0, 0, 0], [0, 0, 1]]

    def test_no_boxes(self):
        assert iou(torch.zeros(2, 0, 4), random_boxes(5)).shape == (2, 0, 5)


class TestEncoding:
    def test_hand_worked(self):
        # Prior: centre (0.5, 0.5), 0.2 wide, 0.4 high. Box: centre (0.54, 0.46), 0.4 x 0.2.
        # x: (0.54 - 0.5) / 0.2 / 0.1 = 2        y: (0.46 - 0.5) / 0.4 / 0.1 = -1
        # w: log(0.4 / 0.2) / 0.2 = 3.4657       h: log(0.2 / 0.4) / 0.2 = -3.4657
        prior = torch.tensor([[0.5, 0.5, 0.2, 0.4]])
        box = torch.tensor([[0.34, 0.36, 0.74, 0.56]])
        offsets = torch.tensor([[2.0, -1.0, 3.4657, -3.4657]])
        torch.testing.assert_close(encode(box, prior), offsets, atol=1e-4, rtol=0)
        torch.testing.assert_close(decode(offsets, prior), box, atol=1e-4, rtol=0)

    def test_a_prior_on_the_box_needs_no_offset(self):
        priors = xyxy_to_cxcywh(random_boxes(10))
        torch.testing.assert_close(
            encode(cxcywh_to_xyxy(priors), priors), torch.zeros(10, 4), atol=1e-5, rtol=0
        )

    def test_round_trip(self):
        boxes, priors = random_boxes(3, 50, seed=7), xyxy_to_cxcywh(random_boxes(50, seed=8))
        torch.testing.assert_close(decode(encode(boxes, priors), priors), boxes)

    def test_equals_torchvision(self):
        coder = BoxCoder((10.0, 10.0, 5.0, 5.0))
        boxes, priors = random_boxes(80, seed=9), random_boxes(80, seed=10)
        ours = encode(boxes, xyxy_to_cxcywh(priors))
        theirs = coder.encode_single(boxes, priors)
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(
            decode(ours, xyxy_to_cxcywh(priors)), coder.decode_single(ours, priors)
        )

    def test_unit_does_not_matter(self):
        boxes, priors = random_boxes(20, seed=11), xyxy_to_cxcywh(random_boxes(20, seed=12))
        torch.testing.assert_close(
            encode(boxes * 300, priors * 300), encode(boxes, priors), atol=1e-4, rtol=1e-4
        )

    def test_decoded_boxes_are_not_clipped(self):
        box = decode(torch.tensor([[-10.0, 0, 0, 0]]), torch.tensor([[0.1, 0.5, 0.2, 0.2]]))
        torch.testing.assert_close(box, torch.tensor([[-0.2, 0.4, 0.0, 0.6]]))

    @pytest.mark.parametrize(("function", "name"), [(encode, "boxes"), (decode, "offsets")])
    def test_another_number_of_priors_is_refused(self, function, name):
        with pytest.raises(ValueError, match=f"{name} has 3 rows for 4 priors"):
            function(torch.ones(2, 3, 4), torch.ones(4, 4))

    @pytest.mark.parametrize("function", [encode, decode])
    def test_one_prior_is_not_that_of_all_rows(self, function):
        with pytest.raises(ValueError, match="has 3 rows for 1 priors"):
            function(torch.ones(2, 3, 4), torch.ones(1, 4))


def test_targets_move_together():
    moved = Targets(torch.zeros(1, 2, 4), torch.ones(1, 2, dtype=torch.long)).to(
        torch.device("meta")
    )
    assert isinstance(moved, Targets)
    assert all(x.device.type == "meta" for x in moved)
