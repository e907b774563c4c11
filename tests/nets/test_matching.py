"""Matching by hand, against slow loops, and at its edges; torchvision is in test_multibox_loss."""

import math

import pytest
import torch

from nets.matching import match
from nets.outputs import Targets
from nets.priors import prior_boxes
from utils.boxes import decode

# Four priors side by side, each 0.2 x 0.2 around y = 0.5.
ROW = torch.tensor([[x, 0.5, 0.2, 0.2] for x in (0.2, 0.4, 0.6, 0.8)], dtype=torch.float64)


def targets(*images: list[tuple[int, list[float]]]) -> Targets:
    """Images as lists of (label, xyxy box), padded."""
    most = max(map(len, images))
    boxes = torch.zeros(len(images), most, 4, dtype=torch.float64)
    labels = torch.zeros(len(images), most, dtype=torch.long)
    for i, image in enumerate(images):
        for j, (label, box) in enumerate(image):
            labels[i, j], boxes[i, j] = label, torch.tensor(box, dtype=torch.float64)
    return Targets(boxes, labels)


def random_scene(images: int, most: int, seed: int, at_least: int = 0) -> Targets:
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.rand(images, most, 4, generator=generator, dtype=torch.float64)
    low = boxes[..., :2] * 0.8
    boxes = torch.cat((low, low + 0.03 + boxes[..., 2:] * (0.97 - low)), dim=-1)
    labels = torch.randint(1, 21, (images, most), generator=generator)
    counts = torch.randint(at_least, most + 1, (images, 1), generator=generator)
    padding = torch.arange(most) >= counts
    return Targets(boxes.masked_fill(padding[..., None], 0), labels.masked_fill(padding, 0))


def slow_match(
    boxes: list[list[float]], labels: list[int], priors: list[list[float]], threshold: float
) -> tuple[list[int], list[list[float]]]:
    """One image, in plain Python, from the paper's text."""

    def overlap(a: list[float], b: list[float]) -> float:
        width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
        height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
        union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
        return width * height / union if union else 0.0

    corners = [[x - w / 2, y - h / 2, x + w / 2, y + h / 2] for x, y, w, h in priors]
    table = [[overlap(box, corner) for corner in corners] for box in boxes]

    def assign(some: list[int]) -> list[int | None]:
        owner: list[int | None] = [None] * len(priors)
        for i in range(len(priors)):
            best = max(some, key=lambda j: table[j][i], default=None)  # the first of several
            if best is not None and table[best][i] >= threshold:
                owner[i] = best
        for j in some:
            owner[table[j].index(max(table[j]))] = j
        return owner

    owner = assign([j for j, label in enumerate(labels) if label > 0])
    ignored = assign([j for j, label in enumerate(labels) if label < 0])
    out_labels, out_offsets = [], []
    for (px, py, pw, ph), j, k in zip(priors, owner, ignored, strict=True):
        if j is None:
            out_labels.append(0 if k is None else -1)
            out_offsets.append([0.0] * 4)
            continue
        x1, y1, x2, y2 = boxes[j]
        out_labels.append(labels[j])
        out_offsets.append(
            [
                ((x1 + x2) / 2 - px) / pw / 0.1,
                ((y1 + y2) / 2 - py) / ph / 0.1,
                math.log((x2 - x1) / pw) / 0.2,
                math.log((y2 - y1) / ph) / 0.2,
            ]
        )
    return out_labels, out_offsets


