"""How `--distill` becomes terms; the networks and tasks themselves are in test_stages."""

import pytest

from nets.distillers.cwd import ChannelWise
from nets.ssd import SSD300
from nets.tasks.building import build_distillers

TINY = "resnet18(width=0.125)"


def test_distillers_fit_both_networks():
    student, teacher = SSD300(TINY, 2), SSD300("resnet18(width=0.25)", 2)
    distillers = build_distillers(["cwd(tau=4, weight=0.5)", "hint"], student, teacher)
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
def test_distillers_that_cannot_be(specs, message):
    model = SSD300(TINY, 2)
    with pytest.raises(ValueError, match=message):
        build_distillers(specs, model, model)
