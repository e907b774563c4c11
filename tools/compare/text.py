"""What the scores of paired runs say, as Markdown for people."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tools.compare.comparison import METRICS
from tools.compare.variants import BASELINE

# Students of less AP than this, in percent, have hardly begun to learn.
NEAR_ZERO = 5.0


def markdown(comparison: Mapping[str, Any]) -> str:
    """The report for people: tables, the verdicts in words, and the commands."""
    metric, variants = comparison["metric"], comparison["variants"]
    teacher = comparison["teacher"]
    lines = [
        f"# Comparison on {' '.join(comparison['test'])} ({comparison['images']} images)",
        "",
        f"AP in percent; the difference is that of {metric} to `{BASELINE}`, paired by seed.",
        "",
        "| | seeds | voc07 | voc10 | COCO | sd | difference | 95 % (t) | 95 % (bootstrap) "
        "| gap closed |",
        "|---|---|---|---|---|---|---|---|---|---|",
        f"| teacher {teacher['backbone']} | 1 | {protocols(teacher['means'])} | | | | | |",
    ]
    for name, row in variants.items():
        cells = [name, str(len(row["seeds"])), protocols(row["means"]), spread(row["sd"])]
        if "difference" in row:
            difference = row["difference"]
            cells += [f"{difference['mean']:+.2f}", interval(difference["t"])]
            cells += [interval(difference["bootstrap"]), percent(row["gap_closed"])]
        else:
            cells += [""] * 4
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", *(f"- {sentence}" for sentence in verdicts(comparison)), ""]
    lines += ["## Every seed", "", *seed_table(variants), ""]
    gained = {name: row for name, row in variants.items() if "class_gain" in row}
    if gained:
        lines += [f"## Gain per class ({metric}) and per size of object (COCO AP)", ""]
        lines += [*gain_table(gained), ""]
    lines += ["## Commands", "", "```bash"]
    lines += [command for command in [teacher["command"]] if command]
    lines += [command for row in variants.values() for command in row["commands"]]
    return "\n".join([*lines, "```", ""])


def verdicts(comparison: Mapping[str, Any]) -> list[str]:
    """Whether each gain is more than chance, in words."""
    sentences, compared = [], 0
    for name, row in comparison["variants"].items():
        if "difference" not in row:
            continue
        compared += 1
        d = row["difference"]
        pairs = "1 pair" if d["seeds"] == 1 else f"{d['seeds']} pairs"
        text = f"**{name}** (`{row['flags']}`): {d['mean']:+.2f} over {pairs}, "
        text += f"95 % interval {interval(d['t'])}: {row['verdict']}."
        if row["other_budget"]:
            text += f" Its budget is another one: {row['other_budget']}."
        sentences.append(text)
    sentences += doubts(comparison)
    if comparison["chosen_on_test"]:
        sentences.append(
            "Each run's network was chosen among its epochs by the very images that it is scored "
            "on, which flatters all of them; validate on a split of its own, or pass --val-every 0."
        )
    if compared > 1:
        sentences.append(
            f"{compared} variants are compared with one baseline; the intervals are not widened "
            "for that: of twenty without effect one is expected to look significant."
        )
    return sentences


def doubts(comparison: Mapping[str, Any]) -> list[str]:
    """Why these runs may decide nothing: students that learned nothing, seeds that are too few."""
    sentences, variants = [], comparison["variants"]
    if BASELINE not in variants:
        return [f"No run of {BASELINE} is done, so nothing can be compared yet."]
    alone = variants[BASELINE]["mean"]
    if alone < NEAR_ZERO:
        sentences.append(
            f"The students are near zero ({BASELINE}: {alone:.1f}): what changes there says little "
            "about students that have learned; train them longer first."
        )
    reaches = [
        (row["difference"]["t"][1] - row["difference"]["t"][0]) / 2
        for row in variants.values()
        if "difference" in row and row["difference"]["t"][0] <= 0 <= row["difference"]["t"][1]
    ]
    if reaches:
        sentences.append(
            f"Where no difference is found, one of up to {max(reaches):.1f} points would not have "
            "been found either: that is how far these seeds scatter. Four times as many halve it."
        )
    return sentences


def seed_table(variants: Mapping[str, Any]) -> list[str]:
    """The value of each variant with each seed."""
    seeds = sorted({seed for row in variants.values() for seed in row["seeds"]}, key=int)
    lines = [f"| seed | {' | '.join(seeds)} |", "|---" * (len(seeds) + 1) + "|"]
    for name, row in variants.items():
        cells = [f"{row['seeds'][s]:.2f}" if s in row["seeds"] else "" for s in seeds]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def gain_table(variants: Mapping[str, Any]) -> list[str]:
    """The mean gain of each variant by class and by size."""
    lines = [f"| | {' | '.join(variants)} |", "|---" * (len(variants) + 1) + "|"]
    for part in ("class_gain", "size_gain"):
        for key in next(iter(variants.values()))[part]:
            cells = [signed(row[part][key]) for row in variants.values()]
            lines.append(f"| {key} | {' | '.join(cells)} |")
    return lines


def protocols(means: Mapping[str, float]) -> str:
    """Three cells."""
    return " | ".join(f"{means[name]:.2f}" for name in METRICS)


def spread(value: float) -> str:
    """`1.20`; a dash for nan."""
    return "-" if math.isnan(value) else f"{value:.2f}"


def percent(share: float) -> str:
    """`40 %`; a dash for nan."""
    return "-" if math.isnan(share) else f"{100 * share:.0f} %"


def interval(ends: Sequence[float]) -> str:
    """`+0.50 to +2.10`; a dash where nothing is known."""
    return "-" if math.isnan(ends[0]) else f"{ends[0]:+.2f} to {ends[1]:+.2f}"


def signed(value: float) -> str:
    """`+1.20`; a dash for nan."""
    return "-" if math.isnan(value) else f"{value:+.2f}"
