"""MultiBoxLoss and its mining by hand, against slow loops, and against torchvision's SSD."""

import math
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from torchvision.models.detection._utils import BoxCoder, SSDMatcher
from torchvision.models.detection.ssd import SSD
from torchvision.ops import box_iou

from nets import multibox_loss
from nets.matching import match
from nets.multibox_loss import (
    MultiBoxLoss,
    mark_largest,
    mine_hard_negatives,
)
from nets.outputs import Matches, Outputs, Targets
from nets.priors import prior_boxes
from utils.boxes import cxcywh_to_xyxy


def matched(labels: torch.Tensor, offsets: torch.Tensor) -> Matches:
    """Matches of losses that do not ask which object a prior has."""
    return Matches(labels, offsets, torch.zeros_like(labels))


def outputs(logits: torch.Tensor, offsets: torch.Tensor) -> Outputs:
    return Outputs((), logits, offsets)


def random_batch(
    images: int = 3, priors: int = 40, classes: int = 4, *, seed: int = 0, positives: float = 0.1
) -> tuple[Outputs, Matches]:
    """Random predictions and random labels, in float64."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    labels = torch.randint(1, classes + 1, (images, priors), generator=generator)
    labels[torch.rand(images, priors, generator=generator) >= positives] = 0
    matches = matched(labels, normal(images, priors, 4))
    return outputs(3 * normal(images, priors, classes + 1), 2 * normal(images, priors, 4)), matches


def log_softmax(logits: list[float]) -> list[float]:
    largest = max(logits)
    total = largest + math.log(sum(math.exp(x - largest) for x in logits))
    return [x - total for x in logits]


def slow_selection(
    logits: list[list[float]], labels: list[int], ratio: float, for_hard: int
) -> tuple[list[int], list[int]]:
    """One image's positives and mined negatives, in plain Python."""
    positive = [i for i, label in enumerate(labels) if label > 0]
    negative = [i for i, label in enumerate(labels) if label == 0]
    negative.sort(key=lambda i: log_softmax(logits[i])[0])  # stable: the lower index first
    return positive, negative[: int(ratio * len(positive)) if positive else for_hard]


def slow_loss(
    out: Outputs, matches: Matches, ratio: float = 3.0, for_hard: int = 100
) -> dict[str, float]:
    conf = loc = 0.0
    count = mined = 0
    for i in range(len(matches.labels)):
        logits, labels = out.logits[i].tolist(), matches.labels[i].tolist()
        positive, negative = slow_selection(logits, labels, ratio, for_hard)
        count, mined = count + len(positive), mined + len(negative)
        conf += sum(-log_softmax(logits[p])[labels[p]] for p in positive + negative)
        for p in positive:
            for got, wanted in zip(out.offsets[i, p], matches.offsets[i, p], strict=True):
                d = abs(got.item() - wanted.item())
                loc += d * d / 2 if d < 1 else d - 0.5
    divisor = count or max(mined, 1)
    return {"conf": conf / divisor, "loc": loc / divisor}


