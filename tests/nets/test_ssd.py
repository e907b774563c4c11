"""SSD300 and its backbones: one contract over all of them, then each against torchvision's own."""

import copy
from urllib.error import URLError

import pytest
import torch
import torchvision
from torch import nn

from nets.backbones import BACKBONES
from nets.backbones.base import IMAGENET_STD, divisible_by_8, imagenet_state
from nets.backbones.mobilenetv2 import MobileNetV2, StridedDepthwise, spare_strided_depthwise
from nets.backbones.resnet import ResNet
from nets.backbones.vgg import VGG16, L2Norm
from nets.matching import match
from nets.multibox_loss import MultiBoxLoss
from nets.outputs import Targets
from nets.postprocess import postprocess
from nets.ssd import SSD300, extra_layers
from utils.boxes import iou
from utils.data.augment import IMAGENET_MEAN

TINY = "resnet18(width=0.125)"

# Channels of the six source maps of each spec.
SPECS = {
    "vgg16": (512, 1024, 512, 256, 256, 256),
    "vgg16_bn": (512, 1024, 512, 256, 256, 256),
    "resnet18": (128, 256, 512, 256, 256, 256),
    "resnet34": (128, 256, 512, 256, 256, 256),
    "resnet50": (512, 1024, 2048, 256, 256, 256),
    "mobilenetv2": (192, 576, 1280, 512, 256, 256),
    "mobilenetv2(width=1.0)": (192, 576, 1280, 512, 256, 256),
    "mobilenetv2(width=0.35)": (96, 192, 448, 176, 88, 88),
    "resnet18(width=0.25)": (32, 64, 128, 64, 64, 64),
    TINY: (16, 32, 64, 32, 32, 32),
}


