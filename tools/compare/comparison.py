"""What the scores of paired runs say, as a dictionary."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tools.compare.jobs import Job
from tools.compare.paired import deviation, paired_difference, t_interval
from tools.compare.variants import BASELINE, Variant

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
        and all but the baseline `difference` (see `tools.compare.paired.Difference`), `verdict`,
        `gap_closed`, `class_gain` and `size_gain` (means over the pairs), and `sure`, those classes
        and sizes whose 95 % interval excludes zero.
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
        "chosen_on_test": any(job.chosen_on(above["split"]) for job in jobs),
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
            row |= gains(scores, reports[BASELINE], metric, result["teacher"]["means"][metric])
            if row["layout"] != alone["layout"]:
                row["other_budget"] += f" priors {row['layout']} instead of {alone['layout']}"
        result["variants"][variant.name] = row
    return result


def network(scores: Mapping[str, Any]) -> dict[str, Any]:
    """What the network is and costs."""
    return {key: scores.get(key) for key in ("backbone", "layout", "parameters", "gflops")}


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
    scores: Mapping[int, Mapping[str, Any]],
    alone: Mapping[int, Mapping[str, Any]],
    metric: str,
    teacher: float,
) -> dict[str, Any]:
    """A variant beside the baseline, pair by pair, and below the teacher's AP."""
    values, baseline = (
        {seed: METRICS[metric](of_seed) for seed, of_seed in who.items()} for who in (scores, alone)
    )
    difference = paired_difference(values, baseline)
    shared = sorted(scores.keys() & alone.keys())
    pairs = [(scores[seed], alone[seed]) for seed in shared]
    gap = teacher - float(np.mean([baseline[seed] for seed in shared]))

    def gained(
        parts: Callable[[Mapping[str, Any]], dict[str, float]],
    ) -> tuple[dict[str, float], list[str]]:
        """The mean gain of each part, and the parts whose 95 % interval excludes zero."""
        rows = [{k: v - parts(theirs)[k] for k, v in parts(ours).items()} for ours, theirs in pairs]
        ends = {key: t_interval([row[key] for row in rows]) for key in rows[0]}
        return mean_of(rows), [key for key, (low, high) in ends.items() if low > 0 or high < 0]

    (class_gain, sure_classes), (size_gain, sure_sizes) = (
        gained(parts) for parts in (lambda s: per_class(s, metric), per_size)
    )
    return {
        "difference": difference._asdict(),
        "verdict": difference.verdict,
        "gap_closed": difference.mean / gap if gap > 0 else math.nan,
        "class_gain": class_gain,
        "size_gain": size_gain,
        "sure": [*sure_classes, *sure_sizes],
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