class TestMining:
    def test_hand_worked(self):
        # Two columns: background loss = log(1 + exp(z_1 - z_0)), rising with z_1. One positive, so
        # three negatives: the largest z_1 among priors 1..5 are 5 (prior 2), 3 (4) and 1 (3). The
        # positive's own 9 does not count.
        z = torch.tensor([9.0, -2, 5, 1, 3, 0])
        logits = torch.stack((torch.zeros(6), z), dim=-1)[None]
        labels = torch.tensor([[1, 0, 0, 0, 0, 0]])
        assert mine_hard_negatives(logits, labels).tolist() == [
            [False, False, True, True, True, False]
        ]
        # Ratio 1.5: int(1.5) = 1.
        assert mine_hard_negatives(logits, labels, 1.5).nonzero()[:, 1].tolist() == [2]
        assert not mine_hard_negatives(logits, labels, 0).any()

    def test_the_background_loss_decides_not_the_background_logit(self):
        # Prior 0: logit -5 against -9: log(1 + e^-4) = 0.018. Prior 1: 5 against 6: log(1 + e) =
        # 1.31, the harder one. Prior 2 is the positive; ratio 1.
        logits = torch.tensor([[[-5.0, -9], [5, 6], [0, 0]]])
        mined = mine_hard_negatives(logits, torch.tensor([[0, 0, 1]]), 1)
        assert mined.tolist() == [[False, True, False]]

    def test_images_are_mined_apart(self):
        # Image 0 is all easy (loss about 0), image 1 all hard; each gets 3 for its one positive.
        logits = torch.zeros(2, 10, 2)
        logits[0, :, 1], logits[1, :, 1] = -20, 20
        labels = torch.zeros(2, 10, dtype=torch.long)
        labels[:, 0] = 1
        assert mine_hard_negatives(logits, labels).sum(1).tolist() == [3, 3]

    def test_an_image_without_positives(self):
        logits, labels = torch.randn(2, 30, 3), torch.zeros(2, 30, dtype=torch.long)
        labels[0, :2] = 1
        mined = mine_hard_negatives(logits, labels, negatives_for_hard=5)
        assert mined.sum(1).tolist() == [6, 5]
        assert mine_hard_negatives(logits, labels, negatives_for_hard=0).sum(1).tolist() == [6, 0]

    def test_never_more_than_there_are(self):
        labels = torch.tensor([[1, 2, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1]])
        mined = mine_hard_negatives(torch.zeros(3, 4, 3), labels)
        assert torch.equal(mined, (labels == 0) & (labels.sum(1, keepdim=True) < 4 + 8))
        assert mined.sum(1).tolist() == [1, 4, 0]

    def test_ignored_priors_are_never_mined(self):
        # As in the first test, but the hardest (prior 2) is ignored: prior 5 takes its place.
        z = torch.tensor([9.0, -2, 5, 1, 3, 0])
        logits = torch.stack((torch.zeros(6), z), dim=-1)[None]
        labels = torch.tensor([[1, 0, -1, 0, 0, 0]])
        assert mine_hard_negatives(logits, labels).nonzero()[:, 1].tolist() == [3, 4, 5]

    def test_of_equally_hard_priors_the_first_are_taken(self):
        labels = torch.tensor([[0, 0, 1, 0, 0, 0]])
        mined = mine_hard_negatives(torch.zeros(1, 6, 2), labels)
        assert mined.nonzero()[:, 1].tolist() == [0, 1, 3]

    def test_no_gradient(self):
        logits = torch.zeros(1, 6, 2, requires_grad=True)
        assert not mine_hard_negatives(logits, torch.ones(1, 6, dtype=torch.long)).requires_grad


class TestHandWorked:
    # One image, two classes, four priors; prior 0 is a positive of class 2. Ratio 1: one negative.
    LOGITS = ((0.0, 0.0, math.log(2)), (0.0, 0.0, 0.0), (math.log(8), 0.0, 0.0), (5.0, 0.0, 0.0))
    OFFSETS = ((0.5, 3.0, 0.0, -1.0), (9.0,) * 4, (9.0,) * 4, (9.0,) * 4)

    def matches(self, label: int) -> Matches:
        return matched(torch.tensor([[label, 0, 0, 0]]), torch.zeros(1, 4, 4))

    def outputs(self) -> Outputs:
        return outputs(torch.tensor([self.LOGITS]), torch.tensor([self.OFFSETS]))

    def test_one_positive(self):
        terms = MultiBoxLoss(neg_pos_ratio=1)(self.outputs(), self.matches(2))
        # Positive: p = (1, 1, 2) / 4, -log(2/4) = 0.6931. Hardest negative: prior 1,
        # -log(1/3) = 1.0986. N = 1.
        assert terms["conf"].item() == pytest.approx(math.log(2) + math.log(3))
        # 0.5^2 / 2 = 0.125; 3 - 0.5 = 2.5; 0; 1^2 / 2 = 0.5 (both branches agree at 1).
        assert terms["loc"].item() == pytest.approx(0.125 + 2.5 + 0.5)

    def test_without_a_positive_the_mined_negatives_divide(self):
        terms = MultiBoxLoss(negatives_for_hard=2)(self.outputs(), self.matches(0))
        # The two hardest: prior 0 with -log(1/4), prior 1 with -log(1/3); divided by 2.
        assert terms["conf"].item() == pytest.approx((math.log(4) + math.log(3)) / 2)
        assert terms["loc"].item() == 0

    def test_two_images_share_one_divisor(self):
        # Image 0 as above with one positive, image 1 without any, 2 mined: N is 1, not 2 and not 3.
        both = outputs(*(torch.cat((x, x)) for x in self.outputs()[1:]))
        matches = matched(torch.tensor([[2, 0, 0, 0], [0, 0, 0, 0]]), torch.zeros(2, 4, 4))
        terms = MultiBoxLoss(1, negatives_for_hard=2)(both, matches)
        expected = math.log(2) + math.log(3) + math.log(4) + math.log(3)
        assert terms["conf"].item() == pytest.approx(expected)