def images(count: int = 1, seed: int = 0) -> torch.Tensor:
    return 255 * torch.rand(count, 3, 300, 300, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("spec", SPECS)
def test_every_backbone_serves_the_same_grids(spec):
    model = SSD300(spec, classes=5).eval()
    with torch.no_grad():
        features, logits, offsets = model(images())
    assert model.channels == tuple(f.shape[1] for f in features) == SPECS[spec]
    assert [f.shape[2:] for f in features] == [(n, n) for n in (38, 19, 10, 5, 3, 1)]
    assert logits.shape == (1, 8732, 6)
    assert offsets.shape == (1, 8732, 4)
    assert logits.isfinite().all()
    assert offsets.isfinite().all()
    assert {p.requires_grad for p in model.parameters()} == {True}


def test_every_backbone_is_tested():
    # Those of another project have other layouts and their own tests.
    ours = {name for name in BACKBONES if not name.startswith("bubbliiiing_")}
    assert ours == {spec.partition("(")[0] for spec in SPECS}


class TestHeads:
    def test_logits_go_cell_by_cell(self):
        # A head that copies channel 0 of its source, plus 1000 x (prior within the cell) + column:
        # the value found at prior i says from which cell, prior and column it comes.
        model = SSD300(TINY, classes=2).eval()
        for heads, columns in ((model.conf, 3), (model.loc, 4)):
            for head in heads:
                nn.init.zeros_(head.weight)
                head.weight.data[:, 0, 1, 1] = 1
                within = torch.arange(head.out_channels // columns).repeat_interleave(columns)
                column = torch.arange(columns).repeat(head.out_channels // columns)
                head.bias.data = 1000.0 * within + 100.0 * column
        grids, per_cell = (38, 19, 10, 5, 3, 1), (4, 6, 6, 6, 4, 4)
        # Sources whose channel 0 is 10 x (number of the map) + y / 1000 + x / 100000 + ...
        sources = []
        for k, (grid, channels) in enumerate(zip(grids, model.channels, strict=True)):
            source = torch.zeros(1, channels, grid, grid, dtype=torch.float64)
            source[0, 0] = 10 * k + torch.arange(grid * grid).view(grid, grid) / 1e3
            sources.append(source)
        model.double()
        model.backbone.forward = lambda _: tuple(sources[:3])
        for i, extra in enumerate(model.extras):
            extra.forward = lambda _, i=i: sources[3 + i]
        _, logits, offsets = model(images().double())
        expected = torch.cat(
            [
                # Cell after cell, in each its priors.
                (10 * k + torch.arange(grid**2)[:, None] / 1e3 + 1000 * torch.arange(per)).view(-1)
                for k, (grid, per) in enumerate(zip(grids, per_cell, strict=True))
            ]
        ).double()
        for values, columns in ((logits, 3), (offsets, 4)):
            wanted = expected[:, None] + 100 * torch.arange(columns)
            torch.testing.assert_close(values[0], wanted, atol=1e-3, rtol=0)

    def test_a_bright_spot_is_seen_by_the_priors_around_it(self):
        # Gradient of one prior's logits reaches the image around that prior's centre: logits and
        # priors are in one order, x is not y.
        torch.manual_seed(0)
        model = SSD300(TINY, classes=2).eval()
        cx, cy, side, _ = model.priors[4 * (38 * 5 + 30)] * 300  # row 5, column 30 of the first map
        assert (cx.item(), cy.item(), side.item()) == pytest.approx((244, 44, 30))
        picture = images().requires_grad_()
        model(picture).logits[0, 4 * (38 * 5 + 30)].sum().backward()
        weight = picture.grad.abs().sum((0, 1))
        ys, xs = torch.meshgrid(torch.arange(300.0), torch.arange(300.0), indexing="ij")
        assert (weight * xs).sum() / weight.sum() == pytest.approx(244, abs=15)
        assert (weight * ys).sum() / weight.sum() == pytest.approx(44, abs=15)

    def test_initial_values(self):
        model = SSD300(TINY, classes=2)
        assert not any(head.bias.any() for head in (*model.conf, *model.loc))
        assert all(head.weight.any() for head in (*model.conf, *model.loc))


class TestInput:
    def test_it_is_normalised_inside(self):
        # (255 - 123.675) / 58.395 = 2.249 for red, and so on: white through torchvision's numbers.
        model = SSD300(TINY, classes=2).eval()
        seen = []
        model.backbone.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        with torch.no_grad():
            model(torch.full((1, 3, 300, 300), 255.0))
        expected = torch.tensor(
            [(1 - m) / s for m, s in zip((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)]
        )
        torch.testing.assert_close(seen[0][0, :, 7, 7], expected)
        assert expected[0].item() == pytest.approx((255 - 123.675) / 58.395)
        assert (model.mean.flatten().tolist(), model.std.flatten().tolist()) == (
            pytest.approx(IMAGENET_MEAN),
            pytest.approx(IMAGENET_STD),
        )

    @pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_in_every_layout_and_without_touching_the_images(self, layout, dtype):
        model = SSD300(TINY, classes=2).to(dtype)
        pictures = images(2).to(dtype).contiguous(memory_format=layout)
        before = pictures.clone()
        found = model.normalised(pictures)
        assert torch.equal(found, (pictures - model.mean) / model.std)
        assert found.is_contiguous(memory_format=layout)
        assert torch.equal(pictures, before)

    def test_batched_equals_single(self):
        model, pictures = SSD300(TINY, classes=2).eval(), images(3)
        with torch.no_grad():
            together, alone = model(pictures), model(pictures[2:])
        torch.testing.assert_close(together.logits[2:], alone.logits, atol=1e-4, rtol=1e-4)

    def test_another_size_is_our_own_mistake(self):
        with pytest.raises(AssertionError, match="320"):
            SSD300(TINY)(torch.zeros(1, 3, 320, 320))

    def test_what_is_saved(self):
        state = SSD300(TINY, classes=2).state_dict()
        assert {"mean", "std"} <= set(state)
        assert "priors" not in state  # they follow from the layout


class TestRefusals:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"backbone": "alexnet"}, "unknown backbone 'alexnet'; choose one of .*mobilenetv2, "),
            ({"backbone": "resnet18("}, "cannot read spec 'resnet18\\('"),
            ({"backbone": "resnet18(wide=2)"}, "has no option 'wide'"),
            ({"backbone": "vgg16(pretrained=True)"}, "has no option 'pretrained'"),
            (
                {"backbone": "resnet18(width=0)"},
                "resnet18: width must be above 0 and at most 4.0",
            ),
            ({"backbone": "mobilenetv2(width='1')"}, "must be above 0 and at most 4.0, not '1'"),
            ({"backbone": "mobilenetv2(width=1e9)"}, "at most 4.0, not 1000000000.0"),
            ({"backbone": "resnet50(width=1e999)"}, "at most 4.0, not inf"),
            ({"backbone": "resnet50(width=True)"}, "at most 4.0, not True"),
            ({"backbone": TINY, "layout": "mine"}, "no prior layout 'mine'"),
            ({"backbone": TINY, "classes": 0}, "at least one class, not 0"),
            (
                {"backbone": "resnet18(width=0.25)", "pretrained": True},
                r"resnet18\(width=0.25\) has no ImageNet weights.*--no-pretrained",
            ),
            (
                {"backbone": "mobilenetv2(width=0.35)", "pretrained": True},
                r"mobilenetv2\(width=0.35\) has no ImageNet weights.*--no-pretrained",
            ),
        ],
    )
    def test_arguments(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            SSD300(**arguments)

    def test_grids_that_do_not_fit(self):
        backbone = ResNet(depth=18, width=0.125)
        with pytest.raises(ValueError, match=r"grids \(38, 19, 10\) cannot serve.*\(40, 20"):
            extra_layers(backbone, (40, 20, 10, 5, 3, 1))


class TestImagenetWeights:
    """No test here touches the network: torch.hub is told where its cache is, or to fail."""

    @pytest.fixture(autouse=True)
    def empty_cache(self, monkeypatch, tmp_path):
        monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
        monkeypatch.setattr(torch.hub, "download_url_to_file", self.fail)
        return tmp_path / "checkpoints"

    @staticmethod
    def fail(*_args, **_options):
        raise URLError("no route to host")

    @pytest.mark.parametrize(
        ("spec", "file"),
        [
            ("resnet18", "resnet18-f37072fd.pth"),
            ("mobilenetv2", "mobilenet_v2-7ebf99e0.pth"),
        ],
    )
    def test_without_a_network(self, spec, file, empty_cache):
        with pytest.raises(ValueError, match="no route to host") as error:
            SSD300(spec, pretrained=True)
        assert f"cannot get the ImageNet weights {file}" in str(error.value)
        assert f"put the file at {empty_cache / file} by hand" in str(error.value)
        assert "--no-pretrained" in str(error.value)

    def test_a_wrong_hash(self, monkeypatch):
        def mismatch(*_args, **_options):
            raise RuntimeError('invalid hash value (expected "f37072fd", got "00")')

        monkeypatch.setattr(torch.hub, "download_url_to_file", mismatch)
        with pytest.raises(ValueError, match=r"cannot get.*invalid hash value.*--no-pretrained"):
            SSD300("resnet18", pretrained=True)

    def test_a_file_put_there_by_hand(self, empty_cache):
        # Named by us as the message says, it is found without any download.
        trunk = torchvision.models.resnet18(weights=None)
        empty_cache.mkdir()
        torch.save(trunk.state_dict(), empty_cache / "resnet18-f37072fd.pth")
        model = SSD300("resnet18", pretrained=True)
        assert torch.equal(model.backbone.conv1.weight, trunk.conv1.weight)

    def test_without_pretrained_nothing_is_fetched(self):
        SSD300(TINY, pretrained=False)

    def test_state_is_what_torchvision_gives(self):
        class Weights:
            url = "https://host/path/name-0123.pth?query"

            @staticmethod
            def get_state_dict(**options):
                assert options == {"progress": True, "check_hash": True}
                return {"a": torch.ones(1)}

        assert imagenet_state(Weights)["a"].item() == 1


@pytest.mark.parametrize("depth", [18, 34, 50])
def test_resnet_equals_torchvisions_trunk(depth, monkeypatch):
    torch.manual_seed(depth)
    trunk = getattr(torchvision.models, f"resnet{depth}")(weights=None).eval()
    monkeypatch.setattr("nets.backbones.resnet.imagenet_state", lambda _: trunk.state_dict())
    backbone = ResNet(depth=depth, pretrained=True).eval()
    x = torch.randn(1, 3, 300, 300)
    with torch.no_grad():
        maps = backbone(x)
        x = trunk.layer1(trunk.maxpool(trunk.relu(trunk.bn1(trunk.conv1(x)))))
        for layer, got in zip((trunk.layer2, trunk.layer3, trunk.layer4), maps, strict=True):
            x = layer(x)
            assert torch.equal(got, x)


def test_mobilenetv2_equals_torchvisions_trunk(monkeypatch):
    torch.manual_seed(0)
    trunk = torchvision.models.mobilenet_v2(weights=None).eval()
    monkeypatch.setattr("nets.backbones.mobilenetv2.imagenet_state", lambda _: trunk.state_dict())
    backbone = MobileNetV2(pretrained=True).eval()
    x = torch.randn(1, 3, 300, 300)
    with torch.no_grad():
        stride_8, stride_16, last = backbone(x)
        assert torch.equal(last, trunk.features(x))
        before = trunk.features[:7](x)
        assert torch.equal(stride_8, trunk.features[7].conv[0](before))
        before = trunk.features[:14](x)
        assert torch.equal(stride_16, trunk.features[14].conv[0](before))


class TestStridedDepthwise:
    def test_a_cpu_trains_them_in_float32(self):
        torch.manual_seed(0)
        plain = nn.Conv2d(16, 16, 3, stride=2, padding=1, groups=16, bias=False)
        block = nn.Sequential(copy.deepcopy(plain))
        spare_strided_depthwise(block)
        x = torch.randn(2, 16, 9, 9).bfloat16().requires_grad_()
        in_float32 = plain(x.float())
        gradient = torch.randn_like(in_float32).bfloat16()
        expected = torch.autograd.grad(in_float32, (x, plain.weight), gradient.float())
        with torch.autocast("cpu", torch.bfloat16):
            found, without = block(x), block(x.detach())
            assert torch.equal(without, plain(x.detach()))  # nothing to gain
        assert torch.equal(found, in_float32.bfloat16())
        got = torch.autograd.grad(found, (x, block[0].weight), gradient)
        assert all(map(torch.equal, got, expected))

    @pytest.mark.parametrize(
        ("name", "layout", "count"),
        [
            ("mobilenetv2(width=0.35)", "paper", 4),  # 150 -> 75 -> 38 -> 19 -> 10
            ("bubbliiiing_mobilenetv2", "bubbliiiing_mobilenetv2", 8),  # -> 5 -> 3 -> 2 -> 1
        ],
    )
    def test_which_they_are(self, name, layout, count):
        layers = SSD300(name, layout=layout).modules()
        convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
        spared = [layer for layer in convolutions if isinstance(layer, StridedDepthwise)]
        assert len(spared) == count
        assert spared == [c for c in convolutions if c.groups > 1 and c.stride == (2, 2)]


class TestVgg:
    def test_pretrained_weights_are_subsampled(self, monkeypatch):
        # Weights that say where they come from: neuron n, channel c, position (y, x) of the 4096 x
        # 512 x 7 x 7 fc6 would be 400 MB, so it is a view of few numbers: neuron + position.
        torch.manual_seed(0)
        features = torchvision.models.vgg16(weights=None).features
        neuron, position = torch.arange(4096.0), torch.arange(49.0) / 64
        fc6 = (neuron[:, None] + position).view(4096, 1, 49).expand(4096, 512, 49)
        fc7 = neuron[:, None] + neuron / 4096
        state = {f"features.{k}": v for k, v in features.state_dict().items()}
        state |= {
            "classifier.0.weight": fc6.reshape(4096, -1),
            "classifier.0.bias": neuron,
            "classifier.3.weight": fc7,
            "classifier.3.bias": -neuron,
            "classifier.6.weight": torch.zeros(1000, 4096),
            "classifier.6.bias": torch.zeros(1000),
        }
        monkeypatch.setattr("nets.backbones.vgg.imagenet_state", lambda _: state)
        backbone = VGG16(pretrained=True)
        assert backbone.fc6.weight.shape == (1024, 512, 3, 3)
        # Neurons 0, 4, 8, ...; of the 7 x 7 positions rows and columns 0, 3, 6: 7 y + x.
        grid = torch.tensor([[0.0, 3, 6], [21, 24, 27], [42, 45, 48]]) / 64
        assert torch.equal(backbone.fc6.weight[5, 100], 20 + grid)
        assert torch.equal(backbone.fc6.bias[:3].detach(), torch.tensor([0.0, 4, 8]))
        # Rows and columns 0, 4, 8, ...: row 2 is neuron 8, column 3 input 12.
        assert backbone.fc7.weight[2, 3].item() == 8 + 12 / 4096
        assert backbone.fc7.bias[2].item() == -8
        assert torch.equal(backbone.features[0].weight, features[0].weight)
        assert torch.equal(backbone.features[28].weight, features[28].weight)
        assert torch.equal(backbone.l2norm.weight.detach(), torch.full((512,), 20.0))
        assert backbone.fc6.dilation == backbone.fc6.padding == (6, 6)
        # Pool 5 is replaced: what is left are 13 convolutions, their ReLUs and 4 pools.
        assert (len(backbone.features), backbone.pool5.stride) == (30, 1)
        # What it computes up to conv4_3 is torchvision's trunk up to there, l2-normalised; the
        # rounding of pool 3 (38, not 37 cells) changes nothing on an input that divides by 8.
        x = torch.randn(1, 3, 64, 64)
        with torch.no_grad():
            got, want = backbone(x)[0], features[:23](x)
        torch.testing.assert_close(got, 20 * want / want.norm(dim=1, keepdim=True))

    def test_l2_norm_by_hand(self):
        # (3, 4) has length 5: (0.6, 0.8) times 20 and 10; a zero vector stays zero.
        layer = L2Norm(2)
        layer.weight.data[1] = 10
        x = torch.tensor([[[[3.0, 0]], [[4.0, 0]]]])
        torch.testing.assert_close(layer(x), torch.tensor([[[[12.0, 0]], [[8.0, 0]]]]))


def test_divisible_by_8():
    # 64 * 0.35 = 22.4 -> 24; 12 is halfway between 8 and 16 and goes to the even multiple.
    assert [divisible_by_8(c) for c in (1, 22.4, 64, 12, 13, 20)] == [8, 24, 64, 16, 16, 16]


class TestOverfit:
    def test_one_picture_is_learned(self):
        """Two views of one drawn picture: loss falls to a tenth, both objects are found."""
        torch.manual_seed(0)
        picture, boxes, labels = draw()
        batch = torch.stack((picture, picture.flip(-1)))
        flipped = torch.stack((1 - boxes[:, 2], boxes[:, 1], 1 - boxes[:, 0], boxes[:, 3]), dim=-1)
        targets = Targets(torch.stack((boxes, flipped)), torch.stack((labels, labels)))
        model, criterion = SSD300(TINY, classes=2), MultiBoxLoss()
        matches = match(targets, model.priors)
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
        losses = []
        for _ in range(60):
            loss = sum(criterion(model(batch), matches).values())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < losses[0] / 10
        model.eval()
        with torch.no_grad():
            detections = postprocess(model(batch), model.priors, score_threshold=0.5)
        for i in range(2):
            shown = detections.labels[i] > 0
            overlaps = iou(targets.boxes[i], detections.boxes[i][shown])
            best = overlaps.argmax(1)
            assert (overlaps.max(1).values > 0.6).all()
            assert torch.equal(detections.labels[i][shown][best], labels)


def draw() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A red square and a blue disc on noise: picture, boxes in fractions, labels 1 and 2."""
    generator = torch.Generator().manual_seed(0)
    picture = 90 + 40 * torch.rand(3, 300, 300, generator=generator)
    picture[:, 50:140, 40:130] = torch.tensor([220.0, 30, 30])[:, None, None]
    ys, xs = torch.meshgrid(torch.arange(300), torch.arange(300), indexing="ij")
    disc = (ys - 200) ** 2 + (xs - 200) ** 2 < 60**2
    picture[:, disc] = torch.tensor([30.0, 30, 220])[:, None]
    boxes = torch.tensor([[40.0, 50, 130, 140], [140, 140, 260, 260]]) / 300
    return picture, boxes, torch.tensor([1, 2])
