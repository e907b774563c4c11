"""Shares of the gradient by hand, and that measuring leaves the graph as it was."""

import pytest
import torch
from torch import Tensor

from utils.engine.ledger import describe, gradient_shares, split, weighted


def maps() -> list[Tensor]:
    return [torch.tensor([3.0, 4.0], requires_grad=True), torch.tensor([1.0], requires_grad=True)]


def test_shares_by_hand() -> None:
    features = maps()
    terms = {
        "conf": 2 * features[0].sum() + features[1].sum(),  # gradient (2, 2 | 1), norm 3
        "loc": features[0].square().sum(),  # (6, 8 | 0), norm 10
        "l2": 5 * features[1].sum(),  # (0, 0 | 5), weight 0
    }
    shares = gradient_shares(terms, {"conf": 0.5, "loc": 0.2, "l2": 0.0}, features)
    # Weighted norms 1.5, 2 and 0.
    assert shares["ledger/share/conf"].item() == pytest.approx(1.5 / 3.5)
    assert shares["ledger/share/loc"].item() == pytest.approx(2 / 3.5)
    assert shares["ledger/share/l2"].item() == 0
    sum(terms.values()).backward()  # the graph is still there, and no gradient was added to it
    assert features[0].grad.tolist() == [2 + 6, 2 + 8]


def test_without_gradients_shares_are_zero() -> None:
    constant = {"conf": torch.tensor(3.0)}
    assert gradient_shares(constant, {"conf": 1.0}, maps())["ledger/share/conf"] == 0
    features = maps()
    terms = {"conf": features[0].sum()}
    frozen = [feature.detach() for feature in features]
    assert gradient_shares(terms, {"conf": 1.0}, frozen)["ledger/share/conf"] == 0
    elsewhere = {"conf": torch.tensor(1.0, requires_grad=True) * 2}
    assert gradient_shares(elsewhere, {"conf": 1.0}, features)["ledger/share/conf"] == 0


def test_half_precision_keeps_small_gradients() -> None:
    feature = torch.ones(1, dtype=torch.float16, requires_grad=True)
    terms = {"a": (feature * 1e-3).float().sum() * 1e-5, "b": (feature * 1e-3).float().sum() * 3e-5}
    shares = gradient_shares(terms, {"a": 1.0, "b": 1.0}, [feature])
    assert shares["ledger/share/b"].item() == pytest.approx(0.75, abs=0.02)


def test_entries_and_words() -> None:
    terms, entries = split({"loss": maps()[0].sum(), "ledger/agreement": torch.tensor(0.5)})
    assert set(terms) == {"loss"}
    assert set(entries) == {"ledger/agreement"}
    assert not terms["loss"].requires_grad
    assert weighted({"conf": 2.0, "loss": 9.0}, {"conf": 0.7}) == {"ledger/weighted/conf": 1.4}
    metrics = {"ledger/share/conf": 0.254, "ledger/weighted/conf": 1.4, "ledger/bound_active": 0.9}
    assert (
        describe({"train/loss": 1.0, **metrics}) == "gradient shares conf 25 %  bound active 90 %"
    )
    assert describe({"train/loss": 1.0}) == ""
