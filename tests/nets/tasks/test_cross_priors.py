"""A teacher's predictions on another prior set."""

import math

import pytest
import torch

from nets.multibox_loss_kd import MultiBoxLoss_KD
from nets.outputs import Outputs, Targets
from nets.priors import LAYOUTS, prior_boxes
from nets.ssd import SSD300
from nets.tasks import DistillTask
from nets.tasks.cross_priors import CrossPriors, check_compatible, nearest
from utils.boxes import cxcywh_to_xyxy, decode, encode, iou

OLD, NEW = "bubbliiiing_mobilenetv2", "paper"


def outputs(priors: int, batch: int = 2, columns: int = 3) -> Outputs:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(batch, priors, columns, generator=generator)
    return Outputs((), logits, torch.randn(batch, priors, 4, generator=generator))


class TestLaw:
    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_equal_priors_change_nothing(self, layout):
        priors = prior_boxes(layout)
        index = nearest(priors, priors)
        assert torch.equal(index, torch.arange(len(priors)))
        teacher = outputs(len(priors))
        told = CrossPriors(priors, priors.clone())(teacher)
        assert all(torch.equal(x, y) for x, y in zip(told[1:], teacher[1:], strict=True))

    def test_a_shared_prior_keeps_its_bits(self):
        teacher = prior_boxes(OLD)[::7]
        student = torch.cat((teacher[:100], prior_boxes(NEW)[:50]))
        said = outputs(len(teacher))
        told = CrossPriors(student, teacher)(said)
        assert torch.equal(told.offsets[:, :100], said.offsets[:, :100])
        assert torch.equal(told.logits[:, :100], said.logits[:, :100])

    def test_boxes_stay_where_they_are(self):
        teacher, student = prior_boxes(OLD).double(), prior_boxes(NEW).double()
        said = outputs(len(teacher))
        told = CrossPriors(student, teacher)(said)
        index = nearest(student, teacher)
        expected = decode(said.offsets.double(), teacher)[:, index]
        actual = decode(told.offsets.double(), student)
        torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)
        assert torch.equal(told.logits, said.logits[:, index])

    def test_a_perfect_teacher_is_perfect_for_the_student(self):
        teacher, student = prior_boxes(OLD), prior_boxes(NEW)
        thing = torch.tensor([0.2, 0.3, 0.7, 0.8])
        said = Outputs(
            (),
            torch.zeros(1, len(teacher), 3),
            encode(thing.expand(1, len(teacher), 4), teacher),
        )
        told = CrossPriors(student, teacher)(said)
        expected = encode(thing.expand(1, len(student), 4), student)
        torch.testing.assert_close(told.offsets, expected, atol=1e-4, rtol=1e-4)


