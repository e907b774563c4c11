"""Tasks: the weighted sum, and what a teacher may and may not be."""

from typing import ClassVar

import pytest
import torch

from nets.backbones import BACKBONES
from nets.distillers import DISTILLERS
from nets.matching import match
from nets.multibox_loss import MultiBoxLoss
from nets.multibox_loss_kd import MultiBoxLoss_KD
from nets.outputs import Targets
from nets.postprocess import postprocess
from nets.ssd import SSD300
from nets.tasks import DetectionTask, DistillTask
from nets.tasks.cross_priors import check_compatible
from nets.tasks.schedule import Schedule
from tests.soak.launcher import Plain
from utils.config import TrainConfig
from utils.engine.ledger import weighted
from utils.engine.optim import make_optimizer
from utils.engine.task import Shown
from utils.engine.updates import terms_of_batch
from utils.recipes import follow

TINY, OTHER = "resnet18(width=0.125)", "mobilenetv2(width=0.1)"
KD_WEIGHTS = {"soft": 0.3, "conf": 0.7, "l2": 0.5, "loc": 1.0}


def batch(objects: int = 2) -> tuple[torch.Tensor, Targets]:
    generator = torch.Generator().manual_seed(0)
    images = 255 * torch.rand(2, 3, 300, 300, generator=generator)
    boxes = torch.tensor([[0.1, 0.1, 0.4, 0.5], [0.5, 0.4, 0.9, 0.9]])[:objects].expand(2, -1, 4)
    return images, Targets(boxes, torch.tensor([[1, 2], [2, 0]])[:, :objects])


def detection_task() -> DetectionTask:
    torch.manual_seed(0)
    return DetectionTask(SSD300(TINY, 2), MultiBoxLoss(), {"conf": 2.0, "loc": 0.25})


