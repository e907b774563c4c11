"""Weights that follow shares: by hand, and what they do about noise, jumps and silence."""

import math

import pytest
import torch
from torch import Tensor, nn

from nets.tasks.loudness import (
    LARGEST_STEP,
    Loudness,
    check_shares,
)
from utils.engine.ledger import gradient_norms, shares_of

WEIGHTS = {"soft": 3.0, "conf": 0.7, "l2": 0.0, "loc": 1.0, "cwd": 1.0}
ASKED = {"soft": 0.4, "cwd": 0.2}
# U = 0.7 * 2 + 1 * 0.6 = 2; with 1 - 0.4 - 0.2 = 0.4 left over,
# soft: 0.4 / 0.4 * 2 / 4 = 0.5 and cwd: 0.2 / 0.4 * 2 / 0.01 = 100.
NORMS = {"soft": 4.0, "conf": 2.0, "l2": 9.0, "loc": 0.6, "cwd": 0.01}


def scalars(values: dict[str, float]) -> dict[str, Tensor]:
    return {name: torch.tensor(value) for name, value in values.items()}


def heard(loudness: Loudness, **norms: float) -> dict[str, float]:
    """The weights of the step in which these norms were measured."""
    weights = loudness.hear(scalars(NORMS | norms))
    return {name.removeprefix("weight/"): float(w) for name, w in weights.items()}


def now(loudness: Loudness) -> dict[str, float]:
    """The weights of the step after."""
    return {name.removeprefix("weight/"): float(w) for name, w in loudness.weights().items()}


def test_the_first_measurement_sets_weights_at_once() -> None:
    loudness = Loudness(ASKED, WEIGHTS)
    assert now(loudness) == pytest.approx({"soft": 3.0, "cwd": 1.0})
    weights = heard(loudness)
    assert weights == pytest.approx({"soft": 0.5, "cwd": 100.0}, rel=1e-5)
    assert now(loudness) == pytest.approx(weights)
    shares = shares_of(scalars(NORMS), WEIGHTS | weights)
    # 0.5 * 4 = 2, 0.7 * 2 = 1.4, 0, 0.6 and 100 * 0.01 = 1 of 5.
    found = [float(share) for share in shares.values()]
    assert found == pytest.approx([0.4, 0.28, 0.0, 0.12, 0.2], rel=1e-5)


def test_later_ones_move_them_part_of_the_way() -> None:
    loudness = Loudness(ASKED, WEIGHTS)
    heard(loudness)
    # soft pulls half as much: 1, the fixed terms 2, cwd 1, so the shares are 1/4, 1/2 and 1/4.
    # soft: 0.5 / 0.4 - 0.25 / 0.4 = 0.625; cwd: 0.5 / 0.4 - 0.25 / 0.2 = 0.
    # The step itself still has the old weight.
    assert heard(loudness, soft=2.0)["soft"] == pytest.approx(0.5, rel=1e-5)
    louder = 0.5 * math.exp(0.625 * 16 / 17)
    assert now(loudness) == pytest.approx({"soft": louder, "cwd": 100.0}, rel=1e-5)
    # 1000 times as much: no further than the largest step.
    heard(loudness, soft=4000.0)
    assert now(loudness)["soft"] == pytest.approx(louder / LARGEST_STEP, rel=1e-5)


def test_the_pace_falls_to_a_fifth() -> None:
    loudness = Loudness(ASKED, WEIGHTS)
    heard(loudness)
    moved = []
    for _ in range(80):
        before = now(loudness)["soft"]
        heard(loudness, soft=1 / before)  # shares and error as in the test above
        moved.append(math.log(now(loudness)["soft"] / before))
    paces = [max(0.2, 16 / (16 + n)) for n in range(1, 81)]
    assert moved == pytest.approx([0.625 * pace for pace in paces], abs=1e-5)


def test_louder_fixed_terms_take_the_others_along() -> None:
    loudness = Loudness(ASKED, WEIGHTS)
    heard(loudness, conf=4.0, loc=1.2)  # U doubles
    assert now(loudness) == pytest.approx({"soft": 1.0, "cwd": 200.0}, rel=1e-5)


