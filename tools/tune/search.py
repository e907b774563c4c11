"""What a search over the distillation settings needs to know of them: ranges, and which flags of
train_kd.py go with a search. How settings are chosen is not known here, see study.py.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tools.jobs import one_arithmetic, typed
from utils.cli import parse_arguments
from utils.config import DistillConfig, flag
from utils.engine.runs import FREE, plain

SCRIPT = "train_kd.py"
OWN = ("--name", "--logs", "--resume", "--no-resume", "--profile", "--no-profile")


class Range(NamedTuple):
    """What a setting is searched in: `low <= value <= high`, by its logarithm where `log`."""

    low: float
    high: float
    log: bool = True


RANGES = {
    # Factors matter by their ratios, hence the logarithms. 0.05 all but turns a term off, 4 drowns
    # the rest; what all four have in common acts as a learning rate (not with adamw).
    "soft_weight": Range(0.05, 4),
    "conf_weight": Range(0.05, 4),
    "l2_weight": Range(0.05, 4),
    "loc_weight": Range(0.05, 4),
    # Below 1 soft targets turn hard; at 8 the 21 scores of a prior are all but equal.
    "temperature": Range(1, 8),
    # Weights of columns within the soft term. Their common factor is soft_weight's: search the two,
    # or soft_weight and one of them, with small budgets.
    "neg_w": Range(0.5, 3),
    "pos_w": Range(0.5, 3),
    # 0 is the paper's bound, so no logarithm. Errors of a trained teacher are well below 1, and a
    # margin above them makes the term plain L2.
    "reg_m": Range(0, 1, log=False),
}


def search_ranges(search: Sequence[str], overrides: Sequence[str]) -> dict[str, Range]:
    """The ranges of the settings to search, of `RANGES` unless overridden.

    Args:
        search: names of settings, each of them in `RANGES`.
        overrides: `NAME=LOW:HIGH` each.

    Raises:
        ValueError: an override is malformed, of a setting that is not searched, or no range.
    """
    ranges = {name: RANGES[name] for name in search}
    for text in overrides:
        name, _, ends = text.partition("=")
        if name not in ranges:
            raise ValueError(f"--range {text}: not searched; choose one of {', '.join(ranges)}")
        try:
            low, high = map(float, ends.split(":"))
        except ValueError:
            raise ValueError(f"--range {text}: write NAME=LOW:HIGH, e.g. {name}=1:4") from None
        log = ranges[name].log
        if not (0 <= low < high < math.inf) or (log and low == 0):
            least = "0 < LOW" if log else "0 <= LOW"
            raise ValueError(f"--range {text}: must be finite numbers with {least} < HIGH")
        ranges[name] = Range(low, high, log)
    return ranges


def check_training(words: Sequence[str], ranges: Mapping[str, Range]) -> DistillConfig:
    """The settings of the flags that every trial trains with.

    Args:
        words: the flags of train_kd.py.
        ranges: the settings that the search decides.

    Raises:
        ValueError: they set what the search decides, name no teacher or nothing to validate on, or
            a default lies outside its range.
        SystemExit: unknown flag, or a value of the wrong type; status 2 after one line.
    """
    given = {word.partition("=")[0] for word in words if word.startswith("--")}
    for word in OWN:
        if word in given:
            raise ValueError(f"{word} (after --) is not for trials; leave it out")
    for word in map(flag, ranges):
        if word in given:
            raise ValueError(f"{word} (after --) is searched; leave it out, or out of --search")
    config = parse_arguments(DistillConfig, words)
    if not config.teacher:
        raise ValueError("--teacher is missing; pass -- --teacher logs/RUN/best.pth, trained once")
    if not config.val:
        raise ValueError("--val names no split, and trials are compared by their validation mAP")
    for name, (low, high, _) in ranges.items():
        default = getattr(config, name)
        if default == 0 < low:
            raise ValueError(f"{name} is 0 here; leave it out of --search, or change --preset")
        if not low <= default <= high:
            raise ValueError(
                f"--range {name}={low:g}:{high:g} leaves out {default:g}, the default, which the "
                "first trial has; widen it"
            )
    return config


def trial_words(words: Sequence[str], epochs: int) -> list[str]:
    """The flags of train_kd.py for a trial: as given, with validations to judge it by on its way,
    and all trials in one arithmetic.

    A `--val-every` or `--amp` among `words` comes later and therefore counts.
    """
    return ["--val-every", str(max(1, epochs // 10)), *one_arithmetic(), *words]


def settings_flags(settings: Mapping[str, float]) -> list[str]:
    """`{"neg_w": 1.5}` -> `["--neg-w", "1.5"]`."""
    return [word for name, value in settings.items() for word in (flag(name), f"{value:g}")]


def best_command(words: Sequence[str], settings: Mapping[str, float]) -> str:
    """The command that trains a student with these settings, as a user would type it."""
    return typed(SCRIPT, *words, *settings_flags(settings), "--name", "tuned")


def common(config: DistillConfig, ranges: Mapping[str, Range]) -> dict[str, object]:
    """What all trials of a search have in common, as JSON has it."""
    decided = FREE | set(ranges)
    settings = {k: v for k, v in dataclasses.asdict(config).items() if k not in decided}
    return {**plain(settings), "search": {name: list(ranges[name][:2]) for name in ranges}}