class TestHandWorked:
    def test_claim_below_the_threshold(self):
        # 0.1 x 0.1 inside prior 1: IoU 0.01 / 0.04 = 0.25, below 0.5, but it is its best prior.
        # Offsets: centre (0.38, 0.5) - (0.4, 0.5) = -0.02 -> -0.02 / 0.2 / 0.1 = -1; log(0.1 / 0.2)
        # / 0.2 = -3.4657.
        matches = match(targets([(7, [0.33, 0.45, 0.43, 0.55])]), ROW)
        assert matches.labels.tolist() == [[0, 7, 0, 0]]
        expected = torch.zeros(4, 4, dtype=torch.float64)
        expected[1] = torch.tensor([-1, 0, -3.465736, -3.465736])
        torch.testing.assert_close(matches.offsets[0], expected, atol=1e-6, rtol=0)

    def test_the_threshold_itself_matches(self):
        # A box of width 1 over both halves: each prior of width 1/2 has IoU exactly 0.5. The object
        # claims the first; the second takes it because 0.5 >= 0.5.
        priors = torch.tensor([[0.25, 0.5, 0.5, 1], [0.75, 0.5, 0.5, 1]])
        whole = Targets(torch.tensor([[[0.0, 0, 1, 1]]]), torch.tensor([[3]]))
        assert match(whole, priors).labels.tolist() == [[3, 3]]
        assert match(whole, priors, iou_threshold=0.51).labels.tolist() == [[3, 0]]

    def test_a_claim_beats_a_larger_overlap(self):
        # Object 2 is prior 1 itself and overlaps prior 0 by 0.15 / 0.25 = 0.6. Object 5 is the left
        # quarter of prior 0, IoU 0.05 / 0.2 = 0.25, and has no better prior.
        priors = torch.tensor([[0.1, 0.5, 0.2, 1], [0.15, 0.5, 0.2, 1]], dtype=torch.float64)
        scene = [(2, [0.05, 0, 0.25, 1]), (5, [0, 0, 0.05, 1])]
        assert match(targets(scene), priors).labels.tolist() == [[5, 2]]
        assert match(targets(scene[::-1]), priors).labels.tolist() == [[5, 2]]

    def test_of_two_claims_the_later_wins(self):
        # With one prior alone both claim it; the later one has it, whatever its overlap.
        priors = torch.tensor([[0.2, 0.5, 0.2, 0.2]], dtype=torch.float64)
        scene = [(2, [0.1, 0.4, 0.3, 0.6]), (5, [0.1, 0.4, 0.7, 0.6])]
        assert match(targets(scene), priors).labels.tolist() == [[5]]
        assert match(targets(scene[::-1]), priors).labels.tolist() == [[2]]

    def test_of_three_claims_the_last_wins(self):
        box = [0.1, 0.4, 0.3, 0.6]
        scene = [
            (4, box),
            (9, box),
            (1, [0.7, 0.4, 0.9, 0.6]),
            (6, box),
            (8, [0.72, 0.4, 0.9, 0.6]),
        ]
        assert match(targets(scene), ROW).labels.tolist() == [[6, 0, 0, 8]]

    def test_a_free_prior_takes_the_object_it_overlaps_most(self):
        # Priors: small square A, and B a little beside it. Object 1 = A. Object 2 is B shifted and
        # claims C. B overlaps object 1 by 0.15 / 0.25 = 0.6 and object 2 by 0.18 / 0.22 = 0.82.
        priors = torch.tensor([[0.3, 0.5, 0.2, 1], [0.35, 0.5, 0.2, 1], [0.37, 0.5, 0.2, 1]])
        scene = targets([(1, [0.2, 0, 0.4, 1]), (2, [0.27, 0, 0.47, 1])])
        assert match(scene, priors.double()).labels.tolist() == [[1, 2, 2]]

    def test_of_equal_overlaps_the_first_object_counts(self):
        # Both objects are the same box, so prior 1 overlaps both by 0.16 / 0.24 = 2/3.
        priors = torch.tensor([[0.3, 0.5, 0.2, 1], [0.34, 0.5, 0.2, 1]], dtype=torch.float64)
        scene = targets([(1, [0.2, 0, 0.4, 1]), (2, [0.2, 0, 0.4, 1])])
        assert match(scene, priors).labels.tolist() == [[2, 1]]


