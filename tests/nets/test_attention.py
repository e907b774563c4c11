"""Attention of backbones: a contract over kinds and backbones, then each kind by a slow loop."""

import math

import pytest
import torch
import torchvision
from torch import nn

from nets.backbones import BACKBONES
from nets.backbones.attention import ATTENTIONS
from nets.foreign.bubbliiiing import FOREIGN_BACKBONES
from nets.saved import describe_network, load_network
from nets.ssd import SSD300
from utils.engine.runs.checkpoint import save_checkpoint
from utils.spec import build

# The narrowest of each backbone.
SPECS = {
    "vgg16": "vgg16(",
    "vgg16_bn": "vgg16_bn(",
    "resnet18": "resnet18(width=0.125, ",
    "resnet34": "resnet34(width=0.125, ",
    "resnet50": "resnet50(width=0.125, ",
    "mobilenetv2": "mobilenetv2(width=0.1, ",
}


@pytest.fixture(params=sorted(ATTENTIONS))
def kind(request) -> str:
    return request.param


def images() -> torch.Tensor:
    return 255 * torch.rand(2, 3, 300, 300, generator=torch.Generator().manual_seed(0))


def test_every_backbone_is_tested():
    assert SPECS.keys() == BACKBONES.keys()


class TestContract:
    @pytest.mark.parametrize("name", sorted(SPECS))
    def test_it_looks_at_the_source_maps(self, name, kind):
        text = f"{SPECS[name]}attention={kind!r})"
        backbone = build(text, BACKBONES, "backbone", pretrained=False).eval()
        pictures = images()[:1, :, :150, :150] / 128 - 1
        with torch.no_grad():
            attended = backbone(pictures)
            looks, backbone.attentions = backbone.attentions, nn.ModuleList()
            plain = backbone(pictures)
            for look, x, got in zip(looks, plain, attended, strict=True):
                assert torch.equal(look(x), got)
                assert got.shape == x.shape
                # Factors are between 0 and 1.
                assert (got.abs() <= x.abs()).all()
                assert not torch.equal(got, x)

    @pytest.mark.parametrize("name", ["resnet18", "mobilenetv2"])
    def test_all_of_it_trains(self, name, kind):
        model = SSD300(f"{SPECS[name]}attention={kind!r})", classes=2).train()
        outputs = model(images())
        (outputs.logits.square().sum() + outputs.offsets.square().sum()).backward()
        assert all(p.grad is not None for p in model.parameters())
        # A last layer at least has something to say on every map.
        assert all(any(p.grad.any() for p in a.parameters()) for a in model.backbone.attentions)

    def test_a_checkpoint_carries_it(self, kind, tmp_path):
        model = SSD300(f"resnet18(width=0.125, attention={kind!r})", classes=2).eval()
        save_checkpoint(
            tmp_path / "net.pth",
            {**describe_network(model, ["a", "b"]), "model": model.state_dict()},
        )
        again, _ = load_network(tmp_path / "net.pth")
        with torch.no_grad():
            assert torch.equal(again(images()).logits, model(images()).logits)

    @pytest.mark.parametrize("name", ["resnet18", "mobilenetv2"])
    def test_imagenet_weights_fit(self, name, kind, monkeypatch):
        whole = torchvision.models.get_model(name.replace("netv2", "net_v2"), weights=None)
        for module in ("resnet", "mobilenetv2"):
            monkeypatch.setattr(
                f"nets.backbones.{module}.imagenet_state", lambda _: whole.state_dict()
            )
        found = BACKBONES[name](attention=kind, pretrained=True).state_dict()
        kept = {k: v for k, v in whole.state_dict().items() if not k.startswith(("fc", "class"))}
        assert all(torch.equal(found[key], value) for key, value in kept.items())
        assert all(key.startswith("attentions.") for key in found.keys() - kept.keys())

    def test_the_trunk_does_not_depend_on_it(self, kind):
        torch.manual_seed(0)
        plain = BACKBONES["resnet18"](width=0.125).state_dict()
        torch.manual_seed(0)
        attended = BACKBONES["resnet18"](width=0.125, attention=kind).state_dict()
        assert all(torch.equal(attended[key], value) for key, value in plain.items())

    def test_half_precision(self, kind):
        torch.manual_seed(0)
        look, x = ATTENTIONS[kind](32).eval(), torch.rand(2, 32, 5, 5)
        for dtype in (torch.float16, torch.bfloat16):
            with torch.autocast("cpu", dtype):
                half, large = look(x.to(dtype)), look((300 * x).to(dtype))
            torch.testing.assert_close(half.float(), look(x), rtol=0.05, atol=0.02)
            assert large.isfinite().all()


