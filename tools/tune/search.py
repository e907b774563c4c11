"""What a search over the distillation settings needs to know of them: ranges, and which flags of
train_kd.py go with a search. How settings are chosen is not known here, see study.py.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from nets.distillers import DISTILLERS
from nets.tasks.shares import TERMS, read_shares
from tools.jobs import decisive, one_arithmetic, typed
from utils import spec
from utils.cli import parse_arguments
from utils.config import DistillConfig, flag

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
# `share.soft` is what `--share soft=...` says. A fiftieth has no say; two of them at their highest
# leave a fifth to all others.
SHARE = "share."
SHARES = {SHARE + name: Range(0.02, 0.4) for name in (*TERMS, *DISTILLERS)}
FIFTH = 0.2  # the share that a search begins with where `--share` does not say
KNOWN = RANGES | SHARES


def given_flags(words: Sequence[str]) -> set[str]:
    """The flags among words: `["--lr=1", "--val", "x"]` -> `{"--lr", "--val"}`."""
    return {word.partition("=")[0] for word in words if word.startswith("--")}


def usual_search(words: Sequence[str]) -> tuple[str, ...]:
    """What to search where nobody says: how loud each term of the trials is, by its share or its
    weight, and what belongs to soft targets; but nothing that is given.

    Args:
        words: the flags of train_kd.py.

    Raises:
        ValueError: all is given; or `parse_arguments` refuses a word.
    """
    config, given = parse_arguments(DistillConfig, words), given_flags(words)
    shares = read_shares(config.share)
    names = [] if "--share" in given else [SHARE + name for name in shares]
    names += [f"{t}_weight" for t in TERMS if t not in shares and getattr(config, f"{t}_weight")]
    if config.soft_weight or "soft" in shares:
        names += ["temperature", "neg_w"]
    search = tuple(name for name in names if flag(name) not in given)
    if not search:
        raise ValueError("nothing is left to search: all is given (after --); name it in --search")
    return search


def search_ranges(search: Sequence[str], overrides: Sequence[str]) -> dict[str, Range]:
    """The ranges of the settings to search, of `KNOWN` unless overridden.

    Args:
        search: names of settings, each of them in `KNOWN`.
        overrides: `NAME=LOW:HIGH` each.

    Raises:
        ValueError: an override is malformed, of a setting that is not searched, or no range, or
            shares may leave nothing to the other terms.
    """
    ranges = {name: KNOWN[name] for name in search}
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
    shares = {name: scope for name, scope in ranges.items() if name in SHARES}
    if sum(scope.high for scope in shares.values()) >= 1:
        raise ValueError(
            f"--search: {', '.join(shares)} may add up to 1 or more, which leaves nothing to the "
            f"other terms; narrow them, e.g. --range {next(iter(shares))}=0.02:0.3"
        )
    return ranges


def check_training(words: Sequence[str], ranges: Mapping[str, Range]) -> DistillConfig:
    """The settings of the flags that every trial trains with.

    Args:
        words: the flags of train_kd.py.
        ranges: the settings that the search decides.

    Raises:
        ValueError: they set what the search decides (a share there is the first trial's), name no
            teacher or nothing to validate on, or a default lies outside its range; or
            `parse_arguments` refuses one.
    """
    given = given_flags(words)
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
    check_searched_shares(config, ranges)
    for name, default in defaults(config, ranges).items():
        low, high, _ = ranges[name]
        if default == 0 < low:
            raise ValueError(f"{name} is 0 here; leave it out of --search, or change --preset")
        if not low <= default <= high:
            raise ValueError(
                f"--range {name}={low:g}:{high:g} leaves out {default:g}, the default, which the "
                "first trial has; widen it"
            )
    highest = settings_flags({name: scope.high for name, scope in ranges.items()})
    parse_arguments(DistillConfig, [*words, *highest])  # refuses what no term would hear of
    return config


def check_searched_shares(config: DistillConfig, ranges: Mapping[str, Range]) -> None:
    """Raises ValueError where shares are of no term of these trials, or some are not searched, or
    decide a weight that is.
    """
    searched = [name.removeprefix(SHARE) for name in ranges if name in SHARES]
    terms = [*TERMS, *(spec.parse(text)[0] for text in config.distill)]
    for name in (*searched, *read_shares(config.share)):
        if f"{name}_weight" in ranges:
            raise ValueError(
                f"--search {name}_weight: {name} has a share, which decides its weight; leave one "
                "of the two out"
            )
    for name in searched:
        if name not in terms:
            raise ValueError(
                f"--search {SHARE}{name}: no term of these trials, which are {', '.join(terms)}; "
                f"pass -- --distill {name}, too"
            )
    fixed = [name for name in read_shares(config.share) if name not in searched]
    if searched and fixed:
        raise ValueError(
            f"--share (after --) also gives {fixed[0]} one, but trials have searched shares alone; "
            f"search {SHARE}{fixed[0]}, too, or leave it out"
        )


def defaults(config: DistillConfig, ranges: Mapping[str, Range]) -> dict[str, float]:
    """What the first trial has of the settings that are searched."""
    shares = read_shares(config.share)
    return {
        name: shares.get(name.removeprefix(SHARE), FIFTH)
        if name in SHARES
        else getattr(config, name)
        for name in ranges
    }


def trial_words(words: Sequence[str], epochs: int) -> list[str]:
    """The flags of train_kd.py for a trial: as given, with validations to judge it by on its way,
    and all trials in one arithmetic.

    A `--val-every` or `--amp` among `words` comes later and therefore counts.
    """
    return ["--val-every", str(max(1, epochs // 10)), *one_arithmetic(), *words]


def settings_flags(settings: Mapping[str, float]) -> list[str]:
    """`{"neg_w": 1.5, "share.soft": 0.3}` -> `["--neg-w", "1.5", "--share", "soft=0.3"]`."""
    shares = [f"{n.removeprefix(SHARE)}={v:g}" for n, v in settings.items() if n in SHARES]
    own = {name: value for name, value in settings.items() if name not in SHARES}
    words = [word for name, value in own.items() for word in (flag(name), f"{value:g}")]
    return [*words, "--share", *shares] if shares else words


def best_command(words: Sequence[str], settings: Mapping[str, float]) -> str:
    """The command that trains a student with these settings, as a user would type it."""
    return typed(SCRIPT, *words, *settings_flags(settings), "--name", "tuned")


def common(config: DistillConfig, ranges: Mapping[str, Range]) -> dict[str, object]:
    """What all trials of a search have in common, as JSON has it."""
    if any(name in SHARES for name in ranges):  # then weights follow the ledger in every trial
        config = dataclasses.replace(config, share=("soft=0.1",))
    settings = {k: v for k, v in decisive(config).items() if k not in ranges}
    return {**settings, "search": {name: list(ranges[name][:2]) for name in ranges}}