class TestLaws:
    @pytest.mark.parametrize("positives", [0.0, 0.03, 0.1, 0.6, 1.0])
    @pytest.mark.parametrize(("ratio", "for_hard"), [(3.0, 100), (2.5, 7), (0.0, 0)])
    def test_equals_slow_loops(self, positives, ratio, for_hard):
        batch = random_batch(seed=int(100 * positives), positives=positives)
        terms = MultiBoxLoss(ratio, for_hard)(*batch)
        expected = slow_loss(*batch, ratio, for_hard)
        assert set(terms) == {"conf", "loc"}
        for name, value in terms.items():
            assert value.item() == pytest.approx(expected[name], rel=1e-6)

    def test_batch_is_the_weighted_mean_of_its_images(self):
        out, matches = random_batch(seed=1, positives=0.2)
        criterion = MultiBoxLoss()
        counts = (matches.labels > 0).sum(1)
        assert counts.min() > 0
        together = criterion(out, matches)
        for name in together:
            alone = [
                criterion(
                    outputs(out.logits[i : i + 1], out.offsets[i : i + 1]),
                    Matches(*(x[i : i + 1] for x in matches)),
                )[name]
                for i in range(3)
            ]
            torch.testing.assert_close(
                together[name], (torch.stack(alone) * counts).sum() / counts.sum()
            )

    def test_images_may_be_permuted(self):
        out, matches = random_batch(seed=2)
        order = torch.tensor([2, 0, 1])
        permuted = MultiBoxLoss()(
            outputs(out.logits[order], out.offsets[order]), Matches(*(x[order] for x in matches))
        )
        for name, value in MultiBoxLoss()(out, matches).items():
            torch.testing.assert_close(permuted[name], value)

    @pytest.mark.parametrize("name", ["conf", "loc"])
    def test_gradient(self, name):
        # Mining may change within gradcheck's step only where two losses tie; random ones do not.
        out, matches = random_batch(2, 12, 3, seed=3, positives=0.2)
        leaves = out.logits.requires_grad_(), out.offsets.requires_grad_()
        assert torch.autograd.gradcheck(
            lambda *x: MultiBoxLoss(2)(outputs(*x), matches)[name], leaves
        )

    def test_only_selected_priors_have_gradient(self):
        out, matches = random_batch(seed=4)
        out.logits.requires_grad_()
        out.offsets.requires_grad_()
        criterion = MultiBoxLoss()
        selection = criterion.select(out, matches)
        sum(criterion(out, matches).values()).backward()
        assert torch.equal(out.logits.grad.abs().sum(-1) > 0, selection.chosen.mask)
        assert torch.equal(out.offsets.grad.abs().sum(-1) > 0, selection.positive.mask)

    def test_ignored_priors_change_nothing(self):
        out, matches = random_batch(seed=6)
        ignored = torch.arange(40) % 5 == 0
        labels = matches.labels.masked_fill(ignored, -1)
        kept = outputs(out.logits[:, ~ignored], out.offsets[:, ~ignored])
        expected = MultiBoxLoss()(kept, matched(labels[:, ~ignored], matches.offsets[:, ~ignored]))
        found = MultiBoxLoss()(out, matches._replace(labels=labels))
        for name, value in found.items():
            torch.testing.assert_close(value, expected[name])

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_is_summed_in_float32(self, dtype):
        out, matches = random_batch(seed=5)
        half = outputs(out.logits.to(dtype), out.offsets.to(dtype))
        same = outputs(half.logits.float(), half.offsets.float())
        matches = matches._replace(offsets=matches.offsets.float())
        for name, value in MultiBoxLoss()(half, matches).items():
            assert value.dtype == torch.float32
            assert torch.equal(value, MultiBoxLoss()(same, matches)[name])


class TestTorchvision:
    """torchvision's SSD.compute_loss on our priors, in pixels, as its box coder wants them.

    Known differences, kept out of these scenes: it mines nothing in an image without objects
    (negatives_for_hard = 0 here), and divides by max(1, N), which differs from our N only in a
    batch without any positive. It matches one image at a time.
    """

    @pytest.mark.parametrize("seed", range(6))
    def test_matching_and_loss(self, seed):
        generator = torch.Generator().manual_seed(seed)
        images, most = 3, 6
        numbers = torch.rand(images, most, 4, generator=generator, dtype=torch.float64)
        low = numbers[..., :2] * 0.9
        boxes = torch.cat((low, low + 0.02 + numbers[..., 2:] * (0.98 - low)), dim=-1)
        labels = torch.randint(1, 21, (images, most), generator=generator)
        # The second object is one object annotated again: both have one best prior.
        boxes[:, 1] = boxes[:, 0]
        labels[0, 3:] = 0
        if seed % 2:
            labels[1] = 0
        priors = prior_boxes().double()
        out = outputs(
            torch.randn(images, 8732, 21, generator=generator, dtype=torch.float64),
            torch.randn(images, 8732, 4, generator=generator, dtype=torch.float64),
        )
        matches = match(Targets(boxes, labels), priors)
        ours = MultiBoxLoss(negatives_for_hard=0)(out, matches)

        anchors = cxcywh_to_xyxy(priors) * 300
        truth = [
            {"boxes": boxes[i][labels[i] > 0] * 300, "labels": labels[i][labels[i] > 0]}
            for i in range(images)
        ]
        matched = [
            SSDMatcher(0.5)(box_iou(t["boxes"], anchors))
            if len(t["boxes"])
            else torch.full((8732,), -1)
            for t in truth
        ]
        for i in range(images):
            expected = torch.zeros(8732, dtype=torch.long)
            found = matched[i] >= 0
            expected[found] = truth[i]["labels"][matched[i][found]]
            assert torch.equal(matches.labels[i], expected)
        theirs = SSD.compute_loss(
            SimpleNamespace(box_coder=BoxCoder((10.0, 10.0, 5.0, 5.0)), neg_to_pos_ratio=3.0),
            truth,
            {"bbox_regression": out.offsets, "cls_logits": out.logits},
            [anchors] * images,
            matched,
        )
        torch.testing.assert_close(ours["conf"], theirs["classification"])
        torch.testing.assert_close(ours["loc"], theirs["bbox_regression"])


