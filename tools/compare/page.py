"""A comparison as a page: verdicts, every seed, paired differences, and where they come from."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tools.compare.comparison import METRICS
from tools.compare.text import interval, percent, signed, spread, verdicts
from tools.compare.variants import BASELINE
from utils.show.dots import Drawing, Row, dots
from utils.show.page import Markup, Page, bullets, code, element, folded, grid, paragraph, table


def page(comparison: Mapping[str, Any]) -> Page:
    """The page of what `tools.compare.comparison.compare` returned."""
    metric, variants = comparison["metric"], comparison["variants"]
    gained = {name: row for name, row in variants.items() if "difference" in row}
    split = " ".join(comparison["test"])
    shown = Page("Does distillation help?", f"{split}, {comparison['images']} images")
    shown.section("What the runs say", bullets([plain(s) for s in verdicts(comparison)]))
    charts = grid("charts", [drawing.figure() for drawing in drawings(comparison)])
    shown.section(f"Every seed, {metric}", charts, *score_tables(comparison))
    if gained:
        note = f"Mean over the pairs, points of {metric}; of sizes points of COCO AP. "
        note += "Bold where the 95 % interval (t) excludes 0; the rest may well be noise."
        shown.section("Where it comes from", paragraph(note, "faint"), gain_table(gained))
    commands = [comparison["teacher"]["command"]]
    commands += [command for row in variants.values() for command in row["commands"]]
    lines = [code(command, "pre") for command in commands if command]
    shown.section("", folded(f"the {len(lines)} commands", *lines))
    return shown


def plain(sentence: str) -> Markup:
    """A sentence of `verdicts`, whose marks are Markdown's, for a page."""
    parts: list[str] = []
    for i, bold in enumerate(sentence.split("**")):
        codes = [code(p) if j % 2 else p for j, p in enumerate(bold.split("`"))]
        parts += [element("b", *codes)] if i % 2 else codes
    return element("span", *parts)


def drawings(comparison: Mapping[str, Any]) -> list[Drawing]:
    """Every seed, and where there is something to compare the paired differences."""
    gained = {n: row for n, row in comparison["variants"].items() if "difference" in row}
    seeds = seed_chart(comparison)
    return [seeds, difference_chart(gained, comparison["metric"])] if gained else [seeds]


def seed_chart(comparison: Mapping[str, Any]) -> Drawing:
    """Every seed of every variant, the means, and the teacher."""
    metric = comparison["metric"]
    rows = {
        name: Row([(0, value) for value in row["seeds"].values()], mean=row["mean"], colour="ink")
        for name, row in comparison["variants"].items()
    }
    teacher = comparison["teacher"]["means"][metric]
    title = f"every seed, the mean, and the teacher's {teacher:.1f} (dashed)"
    return dots(title, rows, x_label=f"{metric} AP, percent", line=teacher)


def difference_chart(gained: Mapping[str, Any], metric: str) -> Drawing:
    """The mean of each variant's paired difference with its interval; grey where it holds 0."""
    rows = {
        name: Row(mean=row["difference"]["mean"], ends=tuple(row["difference"]["t"]), colour=colour)
        for name, row in gained.items()
        for colour in [colour_of(*row["difference"]["t"])]
    }
    title = f"difference to {BASELINE}, paired, 95 % (t)"
    return dots(title, rows, x_label=f"{metric} AP, points", line=0.0)


def colour_of(low: float, high: float) -> str:
    """What an interval is drawn in: noise has no colour."""
    if math.isnan(low) or low <= 0 <= high:
        return "faint"
    return "good" if low > 0 else "bad"


def score_tables(comparison: Mapping[str, Any]) -> list[Markup]:
    """Means of the three protocols with spreads and differences, and every seed."""
    variants, teacher = comparison["variants"], comparison["teacher"]
    head = ["", "seeds", *METRICS, "sd", "difference", "95 % (t)", "95 % (bootstrap)", "gap closed"]
    first = [f"teacher {teacher['backbone']}", "1", *protocols(teacher["means"])]
    rows = [first + [""] * 5]
    for name, row in variants.items():
        cells = [name, str(len(row["seeds"])), *protocols(row["means"]), spread(row["sd"])]
        if d := row.get("difference"):
            cells += [f"{d['mean']:+.2f}", interval(d["t"]), interval(d["bootstrap"])]
            cells += [percent(row["gap_closed"])]
        rows.append(cells + [""] * (len(head) - len(cells)))
    seeds = sorted({seed for row in variants.values() for seed in row["seeds"]}, key=int)
    of_seed = [
        [name, *(f"{row['seeds'][s]:.2f}" if s in row["seeds"] else "" for s in seeds)]
        for name, row in variants.items()
    ]
    return [table(head, rows), folded("every seed", table(["seed", *seeds], of_seed))]


def protocols(means: Mapping[str, float]) -> Sequence[str]:
    """AP of the three protocols."""
    return [f"{means[name]:.2f}" for name in METRICS]


def gain_table(gained: Mapping[str, Any]) -> Markup:
    """The mean gain of each variant by class and by size of object."""

    def cell(row: Mapping[str, Any], part: str, key: str) -> str:
        text = signed(row[part][key])
        return element("b", text) if key in row["sure"] else text

    rows = [
        [key, *(cell(row, part, key) for row in gained.values())]
        for part in ("class_gain", "size_gain")
        for key in next(iter(gained.values()))[part]
    ]
    return table(["", *gained], rows)
