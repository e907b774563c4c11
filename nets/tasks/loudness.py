"""Loss terms that are to have a given share of the gradient: their weights follow."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from nets.distillers import DISTILLERS
from utils.engine.ledger import WEIGHT
from utils.suggest import meant

# The n-th measurement after a term's first moves its weight by EARLY / (EARLY + n) of the error, by
# PACE at least: at first gradients change fast, later the differences between batches are to be
# evened out. And by no more than this factor.
EARLY, PACE, LARGEST_STEP = 16, 0.2, 2.0


class Loudness(nn.Module):
    """The weights of the terms that have shares, from what the ledger measures.

    Be g the norms of the unweighted terms' gradients at the source maps, s_i the shares asked for,
    and s_0 = 1 - sum s_i what is left to the terms with fixed weights, whose w g add up to U. In a
    batch all shares hold at w_i = s_i / s_0 * U / g_i: so the first measurement of a term sets its
    weight. Batches differ, so each later one moves it by a part, from the shares p measured:

        log w_i += pace * (p_0 / s_0 - p_i / s_i)

    which is Newton's method in all log w at once, and comes to rest where the means of the shares
    are those asked for. The pace falls from 1 to `PACE`; a step is at most a factor of
    `LARGEST_STEP`. Without a gradient at the maps, or with one beyond half precision, a weight
    stays as it is; the share of a term that never had one is left to all others.

    Args:
        shares: what each term is to have of the whole, in (0, 1); none: nothing follows.
        weights: of all terms. Those of terms with shares count until they are first measured
            (1 for 0).

    Raises:
        ValueError: a share is not in (0, 1) or of no term, or they leave nothing to the others.
    """

    logs: Tensor
    heard: Tensor
    used: Tensor
    asked: Tensor

    def __init__(self, shares: Mapping[str, float], weights: Mapping[str, float]) -> None:
        super().__init__()
        check_shares(shares, weights)
        self.shares = dict(shares)
        self.fixed = {n: w for n, w in weights.items() if n not in shares and w > 0}
        asked = torch.tensor(list(shares.values()))
        self.register_buffer("asked", asked, persistent=False)
        self.starts = {name: weights[name] or 1.0 for name in shares}
        logs = torch.tensor([math.log(start) for start in self.starts.values()])
        self.register_buffer("logs", logs, persistent=bool(shares))
        # What this step computes with; a measurement in it has moved `logs` on by the time of its
        # backward pass.
        self.register_buffer("used", logs.clone(), persistent=False)
        heard = torch.zeros(len(shares))  # how often it has been measured
        self.register_buffer("heard", heard, persistent=bool(shares))

    def weights(self) -> dict[str, Tensor]:
        """`weight/NAME` of each term with a share, as of now."""
        self.used.copy_(self.logs)
        return self.named(self.logs)

    def named(self, logs: Tensor) -> dict[str, Tensor]:
        """`weight/NAME` from their logarithms, in the order of the shares."""
        return {WEIGHT + n: w for n, w in zip(self.shares, logs.exp().unbind(), strict=True)}

    def spare(self, name: str, layers: nn.Module) -> None:
        """Lets the own layers of a term train on it as if its weight were 1.

        They are nobody else's, so they want the same whatever the weight. With it, layers that have
        learnt nothing yet, and so hardly pass a gradient on, would at first train at hundreds of
        times the rate: by then the weight has to be that large.
        """
        index = list(self.shares).index(name)
        for parameter in layers.parameters():
            parameter.register_hook(lambda gradient: gradient / self.used[index].exp())

    @torch.no_grad()
    def hear(self, norms: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Lets the weights of the coming steps follow a measurement; nothing waits.

        Args:
            norms: see `utils.engine.ledger.gradient_norms`, the same in all processes.

        Returns:
            The weights of this step: as they were, but for terms that are measured first now.
        """
        if not self.shares:
            return {}
        others = torch.stack([weight * norms[name] for name, weight in self.fixed.items()]).sum()
        own = torch.stack([norms[name] for name in self.shares])
        ratio = others / own
        told, known = (ratio > 0) & ratio.isfinite(), self.heard > 0
        rest = 1 - (self.asked * (known | told)).sum()
        now = torch.where(told & ~known, (self.asked / rest * ratio).log(), self.logs)
        pulls = torch.where(told, now.exp() * own, 0.0)
        error = (others / rest - pulls / self.asked) / (others + pulls.sum())
        pace = (EARLY / (EARLY + self.heard)).clamp(min=PACE)
        most = math.log(LARGEST_STEP)
        self.logs.copy_(torch.where(told, now + (pace * error).clamp(-most, most), now))
        self.heard.add_(told)
        self.used.copy_(now)
        return self.named(now)


def check_shares(shares: Mapping[str, float], weights: Mapping[str, float]) -> None:
    """Raises ValueError unless the terms of these weights can have these shares; see `Loudness`."""
    for name, share in shares.items():
        if name not in weights:
            missing = f"; name it in --distill, too: {name}"
            remedy = missing if name in DISTILLERS else meant(name, weights)
            raise ValueError(f"--share: no term {name!r} among {', '.join(weights)}{remedy}")
        if not 0 < share < 1:
            raise ValueError(
                f"--share {name}={share:g}: a share is above 0 and below 1; for a silent term set "
                "its weight to 0"
            )
    others = [name for name in weights if name not in shares]
    total = round(sum(shares.values()), 9)  # 0.7 + 0.2 + 0.1 is not 1 to a computer
    if total >= 1:
        left = ", ".join(others) or "a term that is not named"
        raise ValueError(
            f"--share: the shares add up to {total:g}; they must leave something to {left}"
        )
    if shares and not any(weights[name] > 0 for name in others):
        names = ", ".join(others) or "none"
        raise ValueError(
            f"--share: no other term has a weight (left over: {names}), so {1 - total:g} of the "
            "gradient is nobody's; leave one out, or give another one a weight"
        )
