"""Fewer channels: which ones go, what loads again, and the way on to a distilled student."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from nets.saved import describe_network, load_network
from nets.saved.pruned import load_pruned_weights
from nets.ssd import SSD300
from tests.test_cli import flat, interrupt, on
from tools.prune.channels import importances, kept, largest, without
from utils.data.voc import read_classes
from utils.engine.runs.checkpoint import save_checkpoint
from utils.show.report import cost

TINY = "resnet18(width=0.25)"
IMAGES = 255 * torch.rand(1, 3, 300, 300, generator=torch.Generator().manual_seed(0))


def network(spec=TINY, layout="paper"):
    torch.manual_seed(0)
    return SSD300(spec, 2, layout=layout).eval()


def saved(model, path, names=("a", "b")):
    save_checkpoint(path, {**describe_network(model, names), "model": model.state_dict()})
    return path


@pytest.mark.parametrize(
    ("channels", "keep", "count"),
    [
        (64, 0.5, 32),
        (64, 0.55, 32),  # 35.2: 32 is the nearest multiple of 8
        (64, 0.6, 40),  # 38.4
        (64, 0.01, 8),  # 0.64: never below 8
        (8, 0.5, 4),  # a group below 16 is not rounded to 8
        (8, 0.07, 1),  # 0.56
        (22, 0.95, 22),  # 24 is the nearest multiple of 8, and more than there are
    ],
)
def test_how_many_stay(channels, keep, count):
    assert kept("layer", channels, keep) == count


def test_none_may_not_be_left():
    message = r"keeping 0\.05 of 8 channels leaves layer without any; keep more than 0\.0625"
    with pytest.raises(ValueError, match=message):
        kept("layer", 8, 0.05)


def test_channels_without_effect_go_without_effect():
    """Where half of all channels are zero, `bn` finds them, and nothing changes without them."""
    model = network()
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        silent = torch.randperm(norm.num_features, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            norm.weight[silent[: norm.num_features // 2]] = 0
            norm.bias[silent[: norm.num_features // 2]] = 0
    pruned = without(model, importances(model, "bn"), 0.5)
    with torch.no_grad():
        before, after = model(IMAGES), pruned(IMAGES)
    torch.testing.assert_close(after.logits, before.logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(after.offsets, before.offsets, atol=1e-5, rtol=0)
    assert pruned.channels == tuple(c // 2 for c in model.channels)
    assert cost(pruned)["parameters"] < 0.4 * cost(model)["parameters"]


def test_the_smallest_weights_go_first():
    model = network()
    conv = model.get_submodule("backbone.layer1.0.conv1")
    norm = model.get_submodule("backbone.layer1.0.bn1")
    with torch.no_grad():
        conv.weight[::2] *= 0.01
        norm.weight[::2] *= 0.01
    odd = conv.weight[1::2].clone()
    pruned = without(model, importances(model, "magnitude"), 0.5)
    left = pruned.get_submodule("backbone.layer1.0.conv1").weight
    # Its inputs are pruned, too: what is left of each kernel is a part of it.
    assert len(left) == 8
    assert all(
        any((odd[i] == row[0]).flatten(1).all(1).any() for row in (left[i],)) for i in range(8)
    )


@pytest.mark.parametrize(
    ("spec", "layout"),
    [
        ("resnet18(width=0.125)", "paper"),
        ("resnet50(width=0.125)", "paper"),
        ("mobilenetv2(width=0.35)", "paper"),
        ("vgg16", "paper"),
        ("bubbliiiing_mobilenetv2", "bubbliiiing_mobilenetv2"),
    ],
)
def test_it_loads_without_the_extra(spec, layout, tmp_path, monkeypatch):
    model = network(spec, layout)
    pruned = without(model, importances(model, "magnitude"), 0.5)
    path = saved(pruned, tmp_path / "pruned.pth")
    monkeypatch.setitem(sys.modules, "torch_pruning", None)
    loaded, _ = load_network(path)
    assert loaded.pruned
    assert (loaded.spec, loaded.layout) == (spec, layout)
    assert loaded.channels == pruned.channels
    assert all(0 < a <= b for a, b in zip(loaded.channels, model.channels, strict=True))
    with torch.no_grad():
        assert torch.equal(loaded(IMAGES).logits, pruned(IMAGES).logits)
    for one, other in zip(loaded.modules(), pruned.modules(), strict=True):
        assert repr(one) == repr(other)  # in_channels, groups, num_features, ...
    assert cost(loaded) == cost(pruned)
    assert cost(loaded)["parameters"] < 0.5 * cost(model)["parameters"]


def test_aims_are_met():
    model = network()
    scores = importances(model, "magnitude")
    half = cost(model)["gflops"] / 2
    found = cost(largest(model, scores, lambda it: it["gflops"] <= half))["gflops"]
    assert 0.7 * half < found <= half
    with pytest.raises(ValueError, match="small enough as it is"):
        largest(model, scores, lambda it: it["gflops"] <= 3 * half)
    with pytest.raises(ValueError, match=r"the narrowest network has .* parameters .* still"):
        largest(model, scores, lambda it: it["parameters"] <= 100)


def test_an_attention_map_is_no_width():
    """The one channel that says where to look stays, whatever is kept of others."""
    network = SSD300("resnet18(width=0.125, attention='cbam')", 3).eval()
    scores = importances(network, "magnitude")
    assert not any(name.endswith("look") for name in scores)
    pruned = without(network, scores, 0.5)
    assert cost(pruned)["parameters"] < 0.6 * cost(network)["parameters"]
    assert pruned(torch.zeros(1, 3, 300, 300)).logits.isfinite().all()


def test_the_network_itself_stays():
    model = network()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    without(model, importances(model, "magnitude"), 0.5)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


class TestContradictions:
    def test_one_layer_alone(self):
        state = network().state_dict()
        state["backbone.layer1.0.conv1.weight"] = state["backbone.layer1.0.conv1.weight"][:3]
        with pytest.raises(ValueError, match="its layers do not fit together"):
            load_pruned_weights(network(), state)

    def test_more_channels(self):
        state = network().state_dict()
        state["backbone.bn1.weight"] = torch.ones(17)
        with pytest.raises(ValueError, match=r"bn1.weight is \(17,\) instead of \(16,\)"):
            load_pruned_weights(network(), state)

    def test_other_heads(self):
        state = network().state_dict()
        for name in ("weight", "bias"):
            state[f"conf.0.{name}"] = state[f"conf.0.{name}"][:9]  # 3 priors of a cell, not 4
        with pytest.raises(ValueError, match="its heads do not serve 8732 priors of 2 classes"):
            load_pruned_weights(network(), state)

    def test_fewer_channels_and_no_word_of_it(self, tmp_path):
        model = network()
        pruned = without(model, importances(model, "magnitude"), 0.5)
        pruned.pruned = False
        with pytest.raises(ValueError, match="the weights are not those of"):
            load_network(saved(pruned, tmp_path / "pruned.pth"))


@pytest.fixture
def student(drawn: Path, tmp_path: Path) -> Path:
    names = read_classes(drawn / "VOC2007/classes.txt")
    return saved(SSD300("resnet18(width=0.25)", len(names)), tmp_path / "student.pth", names)


@pytest.mark.parametrize("by", ["magnitude", "bn", "taylor"])
def test_command_line(by, student, drawn, tmp_path, script, capsys):
    out = tmp_path / "new/pruned.pth"
    data = ["--data", drawn, "--train", "VOC2007/train", "--images", 4, "--batch-size", 2]
    arguments = ["--weights", student, "--out", out, "--keep", 0.5, "--by", by, "--device", "cpu"]
    assert script("tools.prune", *arguments, *data) == 0
    said = capsys.readouterr().out
    assert f"python train_kd.py --weights {out} --teacher {student} --recipe scratch" in said
    assert load_network(out)[0].channels == (16, 32, 64, 32, 32, 32)


def test_the_next_command_reads_the_devkit_of_the_teacher(student, drawn, tmp_path, script, capsys):
    pruned = tmp_path / "pruned.pth"
    words = ["--weights", student, "--out", pruned, "--keep", 0.5]
    assert script("tools.prune", *words, "--data", drawn) == 0
    assert f"--recipe scratch --data {drawn}" in capsys.readouterr().out


def test_prune_then_distil_from_the_unpruned(student, drawn, tmp_path, script, capsys):
    pruned = tmp_path / "pruned.pth"
    assert script("tools.prune", "--weights", student, "--out", pruned, "--keep", 0.5) == 0
    arguments = on(drawn, "--epochs", "2", "--logs", tmp_path, "--distill", "hint")
    arguments[: arguments.index("--no-pretrained")] = []  # the backbone is that of --weights
    arguments += ["--weights", pruned, "--teacher", student]
    assert script("train_kd", *arguments, "--name", "whole") == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("utils.engine.runs.files.draw_curves", interrupt)
        assert script("train_kd", *arguments, "--val-every", "1", "--name", "stopped") == 130
    assert script("train_kd", *arguments, "--name", "stopped", "--resume") == 0
    whole, stopped = (
        torch.load(tmp_path / name / "last.pth", weights_only=True)["model"]
        for name in ("whole", "stopped")
    )
    assert all(torch.equal(value, stopped[key]) for key, value in flat(whole).items())
    best, _ = load_network(tmp_path / "whole/best.pth")
    assert best.pruned
    assert best.channels == load_network(pruned)[0].channels
    # What a run has written knows what it was trained on.
    capsys.readouterr()
    again = ["--weights", tmp_path / "whole/best.pth", "--out", tmp_path / "again.pth"]
    assert script("tools.prune", *again, "--keep", 0.5) == 0
    assert f"--recipe scratch --data {drawn} --train VOC2007/train" in capsys.readouterr().out


class TestRefusals:
    def test_settings(self, refused, student):
        paths = ["--weights", student, "--out", "logs/x.pth"]
        assert "--weights and --out are needed" in refused("tools.prune")
        assert "give one of --keep" in refused("tools.prune", *paths)
        assert "give one of" in refused("tools.prune", *paths, "--keep", 0.5, "--gflops", 1)
        assert "a share below 1, not 1.5" in refused("tools.prune", *paths, "--keep", 1.5)
        assert "--keep must be at least 0" in refused("tools.prune", *paths, "--keep", -1)

    def test_its_own_source(self, refused, student):
        arguments = ["--weights", student, "--out", student, "--keep", 0.5]
        assert "would be lost" in refused("tools.prune", *arguments)

    def test_a_layer_without_channels(self, refused, student, tmp_path):
        arguments = ["--weights", student, "--out", tmp_path / "x.pth", "--keep", 0.01]
        line = refused("tools.prune", *arguments)
        assert "keeping 0.01 of 16 channels leaves backbone." in line
        assert "without any; keep more than 0.03125" in line
        assert not (tmp_path / "x.pth").exists()

    def test_nothing_to_take(self, refused, student, tmp_path):
        line = refused(
            "tools.prune", "--weights", student, "--out", tmp_path / "x.pth", "--keep", 0.99
        )
        assert "--keep 0.99 leaves every channel" in line
        assert not (tmp_path / "x.pth").exists()

    def test_other_classes(self, refused, student, tmp_path):
        (tmp_path / "classes.txt").write_text("elk\nowl\n")
        arguments = ["--weights", student, "--out", tmp_path / "x.pth", "--keep", 0.5]
        line = refused("tools.prune", *arguments, "--classes", tmp_path / "classes.txt")
        assert "to " + str(student) in line
        assert not (tmp_path / "x.pth").exists()

    def test_no_batch_norm(self, refused, tmp_path):
        path = saved(SSD300("vgg16", 2), tmp_path / "vgg.pth")
        arguments = ["--weights", path, "--out", tmp_path / "x.pth", "--keep", 0.5, "--by", "bn"]
        assert "has no batch norm to be judged by" in refused("tools.prune", *arguments)

    def test_the_missing_extra(self, refused, student, monkeypatch, tmp_path):
        monkeypatch.setitem(sys.modules, "torch_pruning", None)
        arguments = ["--weights", student, "--out", tmp_path / "x.pth", "--keep", 0.5]
        assert "pip install -e '.[prune]'" in refused("tools.prune", *arguments)