class TestEdges:
    def test_nothing_is_selected(self):
        out, matches = random_batch(positives=0.0)
        out.logits.requires_grad_()
        terms = MultiBoxLoss(negatives_for_hard=0)(out, matches)
        assert {name: value.item() for name, value in terms.items()} == {"conf": 0, "loc": 0}
        sum(terms.values()).backward()
        assert not out.logits.grad.any()

    def test_offsets_without_meaning_have_no_effect(self):
        out, matches = random_batch(seed=6)
        expected = MultiBoxLoss()(out, matches)["loc"]
        matches.offsets[matches.labels == 0] = torch.nan
        out.offsets.requires_grad_()
        loc = MultiBoxLoss()(out, matches)["loc"]
        assert torch.equal(loc, expected)
        loc.backward()
        assert out.offsets.grad[matches.labels > 0].isfinite().all()

    def test_huge_logits_stay_finite(self):
        out, matches = random_batch(seed=7)
        out = outputs((out.logits * 1e4).float().requires_grad_(), out.offsets)
        conf = MultiBoxLoss()(out, matches)["conf"]
        conf.backward()
        assert conf.isfinite()
        assert out.logits.grad.isfinite().all()

    @pytest.mark.parametrize("arguments", [{"neg_pos_ratio": -1}, {"negatives_for_hard": -1}])
    def test_negative_counts_are_refused(self, arguments):
        with pytest.raises(ValueError, match="must be numbers of at least 0"):
            MultiBoxLoss(**arguments)


class TestProcesses:
    def test_the_divisor_is_the_mean_over_processes(self, monkeypatch):
        # This process has 12 positives of a mean of 6: its sums are divided by 6.
        out, matches = random_batch(seed=8)
        local = MultiBoxLoss()(out, matches)
        monkeypatch.setattr(multibox_loss, "mean_over_processes", lambda counts: counts / 2)
        for name, value in MultiBoxLoss()(out, matches).items():
            torch.testing.assert_close(value, 2 * local[name])

    def test_an_empty_process_still_divides_by_positives(self, monkeypatch):
        # No positive here, one in the other of two processes: mean 0.5, so the sum is doubled and
        # the mean of both processes' gradients divides by 1.
        out, matches = random_batch(seed=9, positives=0.0)
        monkeypatch.setattr(
            multibox_loss,
            "mean_over_processes",
            lambda counts: (counts + counts.new_tensor([1, 0])) / 2,
        )
        criterion = MultiBoxLoss(negatives_for_hard=4)
        assert criterion.select(out, matches).divisor.item() == 0.5

    def test_one_process_is_its_own_mean(self, tmp_path):
        batch = random_batch(seed=10)
        expected = MultiBoxLoss()(*batch)
        dist.init_process_group("gloo", f"file://{tmp_path / 'store'}", rank=0, world_size=1)
        try:
            actual = MultiBoxLoss()(*batch)
        finally:
            dist.destroy_process_group()
        for name, value in actual.items():
            assert torch.equal(value, expected[name])


class TestLargest:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("seed", range(4))
    def test_equals_a_stable_sort(self, dtype, seed):
        rng = torch.Generator().manual_seed(seed)
        values = torch.rand(5, 300, generator=rng, dtype=dtype) * 10 - 1
        values[1] = values[1].round()  # many ties
        values[2, :290] = 0.0
        values[3, 5] = torch.inf
        count = torch.tensor([[7], [100], [15], [1], [1000]])
        order = values.argsort(dim=1, descending=True, stable=True)
        expected = torch.zeros_like(values, dtype=torch.bool)
        for row, (k, ranked) in enumerate(zip(count[:, 0].tolist(), order, strict=True)):
            expected[row, ranked[:k]] = True
        assert torch.equal(mark_largest(values, count), expected)

    def test_none_is_marked_when_none_is_wanted(self):
        assert not mark_largest(torch.rand(2, 9), torch.zeros(2, 1, dtype=torch.long)).any()