class TestIgnored:
    """Objects with label -1; priors of width 0.2 at 0.1-0.3, 0.3-0.5, 0.5-0.7 and 0.7-0.9."""

    def test_what_it_would_have_had_is_ignored(self):
        # Over the second prior exactly; the first and third do not touch it.
        scene = targets([(1, [0.7, 0.4, 0.9, 0.6]), (-1, [0.3, 0.4, 0.5, 0.6])])
        labels, offsets, _ = match(scene, ROW)
        assert labels.tolist() == [[0, -1, 0, 1]]
        assert not offsets[0, 1].any()

    def test_its_best_prior_is_ignored_below_the_threshold(self):
        # 0.1 wide in the first prior: IoU 0.02 / 0.04 = 0.5 by width, half the height: 0.25.
        scene = targets([(-1, [0.1, 0.4, 0.2, 0.5])])
        assert match(scene, ROW).labels.tolist() == [[-1, 0, 0, 0]]

    def test_a_prior_that_another_object_has_is_not(self):
        # The second prior is both objects' best, and the third overlaps none by 0.5.
        scene = targets([(-1, [0.3, 0.4, 0.5, 0.6]), (2, [0.32, 0.4, 0.52, 0.6])])
        assert match(scene, ROW).labels.tolist() == [[0, 2, 0, 0]]

    def test_degenerate_ones_ignore_nothing(self):
        scene = targets([(-1, [0.3, 0.4, 0.3, 0.6]), (-1, [0.5, 0.4, float("nan"), 0.6])])
        assert match(scene, ROW).labels.tolist() == [[0] * 4]


class TestLaws:
    @pytest.mark.parametrize("seed", range(3))
    def test_equals_slow_loops(self, seed):
        scene, priors = random_scene(3, 5, seed), prior_boxes().double()[5000:8732:7]
        matches = match(scene, priors)
        for i in range(3):
            labels, offsets = slow_match(
                scene.boxes[i].tolist(), scene.labels[i].tolist(), priors.tolist(), 0.5
            )
            assert matches.labels[i].tolist() == labels
            expected = torch.tensor(offsets, dtype=torch.float64)
            torch.testing.assert_close(matches.offsets[i], expected, atol=1e-9, rtol=0)

    @pytest.mark.parametrize("seed", range(3))
    def test_ignored_objects_equal_slow_loops(self, seed):
        scene, priors = random_scene(3, 6, seed, at_least=4), prior_boxes().double()[5000:8732:7]
        scene.labels[:, 1:3] = -1
        matches = match(scene, priors)
        for i in range(3):
            labels, _ = slow_match(
                scene.boxes[i].tolist(), scene.labels[i].tolist(), priors.tolist(), 0.5
            )
            assert matches.labels[i].tolist() == labels

    def test_the_object_of_a_prior_is_told(self):
        scene, priors = random_scene(3, 5, seed=15), prior_boxes().double()
        labels, offsets, objects = match(scene, priors)
        image, prior = (labels > 0).nonzero(as_tuple=True)
        assert len(image) > 20
        whose = objects[image, prior]
        assert torch.equal(scene.labels[image, whose], labels[image, prior])
        found = decode(offsets[image, prior], priors[prior])
        torch.testing.assert_close(found, scene.boxes[image, whose])

    def test_batched_equals_single(self):
        scene, priors = random_scene(6, 4, seed=10), prior_boxes().double()
        together = match(scene, priors)
        for i in range(6):
            alone = match(Targets(scene.boxes[i : i + 1], scene.labels[i : i + 1]), priors)
            assert torch.equal(alone.labels[0], together.labels[i])
            assert torch.equal(alone.offsets[0], together.offsets[i])

    def test_images_may_be_permuted(self):
        scene, priors = random_scene(5, 4, seed=11), prior_boxes().double()
        order = torch.tensor([3, 0, 4, 1, 2])
        permuted = match(Targets(scene.boxes[order], scene.labels[order]), priors)
        assert torch.equal(permuted.labels, match(scene, priors).labels[order])

    @pytest.mark.parametrize("junk", [0.0, 1.0, float("nan"), float("inf")])
    def test_padding_does_not_matter(self, junk):
        scene, priors = random_scene(3, 4, seed=12), prior_boxes().double()
        padded = Targets(
            torch.cat((scene.boxes, torch.full((3, 5, 4), junk, dtype=torch.float64)), dim=1),
            torch.cat((scene.labels, torch.zeros(3, 5, dtype=torch.long)), dim=1),
        )
        for before, after in zip(match(scene, priors), match(padded, priors), strict=True):
            assert torch.equal(before, after)

    def test_padding_that_looks_like_an_object_claims_nothing(self):
        scene = targets([(0, [0.1, 0.4, 0.3, 0.6]), (3, [0.5, 0.4, 0.7, 0.6])])
        assert match(scene, ROW).labels.tolist() == [[0, 0, 3, 0]]
        # Nor does it take an object's claim away, or its overlaps.
        scene = targets([(3, [0.1, 0.4, 0.3, 0.6]), (0, [0.1, 0.4, 0.3, 0.6])])
        assert match(scene, ROW).labels.tolist() == [[3, 0, 0, 0]]
        assert match(scene, ROW.repeat(2, 1)).labels.tolist() == [[3, 0, 0, 0, 3, 0, 0, 0]]

    def test_offsets_decode_to_the_object(self):
        scene, priors = random_scene(2, 1, seed=13, at_least=1), prior_boxes().double()
        labels, offsets, _ = match(scene, priors)
        for i in range(2):
            decoded = decode(offsets, priors)[i, labels[i] > 0]
            torch.testing.assert_close(decoded, scene.boxes[i].expand_as(decoded))

    def test_background_has_zero_offsets(self):
        labels, offsets, _ = match(random_scene(4, 4, seed=14), prior_boxes().double())
        assert offsets[labels == 0].abs().max() < 1e-9