class TestByHand:
    def test_offsets(self):
        # Prior 0 of the teacher spans 0.25..0.75 both ways; the student's 0.25..0.75 across and
        # 0.25..1 down: IoU 0.5 * 0.5 / (0.5 * 0.75) = 2/3, with prior 1 (0..0.25) it is 0.
        teacher = torch.tensor([[0.5, 0.5, 0.5, 0.5], [0.125, 0.125, 0.25, 0.25]])
        student = torch.tensor([[0.5, 0.625, 0.5, 0.75]])
        # The teacher's box: centre 0.5 + 0.1 * 1 * 0.5 = 0.55, 0.5 + 0.1 * 2 * 0.5 = 0.6, width
        # 0.5 * exp(0.2 * 1), height 0.5. Told on the student's prior: (0.55 - 0.5) / 0.5 / 0.1 = 1,
        # (0.6 - 0.625) / 0.75 / 0.1 = -1/3, 1, ln(0.5 / 0.75) / 0.2 = 5 ln(2/3).
        offsets = torch.tensor([[[1.0, 2.0, 1.0, 0.0], [9.0, 9.0, 9.0, 9.0]]])
        logits = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
        told = CrossPriors(student, teacher)(Outputs((), logits, offsets))
        assert told.logits.tolist() == [[[1, 2]]]
        expected = torch.tensor([[[1.0, -1 / 3, 1.0, 5 * math.log(2 / 3)]]])
        torch.testing.assert_close(told.offsets, expected)

    def test_of_equals_the_lowest(self):
        # A square between two of its size: IoU 0.125 / 0.375 = 1/3 with either, 0 with the first.
        teacher = torch.tensor([[0.9, 0.9, 0.1, 0.1], [0.25, 0.5, 0.5, 0.5], [0.75, 0.5, 0.5, 0.5]])
        assert nearest(torch.tensor([[0.5, 0.5, 0.5, 0.5]]), teacher).tolist() == [1]
        assert nearest(teacher[[1]], teacher[[1, 1]]).tolist() == [0]
        # But not of those that both have at the same place.
        assert nearest(teacher[[1, 1]], teacher[[1, 1]]).tolist() == [0, 1]

    def test_rows_are_independent_of_how_many_are_compared_at_once(self):
        student, teacher = prior_boxes(NEW)[5000:6500], prior_boxes(OLD)
        overlaps = iou(cxcywh_to_xyxy(student), cxcywh_to_xyxy(teacher))
        chosen = overlaps.gather(1, nearest(student, teacher)[:, None])
        assert torch.equal(chosen, overlaps.amax(1, keepdim=True))

    def test_wild_offsets_stay_finite(self):
        teacher = prior_boxes(OLD)
        said = outputs(len(teacher))
        told = CrossPriors(prior_boxes(NEW), teacher)(said._replace(offsets=-1000 * said.offsets))
        assert told.offsets.isfinite().all()


class TestTask:
    @pytest.fixture
    def batch(self):
        images = 255 * torch.rand(2, 3, 300, 300, generator=torch.Generator().manual_seed(0))
        boxes = torch.tensor([[[0.1, 0.1, 0.4, 0.5]], [[0.5, 0.4, 0.9, 0.9]]])
        return images, Targets(boxes, torch.tensor([[1], [2]]))

    @staticmethod
    def task(student: SSD300, teacher: SSD300, match_priors: bool) -> DistillTask:
        weights = {"soft": 0.3, "conf": 0.7, "l2": 0.5, "loc": 1.0}
        return DistillTask(student, teacher, MultiBoxLoss_KD(), weights, match_priors=match_priors)

    def test_3000_priors_teach_8732(self, batch):
        torch.manual_seed(0)
        student, teacher = SSD300("resnet18(width=0.125)", 2), SSD300(OLD, 2, layout=OLD)
        task = self.task(student, teacher, match_priors=True)
        terms = task(*batch)
        terms["loss"].backward()
        assert all(value.isfinite().all() for value in terms.values())
        assert terms["soft"] > 0
        assert all(p.grad is not None and p.grad.isfinite().all() for p in student.parameters())
        assert all(p.grad is None for p in teacher.parameters())
        assert not [key for key in task.state_dict() if not key.startswith("model.")]

    def test_equal_layouts_give_the_same_losses(self, batch):
        torch.manual_seed(0)
        student, teacher = (SSD300("resnet18(width=0.125)", 2).eval() for _ in range(2))
        plain, matched = (self.task(student, teacher, m).eval()(*batch) for m in (False, True))
        assert plain.keys() == matched.keys()
        assert all(torch.equal(plain[name], matched[name]) for name in plain)

    def test_refusals(self):
        student, teacher = SSD300("resnet18(width=0.125)", 2), SSD300(OLD, 2, layout=OLD)
        match = rf"layout is '{OLD}' \(3000 priors\).*'paper' \(8732\).*does not serve"
        with pytest.raises(ValueError, match=match):
            check_compatible(student, teacher)
        check_compatible(student, teacher, match_priors=True)
        with pytest.raises(ValueError, match="knows 3 classes, the student 2"):
            check_compatible(student, SSD300(OLD, 3, layout=OLD), match_priors=True)
