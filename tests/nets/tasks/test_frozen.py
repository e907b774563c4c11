"""A frozen network answers as the one it is a copy of, with its norms in its convolutions."""

import pytest
import torch
from torch import nn

from nets.backbones import BACKBONES
from nets.foreign.bubbliiiing import FOREIGN_BACKBONES
from nets.priors import LAYOUTS
from nets.ssd import SSD300, serves
from nets.tasks.frozen import frozen
from utils import spec

TINY = "resnet18(width=0.125)"
SPECS = (
    "vgg16",
    "vgg16_bn",
    TINY,
    "resnet18(width=0.125, attention='se')",
    "resnet18(width=0.125, attention='cbam')",
    "resnet18(width=0.125, attention='ca')",  # has a norm of its own
    "resnet34(width=0.125)",
    "resnet50(width=0.125)",
    "mobilenetv2(width=0.35)",
    "bubbliiiing_resnet50",
    "bubbliiiing_mobilenetv2",
)


def trained(text: str, classes: int = 2) -> SSD300:
    """A network whose norms have statistics, in training mode."""
    torch.manual_seed(0)
    backbone = spec.build(text, BACKBONES | FOREIGN_BACKBONES, "backbone", pretrained=False)
    layout = next(name for name, its in LAYOUTS.items() if serves(backbone, its.grids))
    model = SSD300(text, classes, layout=layout)
    for norm in norms(model):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias)
        nn.init.normal_(norm.running_mean)
        nn.init.uniform_(norm.running_var, 0.5, 2)
    return model.train()


def norms(model: nn.Module) -> list[nn.BatchNorm2d]:
    return [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]


def images(count: int = 1) -> torch.Tensor:
    return 255 * torch.rand(count, 3, 300, 300, generator=torch.Generator().manual_seed(0))


def test_every_backbone_is_tested():
    assert {text.partition("(")[0] for text in SPECS} == {*BACKBONES, *FOREIGN_BACKBONES}


@pytest.mark.parametrize("text", SPECS)
def test_it_answers_the_same_without_a_norm(text):
    model = trained(text)
    found = frozen(model)
    assert model.training
    assert not norms(found)
    with torch.no_grad():
        expected, got = model.eval()(images()), found(images())
    for a, b in zip((*got.features, *got[1:]), (*expected.features, *expected[1:]), strict=True):
        assert (a - b).abs().max() <= 1e-5 * b.abs().max()


def test_hand_worked():
    model = trained(TINY)
    convolution, norm = model.backbone.conv1, model.backbone.bn1
    for parameter, value in zip(
        (convolution.weight, norm.weight, norm.bias, norm.running_mean, norm.running_var),
        (2.0, 3.0, 1.0, 4.0, 9.0 - norm.eps),
        strict=True,
    ):
        nn.init.constant_(parameter, value)
    folded = frozen(model).backbone.conv1
    # (2 x - 4) / sqrt(9) * 3 + 1 = 2 x - 3
    torch.testing.assert_close(folded.weight, torch.full_like(folded.weight, 2))
    torch.testing.assert_close(folded.bias, torch.full_like(folded.bias, -3))


def test_a_norm_that_follows_no_convolution_stays():
    model = trained(TINY)
    alone = nn.BatchNorm2d(model.channels[2])
    nn.init.uniform_(alone.running_var, 2, 3)
    model.extras[0].insert(0, alone)
    found = frozen(model)
    assert [m.num_features for m in norms(found)] == [alone.num_features]
    with torch.no_grad():
        theirs = model.eval()(images()).logits
        torch.testing.assert_close(found(images()).logits, theirs, atol=1e-4, rtol=1e-4)


def test_it_does_not_learn_but_lets_learn():
    model = trained(TINY)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found, shown = frozen(model), images().requires_grad_()
    found(shown).logits.sum().backward()
    assert shown.grad.abs().sum() > 0
    assert all(p.grad is None and not p.requires_grad for p in found.parameters())
    assert not any(m.training for m in found.modules())
    assert (found.spec, found.layout, found.channels) == (model.spec, model.layout, model.channels)
    # The one that was copied is as it was.
    assert all(p.requires_grad for p in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_half_precision_is_no_worse():
    model = trained(TINY)
    found = frozen(model)
    with torch.no_grad():
        expected = model.eval()(images()).logits
        with torch.autocast("cpu", torch.bfloat16):
            errors = [(m(images()).logits - expected).abs().mean() for m in (found, model)]
    assert errors[0] <= 1.2 * errors[1]