@pytest.mark.parametrize("value", ["'eca'", "1", "''"])
def test_other_kinds_are_refused(value):
    with pytest.raises(ValueError, match="attention must be one of 'se', 'cbam', 'ca', not"):
        SSD300(f"resnet18(width=0.125, attention={value})")


@pytest.mark.parametrize(
    ("name", "module"), [("vgg16", "vgg"), ("resnet18", "resnet"), ("mobilenetv2", "mobilenetv2")]
)
def test_other_kinds_are_refused_before_weights_are_fetched(monkeypatch, name, module):
    monkeypatch.setattr(f"nets.backbones.{module}.imagenet_state", None)
    with pytest.raises(ValueError, match="attention must be one of"):
        BACKBONES[name](attention="sa", pretrained=True)


def test_other_projects_networks_have_none():
    for name in FOREIGN_BACKBONES:
        with pytest.raises(ValueError, match="has no option 'attention'"):
            SSD300(f"{name}(attention='se')", layout="bubbliiiing")


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def dense(layer: nn.Conv2d, values: list[float]) -> list[float]:
    """A 1 x 1 convolution of one cell."""
    weight = layer.weight[:, :, 0, 0].tolist()
    bias = layer.bias.tolist() if layer.bias is not None else [0.0] * len(weight)
    return [
        b + sum(w * v for w, v in zip(row, values, strict=True))
        for row, b in zip(weight, bias, strict=True)
    ]


def excite(block: nn.Sequential, values: list[float]) -> list[float]:
    return dense(block[2], [max(0.0, v) for v in dense(block[0], values)])


class TestKinds:
    """Each against loops over one image of 32 channels on 2 x 3 cells."""

    SHAPE = (1, 32, 2, 3)

    def made(self, kind: str) -> tuple[nn.Module, torch.Tensor, list]:
        torch.manual_seed(0)
        look = ATTENTIONS[kind](self.SHAPE[1]).double().eval()
        x = torch.randn(self.SHAPE, dtype=torch.float64)
        return look, x, x[0].tolist()

    def test_se(self):
        look, x, f = self.made("se")
        factors = excite(look.excite, [sum(sum(row) for row in channel) / 6 for channel in f])
        expected = [
            [[v * sigmoid(k) for v in r] for r in c] for c, k in zip(f, factors, strict=True)
        ]
        torch.testing.assert_close(look(x)[0], torch.tensor(expected, dtype=torch.float64))

    def test_cbam(self):
        look, x, f = self.made("cbam")
        means = excite(look.excite, [sum(sum(row) for row in c) / 6 for c in f])
        peaks = excite(look.excite, [max(max(row) for row in c) for c in f])
        f = [
            [[v * sigmoid(a + b) for v in row] for row in c]
            for c, a, b in zip(f, means, peaks, strict=True)
        ]
        kernel, bias = look.look.weight[0].tolist(), look.look.bias.item()

        def place(y: int, x: int) -> tuple[float, float]:
            column = [c[y][x] for c in f]
            return sum(column) / len(column), max(column)

        expected = torch.empty(self.SHAPE[1:], dtype=torch.float64)
        for y in range(2):
            for col in range(3):
                total = bias
                for i in range(2):
                    for j in range(3):
                        near = place(i, j)
                        total += sum(kernel[n][i - y + 3][j - col + 3] * near[n] for n in range(2))
                for c in range(len(f)):
                    expected[c, y, col] = f[c][y][col] * sigmoid(total)
        torch.testing.assert_close(look(x)[0], expected)

    def test_ca(self):
        look, x, f = self.made("ca")
        convolution, norm = look.squeeze

        def squeezed(values: list[float]) -> list[float]:
            normalised = [v / math.sqrt(1 + norm.eps) for v in dense(convolution, values)]
            return [v * min(6, max(0, v + 3)) / 6 for v in normalised]

        rows = [dense(look.rows, squeezed([sum(c[y]) / 3 for c in f])) for y in range(2)]
        columns = [
            dense(look.columns, squeezed([(c[0][x] + c[1][x]) / 2 for c in f])) for x in range(3)
        ]
        expected = torch.tensor(
            [
                [
                    [f[c][y][x] * sigmoid(rows[y][c]) * sigmoid(columns[x][c]) for x in range(3)]
                    for y in range(2)
                ]
                for c in range(len(f))
            ],
            dtype=torch.float64,
        )
        torch.testing.assert_close(look(x)[0], expected)
