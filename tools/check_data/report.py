"""One page about a data set: its faults, its balance, whether priors reach it, and pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tools.check_data.faults import KINDS
from tools.check_data.pictures import Figure
from utils.show.page import (
    Markup,
    Page,
    bullets,
    element,
    figure,
    folded,
    grid,
    legend,
    paragraph,
    table,
    tiles,
)

EXAMPLES = 20


def write_page(path: str | Path, report: Mapping[str, Any], figures: Sequence[Figure]) -> None:
    """Writes the page, whole or not at all; `report` is what tools.check_data writes as JSON."""
    train, val = (", ".join(report[side]) or "none" for side in ("train", "val"))
    sets = {split.partition("/")[0]: None for side in ("train", "val") for split in report[side]}
    page = Page(", ".join(sets), f"{report['data']} · training: {train} · validation: {val}")
    page.verdict(report["verdict"], "good" if report["trainable"] else "bad")
    page.section("", totals(report))
    page.section("Faults", fault_table(report))
    page.section("Objects of each class", bars(report))
    page.section("Do the priors reach the objects?", *prior_table(report))
    page.section("Shapes", *shape_table(report["shapes"]))
    if figures:
        shown = [figure({"": f.picture}, f.title, f.caption) for f in figures]
        page.section("Pictures", grid("pictures", shown))
    page.write(path)


def totals(report: Mapping[str, Any]) -> Markup:
    """The numbers of all splits and of each."""
    rows = [
        (split, f"{f['images']}", f"{f['objects']}", percent(f["difficult_share"]))
        for split, f in report["splits"].items()
    ]
    fatal = sum(n for kind, n in report["counts"].items() if KINDS[kind].fatal)
    values = {
        "images": sum(f["images"] for f in report["splits"].values()),
        "objects": sum(f["objects"] for f in report["splits"].values()),
        "classes": len(report["classes"]),
        "faults that training refuses": fatal,
        "oddities": sum(report["counts"].values()) - fatal,
    }
    shown = tiles({name: str(value) for name, value in values.items()})
    return element("div", shown, table(("split", "images", "objects", "difficult"), rows))


def fault_table(report: Mapping[str, Any]) -> Markup:
    """Each kind with its number, what to do, and examples to unfold."""
    if not report["counts"]:
        return paragraph("none", "good")
    rows = []
    for kind, count in report["counts"].items():
        of_kind = [f["message"] for f in report["faults"] if f["kind"] == kind][:EXAMPLES]
        rest = [f"and {count - EXAMPLES} more"] if count > EXAMPLES else []
        mark, word = ("bad", "refused") if KINDS[kind].fatal else ("odd", "odd")
        title = element("b", KINDS[kind].title)
        remedy = element("div", title, f": {KINDS[kind].remedy}")
        examples = folded("examples", bullets([*of_kind, *rest]))
        rows.append(
            (element("span", f"{count} {word}", class_=mark), element("div", remedy, examples))
        )
    return table(("", ""), rows, words=2)


def bars(report: Mapping[str, Any]) -> Markup:
    """Objects of each class, training above validation, most first."""
    counts = {
        name: [sum(by_split[s]["objects"] for s in report[side]) for side in ("train", "val")]
        for name, by_split in report["classes"].items()
    }
    most = max(1, *(n for pair in counts.values() for n in pair))
    cells = []
    for name, (train, val) in sorted(counts.items(), key=lambda item: -item[1][0]):
        known = train and (val or not report["val"])
        lengths = [bar(side, count / most) for side, count in enumerate((train, val))]
        beside = element("span", f"+ {val}", class_="faint")
        cells += [
            element("span", name, class_="" if known else "odd"),
            element("div", *lengths),
            element("span", f"{train} ", beside, class_="number"),
        ]
    return element("div", legend(("training", "validation")), element("div", *cells, class_="bars"))


def bar(series: int, length: float) -> Markup:
    """A bar of a part of the width, 0..1, in the colour of a series."""
    look = f"width:{100 * length:.2f}%;background:var(--c{series})"
    return element("div", class_="bar", style=look)


def prior_table(report: Mapping[str, Any]) -> list[Markup]:
    """How many objects of each size have no prior, and what that means."""
    head = ("", "objects", "without a prior", "share", "median best IoU", "priors an object")
    limits = {"small": " (area to 32²)", "medium": " (to 96²)", "large": " (above)"}
    rows = []
    for side in ("train", "val"):
        for size, row in report["priors"][side].items():
            if row["objects"]:
                numbers = (row["median_best_iou"], row["priors_per_object"])
                rows.append(
                    (
                        f"{side}: {size}{limits.get(size, '')}",
                        *(str(row["objects"]), str(row["unmatched"])),
                        percent(row["unmatched_share"]),
                        *(f"{number:.2f}" for number in numbers),
                    )
                )
    note = (
        "A prior answers for an object from IoU 0.5 on. Sizes are those at the 300 x 300 input, "
        f"unaugmented; layout {report['priors']['layout']}; difficult objects left out."
    )
    return [paragraph(note, "faint"), table(head, rows), bullets(report["advice"])]


def shape_table(shapes: Mapping[str, Any]) -> list[Markup]:
    """Percentiles of images and objects."""
    titles = {
        "image_width": "image width, pixels",
        "image_height": "image height, pixels",
        "image_aspect": "image width / height",
        "object_side": "training object: √area at the input, pixels",
        "object_aspect": "training object: width / height at the input",
    }
    rows = [
        (title, *(f"{value:.4g}" for value in shapes[key].values()))
        for key, title in titles.items()
        if shapes[key]
    ]
    common = ", ".join(f"{w} x {h} ({n})" for w, h, n in shapes["commonest_images"])
    squashed = shapes["images_longer_than_2"]
    note = f" {squashed} are longer than 2:1 and reach the network squashed." if squashed else ""
    shown = table(("", "least", "5 %", "median", "95 %", "most"), rows)
    return [shown, paragraph(f"Commonest images: {common or 'none'}.{note}", "faint")]


def percent(share: float | None) -> str:
    """0.5 -> `50.0 %`; None, of nothing, -> `-`."""
    return "-" if share is None else f"{100 * share:.1f} %"