@pytest.mark.parametrize(("drift", "close"), [(0, 0.05), (1, 0.2)])
def test_shares_come_to_what_was_asked_for(drift: int, close: float) -> None:
    """Noisy terms of known gradients, which also grow and fall, each in its own way."""
    rng = torch.Generator().manual_seed(0)
    loudness = Loudness(ASKED, WEIGHTS)
    found = []
    for step in range(60):
        noise = (0.4 * torch.randn(3, generator=rng)).exp().tolist()
        far = drift * step
        slopes = {"soft": 4 / (1 + 0.1 * far), "conf": 2 - far / 60, "cwd": 0.01 + far / 2000}
        maps = [torch.zeros(4, requires_grad=True)]
        # The gradient of s * sum over 4 cells has the norm 2 s.
        halves = {n: s * f / 2 for (n, s), f in zip(slopes.items(), noise, strict=True)}
        terms = {name: half * maps[0].sum() for name, half in halves.items()}
        terms["l2"], terms["loc"] = 4.5 * maps[0].sum(), 0.3 * maps[0].sum()
        norms = gradient_norms(terms, WEIGHTS, maps)
        assert float(norms["soft"]) == pytest.approx(2 * halves["soft"], rel=1e-5)
        weights = {n: float(w) for n, w in loudness.hear(norms).items()}
        levels = {n: weights.get(f"weight/{n}", w) for n, w in WEIGHTS.items()}
        found.append([float(shares_of(norms, levels)[f"ledger/share/{n}"]) for n in ASKED])
    # With the first step's weights, soft would have 0.06 in the mean and cwd 0.7 where they drift.
    assert torch.tensor(found).mean(0).tolist() == pytest.approx([0.4, 0.2], rel=close)


@pytest.mark.parametrize("norm", [0.0, math.inf, math.nan])
def test_without_a_gradient_a_weight_stays(norm: float) -> None:
    loudness = Loudness(ASKED, WEIGHTS)
    # As if cwd alone had a share: 0.2 / 0.8 * 2 / 0.01 = 50.
    assert heard(loudness, soft=norm) == pytest.approx({"soft": 3.0, "cwd": 50.0}, rel=1e-5)
    assert loudness.heard.tolist() == [0, 1]
    loudness = Loudness(ASKED, WEIGHTS)
    assert heard(loudness) == pytest.approx({"soft": 0.5, "cwd": 100.0}, rel=1e-5)
    heard(loudness, soft=norm)
    assert now(loudness) == pytest.approx({"soft": 0.5, "cwd": 100.0}, rel=1e-5)
    assert loudness.heard.tolist() == [1, 2]
    assert heard(loudness, conf=norm, loc=norm) == pytest.approx(now(loudness))


def test_what_speaks_late_is_set_at_once() -> None:
    loudness = Loudness(ASKED, WEIGHTS)
    heard(loudness, soft=0.0)
    assert heard(loudness) == pytest.approx({"soft": 0.5, "cwd": 50.0}, rel=1e-5)
    # The shares are now 2, 0.5 and, of the fixed terms, 2 of 4.5; cwd: (2 / 0.4 - 0.5 / 0.2) / 4.5.
    louder = 50 * math.exp(16 / 17 * 2.5 / 4.5)
    assert now(loudness) == pytest.approx({"soft": 0.5, "cwd": louder}, rel=1e-5)


def test_a_weight_of_zero_begins_at_one() -> None:
    assert now(Loudness({"l2": 0.1}, WEIGHTS)) == {"l2": 1.0}


def test_layers_of_a_term_train_as_if_its_weight_were_1() -> None:
    """In steps that measure, too, which move the weight of the next one before they go backward."""
    loudness, layer = Loudness(ASKED, WEIGHTS), nn.Linear(1, 1, bias=False)
    loudness.spare("cwd", layer)
    for norm in (0.01, 0.02, None, 0.04):
        weight = now(loudness)["cwd"] if norm is None else heard(loudness, cwd=norm)["cwd"]
        layer.zero_grad()
        (weight * layer(torch.tensor([3.0]))).backward()
        assert layer.weight.grad is not None
        assert float(layer.weight.grad) == pytest.approx(3.0, rel=1e-5)


def test_without_shares_there_is_nothing() -> None:
    loudness = Loudness({}, WEIGHTS)
    assert loudness.weights() == loudness.hear(scalars(NORMS)) == {}
    assert not loudness.state_dict()


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"mgd": 0.2}, "no term 'mgd' among soft, conf, l2, loc, cwd; name it in --distill, too"),
        ({"sfot": 0.2}, "no term 'sfot' among soft, conf, l2, loc, cwd; perhaps 'soft' is meant$"),
        ({"what": 0.2}, "no term 'what' among soft, conf, l2, loc, cwd$"),
        ({"soft": 0.0}, "--share soft=0: a share is above 0 and below 1; for a silent term set"),
        ({"soft": -0.1}, "--share soft=-0.1: a share is above 0"),
        ({"soft": 1.0}, "--share soft=1: a share is above 0 and below 1"),
        ({"soft": math.nan}, "--share soft=nan: a share is above 0"),
        (
            {"soft": 0.7, "cwd": 0.2, "l2": 0.1},
            "add up to 1; they must leave something to conf, loc",
        ),
        (dict.fromkeys(WEIGHTS, 0.3), "add up to 1.5; they must leave something to a term that"),
        (
            {"soft": 0.2, "conf": 0.2, "loc": 0.2, "cwd": 0.2},
            r"no other term has a weight \(left over: l2\), so 0.2 of the gradient is nobody's",
        ),
        (dict.fromkeys(WEIGHTS, 0.1), r"no other term has a weight \(left over: none\)"),
    ],
)
def test_shares_that_cannot_be(shares: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_shares(shares, WEIGHTS)
