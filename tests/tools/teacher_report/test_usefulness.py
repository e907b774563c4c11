"""Teacher and student compared by hand, by law and at the edges."""

import math

import pytest
import torch
from torch import Tensor

from nets.multibox_loss_kd import MultiBoxLoss_KD
from nets.outputs import Matches, Outputs
from tests.nets.test_multibox_loss import matched
from tools.teacher_report.usefulness import (
    SIZES,
    Comparison,
    readings,
    size_of,
    soft_target_readings,
)
from utils.boxes import encode

# Two priors side by side, 0.2 x 0.2, and one of the whole image.
PRIORS = torch.tensor([[0.1, 0.1, 0.2, 0.2], [0.3, 0.1, 0.2, 0.2], [0.5, 0.5, 1.0, 1.0]])
LOG2, LOG3 = math.log(2), math.log(3)


def said(logits: list[list[float]], offsets: list[list[float]]) -> Outputs:
    return Outputs((), torch.tensor([logits]), torch.tensor([offsets]))


# Prior 0 is matched to an object of class 1 that is the prior itself, prior 1 to one of class 2,
# its own prior too; prior 2 is background.
MATCHES = matched(torch.tensor([[1, 2, 0]]), torch.zeros(1, 3, 4))
# p: (1/2, 1/4, 1/4), (1/4, 1/4, 1/2), (2/4, 1/4, 1/4).
TEACHER = said(
    [[LOG2, 0, 0], [0, 0, LOG2], [LOG2, 0, 0]],
    # Prior 0: half a prior to the right, 0.1 / 0.2 / 0.1 = 5. Prior 1: exact.
    [[5, 0, 0, 0], [0, 0, 0, 0], [9, 9, 9, 9]],
)
# p: (1/3, 1/3, 1/3), (1/5, 3/5, 1/5), (1/5, 3/5, 1/5).
STUDENT = said(
    [[0, 0, 0], [0, LOG3, 0], [0, LOG3, 0]],
    # Prior 0: exact. Prior 1: twice as wide, log 2 / 0.2 = 3.466.
    [[0, 0, 0, 0], [0, 0, 5 * LOG2, 0], [9, 9, 9, 9]],
)


