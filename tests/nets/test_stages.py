"""How settings become tasks; the stages in earnest run in test_cli."""

import pytest
import torch

from nets import stages
from nets.distillers.cwd import ChannelWise
from nets.multibox_loss_kd import MultiBoxLoss_KD
from nets.saved import describe_network
from nets.ssd import SSD300
from nets.tasks import DistillTask
from utils.config import DistillConfig, TrainConfig
from utils.engine.checkpoint import save_checkpoint

TINY = "resnet18(width=0.125)"


@pytest.fixture
def captured(monkeypatch, tmp_path):
    """Calls of `fit`, which does nothing here."""
    calls = []

    def fit(task, config, class_names, description, _device, _look=None):
        calls.append((task, config, class_names, description))
        return tmp_path / config.logs / config.name / "best.pth"

    monkeypatch.setattr(stages, "fit", fit)
    return calls


@pytest.fixture
def classes(tmp_path) -> str:
    path = tmp_path / "classes.txt"
    path.write_text("cat\ndog\n")
    return str(path)


@pytest.fixture
def settings(tmp_path, classes) -> dict[str, object]:
    return {
        "classes": classes,
        "backbone": TINY,
        "pretrained": False,
        "logs": str(tmp_path / "logs"),
        "device": "cpu",
    }


def save_teacher(path, names=("cat", "dog")) -> str:
    model = SSD300("resnet18(width=0.25)", len(names))
    save_checkpoint(path, {**describe_network(model, names), "model": model.state_dict()})
    return str(path)


class TestDetector:
    def test_settings_reach_the_task(self, captured, settings):
        stages.train_detector(
            TrainConfig(**settings, conf_weight=2, loc_weight=3, neg_pos_ratio=1.5)
        )
        ((task, _, names, description),) = captured
        assert task.weights == {"conf": 2, "loc": 3}
        assert task.criterion.neg_pos_ratio == 1.5
        assert tuple(names) == ("cat", "dog")
        assert description == {
            "backbone": TINY,
            "layout": "paper",
            "class_names": ["cat", "dog"],
        }

    def test_the_seed_decides_the_weights(self, captured, settings):
        for seed in (1, 1, 2):
            stages.train_detector(TrainConfig(**settings, seed=seed))
        first, again, other = (call[0].model.conf[0].weight for call in captured)
        assert torch.equal(first, again)
        assert not torch.equal(first, other)

    @pytest.mark.parametrize(
        ("val", "every", "warned"),
        [
            (("VOC2007/test",), 1, True),
            (("VOC2007/val", "VOC2012/test"), 1, True),
            (("VOC2007/test",), 0, False),  # one validation chooses nothing
            (("VOC2007/val", "test/train"), 1, False),
            ((), 1, False),
        ],
    )
    def test_a_choice_on_test_images_is_said(self, captured, settings, capsys, val, every, warned):
        stages.train_detector(TrainConfig(**settings, val=val, val_every=every))
        lines = [x for x in capsys.readouterr().out.splitlines() if x.startswith("warning: ")]
        assert len(lines) == warned
        if warned:
            tests = " ".join(split for split in val if split.endswith("/test"))
            assert f"by its mAP on {tests}, which makes that mAP optimistic" in lines[0]
        assert len(captured) == 1


