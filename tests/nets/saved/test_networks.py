"""Networks in files: whole again after loading, and refused with the file's name otherwise."""

from pathlib import Path

import pytest
import torch

from nets.detect import Limits
from nets.saved import check_class_names, describe_network, limits_for, load_network
from nets.saved.exported import Exported
from nets.ssd import SSD300, load_weights
from utils.engine.runs.checkpoint import save_checkpoint

TINY, NAMES = "resnet18(width=0.125)", ("cat", "dog")


@pytest.fixture
def model() -> SSD300:
    torch.manual_seed(0)
    return SSD300(TINY, len(NAMES))


def write(path: Path, model: SSD300, /, **changes: object) -> Path:
    content = {**describe_network(model, NAMES), "model": model.state_dict(), **changes}
    save_checkpoint(path, {k: v for k, v in content.items() if v is not None})
    return path


def test_round_trip(model, tmp_path):
    loaded, names = load_network(write(tmp_path / "best.pth", model))
    assert names == NAMES
    assert (loaded.spec, loaded.layout, loaded.classes) == (TINY, "paper", 2)
    assert not loaded.training
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in loaded.state_dict().items())
    images = 255 * torch.rand(1, 3, 300, 300)
    with torch.no_grad():
        assert torch.equal(loaded(images).logits, model.eval()(images).logits)


def test_normalisation_and_layout_come_from_the_file(tmp_path):
    model = SSD300(TINY, 2, layout="torchvision")
    model.mean += 1
    model.std *= 2
    loaded, _ = load_network(write(tmp_path / "best.pth", model))
    assert torch.equal(loaded.mean, model.mean)
    assert torch.equal(loaded.std, model.std)
    assert torch.equal(loaded.priors, model.priors)


def test_no_imagenet_weights_are_fetched(model, tmp_path, monkeypatch):
    def fail(*_args, **_options):
        raise AssertionError("downloads")

    path = write(tmp_path / "best.pth", model)
    monkeypatch.setattr("nets.backbones.resnet.imagenet_state", fail)
    load_network(path)


def test_no_such_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.pth: no such checkpoint"):
        load_network(tmp_path / "gone.pth")


def test_a_truncated_file(model, tmp_path):
    path = write(tmp_path / "best.pth", model)
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(ValueError, match=r"best\.pth: "):
        load_network(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": None}, "the checkpoint has no entry 'model'"),
        ({"class_names": None}, "no entry 'class_names'"),
        ({"class_names": ["cat"]}, r"weights are not those of .* with 1 classes: .*conf"),
        ({"backbone": "alexnet"}, "unknown backbone 'alexnet'"),
        ({"layout": "mine"}, "no prior layout 'mine'"),
        ({"backbone": "resnet18(width=0.25)"}, "instead of .* and [0-9]+ more"),
    ],
)
def test_files_that_contradict_themselves(model, tmp_path, changes, message):
    path = write(tmp_path / "best.pth", model, **changes)
    with pytest.raises(ValueError, match=rf"best\.pth: .*{message}"):
        load_network(path)


class TestLoadWeights:
    def test_all_differences_are_found_and_three_named(self, model):
        state = model.state_dict()
        state["extra"] = torch.zeros(1)
        state["mean"] = torch.zeros(3)
        del state["std"]
        with pytest.raises(ValueError, match="not those of") as error:
            load_weights(model, state)
        text = str(error.value)
        assert text.endswith(
            "with 2 classes: std is missing; extra is unknown; mean is (3,) instead of (3, 1, 1)"
        )
        del state["loc.0.bias"]
        with pytest.raises(ValueError, match=r"extra is unknown and 1 more$"):
            load_weights(model, state)

    def test_all_or_nothing(self, model):
        before = {k: v.clone() for k, v in model.state_dict().items()}
        state = {k: v + 1 for k, v in before.items()}
        del state["std"]
        with pytest.raises(ValueError, match="std is missing"):
            load_weights(model, state)
        assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.full((3, 1, 1), float("nan")), "mean holds infinite values or NaN"),
        (torch.full((3, 1, 1), float("inf")), "mean holds infinite values or NaN"),
        (torch.zeros(3), r"mean is \(3,\) instead of \(3, 1, 1\)"),
        (torch.zeros(3, 1, 1, dtype=torch.complex64), "mean has torch.complex64"),
        (torch.zeros(3, 1, 1, dtype=torch.long), "mean has torch.int64"),
        (torch.zeros(3, 1, 1, device="meta"), "mean has torch.float32 on meta"),
        (torch.zeros(3, 1, 1).to_sparse(), "mean is no plain tensor"),
        ([0.0], "mean is no plain tensor"),
    ],
)
def test_values_that_are_no_weights(model, tmp_path, value, message):
    path = write(tmp_path / "best.pth", model, model={**model.state_dict(), "mean": value})
    with pytest.raises(ValueError, match=rf"best\.pth: the weights are not those .*: {message}"):
        load_network(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone": 3}, "entry 'backbone' is of type int, not str"),
        ({"layout": ["paper"]}, "entry 'layout' is of type list, not str"),
        ({"model": [1]}, "entry 'model' is of type list, not dict"),
        ({"class_names": "ab"}, "entry 'class_names' is of type str, not list"),
        ({"class_names": ["cat", "cat"]}, "class names are .*, not different texts"),
        ({"class_names": ["cat", 1]}, "class names are .*, not different texts"),
    ],
)
def test_entries_of_the_wrong_type(model, tmp_path, changes, message):
    with pytest.raises(ValueError, match=rf"best\.pth: its {message}"):
        load_network(write(tmp_path / "best.pth", model, **changes))


class TestClassNames:
    def test_equal_lists(self):
        check_class_names(("cat", "dog"), ["cat", "dog"])

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
            check_class_names(teacher, student)


def test_limits_that_an_exported_network_has_built_in(capsys):
    model = Exported.__new__(Exported)  # its file would take a minute to write
    model.__dict__ |= {"iou_threshold": 0.7, "score_threshold": 0.3, "raw": False}
    own = Limits(score=0.5, iou=0.7)
    assert limits_for(model, own) == own
    assert capsys.readouterr().out == ""
    limits_for(model, Limits(score=0.01, iou=0.45, per_image=300))
    assert capsys.readouterr().out == (
        "the exported network's own limits hold: scores above 0.3, suppression at 0.7\n"
        "the exported network finds at most 200 objects an image\n"
    )
    with pytest.raises(ValueError, match="--nms: built into an exported network"):
        limits_for(model, Limits(score=0.5, iou=0.5))
