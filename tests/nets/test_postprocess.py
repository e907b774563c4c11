"""Post-processing by hand, and against torchvision's SSD on the same raw outputs."""

from types import SimpleNamespace

import pytest
import torch
import torchvision
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.ssd import SSD

from nets.outputs import Detections, Outputs
from nets.postprocess import postprocess, suppress_dense
from nets.priors import prior_boxes
from utils.boxes import cxcywh_to_xyxy, encode

# Priors far apart, 0.1 x 0.1, and what each is worth below.
PRIORS = torch.tensor([[x, 0.5, 0.1, 0.1] for x in (0.1, 0.3, 0.5, 0.7, 0.9)])


def outputs(scores: list[list[float]], boxes: torch.Tensor | None = None) -> Outputs:
    """One image whose softmax gives `scores`, a row (background, classes) for each prior."""
    logits = torch.tensor([scores]).log()
    offsets = torch.zeros(1, len(scores), 4)
    if boxes is not None:
        offsets = encode(boxes, PRIORS[: len(boxes)])[None]
    return Outputs((), logits, offsets)


def found(detections: Detections, image: int = 0) -> list[tuple[float, int]]:
    """(score, label) of what is no padding."""
    real = detections.labels[image] > 0
    scores, labels = detections.scores[image][real], detections.labels[image][real]
    return [(round(s, 4), k) for s, k in zip(scores.tolist(), labels.tolist(), strict=True)]