class TestEdges:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_a_batch_without_objects(self, dtype):
        nothing = Targets(torch.zeros(2, 0, 4, dtype=dtype), torch.zeros(2, 0, dtype=torch.long))
        labels, offsets, _ = match(nothing, prior_boxes())
        assert labels.shape == (2, 8732)
        assert labels.dtype == torch.long
        assert offsets.shape == (2, 8732, 4)
        assert not labels.any()
        assert not offsets.any()

    def test_an_image_without_objects(self):
        labels, _, _ = match(targets([], [(1, [0.1, 0.4, 0.3, 0.6])]), ROW)
        assert labels.tolist() == [[0] * 4, [1, 0, 0, 0]]

    @pytest.mark.parametrize(
        "box",
        [
            [0.2, 0.4, 0.2, 0.6],  # no width
            [0.1, 0.6, 0.3, 0.6],  # no height
            [0.3, 0.4, 0.1, 0.6],  # inverted in x
            [0.1, 0.6, 0.3, 0.4],  # inverted in y
            [0.3, 0.6, 0.1, 0.4],  # inverted in both
            [0.1, 0.4, float("nan"), 0.6],
            [float("nan")] * 4,
            [0.1, 0.4, float("inf"), 0.6],
            [float("-inf"), 0.4, 0.3, 0.6],
        ],
    )
    def test_degenerate_boxes_claim_nothing(self, box):
        good = (2, [0.5, 0.4, 0.7, 0.6])
        for scene in ([(1, box)], [(1, box), good], [good, (1, box)]):
            labels, offsets, _ = match(targets(scene), ROW)
            assert labels.tolist() == [[0, 0, 2 if len(scene) == 2 else 0, 0]]
            assert offsets.isfinite().all()

    def test_an_object_larger_than_the_image(self):
        labels, offsets, _ = match(targets([(1, [-0.5, -0.5, 1.5, 1.5])]), prior_boxes().double())
        assert (labels > 0).sum() >= 1
        assert offsets.isfinite().all()

    def test_more_objects_than_priors(self):
        scene = targets([(k, [0.1, 0.4, 0.3, 0.6]) for k in range(1, 10)])
        assert match(scene, ROW).labels.tolist() == [[9, 0, 0, 0]]
