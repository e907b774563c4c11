"""Other projects' networks, rebuilt here, see what they see there."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torchvision.models.detection import ssd300_vgg16
from torchvision.models.detection.image_list import ImageList

from nets import stages
from nets.distillers import DISTILLERS
from nets.foreign.class_names import VOC
from nets.foreign.convert import convert
from nets.foreign.networks import foreign_network
from nets.outputs import Outputs, Targets
from nets.saved import describe_network, load_network
from nets.ssd import SSD300
from tests.foreign import filled, listing, picture
from tools.import_weights import import_weights
from tools.import_weights import main as import_main
from utils.boxes import cxcywh_to_xyxy
from utils.config import DistillConfig, TrainConfig
from utils.engine.runs.checkpoint import load_checkpoint, save_checkpoint

SMALL = "bubbliiiing_mobilenetv2"
TINY = "resnet18(width=0.125)"


class Golden(NamedTuple):
    """What a project's own code computes for one prior of `picture()` with the weights `filled`.

    index: position of the prior.
    prior: cxcywh, or xyxy for bubbliiiing; fractions.
    loc: its four offsets.
    conf: its first four logits.
    """

    index: int
    prior: tuple[float, ...]
    loc: tuple[float, ...]
    conf: tuple[float, ...]


GOLDEN = {
    "amdegroot": (
        Golden(
            21,
            (0.146667, 0.0133333, 0.141421, 0.141421),
            (0.0421837, 0.124335, -0.0548565, -0.108768),
            (-0.0179548, 0.136452, -0.0172896, -0.0945868),
        ),
        Golden(
            8731,
            (0.5, 0.5, 0.622254, 1),
            (-41.8382, -43.7633, -6.26839, 90.0213),
            (21.9247, -38.5736, -41.663, -9.67025),
        ),
    ),
    "lufficc": (
        Golden(
            21,
            (0.146667, 0.0133333, 0.141421, 0.141421),
            (-0.098577, -0.119897, -0.0765605, -0.085901),
            (-0.0565544, 0.0779834, -0.0290105, -0.0359649),
        ),
        Golden(
            8731,
            (0.5, 0.5, 0.622254, 1),
            (40.1784, 27.3009, 26.6552, -22.1786),
            (71.0156, -4.86239, -39.3825, 22.8519),
        ),
    ),
    "bubbliiiing_vgg": (
        Golden(
            21,
            (0.0740262, 0, 0.215448, 0.0838686),
            (0.0395874, 0.123846, -0.0512319, -0.104225),
            (-0.0153577, 0.13869, -0.0245907, -0.0999038),
        ),
        Golden(
            8731,
            (0.188873, 0, 0.811127, 1),
            (-35.3306, -46.132, -6.37445, 89.7786),
            (21.3197, -44.81, -40.183, -8.83344),
        ),
    ),
    "bubbliiiing_resnet50": (
        Golden(
            21,
            (0.0740262, 0, 0.215448, 0.0838686),
            (0.0732158, 0.0927264, -0.0720963, -0.0951634),
            (0.0572803, 0.0750328, 0.0858195, -0.115784),
        ),
        Golden(
            8731,
            (0.188873, 0, 0.811127, 1),
            (-655.592, -2061.36, -4812.62, 6131.3),
            (-410.851, -5700.45, -3196.93, -1789.87),
        ),
    ),
    "bubbliiiing_mobilenetv2": (
        Golden(
            7,
            (0.00823669, 0, 0.149658, 0.0970265),
            (0.100213, 0.251898, -0.143429, -0.0280681),
            (-0.0236179, 0.0970683, 0.0641093, -0.179541),
        ),
        Golden(
            2999,
            (0.245966, 0, 0.754034, 1),
            (0.269457, 0.171004, -0.0719397, -0.179366),
            (-0.0060339, -0.137726, -0.0699393, -0.164803),
        ),
    ),
}


@contextmanager
def no_initial_weights() -> Iterator[None]:
    """Networks are built without the seconds that their initial weights take; all are replaced."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("normal_", "uniform_", "kaiming_normal_", "kaiming_uniform_"):
            patch.setattr(torch.nn.init, name, lambda tensor, *_, **__: tensor)
        yield