def distill_task(
    *,
    networks: tuple[str, str] = (TINY, OTHER),
    shares: dict[str, float] | None = None,
    **distillers: float,
) -> DistillTask:
    """A student and a teacher of two kinds; distillers by name, with their weights."""
    torch.manual_seed(0)
    student, teacher = (SSD300(name, 2) for name in networks)
    made = {
        name: DISTILLERS[name](
            student_channels=student.channels, teacher_channels=teacher.channels, weight=weight
        )
        for name, weight in distillers.items()
    }
    weights = KD_WEIGHTS | {name: d.weight for name, d in made.items()}
    return DistillTask(student, teacher, MultiBoxLoss_KD(), weights, made, shares=shares)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Networks that are traced in no time, where it is not the networks that are tested."""
    monkeypatch.setitem(BACKBONES, "plain", Plain)
    return "plain", "plain"


class TestTotal:
    def test_detection(self):
        terms = detection_task()(*batch())
        assert set(terms) == {"loss", "conf", "loc", "positives"}
        torch.testing.assert_close(terms["loss"], 2 * terms["conf"] + terms["loc"] / 4)

    def test_distillation(self):
        terms = distill_task(hint=0.1, cwd=3.0)(*batch())
        assert set(terms) == {"loss", "soft", "conf", "l2", "loc", "hint", "cwd", "positives"}
        weights = KD_WEIGHTS | {"hint": 0.1, "cwd": 3.0}
        total = sum(weight * terms[name] for name, weight in weights.items())
        torch.testing.assert_close(terms["loss"], total)
        assert total > 0

    def test_positives_are_counted(self):
        assert detection_task()(*batch(0))["positives"].item() == 0
        images, targets = batch()
        padded = Targets(targets.boxes, targets.labels * 0)
        assert detection_task()(images, padded)["positives"].item() == 0
        assert detection_task()(images, targets)["positives"].item() >= 3

    def test_a_batch_without_objects(self):
        task = distill_task(attention=1.0, cwd=1.0, hint=1.0)
        terms = task(*batch(0))
        terms["loss"].backward()
        assert all(term.isfinite() for term in terms.values())
        assert all(p.grad.isfinite().all() for p in task.parameters() if p.grad is not None)

    @pytest.mark.parametrize("make", [detection_task, distill_task])
    def test_evaluation_gives_the_same_terms_and_detections(self, make):
        task = make().eval()
        with torch.no_grad():
            expected = task(*batch())
            terms, detections = task.evaluate(*batch())
        for name, value in expected.items():
            assert torch.equal(terms[name], value)
        assert detections.boxes.shape == (2, 200, 4)


class TestLedger:
    def test_distillation(self):
        task = distill_task(hint=0.1, cwd=3.0)
        terms = task(*batch(), ledger=True)
        shares = {k: v.item() for k, v in terms.items() if k.startswith("ledger/share/")}
        assert {k.rpartition("/")[2] for k in shares} == set(task.weights)
        assert sum(shares.values()) == pytest.approx(1, rel=1e-5)
        assert all(value > 0 for value in shares.values())
        for name in ("bound_active", "agreement", "agreement_on_positives"):
            assert 0 <= terms[f"ledger/{name}"] <= 1
        terms["loss"].backward()  # the graph is still there

    def test_detection(self):
        terms = detection_task()(*batch(), ledger=True)
        shares = [v.item() for k, v in terms.items() if k.startswith("ledger/")]
        assert len(shares) == 2
        assert sum(shares) == pytest.approx(1, rel=1e-5)

    def test_a_term_of_weight_zero_has_no_share(self):
        task = distill_task()
        task.weights["soft"] = 0.0
        assert task(*batch(), ledger=True)["ledger/share/soft"] == 0


class TestSchedule:
    def scheduled(self, *arguments, **distillers: float) -> DistillTask:
        task = distill_task(**distillers)
        task.schedule = Schedule(*arguments)
        return task

    def test_teacher_terms_alone_are_scaled(self):
        task, plain = self.scheduled("linear", 0.2, hint=0.5), distill_task(hint=0.5)
        task.progress.fill_(0.5)  # 1 - 0.8 / 2 = 0.6
        terms, expected = task(*batch()), plain(*batch())
        assert terms["kd_factor"].item() == pytest.approx(0.6)
        for name in ("soft", "conf", "l2", "loc", "hint"):
            assert torch.equal(terms[name], expected[name])
        factors = {"soft": 0.18, "conf": 0.7, "l2": 0.3, "loc": 1.0, "hint": 0.3}
        total = sum(factor * expected[name] for name, factor in factors.items())
        torch.testing.assert_close(terms["loss"], total)
        found = {name: float(factor) for name, factor in task.factors(terms).items()}
        assert found == pytest.approx(factors)

    def test_without_a_schedule_nothing_is_said_of_it(self):
        assert "kd_factor" not in distill_task()(*batch())
        assert distill_task().factors({}) == KD_WEIGHTS

    def test_means_of_an_epoch_show_it_in_the_ledger(self):
        task = self.scheduled("linear", 0.2)
        means = {"soft": 2.0, "conf": 3.0, "l2": 4.0, "loc": 5.0, "kd_factor": 0.5}
        assert weighted(means, task.factors(means)) == {
            "ledger/weighted/soft": 0.3 * 0.5 * 2,
            "ledger/weighted/conf": 0.7 * 3,
            "ledger/weighted/l2": 0.5 * 0.5 * 4,
            "ledger/weighted/loc": 5,
        }

    def test_a_silent_teacher_has_no_share_and_no_gradient(self):
        task, alone = self.scheduled("constant", 1, -1, 2, hint=0.5), distill_task(hint=0.5)
        shares = task(*batch(), ledger=True)
        assert shares["ledger/share/soft"] == shares["ledger/share/hint"] == 0
        alone.weights |= {"soft": 0.0, "l2": 0.0, "hint": 0.0}
        for each in (task, alone):
            each(*batch())["loss"].backward()
        for a, b in zip(task.model.parameters(), alone.model.parameters(), strict=True):
            torch.testing.assert_close(a.grad, b.grad)

    def test_it_is_one_graph_for_the_whole_run(self):
        torch._dynamo.reset()
        task = self.scheduled("cosine", 0.1, mgd=1.0)
        compiled = torch.compile(task, fullgraph=True, backend="eager")
        images, targets = batch()
        compiled(images, targets, torch.tensor([1, 2]))
        with torch.compiler.set_stance("fail_on_recompile"):
            for step in (1, 2):
                task.progress.fill_(step / 3)
                rows = torch.tensor([step, 7])
                terms = compiled(images, targets, rows)
                torch.testing.assert_close(terms["loss"], task(images, targets, rows)["loss"])
        torch._dynamo.reset()


class TestShares:
    ASKED: ClassVar[dict[str, float]] = {"soft": 0.3, "cwd": 0.2}

    def entries(self, terms: dict[str, torch.Tensor], prefix: str) -> dict[str, float]:
        return {k.removeprefix(prefix): v.item() for k, v in terms.items() if k.startswith(prefix)}

    def test_they_hold_from_the_first_step_and_decide_the_loss(self):
        task, plain = distill_task(shares=self.ASKED, cwd=1.0), distill_task(cwd=1.0)
        terms, expected = task(*batch(), ledger=True), plain(*batch())
        shares = self.entries(terms, "ledger/share/")
        assert shares["soft"] == pytest.approx(0.3, rel=1e-4)
        assert shares["cwd"] == pytest.approx(0.2, rel=1e-4)
        weights = KD_WEIGHTS | self.entries(terms, "weight/")
        assert set(weights) == {"soft", "conf", "l2", "loc", "cwd"}
        assert weights["cwd"] > 10  # it is quiet
        total = sum(weight * expected[name] for name, weight in weights.items())
        torch.testing.assert_close(terms["loss"], total, check_dtype=False)
        # The steps after it go on with these weights, without measuring.
        assert self.entries(task(*batch()), "weight/") == pytest.approx(
            self.entries(terms, "weight/")
        )
        terms["loss"].backward()

    def test_a_schedule_makes_them_quieter(self):
        task = distill_task(shares=self.ASKED, cwd=1.0)
        task.schedule = Schedule("linear", 0.0)
        task.progress.fill_(0.5)
        shares = self.entries(task(*batch(), ledger=True), "ledger/share/")
        # Teacher terms are halved: with the others' part x, l2 among them, 0.3 and 0.2 of 1
        # become 0.15 and 0.1 of a sum that has shrunk in the same way for both.
        assert shares["soft"] < 0.3
        assert shares["soft"] / shares["cwd"] == pytest.approx(1.5, rel=1e-4)
        loud = distill_task(shares=self.ASKED, cwd=1.0)
        full = self.entries(loud(*batch(), ledger=True), "ledger/share/")
        halves = {n: s if n in ("conf", "loc") else s / 2 for n, s in full.items()}
        expected = {n: s / sum(halves.values()) for n, s in halves.items()}
        assert shares == pytest.approx(expected, rel=1e-3)

    def test_weights_are_known_before_a_teacher_speaks(self):
        task = distill_task(shares=self.ASKED, cwd=1.0)
        task.schedule = Schedule(epochs=-1, of=2)
        terms = task(*batch(), ledger=True)
        assert terms["ledger/share/soft"] == terms["ledger/share/cwd"] == 0
        task.progress.fill_(0.5)
        shares = self.entries(task(*batch(), ledger=True), "ledger/share/")
        assert shares["soft"] == pytest.approx(0.3, rel=1e-3)

    def test_own_layers_of_a_distiller_train_as_with_weight_one(self):
        task, plain = distill_task(shares=self.ASKED, cwd=1.0), distill_task(cwd=1.0)
        task(*batch(), ledger=True)  # weights have moved far away from 1
        for each in (task, plain):
            each(*batch())["loss"].backward()
        pairs = zip(task.distillers.parameters(), plain.distillers.parameters(), strict=True)
        for ours, theirs in pairs:
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-8)
        ours, theirs = (next(t.model.backbone.parameters()).grad for t in (task, plain))
        assert not torch.allclose(ours, theirs, rtol=0.1)

    def test_a_validation_has_the_terms_alone(self):
        task = distill_task(shares=self.ASKED, cwd=1.0).eval()
        terms, _ = task.evaluate(*batch())
        assert set(terms) == {"loss", "soft", "conf", "l2", "loc", "cwd", "positives"}

    def test_they_are_saved(self):
        task, other = (distill_task(shares=self.ASKED, cwd=1.0) for _ in range(2))
        task(*batch(), ledger=True)
        other.load_state_dict(task.state_dict())
        assert other.loudness.heard.all()
        assert torch.equal(other.loudness.logs, task.loudness.logs)

    def test_it_is_one_graph_however_weights_move(self, quick):
        torch._dynamo.reset()
        task = distill_task(networks=quick, shares=self.ASKED, cwd=1.0)
        compiled = torch.compile(task, fullgraph=True, backend="eager")
        compiled(*batch())
        with torch.compiler.set_stance("fail_on_recompile"):
            task(*batch(), ledger=True)
            torch.testing.assert_close(compiled(*batch())["loss"], task(*batch())["loss"])
        torch._dynamo.reset()

    def test_shares_of_other_terms_are_refused(self):
        with pytest.raises(ValueError, match="no term 'mgd' among soft, conf, l2, loc, cwd; name"):
            distill_task(shares={"mgd": 0.2}, cwd=1.0)


class TestRows:
    def test_they_reach_the_distillers(self):
        task = distill_task(mgd=1.0).eval()
        one, other = (task(*batch(), torch.tensor(rows))["mgd"] for rows in ([5, 6], [5, 7]))
        assert not torch.equal(one, other)
        assert torch.equal(task(*batch(), torch.tensor([0, 1]))["mgd"], task(*batch())["mgd"])


class TestUnlabelled:
    SECOND = torch.tensor([False, True])
    NOTHING = Targets(torch.zeros(2, 0, 4), torch.zeros(2, 0, dtype=torch.long))

    def sure(self, task: DistillTask | None = None) -> DistillTask:
        """A task whose teacher detects something, and counts from its tenth best score on."""
        task = (task or distill_task(cwd=1.0, dkd=1.0)).eval()
        with torch.no_grad():
            spread = task.teacher(batch()[0]).logits.std()
            for head in task.teacher.conf:
                head.weight *= 1.5 / spread
            scores = task.teacher(batch()[0]).logits.softmax(-1)[1, :, 1:].amax(-1)
        task.pseudo_score = float(scores.topk(10).values[-1])
        assert 0.5 <= task.pseudo_score < scores.max() < 1
        return task

    def detected(self, task: DistillTask) -> Targets:
        """What an evaluation of the teacher detects."""
        images, _ = batch()
        with torch.no_grad():
            outputs = task.teacher(images)
        found = postprocess(outputs, task.teacher.priors, task.pseudo_score - 1e-6)
        return Targets(found.boxes, found.labels)

    def test_the_teachers_detections_are_its_objects(self):
        task, (images, targets) = self.sure(), batch()
        detected = self.detected(task)
        count = int((detected.labels[1] > 0).sum())
        assert count > 0
        padding = detected.labels.shape[1] - targets.labels.shape[1]
        boxes = torch.nn.functional.pad(targets.boxes, (0, 0, 0, padding))
        labels = torch.nn.functional.pad(targets.labels, (0, padding))
        boxes[1], labels[1] = detected.boxes[1], detected.labels[1]
        expected = task(images, Targets(boxes, labels))
        # What was said of the second image before is not looked at.
        found = task(images, targets, unlabelled=self.SECOND)
        assert found.pop("pseudo_objects") == count
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, msg=name)

    def test_padding_has_no_say(self):
        task, (images, targets) = self.sure(), batch()
        more = Targets(*(torch.cat((x, torch.zeros_like(x)), 1) for x in targets))
        one, other = (task(images, t, unlabelled=self.SECOND) for t in (targets, more))
        for name, value in one.items():
            assert torch.equal(other[name], value), name

    def test_a_teacher_that_detects_nothing_leaves_images_without_objects(self):
        task, (images, targets) = self.sure(), batch()
        task.pseudo_score = 1.0
        empty = Targets(targets.boxes, targets.labels * ~self.SECOND[:, None])
        found, expected = task(images, targets, unlabelled=self.SECOND), task(images, empty)
        assert found["pseudo_objects"] == 0
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, msg=name)
        terms = task(images, self.NOTHING, unlabelled=torch.tensor([True, True]))
        terms["loss"].backward()
        assert all(term.isfinite() for term in terms.values())
        assert terms["positives"] == 0
        assert terms["conf"] > 0  # there are hard negatives

    def test_detections_in_doubt_are_neither_objects_nor_background(self):
        task, (images, targets) = self.sure(), batch()
        detected = self.detected(task)
        sure = int((detected.labels[1] > 0).sum())
        all_of_them = task(images, targets, unlabelled=self.SECOND)
        least, task.pseudo_score = task.pseudo_score, 1.0
        task.pseudo_doubt = least
        found = task(images, targets, unlabelled=self.SECOND)
        assert all_of_them["pseudo_objects"] == sure
        assert found["pseudo_objects"] == 0
        # As difficult objects of a labelled image: label -1, whoever has given it.
        room = detected.labels.shape[1] - targets.labels.shape[1]
        boxes = torch.nn.functional.pad(targets.boxes, (0, 0, 0, room))
        labels = torch.nn.functional.pad(targets.labels, (0, room))
        boxes[1], labels[1] = detected.boxes[1], -detected.labels[1].sign()
        for name, value in task(images, Targets(boxes, labels)).items():
            torch.testing.assert_close(found[name], value, msg=name)
        objects = task.objects(Shown(images, targets, unlabelled=self.SECOND))
        assert (match(objects, task.model.priors).labels[1] < 0).any()

    def test_the_divisor_counts_them(self):
        task, (images, targets) = self.sure(), batch()
        shown = Shown(images, targets, torch.arange(2), unlabelled=self.SECOND)
        whole = task(*shown)
        parts = shown.parts(2)
        divisor = task.divisor(parts)
        assert divisor == whole["positives"] / 2
        for name, value in terms_of_batch([task(*p, divisor=divisor) for p in parts]).items():
            torch.testing.assert_close(value, whole[name], rtol=1e-4, atol=1e-6, msg=name)

    def test_they_are_its_own_where_priors_differ(self):
        torch.manual_seed(0)
        student, teacher = SSD300(TINY, 2), SSD300(OTHER, 2, layout="torchvision")
        task = self.sure(DistillTask(student, teacher, MultiBoxLoss_KD(), KD_WEIGHTS, None, True))
        (images, targets), everything = batch(), torch.ones(2, dtype=torch.bool)
        boxes, labels = task.objects(Shown(images, targets, unlabelled=everything))
        detected = self.detected(task)
        assert (labels > 0).any()
        for i in range(2):
            count = min(50, int((detected.labels[i] > 0).sum()))
            assert labels[i, :count].tolist() == detected.labels[i, :count].tolist()
            torch.testing.assert_close(boxes[i, :count], detected.boxes[i, :count])

    def test_it_is_one_graph_for_all_batches(self, quick, monkeypatch):
        monkeypatch.setattr("nets.tasks.pseudo.SLOTS", 4)
        torch._dynamo.reset()
        task, (images, targets) = self.sure(distill_task(networks=quick, cwd=1.0, dkd=1.0)), batch()
        compiled = torch.compile(task, fullgraph=True, backend="eager")
        compiled(images, targets, torch.arange(2), None, self.SECOND)
        with torch.compiler.set_stance("fail_on_recompile"):
            for mask in ([True, False], [True, True]):
                shown = Shown(images, targets, torch.arange(2), None, torch.tensor(mask))
                terms, expected = compiled(*shown), task(*shown)
                for name, value in expected.items():
                    torch.testing.assert_close(terms[name], value, msg=name)
        torch._dynamo.reset()

    def test_only_a_task_with_a_teacher_can_do_without_labels(self):
        images, targets = batch()
        with pytest.raises(AssertionError):
            detection_task().objects(Shown(images, targets, unlabelled=self.SECOND))


class TestTeacher:
    def test_it_is_part_of_nothing_that_trains_or_is_saved(self):
        task = distill_task(hint=1.0)
        teachers = {id(p) for p in task.teacher.parameters()}
        assert not teachers & {id(p) for p in task.parameters() if p.requires_grad}
        groups = make_optimizer(task, follow(TrainConfig(), steps=1)).param_groups
        assert not teachers & {id(p) for group in groups for p in group["params"]}
        assert not any("teacher" in name for name in task.state_dict())
        assert {name.partition(".")[0] for name in task.state_dict()} == {"model", "distillers"}
        assert not any(p.requires_grad for p in task.teacher.parameters())

    def test_it_moves_with_its_task(self):
        task = distill_task().to(torch.float64)
        assert {p.dtype for p in task.teacher.parameters()} == {torch.float64}
        images, objects = batch()
        terms = task(images.double(), objects._replace(boxes=objects.boxes.double()))
        assert terms["soft"].dtype is torch.float64

    def test_a_state_without_it_is_whole(self):
        task, other = distill_task(hint=1.0), distill_task(hint=1.0)
        kept = {k: v.clone() for k, v in other.teacher.state_dict().items()}
        other.load_state_dict(task.state_dict())
        for key, value in other.model.state_dict().items():
            assert torch.equal(value, task.model.state_dict()[key])
        for key, value in other.teacher.state_dict().items():
            assert torch.equal(value, kept[key])
        state = task.state_dict()
        del state["model.conf.0.bias"]
        with pytest.raises(RuntimeError, match=r"model\.conf\.0\.bias"):
            other.load_state_dict(state)

    def test_it_stays_in_evaluation_mode(self):
        task = distill_task()
        task.train()
        assert task.model.training
        assert not any(module.training for module in task.teacher.modules())
        before = {k: v.clone() for k, v in task.teacher.state_dict().items()}
        task(*batch())["loss"].backward()
        for key, value in task.teacher.state_dict().items():
            assert torch.equal(value, before[key])
        assert all(p.grad is None for p in task.teacher.parameters())

    def test_everything_of_the_task_has_gradient(self):
        task = distill_task(hint=1.0)
        task(*batch())["loss"].backward()
        assert all((p.grad is not None) is p.requires_grad for p in task.parameters())

    def test_a_student_under_itself_has_nothing_to_learn_from_it(self):
        student = SSD300(TINY, 2).eval()
        # A frozen copy rounds in another way, so by a margin it is no better.
        criterion = MultiBoxLoss_KD(reg_m=-1e-3)
        terms = DistillTask(student, student, criterion, KD_WEIGHTS).eval()(*batch())
        assert terms["soft"].item() == pytest.approx(0, abs=1e-6)
        assert terms["l2"].item() == 0

    def test_another_number_of_classes_is_refused(self):
        with pytest.raises(ValueError, match="teacher knows 3 classes, the student 2"):
            DistillTask(SSD300(TINY, 2), SSD300(TINY, 3), MultiBoxLoss_KD(), KD_WEIGHTS)

    def test_other_priors_are_refused(self):
        student, teacher = SSD300(TINY, 2), SSD300(TINY, 2)
        teacher.priors, teacher.layout = teacher.priors[:3000], "mine"
        with pytest.raises(
            ValueError, match=r"'mine' \(3000 priors\).*'paper' \(8732\).*one layout"
        ):
            check_compatible(student, teacher)
        # As many, but elsewhere.
        teacher.priors = student.priors.flip(0)
        with pytest.raises(ValueError, match="one layout"):
            check_compatible(student, teacher)


class TestFreezing:
    def test_the_backbone_does_not_move(self):
        task = detection_task().train()
        task.freeze_backbone(True)
        before = {k: v.clone() for k, v in task.model.state_dict().items()}
        task(*batch())["loss"].backward()
        trained = [p for p in task.parameters() if p.grad is not None]
        with torch.no_grad():
            for p in trained:
                p -= 0.1 * p.grad
        moved = {k for k, v in task.model.state_dict().items() if not torch.equal(v, before[k])}
        assert moved
        assert not any(key.startswith("backbone.") for key in moved)
        assert task.model.extras.training

    def test_thawed_it_moves_again(self):
        task = detection_task().train()
        task.freeze_backbone(True)
        task.freeze_backbone(False)
        assert task.model.backbone.training
        task(*batch())["loss"].backward()
        assert all(p.grad is not None for p in task.model.backbone.parameters())

    def test_an_evaluating_task_stays_so(self):
        task = detection_task().eval()
        task.freeze_backbone(False)
        assert not task.model.backbone.training