class TestByHand:
    FOUND = readings(STUDENT, TEACHER, MATCHES, PRIORS)

    def check(self, name: str, *values: float) -> None:
        assert self.FOUND[name].tolist() == pytest.approx(values, abs=1e-6)

    def test_boxes(self) -> None:
        self.check("box_error/teacher", 25, 0)
        self.check("box_error/student", 0, 25 * LOG2**2)
        # Moved by half its width: 0.5 / 1.5. Twice as wide: 1 / 2.
        self.check("iou/teacher", 1 / 3, 1)
        self.check("iou/student", 1, 1 / 2)
        # Prior 0: 0 > 25 is false; prior 1: 12 > 0.
        self.check("bound_active", 0, 1)

    def test_the_margin_belongs_to_the_student(self) -> None:
        # 0 + 26 > 25 holds as well.
        found = readings(STUDENT, TEACHER, MATCHES, PRIORS, reg_m=26)
        assert found["bound_active"].tolist() == [1, 1]

    def test_confidence(self) -> None:
        self.check("probability/teacher", 1 / 4, 1 / 2)
        self.check("probability/student", 1 / 3, 1 / 5)
        self.check("cross_entropy/teacher", math.log(4), math.log(2))
        self.check("cross_entropy/student", math.log(3), math.log(5))
        self.check("surer", 0, 1)
        self.check("accuracy/teacher", 0, 1)
        self.check("accuracy/student", 0, 0)
        # Three equal columns: the first one, background, counts as the likeliest.
        self.check("background/teacher", 1, 0)
        self.check("background/student", 1, 0)

    def test_entropy_and_its_part_about_classes(self) -> None:
        # (1/2, 1/4, 1/4): 1/2 log 2 + 2 * 1/4 log 4 = 1.5 log 2 = 1.0397. Background against
        # object is (1/2, 1/2), log 2; the rest is half of a fair choice of two, 1/2 log 2.
        # (1/4, 1/4, 1/2) has the same entropy; (1/4, 3/4) has 1/4 log 4 + 3/4 log(4/3) = 0.5623,
        # which leaves 0.4774 = 3/4 (log 3 - 2/3 log 2).
        self.check("entropy/1", 1.5 * LOG2, 1.5 * LOG2)
        self.check("between_classes/1", 0.5 * LOG2, 0.75 * (LOG3 - LOG2 * 2 / 3))
        self.check("one_hot/1", 0, 0)

    def test_a_temperature_divides_the_logits(self) -> None:
        # At T = 2, (log 4, 0) is (log 2, 0): (2/3, 1/3), 2/3 log(3/2) + 1/3 log 3 = 0.6365.
        found = soft_target_readings(torch.tensor([[math.log(4), 0.0]]))
        assert found["entropy/1"].item() == pytest.approx(0.8 * math.log(5 / 4) + 0.2 * math.log(5))
        assert found["entropy/2"].item() == pytest.approx(LOG3 - LOG2 * 2 / 3, abs=1e-6)
        assert found["between_classes/2"].item() == pytest.approx(0, abs=1e-9)  # only one class

    def test_nearly_one_hot_is_a_98_to_2(self) -> None:
        # 0.98 gives 0.098 nats, below 0.1; 0.97 gives 0.135.
        logits = torch.tensor([[math.log(0.98), math.log(0.02)], [math.log(0.97), math.log(0.03)]])
        assert soft_target_readings(logits)["one_hot/1"].tolist() == [1, 0]

    def test_means_by_class_and_size(self) -> None:
        comparison = Comparison(2, PRIORS)
        # Objects are 0.2 of each side: 0.2 * 100 squared is 20^2, small.
        comparison.update(STUDENT, TEACHER, MATCHES, torch.tensor([[100, 100]]))
        # Again in an image of 1000 x 100: 200 * 20 = 4000, medium.
        comparison.update(STUDENT, TEACHER, MATCHES, torch.tensor([[1000, 100]]))
        assert comparison.positives.tolist() == [[1, 1, 0], [1, 1, 0]]
        means = comparison.means()
        assert means["positives"] == 4
        assert means["box_error"]["teacher"] == pytest.approx((25 + 0) / 2)
        assert means["bound_active"] == 0.5
        assert comparison.means(label=2)["probability"] == pytest.approx(
            {"teacher": 1 / 2, "student": 1 / 5}
        )
        assert comparison.means(size="small")["positives"] == 2
        assert comparison.means(label=1, size="medium")["surer"] == 0

    def test_hard_negatives_are_the_students(self) -> None:
        # Two positives ask for up to six negatives; there is one, prior 2:
        # -log(1/2) of the teacher, -log(1/5) of the student.
        comparison = Comparison(2, PRIORS)
        comparison.update(STUDENT, TEACHER, MATCHES, torch.tensor([[100, 100]]))
        loss = comparison.hard_negative_loss()
        assert loss == pytest.approx({"number": 1, "teacher": LOG2, "student": math.log(5)})

    def test_only_what_the_student_mines_counts(self) -> None:
        # One positive, five background priors: the student's three hardest are 1, 2 and 3, where it
        # gives the background 1/4 against 3/4 elsewhere; the teacher, 1/2 on these, is hardest on
        # the others.
        hard, easy = [0, LOG3], [LOG3, 0]
        student = said([easy, hard, hard, hard, easy, easy], [[0, 0, 0, 0]] * 6)
        teacher = said([easy, [0, 0], [0, 0], [0, 0], hard, hard], [[0, 0, 0, 0]] * 6)
        matches = matched(torch.tensor([[1, 0, 0, 0, 0, 0]]), torch.zeros(1, 6, 4))
        comparison = Comparison(1, PRIORS[:1].expand(6, 4))
        comparison.update(student, teacher, matches, torch.tensor([[100, 100]]))
        assert comparison.hard_negative_loss() == pytest.approx(
            {"number": 3, "teacher": LOG2, "student": math.log(4)}
        )


def random_outputs(seed: int, images: int = 3, priors: int = 40, classes: int = 4) -> Outputs:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(images, priors, classes + 1, generator=generator)
    return Outputs((), logits, torch.randn(images, priors, 4, generator=generator))


def random_matches(images: int = 3, priors: int = 40, classes: int = 4) -> Matches:
    generator = torch.Generator().manual_seed(7)
    labels = torch.randint(0, classes + 1, (images, priors), generator=generator)
    offsets = torch.randn(images, priors, 4, generator=generator)
    return matched(labels, offsets.where(labels[..., None] > 0, torch.tensor(0.0)))


RANDOM_PRIORS = 0.2 + 0.6 * torch.rand(40, 4, generator=torch.Generator().manual_seed(1))
PIXELS = torch.tensor([[500, 375], [300, 300], [60, 40]])


def test_the_bound_is_active_where_the_loss_has_it_active() -> None:
    student, teacher, matches = random_outputs(1), random_outputs(2), random_matches()
    for reg_m in (0.0, 2.0, -1.0):
        bounded = MultiBoxLoss_KD(reg_m=reg_m).bounded_l2(
            student.offsets, teacher.offsets, matches.offsets
        )
        active = readings(student, teacher, matches, RANDOM_PRIORS, reg_m)["bound_active"]
        assert active.tolist() == (bounded > 0)[matches.labels > 0].tolist()
        assert 0 < active.mean() < 1