@pytest.fixture(scope="module", params=GOLDEN)
def imported(request) -> tuple[str, SSD300, Outputs]:
    """Each project's network in ours, and what it says about the picture."""
    foreign = convert(filled(listing(request.param)))
    with no_initial_weights(), torch.no_grad():
        model = foreign_network(foreign).eval()
        return request.param, model, model(picture())


class TestGoldenNumbers:
    def test_priors(self, imported):
        project, model, _ = imported
        priors = cxcywh_to_xyxy(model.priors) if "bubbliiiing" in project else model.priors
        for golden in GOLDEN[project]:
            expected = torch.tensor(golden.prior)
            torch.testing.assert_close(priors[golden.index], expected, atol=1e-6, rtol=0)

    def test_outputs(self, imported):
        project, _, outputs = imported
        for index, _, loc, conf in GOLDEN[project]:
            for ours, theirs in (
                (outputs.offsets[0, index], loc),
                (outputs.logits[0, index, :4], conf),
            ):
                torch.testing.assert_close(ours, torch.tensor(theirs), rtol=1e-3, atol=1e-4)

    def test_the_last_golden_prior_is_the_last_one(self, imported):
        project, model, outputs = imported
        count = 3000 if project == SMALL else 8732
        assert GOLDEN[project][-1].index + 1 == len(model.priors) == count
        assert outputs.logits.shape == (1, count, 21)
        channels = [feature.shape[1] for feature in outputs.features]
        assert channels == list(model.channels)


@pytest.fixture(scope="module")
def theirs():
    """What torchvision has."""
    with no_initial_weights():
        model = ssd300_vgg16(weights=None, weights_backbone=None, num_classes=4).eval()
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    model.load_state_dict(filled(shapes))
    return model


@pytest.fixture(scope="module")
def ours(theirs) -> SSD300:
    """The same network in ours."""
    foreign = convert(theirs.state_dict())
    assert (foreign.project, foreign.classes) == ("torchvision", 3)
    with no_initial_weights():
        return foreign_network(foreign).eval()


