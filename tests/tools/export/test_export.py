"""`python -m tools.export`, and the scripts that read what it has written."""

import json
import re
import shutil
import sys
from pathlib import Path

import onnx
import pytest
import torch
from onnx import helper, numpy_helper

from nets.detect import cost_of, detect, detect_images
from nets.postprocess import Limits, find_candidates
from nets.saved import describe_network, load_detector, load_network
from nets.saved.exported import Exported
from nets.ssd import SSD300
from tools.export.checking import Found, compare, real
from tools.export.graph import network_graph, whole_graph
from tools.export.quantise import Images
from utils.data.augment import resize
from utils.data.store import Store
from utils.data.voc import read_classes, read_split
from utils.engine.runs.checkpoint import save_checkpoint

TINY = "resnet18(width=0.125)"


@pytest.fixture(scope="module")
def weights(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a network that says something different everywhere."""
    torch.manual_seed(3)
    names = read_classes(drawn / "VOC2007/classes.txt")
    model = SSD300(TINY, len(names)).eval()
    with torch.no_grad():
        logits = model(255 * torch.rand(1, 3, 300, 300)).logits
        for head in model.conf:
            head.weight *= 1.5 / logits.std()
    path = tmp_path_factory.mktemp("export") / "best.pth"
    save_checkpoint(path, {**describe_network(model, names), "model": model.state_dict()})
    return path


@pytest.fixture(scope="module")
def exported(weights: Path, drawn: Path) -> Path:
    """What the tool makes of it; compared with PyTorch on the way."""
    from tools.export.__main__ import main

    out = weights.with_name("student.onnx")
    main(["--weights", str(weights), "--out", str(out), "--input", "floats", *check(drawn)])
    return out


def check(drawn: Path) -> list[str]:
    return ["--check", "VOC2007/test", "--data", str(drawn), "--workers", "1"]


def test_it_says_what_it_is(weights, exported):
    model, names = load_network(weights)
    loaded, theirs, precision = load_detector(exported, torch.device("cpu"))
    assert precision.dtype is None
    assert loaded.arithmetic == {"device": "cpu", "dtype": "float32"}
    with pytest.raises(ValueError, match=r"--amp bf16: .*student.onnx is an exported network"):
        load_detector(exported, torch.device("cpu"), "bf16")
    assert isinstance(loaded, Exported)
    assert theirs == names
    assert (loaded.spec, loaded.layout) == (TINY, "paper")
    assert cost_of(loaded) == cost_of(model)
    assert torch.equal(loaded.priors, model.priors)
    shapes = {o.name: o.shape for o in loaded.session.get_outputs()}
    assert set(shapes) == {"boxes", "scores", "labels"}


def test_one_small_file(exported, weights):
    assert [path.name for path in exported.parent.glob("*onnx*")] == ["student.onnx"]
    assert exported.stat().st_size < 1.3 * weights.stat().st_size


@pytest.mark.parametrize("kind", ["floats", "bytes", "raw"])
@pytest.mark.parametrize("batch", [1, 3])
def test_every_kind_detects_what_pytorch_does(weights, tmp_path, kind, batch, networks):
    model, names = load_network(weights)
    images = torch.randint(0, 256, (batch, 3, 300, 300)).float()
    limits = Limits(score=0.05)
    path = tmp_path / "kind.onnx"
    options = {"takes_bytes": kind == "bytes", "raw": kind == "raw"}
    onnx.save(whole_graph(networks(model), model, names, limits, **options), path)
    loaded = Exported(path)
    with torch.no_grad():
        candidates = find_candidates(model(images), model.priors, 0.04)
    ours, theirs = detect(model, images, Limits(0.05)), detect(loaded, images, Limits(0.05))
    assert (ours.labels > 0).sum() > 20 * batch
    for i in range(batch):
        before = candidates.at(candidates.image == i)
        known = Found(before.boxes, before.scores, before.label)
        assert len(compare(real(ours, i), real(theirs, i), known, limits, names, str(i))) < 3


@pytest.fixture(scope="module")
def networks():
    """`network_graph`, which takes seconds, once for each network."""
    known = {}

    def graph(model):
        key = sum(p.detach().double().sum().item() for p in model.parameters())
        if key not in known:
            known[key] = network_graph(model)
        copy = onnx.ModelProto()
        copy.CopyFrom(known[key])
        return copy

    return graph


def test_a_higher_threshold_than_the_file_has(exported):
    loaded = Exported(exported)
    images = 255 * torch.rand(2, 3, 300, 300)
    everything = detect(loaded, images)
    threshold = float(everything.scores[:, 100].max())
    some = detect(loaded, images, Limits(threshold))
    count = (everything.scores > threshold).sum(1)
    assert (count > 0).all()
    assert (count < 200).all()
    assert torch.equal((some.labels > 0).sum(1), count)
    for i, n in enumerate(count.tolist()):
        assert torch.equal(some.boxes[i, :n], everything.boxes[i, :n])
        assert some.boxes[i, n:].abs().sum() == 0


def test_a_raw_file_has_its_threshold_inside_too(weights, tmp_path, networks):
    model, names = load_network(weights)
    images = 255 * torch.rand(1, 3, 300, 300)
    threshold = float(detect(model, images).scores[0, 50])
    whole = whole_graph(networks(model), model, names, Limits(score=threshold), raw=True)
    onnx.save(whole, tmp_path / "raw.onnx")
    shown = detect(Exported(tmp_path / "raw.onnx"), images).scores
    assert 45 < int((shown > 0).sum()) < 55
    assert float(shown[shown > 0].min()) > threshold


def test_pictures_of_any_size(exported, weights):
    pictures = [torch.randint(0, 256, (h, w, 3)).byte().numpy() for h, w in ((40, 70), (600, 500))]
    ours = detect_images(load_network(weights)[0], pictures, Limits(0.1))
    theirs = detect_images(Exported(exported), pictures, Limits(0.1))
    for one, other in zip(ours, theirs, strict=True):
        assert one.labels == other.labels
        assert one.scores == pytest.approx(other.scores, abs=1e-4)


def test_map_is_that_of_the_checkpoint(weights, exported, drawn, tmp_path, script):
    reports = []
    for path in (weights, exported):
        out = tmp_path / f"{path.suffix}.json"
        files = ["--json", out, "--save-detections", tmp_path / path.suffix[1:]]
        data = ["--data", drawn, "--split", "VOC2007/test", "--device", "cpu"]
        assert script("get_map", "--weights", path, *data, *files) == 0
        reports.append(json.loads(out.read_text()))
    for key in ("backbone", "layout", "parameters", "gflops", "images"):
        assert reports[0][key] == reports[1][key]
    for protocol, mean in (("voc07", "mAP"), ("voc10", "mAP"), ("coco", "AP")):
        assert reports[0][protocol][mean] == pytest.approx(reports[1][protocol][mean], abs=1e-4)
    assert len(list((tmp_path / "onnx").glob("comp4_det_test_*.txt"))) == 5


def test_predict_draws_what_it_shows(exported, drawn, tmp_path, script):
    source = next((drawn / "VOC2007/JPEGImages").glob("test_*"))
    arguments = ["--weights", exported, "--source", source, "--out", tmp_path, "--json"]
    assert script("predict", *arguments, "--score", "0.2", "--device", "cpu") == 0
    assert json.loads((tmp_path / "detections.json").read_text())[source.name]
    assert (tmp_path / source.name).exists()


def test_eight_bits(weights, exported, drawn, tmp_path, script, capsys):
    out = tmp_path / "eight.onnx"
    eight = ["--int8", "--calibrate", "VOC2007/train", "--images", "6", *check(drawn)]
    arguments = ["--weights", weights, "--out", out, "--input", "floats", *eight]
    assert script("tools.export", *arguments) == 0
    said = capsys.readouterr().out
    assert re.search(
        r"voc07: +[0-9.]+ in PyTorch, +[0-9.]+ in eight bits, [+-][0-9.]+ points", said
    )
    # Both are judged by the limits that the file has inside: here nothing is left of either.
    blind = ["--score", "0.9999", "--out", tmp_path / "blind.onnx"]
    assert script("tools.export", *arguments, *blind) == 0
    assert "voc07:   0.00 in PyTorch,   0.00 in eight bits" in capsys.readouterr().out
    assert out.stat().st_size < 0.3 * exported.stat().st_size
    assert Exported(out).arithmetic["dtype"] == "int8"
    graph = onnx.load(out).graph
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    made_by = {name: node.op_type for node in graph.node for name in node.output}
    assert {made_by[c.input[1]] for c in convolutions} == {"DequantizeLinear"}
    softmax = next(node for node in graph.node if node.op_type == "Softmax")
    assert made_by[softmax.input[0]] == "Concat"  # straight from the heads
    # Pixels 0..255 less their mean of 103.53 to 123.675: -123.675 to 151.47, in 255 steps of 1.079.
    first = next(node for node in graph.node if node.op_type == "QuantizeLinear")
    values = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    assert values[first.input[1]] == pytest.approx(275.145 / 255)
    assert values[first.input[2]] == 115  # 123.675 / 1.079
    # What calibration has seen comes out nearly as it was.
    image = Images(open_train(drawn), 1, rounded=False).get_next()["floats"]
    before, after = (detect(Exported(path), torch.from_numpy(image)) for path in (exported, out))
    assert float((before.scores - after.scores).abs()[0, :20].max()) < 0.1
    assert not torch.equal(before.scores, after.scores)


def open_train(drawn):
    names = read_classes(drawn / "VOC2007/classes.txt")
    samples, _ = read_split(drawn, ["VOC2007/train"], names)
    return Store(samples, torch.device("cpu"), cache="ram", workers=1)


def test_calibration_images_are_spread_over_the_split(drawn):
    store = open_train(drawn)
    images = Images(store, 3, rounded=True)
    (batch,) = [images.get_next()["floats"]]
    assert images.get_next() is None
    indices = torch.tensor([0, 4, 7])  # of 8; round(3.5) is even
    (expected,) = store.batches([indices])
    shown = resize(expected.images, expected.sizes, expected.targets)[0].round()
    assert torch.equal(torch.from_numpy(batch), shown)


class TestRefusals:
    def test_eight_bits_without_images_and_the_other_way_round(self, weights, refused, tmp_path):
        arguments = ["--weights", weights, "--out", tmp_path / "a.onnx"]
        assert "--int8 needs --calibrate" in refused("tools.export", *arguments, "--int8")
        split = ["--calibrate", "VOC2007/train"]
        assert "--int8 needs --calibrate" in refused("tools.export", *arguments, *split)
        split += ["--int8", "--images", "0"]
        assert "--images must be at least 1" in refused("tools.export", *arguments, *split)

    def test_a_calibration_split_without_images(self, weights, refused, tmp_path, drawn):
        sets = tmp_path / "VOCdevkit/VOC2007"
        shutil.copytree(drawn / "VOC2007", sets)
        (sets / "ImageSets/Main/train.txt").write_text("")
        arguments = ["--weights", weights, "--out", tmp_path / "a.onnx", "--data", sets.parent]
        line = refused("tools.export", *arguments, "--int8", "--calibrate", "VOC2007/train")
        assert "train" in line

    def test_trainers(self, exported, refused):
        assert "an exported network detects" in refused("train_kd", "--teacher", exported)
        assert "an exported network detects" in refused("train_teacher", "--weights", exported)

    def test_other_classes(self, weights, refused, tmp_path):
        (tmp_path / "classes.txt").write_text("elk\nowl\n")
        arguments = ["--weights", weights, "--out", tmp_path / "x.onnx"]
        line = refused("tools.export", *arguments, "--classes", tmp_path / "classes.txt")
        assert "to " + str(weights) in line
        assert "'elk' in --classes" in line

    def test_another_extension(self, weights, refused, tmp_path):
        out = tmp_path / "student.tflite"
        assert "only .onnx is written" in refused(
            "tools.export", "--weights", weights, "--out", out
        )

    def test_the_file_that_is_read(self, exported, refused):
        line = refused("tools.export", "--weights", exported, "--out", exported)
        assert "would be lost" in line

    def test_an_exported_network_again(self, exported, refused, tmp_path):
        line = refused("tools.export", "--weights", exported, "--out", tmp_path / "two.onnx")
        assert "give the checkpoint that it was made from" in line

    def test_thresholds(self, weights, refused, tmp_path):
        out = ["--weights", weights, "--out", tmp_path / "a.onnx"]
        assert "--iou must be in [0, 1), not 1.0" in refused("tools.export", *out, "--iou", "1")
        assert "--score must be" in refused("tools.export", *out, "--score", "-1")
        assert "--weights and --out" in refused("tools.export")

    def test_a_split_without_images(self, weights, refused, tmp_path, drawn):
        data = ["--data", drawn, "--check", "VOC2007/nothing"]
        line = refused("tools.export", "--weights", weights, "--out", tmp_path / "a.onnx", *data)
        assert "nothing.txt" in line

    @pytest.mark.parametrize("module", ["onnx", "onnxscript", "onnxruntime"])
    def test_a_missing_extra(self, weights, refused, tmp_path, monkeypatch, module):
        monkeypatch.setitem(sys.modules, module, None)
        line = refused("tools.export", "--weights", weights, "--out", tmp_path / "a.onnx")
        assert "pip install -e '.[export]'" in line

    def test_a_missing_runtime_for_scripts(self, exported, refused, monkeypatch, tmp_path):
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
        source = ["--source", tmp_path, "--out", tmp_path / "out"]
        assert "pip install -e '.[export]'" in refused("predict", "--weights", exported, *source)

    def test_another_programs_file(self, tmp_path, refused, drawn):
        node = helper.make_node("Identity", ["a"], ["b"])
        values = [helper.make_tensor_value_info(name, 1, [1]) for name in "ab"]
        graph = helper.make_graph([node], "other", values[:1], values[1:])
        opset = [helper.make_opsetid("", 20)]
        onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), tmp_path / "o.onnx")
        line = refused("get_map", "--data", drawn, "--weights", tmp_path / "o.onnx")
        assert "o.onnx: an ONNX file of another program or version" in line

    def test_damaged_and_missing_files(self, exported, tmp_path, refused, drawn):
        damaged = tmp_path / "damaged.onnx"
        damaged.write_bytes(exported.read_bytes()[:-1000])
        data = ["--data", drawn]
        assert "damaged.onnx: damaged" in refused("get_map", *data, "--weights", damaged)
        gone = tmp_path / "gone.onnx"
        assert "gone.onnx: no such file" in refused("get_map", *data, "--weights", gone)

    def test_a_file_that_detects_something_else(
        self, weights, drawn, script, tmp_path, monkeypatch, capsys
    ):
        """One whose boxes are larger by a tenth is not written."""
        monkeypatch.setattr("tools.export.ends.VARIANCES", (0.1, 0.25))
        out = tmp_path / "wrong.onnx"
        assert script("tools.export", "--weights", weights, "--out", out, *check(drawn)) == 2
        line = capsys.readouterr().err.splitlines()[-1]  # after the progress bar
        assert "wrong.onnx is not written" in line
        assert "PyTorch has" in line or "the file has" in line
        assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spec", "layout"),
    [
        ("vgg16", "torchvision"),
        ("vgg16_bn", "paper"),
        ("resnet50(width=0.25)", "paper"),
        ("mobilenetv2(width=0.35)", "paper"),
        ("bubbliiiing_resnet50", "bubbliiiing"),
        ("bubbliiiing_mobilenetv2", "bubbliiiing_mobilenetv2"),
    ],
)
def test_every_backbone(spec, layout, tmp_path):
    """The network's own numbers; what comes after them is the same for all."""
    torch.manual_seed(0)
    model = SSD300(spec, 2, layout=layout).eval()
    model.mean += 3
    path = tmp_path / "network.onnx"
    onnx.save(whole_graph(network_graph(model), model, ("a", "b"), Limits(), raw=True), path)
    images = 255 * torch.rand(2, 3, 300, 300)
    boxes, scores = Exported(path).session.run(None, {"images": images.numpy()})
    with torch.no_grad():
        ours = model(images).logits.softmax(-1)[..., 1:]
    torch.testing.assert_close(torch.from_numpy(scores), ours, atol=1e-4, rtol=0)
    assert boxes.shape == (2, len(model.priors), 4)