def random_outputs(images: int, classes: int = 20, seed: int = 0) -> Outputs:
    """Few confident priors, as in a trained network, in float32."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(images, 8732, classes + 1, generator=generator)
    confident = torch.rand(images, 8732, generator=generator) < 0.05
    logits[..., 0] += torch.where(confident, 0.0, 12.0)
    return Outputs((), logits, torch.randn(images, 8732, 4, generator=generator))


class TestHandWorked:
    def test_falling_scores_of_all_classes(self):
        detections = postprocess(
            outputs([[0.2, 0.7, 0.1], [0.5, 0.1, 0.4], [0.995, 0.004, 0.001]]), PRIORS[:3]
        )
        assert found(detections) == [(0.7, 1), (0.4, 2), (0.1, 1), (0.1, 2)]
        torch.testing.assert_close(
            detections.boxes[0, :2],
            torch.tensor([[0.05, 0.45, 0.15, 0.55], [0.25, 0.45, 0.35, 0.55]]),
        )

    def test_shapes_and_padding(self):
        detections = postprocess(outputs([[0.2, 0.8]]), PRIORS[:1], per_image=7)
        assert detections.boxes.shape == (1, 7, 4)
        assert detections.scores.shape == detections.labels.shape == (1, 7)
        assert detections.labels.dtype == torch.long
        assert not detections.boxes[0, 1:].any()
        assert not detections.scores[0, 1:].any()
        assert not detections.labels[0, 1:].any()

    def test_the_threshold_itself_is_not_shown(self):
        # Softmax of two equal logits is exactly 0.5.
        half = Outputs((), torch.zeros(1, 1, 2), torch.zeros(1, 1, 4))
        assert found(postprocess(half, PRIORS[:1], score_threshold=0.5)) == []
        assert found(postprocess(half, PRIORS[:1], score_threshold=0.4999)) == [(0.5, 1)]

    def test_suppression_keeps_the_higher_score(self):
        # Box 1 is box 0 moved by a tenth of its width: IoU 0.9 / 1.1 = 0.82. Box 2 is moved by half
        # of it: IoU 0.5 / 1.5 = 0.33 with box 0, which is not above 0.45.
        boxes = torch.tensor([[0.2, 0.2, 0.4, 0.4], [0.22, 0.2, 0.42, 0.4], [0.3, 0.2, 0.5, 0.4]])
        out = outputs([[0.4, 0.6], [0.1, 0.9], [0.5, 0.5]], boxes)
        # Box 1 wins against 0; 2 overlaps 1 by (0.12 / 0.28 = 0.43).
        assert found(postprocess(out, PRIORS[:3])) == [(0.9, 1), (0.5, 1)]
        assert found(postprocess(out, PRIORS[:3], iou_threshold=0.4)) == [(0.9, 1)]
        assert found(postprocess(out, PRIORS[:3], iou_threshold=0.9)) == [
            (0.9, 1),
            (0.6, 1),
            (0.5, 1),
        ]

    def test_classes_do_not_suppress_each_other(self):
        boxes = torch.tensor([[0.2, 0.2, 0.4, 0.4]] * 2)
        out = outputs([[0.1, 0.9, 1e-9], [0.2, 1e-9, 0.8]], boxes)
        assert found(postprocess(out, PRIORS[:2])) == [(0.9, 1), (0.8, 2)]

    def test_images_do_not_suppress_each_other(self):
        out = outputs([[0.1, 0.9], [0.2, 0.8]])
        both = Outputs((), out.logits.repeat(3, 1, 1), out.offsets.repeat(3, 1, 1))
        detections = postprocess(both, PRIORS[:2])
        assert [found(detections, i) for i in range(3)] == [[(0.9, 1), (0.8, 1)]] * 3

    def test_limits(self):
        scores = [[0.5, 0.3, 0.2], [0.3, 0.6, 0.1], [0.2, 0.3, 0.5], [0.3, 0.2, 0.5]]
        out = outputs(scores)
        # Two candidates of a class: class 1 has .6 and .3, class 2 has .5 and .5.
        detections = postprocess(out, PRIORS[:4], per_class=2)
        assert found(detections) == [(0.6, 1), (0.5, 2), (0.5, 2), (0.3, 1)]
        assert found(postprocess(out, PRIORS[:4], per_image=1)) == [(0.6, 1)]

    def test_candidates_are_limited_before_suppression(self):
        # The two best of three are one box; the third would survive, but is no candidate.
        boxes = torch.tensor([[0.2, 0.2, 0.4, 0.4], [0.2, 0.2, 0.4, 0.4], [0.7, 0.7, 0.9, 0.9]])
        out = outputs([[0.1, 0.9], [0.2, 0.8], [0.3, 0.7]], boxes)
        assert found(postprocess(out, PRIORS[:3], per_class=2)) == [(0.9, 1)]

    def test_boxes_are_clipped_to_the_image(self):
        boxes = torch.tensor([[-0.5, 0.2, 0.5, 1.7]])
        detections = postprocess(outputs([[0.1, 0.9]], boxes), PRIORS[:1])
        torch.testing.assert_close(detections.boxes[0, 0], torch.tensor([0.0, 0.2, 0.5, 1.0]))


class TestLaws:
    def test_equals_torchvision(self):
        images, priors = 3, prior_boxes()
        out = random_outputs(images)
        ours = postprocess(out, priors)
        theirs = SSD.postprocess_detections(
            SimpleNamespace(
                box_coder=BoxCoder((10.0, 10.0, 5.0, 5.0)),
                score_thresh=0.01,
                topk_candidates=400,
                nms_thresh=0.45,
                detections_per_img=200,
            ),
            {"bbox_regression": out.offsets, "cls_logits": out.logits},
            [cxcywh_to_xyxy(priors) * 300] * images,
            [(300, 300)] * images,
        )
        for i, expected in enumerate(theirs):
            count = len(expected["scores"])
            assert count == 200
            torch.testing.assert_close(ours.scores[i, :count], expected["scores"])
            assert torch.equal(ours.labels[i, :count], expected["labels"])
            torch.testing.assert_close(
                ours.boxes[i, :count] * 300, expected["boxes"], atol=1e-3, rtol=1e-4
            )

    @pytest.mark.parametrize("per_image", [1, 20, 200])
    def test_looking_at_the_best_candidates_first_changes_nothing(self, monkeypatch, per_image):
        out = random_outputs(3)
        out.logits[1, ..., 0] += 5  # fewer candidates than the others
        out.offsets[2, ...] *= 0.01
        out.logits[2, 1000:1600, 7] += 9  # many of one class in one place: most are suppressed
        results = []
        for first in (1, 2, 10**6):
            monkeypatch.setattr("nets.postprocess.FIRST", first)
            results.append(postprocess(out, prior_boxes(), per_image=per_image))
        for a, b, c in zip(*results, strict=True):
            assert torch.equal(a, c)
            assert torch.equal(b, c)

    def test_of_equal_scores_the_lower_class_then_the_lower_prior_is_better(self):
        # 3 x 8732 candidates of one score. The best 400 of a class are the four priors of the first
        # 100 cells, so small that they meet in their cell alone, where suppression leaves one.
        out = Outputs((), torch.zeros(1, 8732, 4), torch.zeros(1, 8732, 4))
        out.offsets[..., 2:] = -20
        shown = postprocess(out, prior_boxes())
        assert shown.labels.tolist() == [[1] * 100 + [2] * 100]

    def test_batched_equals_single(self):
        out, priors = random_outputs(4, classes=3, seed=1), prior_boxes()
        together = postprocess(out, priors)
        for i in range(4):
            alone = postprocess(Outputs((), out.logits[i : i + 1], out.offsets[i : i + 1]), priors)
            for a, b in zip(alone, together, strict=True):
                assert torch.equal(a[0], b[i])

    def test_neighbours_in_a_batch_do_not_change_a_close_decision(self):
        # Boxes of 10 x 10 pixels: IoU 0.4499 must survive, 0.4501 must not, alone or as the last
        # image of a batch. batched_nms separates groups by shifting boxes; too far a shift costs
        # float32 the digits that decide. Moving a box by d of its width gives an IoU of
        # (1 - d) / (1 + d), so d = (1 - IoU) / (1 + IoU).
        for overlap, survives in ((0.4499, True), (0.4501, False)):
            side = 10 / 300
            shift = side * (1 - overlap) / (1 + overlap)
            boxes = torch.tensor(
                [
                    [0.5, 0.5, 0.5 + side, 0.5 + side],
                    [0.5 + shift, 0.5, 0.5 + shift + side, 0.5 + side],
                ]
            )
            out = outputs([[0.1] + [1e-9] * 19 + [0.9], [0.2] + [1e-9] * 19 + [0.8]], boxes)
            for images in (1, 64):
                batch = Outputs(
                    (), out.logits.repeat(images, 1, 1), out.offsets.repeat(images, 1, 1)
                )
                shown = found(postprocess(batch, PRIORS[:2]), images - 1)
                assert len(shown) == 1 + survives, f"IoU {overlap}, {images} images"


class TestEdges:
    @pytest.mark.parametrize("images", [1, 3])
    def test_nothing_above_the_threshold(self, images):
        out = Outputs(
            (), torch.tensor([20.0, 0, 0]).repeat(images, 5, 1), torch.zeros(images, 5, 4)
        )
        detections = postprocess(out, PRIORS)
        assert detections.labels.shape == (images, 200)
        assert not detections.labels.any()

    def test_an_image_without_detections_between_two_others(self):
        logits = torch.tensor([0.0, 5]).repeat(3, 5, 1)
        logits[1, :, 0] = 30
        detections = postprocess(Outputs((), logits, torch.zeros(3, 5, 4)), PRIORS)
        assert [(row > 0).sum().item() for row in detections.labels] == [5, 0, 5]

    def test_half_precision(self):
        out = random_outputs(1, classes=3, seed=2)
        half = Outputs((), out.logits.bfloat16(), out.offsets.bfloat16())
        detections = postprocess(half, prior_boxes())
        assert detections.boxes.dtype == detections.scores.dtype == torch.float32
        assert detections.boxes.isfinite().all()

    def test_absurd_offsets_stay_in_the_image(self):
        out = outputs([[0.1, 0.9]] * 5)._replace(offsets=torch.full((1, 5, 4), 1e3))
        boxes = postprocess(out, PRIORS).boxes
        assert boxes.min() >= 0
        assert boxes.max() <= 1


class TestDense:
    """The form of suppression that runs on GPUs, tested wherever."""

    @pytest.mark.parametrize("seed", range(5))
    def test_dense_suppression_equals_torchvisions_nms(self, seed):
        rng = torch.Generator().manual_seed(seed)
        low = torch.rand(6, 80, 2, generator=rng) * 0.5
        boxes = torch.cat((low, low + 0.05 + 0.4 * torch.rand(6, 80, 2, generator=rng)), -1)
        scores = torch.linspace(1, 0.1, 80)
        alive = suppress_dense(boxes, 0.45)
        for group in range(6):
            expected = torch.zeros(80, dtype=torch.bool)
            expected[torchvision.ops.nms(boxes[group], scores, 0.45)] = True
            assert torch.equal(alive[group], expected)

    def test_a_box_is_only_removed_by_one_that_stays(self):
        # Each overlaps the next by 0.5 / 1.5 = 1/3; with threshold 0.3 the first removes the
        # second, so the third stays, and removes the fourth.
        left = torch.arange(4) * 0.5
        boxes = torch.stack((left, torch.zeros(4), left + 1, torch.ones(4)), -1)
        assert suppress_dense(boxes[None], 0.3).tolist() == [[True, False, True, False]]

    def test_an_overlap_of_the_threshold_itself_is_left(self):
        boxes = torch.tensor([[[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 0.5]]])  # IoU 0.5
        assert suppress_dense(boxes, 0.5).tolist() == [[True, True]]
        assert suppress_dense(boxes, 0.4999).tolist() == [[True, False]]