class TestTorchvision:
    def test_outputs(self, theirs, ours):
        image = 255 * torch.rand(1, 3, 300, 300, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            features = theirs.backbone(theirs.transform.normalize(image / 255))
            expected = theirs.head(list(features.values()))
            outputs = ours(image)
        for mine, other in (
            (outputs.logits, expected["cls_logits"]),
            (outputs.offsets, expected["bbox_regression"]),
        ):
            assert (mine - other).abs().max() < 1e-3 * other.std()

    def test_priors(self, theirs, ours):
        images = ImageList(torch.zeros(1, 3, 300, 300), [(300, 300)])
        maps = [torch.zeros(1, 1, grid, grid) for grid in (38, 19, 10, 5, 3, 1)]
        (expected,) = theirs.anchor_generator(images, maps)
        torch.testing.assert_close(cxcywh_to_xyxy(ours.priors), expected / 300, atol=1e-6, rtol=0)

    def test_names_have_to_be_given(self, theirs, ours, tmp_path):
        torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
        with pytest.raises(ValueError, match=r"theirs.pth: its network has 3 classes.* no names"):
            load_network(tmp_path / "theirs.pth")
        with pytest.raises(ValueError, match="for which 2 names are given"):
            load_network(tmp_path / "theirs.pth", class_names=("a", "b"))
        with no_initial_weights():
            model, names = load_network(tmp_path / "theirs.pth", class_names=("a", "b", "c"))
        assert names == ("a", "b", "c")
        torch.testing.assert_close(model.state_dict(), ours.state_dict(), rtol=0, atol=0)


@pytest.fixture(scope="module")
def foreign_file(tmp_path_factory) -> Path:
    """The smallest of the networks, with VOC's classes."""
    path = tmp_path_factory.mktemp("foreign") / "small.pth"
    torch.save(filled(listing(SMALL)), path)
    return path


class TestFiles:
    def test_voc_is_taken_for_granted(self, foreign_file):
        model, names = load_network(foreign_file)
        assert names == VOC
        assert not model.training
        assert model.mean.flatten().tolist() == [104, 117, 123]
        assert model.std.flatten().tolist() == [1, 1, 1]

    def test_other_names_for_as_many_classes_are_refused(self, foreign_file):
        names = [f"thing {i}" for i in range(20)]
        with pytest.raises(ValueError, match=r"taken for aeroplane, bicycle, .* with thing 0"):
            load_network(foreign_file, class_names=names)
        assert load_network(foreign_file, class_names=VOC)[1] == VOC
        with pytest.raises(ValueError, match="20 classes, for which 3 names are given"):
            load_network(foreign_file, class_names=names[:3])

    def test_two_classes_are_not(self, tmp_path):
        torch.save({"model": filled(listing(SMALL, classes=2))}, tmp_path / "two.pth")
        with pytest.raises(ValueError, match="2 classes, for which no names are given"):
            load_network(tmp_path / "two.pth")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"L2Norm.weight": torch.ones(97)}, r"backbone.l2norm.weight is \(97,\) instead of"),
            ({"conf.6.bias": torch.ones(4)}, "conf.6.bias is unknown"),
            ({"extras.1.conv.2.weight": None}, "extras.1.0.conv.2.weight is missing"),
        ],
    )
    def test_what_does_not_fit_is_named(self, foreign_file, tmp_path, change, message):
        state = torch.load(foreign_file, weights_only=True) | change
        kept = {key: value for key, value in state.items() if value is not None}
        torch.save(kept, tmp_path / "changed.pth")
        with pytest.raises(ValueError, match=f"changed.pth: .*{message}"):
            load_network(tmp_path / "changed.pth")

    def test_a_file_that_runs_code_is_refused(self, tmp_path):
        torch.save(Path("x"), tmp_path / "code.pth")
        with pytest.raises(ValueError, match="more than tensors"):
            load_network(tmp_path / "code.pth")


class TestImport:
    def test_the_copy_is_the_same_network(self, foreign_file, tmp_path):
        report = import_weights(foreign_file, tmp_path / "new" / "ours.pth")
        for fact in (SMALL, "3000 priors", "20: aeroplane", "minus (104, 117, 123)"):
            assert fact in report
        content = load_checkpoint(tmp_path / "new" / "ours.pth")
        assert content["layout"] == SMALL
        theirs, ours = (load_network(p) for p in (foreign_file, tmp_path / "new" / "ours.pth"))
        assert theirs[1] == ours[1]
        assert torch.equal(theirs[0].priors, ours[0].priors)
        torch.testing.assert_close(theirs[0].state_dict(), ours[0].state_dict(), rtol=0, atol=0)

    def test_names_given_beat_those_taken_for_granted(self, foreign_file, tmp_path, capsys):
        (tmp_path / "names.txt").write_text("\n".join(f"thing {i}" for i in range(20)))
        out = str(tmp_path / "ours.pth")
        import_main([str(foreign_file), out, "--classes", str(tmp_path / "names.txt")])
        assert "thing 0, thing 1" in capsys.readouterr().out
        assert load_network(out)[1][19] == "thing 19"

    def test_refusals(self, foreign_file, tmp_path):
        ours = tmp_path / "ours.pth"
        import_weights(foreign_file, ours)
        with pytest.raises(FileExistsError, match="exists"):
            import_weights(foreign_file, ours)
        with pytest.raises(ValueError, match="of this program already"):
            import_weights(ours, tmp_path / "again.pth")
        with pytest.raises(ValueError, match=r"small.pth: taken for amdegroot"):
            import_weights(foreign_file, tmp_path / "again.pth", project="amdegroot")