def test_a_teacher_that_is_its_student_differs_in_nothing() -> None:
    same = random_outputs(1)
    comparison = Comparison(4, RANDOM_PRIORS)
    comparison.update(same, same, random_matches(), PIXELS)
    means = comparison.means()
    for reading in ("box_error", "iou", "probability", "cross_entropy", "accuracy", "background"):
        assert means[reading]["teacher"] == means[reading]["student"]
    loss = comparison.hard_negative_loss()
    assert loss["teacher"] == loss["student"]
    # Equal is neither closer nor surer; only a margin turns the bound on.
    assert (means["bound_active"], means["surer"]) == (0, 0)
    assert readings(same, same, random_matches(), RANDOM_PRIORS, 0.1)["bound_active"].all()


def test_exchanging_the_two_exchanges_what_is_said() -> None:
    a, b, matches = random_outputs(1), random_outputs(2), random_matches()
    one, other = (readings(*pair, matches, RANDOM_PRIORS) for pair in ((a, b), (b, a)))
    for name in ("box_error", "iou", "probability"):
        assert torch.equal(one[f"{name}/teacher"], other[f"{name}/student"])
    for share in ("bound_active", "surer"):  # nothing is equal in random numbers
        assert torch.equal(one[share], 1 - other[share])


def test_batches_add_up_to_the_split() -> None:
    student, teacher, matches = random_outputs(1), random_outputs(2), random_matches()
    whole, parts = Comparison(4, RANDOM_PRIORS), Comparison(4, RANDOM_PRIORS)
    whole.update(student, teacher, matches, PIXELS)
    for i in range(3):
        one = slice(i, i + 1)
        part = [Outputs((), o.logits[one], o.offsets[one]) for o in (student, teacher)]
        parts.update(*part, matched(matches.labels[one], matches.offsets[one]), PIXELS[one])
    assert torch.equal(whole.positives, parts.positives)
    for name, sums in whole.sums.items():
        assert torch.allclose(sums, parts.sums[name], rtol=1e-12)
    by_class = sum(whole.means(label)["positives"] for label in range(1, 5))
    by_size = sum(whole.means(size=size)["positives"] for size in SIZES)
    assert by_class == by_size == whole.means()["positives"] == (matches.labels > 0).sum()


def test_a_class_without_objects_has_no_means() -> None:
    comparison = Comparison(3, PRIORS)
    comparison.update(
        said([[0.0] * 4] * 3, [[0.0] * 4] * 3),
        said([[0.0] * 4] * 3, [[0.0] * 4] * 3),
        MATCHES,
        torch.tensor([[100, 100]]),
    )
    means = comparison.means(label=3)
    assert means["positives"] == 0
    assert math.isnan(means["iou"]["teacher"])
    assert math.isnan(means["surer"])
    assert comparison.means(label=1)["iou"]["teacher"] == pytest.approx(1)


def test_a_split_without_objects_still_has_hard_negatives() -> None:
    comparison = Comparison(4, RANDOM_PRIORS)
    nothing = matched(torch.zeros(3, 40, dtype=torch.long), torch.zeros(3, 40, 4))
    comparison.update(random_outputs(1), random_outputs(2), nothing, PIXELS)
    assert comparison.means()["positives"] == 0
    assert math.isnan(comparison.means()["entropy"]["1"])
    assert comparison.hard_negative_loss()["number"] == 3 * 40  # of 100 wanted in each image


def test_sure_of_something_else_stays_finite() -> None:
    sure = said([[0, 1000, 0], [0, 1000, 0], [0, 0, 0]], [[0.0] * 4] * 3)
    found = readings(sure, sure, MATCHES, PRIORS)
    assert all(values.isfinite().all() for values in found.values())
    assert found["entropy/1"].tolist() == [0, 0]


@pytest.mark.parametrize("pixels", [(500.0, 375.0), (200.0, 200.0), (1333.0, 749.0)])
def test_an_object_of_a_limit_is_the_larger(pixels: tuple[float, float]) -> None:
    assert size_of(torch.tensor([1023.0, 1024, 9215, 9216, 0])).tolist() == [0, 1, 1, 2, 0]

    # 32 x 32 in whole pixels, through fractions and offsets and back.
    def size(width: float, height: float) -> Tensor:
        w, h = width / pixels[0], height / pixels[1]
        box = torch.tensor([[0.4, 0.4, 0.4 + w, 0.4 + h]])
        comparison = Comparison(1, PRIORS[:1])
        offsets = encode(box, PRIORS[:1])[None]
        matches = matched(torch.tensor([[1]]), offsets)
        nobody = Outputs((), torch.zeros(1, 1, 2), offsets)
        comparison.update(nobody, nobody, matches, torch.tensor([pixels]))
        return comparison.positives[0]

    assert size(32, 32).tolist() == [0, 1, 0]
    assert size(31, 33).tolist() == [1, 0, 0]  # 1023
    assert size(96, 96).tolist() == [0, 0, 1]
