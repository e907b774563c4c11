"""What the scores of paired runs say: a report as a dictionary, and the same as Markdown."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from utils.compare_jobs import BASELINE, Job, Variant
from utils.paired import deviation, gap_closed, paired_difference

METRICS: dict[str, Callable[[Mapping[str, Any]], float]] = {
    "voc07": lambda scores: number(scores["voc07"]["mAP"]),
    "voc10": lambda scores: number(scores["voc10"]["mAP"]),
    "coco": lambda scores: number(scores["coco"]["AP"]),
}
SIZES = {"small": "APs", "medium": "APm", "large": "APl"}


def number(value: float | None) -> float:
    """AP in percent; nan for JSON's null, which stands for a class or size without objects."""
    return math.nan if value is None else 100 * value


def headline(job: Job, metric: str) -> str:
    """`tutorial, seed 1: voc07 34.20`, of a job that is done."""
    scores = job.scores()
    assert scores is not None
    return f"{job.title}, seed {job.seed}: {metric} {METRICS[metric](scores):.2f}"


def compare(
    teacher: Job, variants: Sequence[Variant], jobs: Sequence[Job], metric: str
) -> dict[str, Any]:
    """Means, spreads and paired differences of every variant, AP in percent.

    Args:
        teacher: its scores must be there.
        variants: the baseline first.
        jobs: runs without scores, and variants without any run, are left out.
        metric: what the seeds, differences and verdicts are about.

    Returns:
        `{"metric", "teacher": {...}, "variants": {name: {...}}}`; a variant has `seeds` (value by
        seed), `mean`, `sd`, `means` (of the three protocols), `per_class`, `per_size`, `commands`,
        and all but the baseline `difference` (see `utils.paired.Difference`), `verdict`,
        `gap_closed`, `class_gain` and `size_gain` (means over the pairs).
    """
    done = {
        variant.name: {job.seed: job for job in jobs if job.title == variant.name and job.scores()}
        for variant in variants
    }
    reports = {
        name: {seed: job.scores() or {} for seed, job in of_seed.items()}
        for name, of_seed in done.items()
    }
    above = teacher.scores() or {}
    result: dict[str, Any] = {
        "metric": metric,
        "test": above["split"],
        "images": above["images"],
        "teacher": {
            "weights": str(teacher.weights),
            "command": teacher.command(),
            "means": {name: of(above) for name, of in METRICS.items()},
            **network(above),
        },
        "variants": {},
    }
    for variant in variants:
        scores = reports[variant.name]
        if not scores:
            continue
        row = describe(scores, metric)
        row |= {"flags": variant.flags, "other_budget": variant.other_budget}
        row["commands"] = [job.command() for job in done[variant.name].values()]
        if variant.name != BASELINE and scores.keys() & reports[BASELINE].keys():
            alone = result["variants"][BASELINE]
            row |= gains(scores, reports[BASELINE], metric)
            ceiling = result["teacher"]["means"][metric]
            row["gap_closed"] = gap_closed(row["mean"], alone["mean"], ceiling)
        result["variants"][variant.name] = row
    return result


def network(scores: Mapping[str, Any]) -> dict[str, Any]:
    """What the network is and costs."""
    return {key: scores[key] for key in ("backbone", "parameters", "gflops")}


def describe(scores: Mapping[int, Mapping[str, Any]], metric: str) -> dict[str, Any]:
    """A variant by itself."""
    values = {seed: METRICS[metric](of_seed) for seed, of_seed in sorted(scores.items())}
    every = list(scores.values())
    return {
        "seeds": {str(seed): value for seed, value in values.items()},
        "mean": float(np.mean(list(values.values()))),
        "sd": deviation(list(values.values())),
        "means": {name: float(np.mean([of(s) for s in every])) for name, of in METRICS.items()},
        "per_class": mean_of([per_class(s, metric) for s in every]),
        "per_size": mean_of([per_size(s) for s in every]),
        **network(every[0]),
    }


def gains(
    scores: Mapping[int, Mapping[str, Any]], alone: Mapping[int, Mapping[str, Any]], metric: str
) -> dict[str, Any]:
    """A variant beside the baseline, pair by pair."""
    values, baseline = (
        {seed: METRICS[metric](of_seed) for seed, of_seed in who.items()} for who in (scores, alone)
    )
    difference = paired_difference(values, baseline)
    pairs = [(scores[seed], alone[seed]) for seed in sorted(scores.keys() & alone.keys())]

    def gain(parts: Callable[[Mapping[str, Any]], dict[str, float]]) -> dict[str, float]:
        return mean_of(
            [{k: v - parts(theirs)[k] for k, v in parts(ours).items()} for ours, theirs in pairs]
        )

    return {
        "difference": difference._asdict(),
        "verdict": difference.verdict,
        "class_gain": gain(lambda s: per_class(s, metric)),
        "size_gain": gain(per_size),
    }


def per_class(scores: Mapping[str, Any], metric: str) -> dict[str, float]:
    """AP of every class."""
    return {name: number(value) for name, value in scores[metric]["per_class"].items()}


def per_size(scores: Mapping[str, Any]) -> dict[str, float]:
    """COCO AP by size of object."""
    return {name: number(scores["coco"][key]) for name, key in SIZES.items()}


def mean_of(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each entry over the rows."""
    return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}


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
            cells += [interval(difference["bootstrap"]), f"{100 * row['gap_closed']:.0f} %"]
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
    if compared > 1:
        sentences.append(
            f"{compared} variants are compared with one baseline; the intervals are not widened "
            "for that: of twenty without effect one is expected to look significant."
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


def interval(ends: Sequence[float]) -> str:
    """`+0.50 to +2.10`; a dash where nothing is known."""
    return "-" if math.isnan(ends[0]) else f"{ends[0]:+.2f} to {ends[1]:+.2f}"


def signed(value: float) -> str:
    """`+1.20`; a dash for nan."""
    return "-" if math.isnan(value) else f"{value:+.2f}"