@pytest.fixture
def captured(monkeypatch):
    """The tasks that `fit` gets, which does nothing here."""
    tasks = []

    def fit(task, *_, **__):
        tasks.append(task)
        return Path("best.pth")

    monkeypatch.setattr(stages, "fit", fit)
    monkeypatch.setattr("nets.inputs.check_splits", lambda *_: None)  # there is no data
    return tasks


@pytest.fixture
def settings(tmp_path) -> dict[str, object]:
    (tmp_path / "voc.txt").write_text("\n".join(VOC))
    return {
        "classes": str(tmp_path / "voc.txt"),
        "pretrained": False,
        "logs": str(tmp_path / "logs"),
        "device": "cpu",
    }


def save_tiny(path: Path, layout: str) -> str:
    torch.manual_seed(1)
    model = SSD300(TINY, 20, layout=layout)
    save_checkpoint(path, {**describe_network(model, VOC), "model": model.state_dict()})
    return str(path)


class TestTeacher:
    def test_the_student_takes_its_layout(self, captured, settings, tmp_path):
        teacher = save_tiny(tmp_path / "teacher.pth", "bubbliiiing")
        stages.train_student(DistillConfig(**settings, backbone=TINY, teacher=teacher))
        (task,) = captured
        assert task.model.layout == "bubbliiiing"
        assert torch.equal(task.model.priors, task.teacher.priors)
        torch.manual_seed(0)  # the teacher has not moved the student's initial weights
        alone = SSD300(TINY, 20, layout="bubbliiiing").state_dict()
        torch.testing.assert_close(task.model.state_dict(), alone, rtol=0, atol=0)

    def test_one_that_no_other_backbone_serves(self, captured, settings, foreign_file):
        config = DistillConfig(**settings, backbone=TINY, teacher=str(foreign_file))
        match = rf"\(38, 19, 10\) cannot serve the layout {SMALL}.* it serves paper, torchvision"
        with pytest.raises(ValueError, match=match):
            stages.train_student(config)
        assert not captured

    def test_matched_priors_let_it_teach(self, captured, settings, foreign_file):
        options = {**settings, "backbone": TINY, "teacher": str(foreign_file)}
        stages.train_student(DistillConfig(**options, match_priors=True))
        (task,) = captured
        assert task.model.layout == "paper"
        for more in ({"distill": ("hint",)}, {"preset": "paper"}):
            config = DistillConfig(**options, match_priors=True, **more)
            with pytest.raises(ValueError, match=r"--distill hint.* compares source maps"):
                stages.train_student(config)
        stages.train_student(
            DistillConfig(**options, match_priors=True, preset="paper", distill=())
        )
        outputs = tuple(name for name, kind in DISTILLERS.items() if not kind.compares_maps)
        stages.train_student(DistillConfig(**options, match_priors=True, distill=outputs))
        objects = Targets(torch.tensor([[[0.1, 0.2, 0.6, 0.7]]] * 2), torch.tensor([[1]] * 2))
        terms = captured[-1](255 * torch.rand(2, 3, 300, 300), objects)
        assert outputs
        assert all(terms[name] > 0 for name in outputs)

    def test_a_wrong_student_shows_before_a_teacher_is_trained(self, captured, settings):
        with pytest.raises(ValueError, match="unknown backbone 'alexnet'"):
            stages.train_student(DistillConfig(**settings, backbone="alexnet"))
        assert not captured


