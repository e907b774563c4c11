"""The trials of a search, as a table in Markdown and for JSON."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.tune.search import Range, best_command
from utils.show.report import write_json

# Points of mAP that two seeds of one short run differ by: 2.4 to 3.9 is their standard deviation
# in docs/evidence.md, and a difference of two has 1.4 times that.
NOISE = 4.0
COMPLETE, PRUNED, FAILED = "complete", "pruned", "failed"
# Interrupted ones are tried again, as new trials.
RUNNING, INTERRUPTED = "running", "interrupted"


@dataclass(frozen=True)
class Trial:
    """A trial of a search; `score` is its best validation mAP so far, 0..1, None without any."""

    number: int
    state: str
    settings: Mapping[str, float]
    score: float | None
    epochs: int
    default: bool = False
    message: str = ""


def best_of(trials: Sequence[Trial]) -> Trial | None:
    """The complete trial with the best mAP; the earlier one of two that are equal."""
    complete = [t for t in trials if t.state == COMPLETE and t.score is not None]
    return max(complete, key=lambda t: (t.score, -t.number), default=None)


def default_of(trials: Sequence[Trial]) -> Trial | None:
    """The complete trial with the settings that a search starts from."""
    return next((t for t in trials if t.default and t.state == COMPLETE), None)


def ranked(trials: Sequence[Trial]) -> list[Trial]:
    """Complete trials first, and of each state the best first."""
    order = {COMPLETE: 0, PRUNED: 1}
    return sorted(trials, key=lambda t: (order.get(t.state, 2), -(t.score or 0.0), t.number))


def markdown(trials: Sequence[Trial], names: Sequence[str]) -> str:
    """A row for each trial; mAP in percent, settings in the order of `names`."""
    titles = ["trial", "mAP %", "state", "epochs", *names, ""]
    lines = [titles, ["--:", "--:", "---", "--:", *("--:" for _ in names), "---"]]
    for t in ranked(trials):
        score = "" if t.score is None else f"{100 * t.score:.2f}"
        settings = [f"{t.settings[name]:g}" if name in t.settings else "" for name in names]
        note = "default" * t.default + "; " * (t.default and bool(t.message)) + t.message
        note = note.replace("|", "\\|")
        lines.append([str(t.number), score, t.state, str(t.epochs), *settings, note])
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def plain(trial: Trial) -> dict[str, Any]:
    """A trial as JSON has it."""
    return {
        "number": trial.number,
        "state": trial.state,
        "mAP": trial.score,
        "epochs": trial.epochs,
        "default": trial.default,
        "settings": dict(trial.settings),
        "message": trial.message,
    }


def write_report(
    out: Path,
    trials: Sequence[Trial],
    ranges: Mapping[str, Range],
    importances: Mapping[str, float],
    words: Sequence[str],
) -> None:
    """Writes trials.md and trials.json into `out`; `words` are the flags of all trials."""
    best, default = best_of(trials), default_of(trials)
    (out / "trials.md").write_text(markdown(trials, list(ranges)), encoding="utf-8")
    report = {
        "best": best and plain(best),
        "default": default and plain(default),
        "command": best and best_command(words, best.settings),
        "search": {name: list(scope[:2]) for name, scope in ranges.items()},
        "importances": importances,
        "trials": [plain(trial) for trial in trials],
    }
    write_json(out / "trials.json", report)


def summary(trials: Sequence[Trial], words: Sequence[str]) -> str:
    """What a search has found, for the terminal; ends with the command of the best settings."""
    count = Counter(trial.state for trial in trials)
    lines = ["", ", ".join(f"{n} {state}" for state, n in count.items()) or "no trial"]
    best, default = best_of(trials), default_of(trials)
    if count[RUNNING]:
        lines.append(
            "what runs does so in another process; should that have died, the same command takes "
            "its trial up after a minute"
        )
    if default:
        lines.append(f"default: trial {default.number}, {points(default)}")
    if best:
        lines.append(f"best: trial {best.number}, {points(best)}")
        lines += [doubt] if (doubt := doubt_of(best, default)) else []
        lines.append("to train with its settings:")
        lines.append(best_command(words, best.settings))
    return "\n".join(lines)


def doubt_of(best: Trial, default: Trial | None) -> str:
    """Why the best trial may be no better than the settings that the search started from."""
    if default is None or best.score is None or default.score is None:
        return ""
    gain = 100 * (best.score - default.score)
    if best.number == default.number:
        return "the best is the default: the search has found nothing better"
    if gain < NOISE:
        return (
            f"its {gain:.1f} points over the default are within what two seeds of one setting "
            f"differ by ({NOISE:g} points in short runs, docs/evidence.md), and it is the luckiest "
            "of several; compare both with several seeds (tools.compare) before you believe it"
        )
    return ""


def points(trial: Trial) -> str:
    """`mAP 27.10 %`."""
    return "no mAP" if trial.score is None else f"mAP {100 * trial.score:.2f} %"
