"""`--share`: which part of the gradient terms are to have; and afterwards, as fixed weights."""

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from nets.tasks.loudness import Loudness
from nets.tasks.schedule import KD_FACTOR, OF_OBJECTS
from utils import spec
from utils.cli import flags_of
from utils.config import DistillConfig
from utils.engine.ledger import WEIGHT

TERMS = ("soft", "conf", "l2", "loc")  # those of MultiBoxLoss_KD; distillers come on top


def read_shares(words: Sequence[str]) -> dict[str, float]:
    """`["soft=0.4, cwd=0.2"]`, or the same in several words -> `{"soft": 0.4, "cwd": 0.2}`.

    Raises:
        ValueError: a part is not of this form, or names a term twice.
    """
    shares: dict[str, float] = {}
    for part in filter(None, (part.strip() for word in words for part in word.split(","))):
        name, _, value = (text.strip() for text in part.partition("="))
        try:
            share = float(value)
        except ValueError:
            raise ValueError(
                f'--share {part}: write TERM=SHARE, separated by commas, e.g. "soft=0.4, cwd=0.2"'
            ) from None
        if name in shares:
            raise ValueError(f"--share names {name!r} twice")
        shares[name] = share
    return shares


def fixed_instead(
    config: DistillConfig, loudness: Loudness, rows: Sequence[Mapping[str, Any]]
) -> str:
    """For the end of a run: the command that fixes the weights which followed their shares.

    Args:
        config: of the run.
        loudness: of its task.
        rows: of its epochs, see `utils.engine.runs.log.read_metrics`.
    """
    heard = zip(loudness.shares, loudness.heard.tolist(), strict=True)
    lines = [
        f"warning: --share {name}: never had a gradient at the source maps; its weight stayed"
        for name, known in heard
        if not known
    ]
    if rows:
        fixed = with_fixed_weights(config, mean_weights(rows, loudness.shares))
        command = shlex.join(["python", "train_kd.py", *flags_of(fixed)])
        lines.append(f"fixed weights instead of --share, its means over the run: {command}")
    return "\n".join(lines)


def mean_weights(
    rows: Sequence[Mapping[str, Any]], shares: Mapping[str, float]
) -> dict[str, float]:
    """The weight that each term with a share had on average over a run.

    Epochs in which `--kd-schedule` or `--kd-epochs` makes a term quieter count as much less.

    Args:
        rows: of epochs, see `utils.engine.runs.log.read_metrics`; at least one.
        shares: by term.
    """
    means = {}
    for name in shares:
        counts = [1.0 if name in OF_OBJECTS else row.get(f"train/{KD_FACTOR}", 1.0) for row in rows]
        if not any(counts):  # the run ended before the teacher was listened to
            counts = [1.0] * len(rows)
        weights = [row[f"train/{WEIGHT}{name}"] for row in rows]
        products = [count * weight for count, weight in zip(counts, weights, strict=True)]
        means[name] = sum(products) / sum(counts)
    return means


def with_fixed_weights(config: DistillConfig, weights: Mapping[str, float]) -> DistillConfig:
    """The same run under another name, with these weights (to four digits) instead of shares."""
    rounded = {name: float(f"{weight:.4g}") for name, weight in weights.items()}
    specs = []
    for text in config.distill:
        name, options = spec.parse(text)
        own = {"weight": rounded[name]} if name in rounded else {}
        specs.append(spec.write(name, {**options, **own}))
    flags: dict[str, Any] = {f"{n}_weight": w for n, w in rounded.items() if n in TERMS}
    name = f"{config.name}-fixed"
    return dataclasses.replace(
        config, share=(), distill=tuple(specs), name=name, resume=False, **flags
    )