class TestStart:
    def test_from_another_project(self, captured, settings, foreign_file):
        stages.train_detector(TrainConfig(**settings, weights=str(foreign_file)))
        (task,) = captured
        expected = load_network(foreign_file)[0]
        assert (task.model.spec, task.model.layout) == (SMALL, SMALL)
        torch.testing.assert_close(task.model.state_dict(), expected.state_dict(), rtol=0, atol=0)

    def test_a_student_from_ours(self, captured, settings, tmp_path):
        start = save_tiny(tmp_path / "start.pth", "paper")
        teacher = save_tiny(tmp_path / "teacher.pth", "paper")
        stages.train_student(DistillConfig(**settings, weights=start, teacher=teacher))
        (task,) = captured
        expected = load_network(start)[0]
        torch.testing.assert_close(task.model.state_dict(), expected.state_dict(), rtol=0, atol=0)
        assert all(p.requires_grad for p in task.model.parameters())

    def test_the_teacher_that_is_trained_first_starts_afresh(self, captured, settings, tmp_path):
        start = save_tiny(tmp_path / "start.pth", "paper")
        settings |= {"teacher_backbone": TINY, "teacher_pretrained": False}
        config = DistillConfig(**settings, weights=start, seed=5)
        stages.train_teacher(config, VOC)
        torch.manual_seed(5)
        fresh = SSD300(TINY, 20).state_dict()
        torch.testing.assert_close(captured[0].model.state_dict(), fresh, rtol=0, atol=0)

    def test_of_other_classes_all_but_the_class_heads_is_kept(
        self, captured, settings, foreign_file, capsys
    ):
        Path(settings["classes"]).write_text("aeroplane\nkite\nowl\n")
        for seed in (5, 5, 6):
            config = TrainConfig(**settings, weights=str(foreign_file), seed=seed)
            stages.train_detector(config)
        line = f"starting from {foreign_file}: {SMALL}, layout {SMALL}; it knows other classes, "
        assert capsys.readouterr().out.count(f"{line}so the class heads begin anew\n") == 3
        before = load_network(foreign_file)[0].state_dict()
        first, again, other = (task.model.state_dict() for task in captured)
        for key, value in first.items():
            assert torch.equal(value, again[key]), key
            if key.startswith("conf."):
                assert len(value) * 21 == len(before[key]) * 4  # K + 1 for each prior of a cell
                assert torch.equal(value, other[key]) == key.endswith("bias"), key  # those are 0
            else:
                assert torch.equal(value, before[key]), key
        assert captured[0].model.classes == 3

    def test_where_names_are_unknown_their_number_decides(self, captured, settings, tmp_path):
        path = tmp_path / "two.pth"
        torch.save(filled(listing(SMALL, classes=2)), path)
        Path(settings["classes"]).write_text("kite\nowl\n")
        stages.train_detector(TrainConfig(**settings, weights=str(path)))
        expected = load_network(path, class_names=("kite", "owl"))[0].state_dict()
        torch.testing.assert_close(captured[0].model.state_dict(), expected, rtol=0, atol=0)
        Path(settings["classes"]).write_text("kite\nowl\nelk\n")
        stages.train_detector(TrainConfig(**settings, weights=str(path)))
        assert captured[1].model.classes == 3
        with pytest.raises(ValueError, match=r"two.pth: does not tell the names .* --classes"):
            stages.train_detector(TrainConfig(**{**settings, "classes": ""}, weights=str(path)))

    def test_another_order_is_refused(self, captured, settings, foreign_file):
        Path(settings["classes"]).write_text("\n".join([*VOC[1::-1], *VOC[2:]]))
        config = TrainConfig(**settings, weights=str(foreign_file))
        with pytest.raises(ValueError, match="class 1 is 'aeroplane' to --weights and 'bicycle'"):
            stages.train_detector(config)
        assert not captured
        stages.train_detector(dataclasses.replace(config, classes=""))  # as the line says
        assert captured[0].model.classes == 20

    def test_another_backbone_is_refused(self, captured, settings, foreign_file):
        config = TrainConfig(**settings, backbone="resnet18", weights=str(foreign_file))
        with pytest.raises(ValueError, match=f"--backbone is resnet18, .* is {SMALL}"):
            stages.train_detector(config)
        assert not captured
