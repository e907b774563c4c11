"""What flags name is looked for first, and class names come from where they are known."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nets.inputs import check_inputs, read_class_names
from nets.saved import describe_network
from nets.ssd import SSD300
from tests.foreign import filled, listing
from utils.config import CLASSES, DistillConfig, TrainConfig
from utils.data.voc import read_classes
from utils.engine.runs.checkpoint import save_checkpoint

ROOT = Path(__file__).resolve().parents[2]
SHAPES = ("cross", "disc", "square", "star", "triangle")


def save(path: Path, names: tuple[str, ...]) -> str:
    """A network that knows these classes."""
    model = SSD300("resnet18(width=0.05)", len(names))
    save_checkpoint(path, {**describe_network(model, names), "model": model.state_dict()})
    return str(path)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Lists and checkpoints by what they know."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "birds.txt").write_text("owl\nkite\n")
    (folder / "text.pth").write_text("hello")
    torch.save(filled(listing("bubbliiiing_mobilenetv2", 2)), folder / "nameless.pth")
    return {
        "birds": str(folder / "birds.txt"),
        "text": str(folder / "text.pth"),
        "nameless": str(folder / "nameless.pth"),
        "shapes": save(folder / "shapes.pth", SHAPES),
        "pets": save(folder / "pets", ("cat", "dog")),  # its name ends as it likes
    }


class TestClassNames:
    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            (("birds", "shapes", "pets"), ("owl", "kite")),
            (("pets", "shapes", ""), ("cat", "dog")),
            (("", "shapes", "pets"), SHAPES),
            (("", "", "pets"), ("cat", "dog")),
        ],
    )
    def test_classes_first_then_checkpoints(self, files, given, expected):
        assert read_class_names(*(files.get(name, "") for name in given)) == expected

    def test_voc_where_nothing_is_given(self, monkeypatch, tmp_path):
        monkeypatch.chdir(ROOT)
        assert read_class_names("", "") == read_classes(CLASSES)
        assert len(read_class_names("")) == 20
        monkeypatch.chdir(tmp_path)
        with pytest.raises(FileNotFoundError, match=f"--classes {CLASSES}: no such class list"):
            read_class_names("")

    def test_a_checkpoint_is_no_list_and_a_list_no_checkpoint(self, files):
        assert read_class_names(files["text"]) == ("hello",)
        with pytest.raises(ValueError, match=r"text\.pth: the file is truncated or no checkpoint"):
            read_class_names("", files["text"])
        for given in ((files["nameless"],), ("", files["nameless"])):
            with pytest.raises(ValueError, match=r"nameless\.pth: does not tell the names of its"):
                read_class_names(*given)


@pytest.fixture
def config(drawn: Path, files: dict[str, str]) -> DistillConfig:
    return DistillConfig(
        data=str(drawn), train=("VOC2007/train",), val=("VOC2007/val",), teacher=files["shapes"]
    )


class TestInputs:
    def test_sound_ones(self, config, drawn):
        assert check_inputs(config) == SHAPES
        plain = TrainConfig(data=config.data, train=config.train)
        with pytest.raises(ValueError, match=r"--train VOC2007/train: .* is not in the class list"):
            check_inputs(plain)  # VOC's
        classes = str(drawn / "VOC2007/classes.txt")
        assert check_inputs(replace(plain, classes=classes)) == SHAPES
        assert check_inputs(replace(plain, skip_bad=True)) == read_classes(ROOT / CLASSES)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"data": "nowhere"}, "--train VOC2007/train: nowhere: no such folder"),
            ({"train": ("VOC2007/x",)}, "--train VOC2007/x: .*x.txt: no such split"),
            ({"val": ("VOC2007/val", "x/val")}, "--val x/val: .*x: no such folder"),
            ({"val": ("val",)}, "--val val: the split 'val' is not <folder of the devkit>/<split>"),
            ({"teacher": "none.pth"}, r"--teacher none\.pth: no such checkpoint"),
            ({"weights": "none.pth"}, r"--weights none\.pth: no such checkpoint"),
            ({"classes": "none.txt"}, r"--classes none\.txt: no such class list"),
            ({"classes": "birds"}, "--train VOC2007/train: .*give --classes that of.*--skip-bad"),
        ],
    )
    def test_wrong_ones_are_named_by_their_flags(self, config, files, changes, message):
        changes = {k: files.get(v, v) if k == "classes" else v for k, v in changes.items()}
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            check_inputs(replace(config, **changes))

    def test_paths_are_looked_for_before_any_file_is_read(self, config, monkeypatch):
        monkeypatch.setattr("nets.inputs.load_tensors", None)
        with pytest.raises(FileNotFoundError, match="--val VOC2007/x"):
            check_inputs(replace(config, val=("VOC2007/x",)))