class TestStudent:
    def test_settings_reach_the_task(self, captured, settings, tmp_path):
        config = DistillConfig(
            **settings,
            teacher=save_teacher(tmp_path / "teacher.pth"),
            soft_weight=0.1,
            conf_weight=0.2,
            l2_weight=0.3,
            loc_weight=0.4,
            temperature=2,
            neg_w=1.25,
            pos_w=0.75,
            reg_m=0.5,
            negatives_for_hard=7,
            distill=("cwd(tau=2, weight=3)", "attention"),
        )
        stages.train_student(config)
        ((task, _, _, description),) = captured
        assert isinstance(task, DistillTask)
        assert task.weights == {
            **{"soft": 0.1, "conf": 0.2, "l2": 0.3, "loc": 0.4},
            **{"cwd": 3, "attention": 1},
        }
        criterion = task.criterion
        assert isinstance(criterion, MultiBoxLoss_KD)
        assert (criterion.temperature, criterion.neg_w, criterion.pos_w) == (2, 1.25, 0.75)
        assert (criterion.reg_m, criterion.objects.negatives_for_hard) == (0.5, 7)
        assert (task.model.spec, task.teacher.spec) == (TINY, "resnet18(width=0.25)")
        assert description["backbone"] == TINY

    def test_same_initial_weights_with_and_without_a_teacher(self, captured, settings, tmp_path):
        teacher = save_teacher(tmp_path / "teacher.pth")
        stages.train_detector(TrainConfig(**settings, seed=5))
        stages.train_student(DistillConfig(**settings, seed=5, teacher=teacher, distill=("hint",)))
        alone, distilled = (call[0].model.state_dict() for call in captured)
        assert all(torch.equal(distilled[key], value) for key, value in alone.items())

    def test_other_classes_are_refused(self, captured, settings, tmp_path):
        teacher = save_teacher(tmp_path / "teacher.pth", names=("cat", "cow"))
        with pytest.raises(ValueError, match="class 2 is 'cow' to the teacher and 'dog' in"):
            stages.train_student(DistillConfig(**settings, teacher=teacher))
        assert not captured

    def test_without_a_teacher_stage_one_comes_first(self, captured, settings, monkeypatch):
        config = DistillConfig(
            **settings, teacher_backbone=TINY, teacher_epochs=3, conf_weight=0.7, name="s"
        )
        seen = []

        def train_detector(teacher_config):
            seen.append(teacher_config)
            path = f"{settings['classes']}.pth"
            return save_teacher(path)

        monkeypatch.setattr(stages, "train_detector", train_detector)
        stages.train_student(config)
        (teacher,) = seen
        assert (teacher.name, teacher.backbone, teacher.epochs) == ("s-teacher", TINY, 3)
        # The student's weights of terms are not the teacher's.
        assert (teacher.conf_weight, teacher.loc_weight, teacher.resume) == (1.0, 1.0, False)
        assert len(captured) == 1

    @pytest.mark.parametrize("teacher", [True, False])
    def test_the_teacher_has_its_own_switch_for_imagenet_weights(
        self, settings, monkeypatch, teacher
    ):
        def teacher_trained(config: DistillConfig) -> TrainConfig:
            seen = []
            monkeypatch.setattr(stages, "train_detector", lambda config: seen.append(config))
            stages.train_teacher(config)
            return seen[0]

        assert teacher_trained(
            DistillConfig(**settings)
        ).pretrained  # settings turn the student's off
        config = DistillConfig(**{**settings, "pretrained": True}, teacher_pretrained=teacher)
        assert teacher_trained(config).pretrained is teacher


class TestDistillers:
    def test_they_fit_both_networks(self):
        student, teacher = SSD300(TINY, 2), SSD300("resnet18(width=0.25)", 2)
        distillers = stages.build_distillers(["cwd(tau=4, weight=0.5)", "hint"], student, teacher)
        assert list(distillers) == ["cwd", "hint"]
        assert isinstance(distillers["cwd"], ChannelWise)
        assert (distillers["cwd"].tau, distillers["cwd"].weight) == (4, 0.5)
        shapes = [(a.in_channels, a.out_channels) for a in distillers["hint"].adapters]
        assert shapes == list(zip(student.channels, teacher.channels, strict=True))

    @pytest.mark.parametrize(
        ("specs", "message"),
        [
            (["hint", "hint(weight=2)"], "--distill names 'hint' twice"),
            (["dream"], "unknown distiller 'dream'; choose one of attention, crosskd, cwd, dkd, "),
            (["hint(tau=1)"], "distiller 'hint' has no option 'tau'; it has weight"),
            (["cwd(student_channels=(1,))"], "has no option 'student_channels'"),
            (["hint("], r"cannot read spec 'hint\('"),
        ],
    )
    def test_refusals(self, specs, message):
        model = SSD300(TINY, 2)
        with pytest.raises(ValueError, match=message):
            stages.build_distillers(specs, model, model)


class TestClassNames:
    def test_equal_lists(self):
        stages.check_class_names(("cat", "dog"), ["cat", "dog"])

    @pytest.mark.parametrize(
        ("teacher", "student", "message"),
        [
            (("cat", "dog"), ("dog", "cat"), "class 1 is 'cat' to the teacher and 'dog' in --cla"),
            (("cat",), ("cat", "dog"), "knows 1 classes, --classes names 2"),
            (("cat", "dog"), ("cat",), "knows 2 classes, --classes names 1"),
        ],
    )
    def test_other_lists_are_refused(self, teacher, student, message):
        with pytest.raises(ValueError, match=message):
            stages.check_class_names(teacher, student)
