"""How settings become tasks; the stages in earnest run in test_cli."""

from pathlib import Path

import pytest
import torch

from nets import stages
from nets.multibox_loss_kd import MultiBoxLoss_KD
from nets.saved import describe_network
from nets.ssd import SSD300
from nets.tasks import DistillTask
from utils.config import DistillConfig, TrainConfig
from utils.engine.runs.checkpoint import save_checkpoint
from utils.files import digest

TINY = "resnet18(width=0.125)"


@pytest.fixture
def captured(monkeypatch, tmp_path):
    """Calls of `fit`, which does nothing here."""
    calls = []

    def fit(task, config, class_names, description, *_, **__):
        calls.append((task, config, class_names, description))
        return tmp_path / config.logs / config.name / "best.pth"

    monkeypatch.setattr(stages, "fit", fit)
    monkeypatch.setattr("nets.inputs.check_splits", lambda *_: None)  # there is no data
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
    path.parent.mkdir(parents=True, exist_ok=True)
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

    def test_the_teachers_classes_count_unless_others_are_given(self, captured, settings, tmp_path):
        names = ("elk", "owl", "ox")
        teacher = save_teacher(tmp_path / "teacher.pth", names)
        start = save_teacher(tmp_path / "start.pth", ("cat", "dog"))
        options = {**settings, "classes": "", "backbone": "", "weights": start}
        stages.train_student(DistillConfig(**options, teacher=teacher))
        ((task, _, found, _),) = captured
        assert (found, task.model.classes) == (names, 3)

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

        def train_detector(teacher_config, stage):
            assert (stage.name, stage.before) == ("teacher", 0)
            seen.append(teacher_config)
            return save_teacher(Path(settings["logs"]) / "teacher.pth")

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
        seen = []
        monkeypatch.setattr(stages, "train_detector", lambda config, _: seen.append(config))
        monkeypatch.setattr(stages, "build_network", lambda *_: SSD300(TINY, 2))
        for student in (True, False):
            options = {**settings, "pretrained": student, "teacher_backbone": TINY}
            if not teacher:  # else: the default
                options["teacher_pretrained"] = False
            stages.train_teacher(DistillConfig(**options), ("cat", "dog"))
        assert [config.pretrained for config in seen] == [teacher, teacher]

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"teacher_backbone": "vgg99"}, "unknown backbone 'vgg99'"),
            ({"backbone": "vgg99"}, "unknown backbone 'vgg99'"),
            ({"distill": ("magic",)}, "unknown distiller 'magic'"),
            ({"batch_size": 1}, "--batch-size 1 cannot train batch norm"),
            ({"classes": "none.txt"}, "--classes none.txt: no such class list"),
            ({"weights": "none.pth"}, "--weights none.pth: no such checkpoint"),
        ],
    )
    def test_what_is_wrong_with_stage_two_shows_before_stage_one(
        self, captured, settings, changes, message
    ):
        options = {**settings, "teacher_backbone": TINY, "teacher_pretrained": False, **changes}
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            stages.train_student(DistillConfig(**options))
        assert not captured

    @pytest.mark.parametrize("views", [0, 3])
    def test_a_start_on_other_priors_than_its_teachers_shows_before_stage_one(
        self, captured, settings, tmp_path, views
    ):
        model = SSD300(TINY, 2, layout="torchvision")
        content = {**describe_network(model, ["cat", "dog"]), "model": model.state_dict()}
        save_checkpoint(tmp_path / "start.pth", content)
        settings |= {"backbone": "", "weights": str(tmp_path / "start.pth")}
        settings |= {"teacher_backbone": TINY, "teacher_pretrained": False, "teacher_views": views}
        with pytest.raises(ValueError, match="the teacher's prior layout is 'paper'"):
            stages.train_student(DistillConfig(**settings))
        assert not captured

    def test_the_folder_of_stage_one_is_looked_at_before_anything_is_built(
        self, captured, settings, monkeypatch
    ):
        settings |= {"teacher_backbone": TINY, "name": "s"}
        save_teacher(Path(settings["logs"]) / "s-teacher/last.pth")
        monkeypatch.setattr(stages, "build_network", None)
        with pytest.raises(FileExistsError, match="s-teacher holds a run already; pass --resume"):
            stages.train_student(DistillConfig(**settings))
        assert not captured

    def test_the_classes_of_a_start_are_those_of_both_stages(self, captured, settings, tmp_path):
        start = save_teacher(tmp_path / "start.pth", names=("elk", "owl", "ox"))
        options = {**settings, "classes": "", "backbone": "", "weights": start}
        options |= {"teacher_backbone": TINY, "teacher_pretrained": False}
        save_teacher(tmp_path / "logs/student-teacher/best.pth", ("elk", "owl", "ox"))
        stages.train_student(DistillConfig(**options))
        assert [call[2] for call in captured] == [("elk", "owl", "ox")] * 2
        assert captured[1][0].teacher.classes == 3


@pytest.mark.parametrize(
    ("changes", "ratio"),
    [
        # An image costs the teacher 3 x 6 forward and back, the student 3 x 1 and the teacher 6.
        ({}, 0.5),
        ({"teacher_epochs": 5}, 1.0),
        ({"teacher_views": 5}, 6 / 18),  # 3 + 6 / 2
        ({"unlabelled": ("A/film",), "unlabelled_fraction": 0.75}, 2.0),  # 4 times as many images
    ],
)
def test_what_the_second_stage_takes_beside_the_first(monkeypatch, changes, ratio):
    monkeypatch.setattr(stages, "cost", lambda model: {"gflops": model})
    config = DistillConfig(**({"epochs": 10, "batch_size": 32} | changes))
    teacher, student = stages.both_stages(config, 1.0, 6.0)
    assert teacher == ("teacher", 0, pytest.approx(ratio))
    assert student == ("student", pytest.approx(1 / ratio), 0)


def test_a_teacher_that_became_another_one_is_not_asked(tmp_path: Path) -> None:
    """What it says would count as what the first one said."""
    path, network = tmp_path / "best.pth", SSD300("resnet18(width=0.125)", 2)
    path.write_bytes(b"first")
    original = digest(path)
    assert stages.unchanged(path, original, lambda: network) is network
    path.write_bytes(b"second")
    with pytest.raises(ValueError, match=r"best\.pth: has changed since the run began; copy a"):
        stages.unchanged(path, original, lambda: network)
