"""The data doctor: everything that is wrong or odd in the splits of a devkit, not only the first.

python -m tools.check_data --train VOC2007/trainval --val VOC2007/test --html logs/data.html

Exit status: 0 fine, or oddities only; 1 training would refuse the data; 2 bad command line.
"""

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nets.inputs import read_class_names
from nets.priors import DEFAULT_LAYOUT, LAYOUTS, prior_boxes
from tools.check_data.examine import examine_split
from tools.check_data.faults import KINDS, Entry, Fault, compare_sides
from tools.check_data.pictures import pictures_of
from tools.check_data.report import write_page
from tools.check_data.statistics import (
    Reach,
    balance_advice,
    class_balance,
    prior_advice,
    reach,
    reach_by_size,
    shapes,
    split_facts,
)
from utils.cli import parse_arguments, run
from utils.config import CLASSES, TrainConfig, at_least, flag, option
from utils.data.voc import check_splits
from utils.files import check_file
from utils.show.report import write_json


@dataclass(frozen=True)
class CheckConfig:
    """Looks for everything wrong or odd in a data set; exit status 1 where training would fail."""

    data: str = option(TrainConfig.data, "VOC devkit: the folder that holds VOC2007, VOC2012, ...")
    train: tuple[str, ...] = option(TrainConfig.train, "splits to train on, as YEAR/SPLIT")
    val: tuple[str, ...] = option(
        TrainConfig.val, "splits to validate or to test on, which must share nothing with training"
    )
    classes: str = option(
        "", f"class list, or a checkpoint that knows its classes; without: {CLASSES}"
    )
    json: str = option("", "write everything into this file")
    html: str = option(
        "", "write a page with the worst cases and some samples drawn into this file"
    )
    fast: bool = option(False, "read headers of images only; truncated ones are not found")
    layout: str = option(DEFAULT_LAYOUT, "priors that objects are compared with", tuple(LAYOUTS))
    examples: int = option(3, "examples of each kind of fault on the terminal")
    pictures: int = option(24, "pictures on the page")
    workers: int = option(2, "threads that decode images")

    def __post_init__(self) -> None:
        """Refuses values that cannot be meant."""
        at_least(self, 1, "workers")
        at_least(self, 0, "examples", "pictures")
        if not self.train:
            raise ValueError("--train names no split; give at least one, as YEAR/SPLIT")
        for side in ("train", "val"):
            for split, count in Counter(getattr(self, side)).items():
                if count > 1:
                    raise ValueError(f"--{side} names {split} {count} times; name it once")


def main(arguments: Sequence[str] | None) -> None:
    """Examines, reports, and exits with status 1 where training would fail."""
    config = parse_arguments(CheckConfig, arguments, __doc__)
    for name in ("json", "html"):
        if path := getattr(config, name):
            check_file(path, flag(name), inputs=(config.classes,))
    for side in ("train", "val"):
        check_splits(config.data, getattr(config, side), flag(side))
    class_names = read_class_names(config.classes)
    splits: dict[str, list[Entry]] = {}
    faults: list[Fault] = []
    for split in dict.fromkeys(config.train + config.val):
        splits[split], of_list = examine_split(
            Path(config.data), split, class_names, decode=not config.fast, workers=config.workers
        )
        faults += of_list + [fault for entry in splits[split] for fault in entry.faults]
    sides = {
        side: [entry for split in names for entry in splits[split]]
        for side, names in (("train", config.train), ("val", config.val))
    }
    faults += compare_sides(sides)
    faults += unused_classes(sides, class_names)
    priors = prior_boxes(config.layout)
    found = {side: reach(entries, priors) for side, entries in sides.items()}
    report = facts(config, class_names, splits, faults, found)
    print(summary(report, config.examples))
    if config.json:
        write_json(config.json, report)
        print(f"everything: {config.json}")
    if config.html:
        entries = sides["train"] + sides["val"]
        figures = pictures_of(entries, faults, found["train"], class_names, config.pictures)
        write_page(config.html, report, figures)
        print(f"pictures: {config.html}")
    if not report["trainable"]:
        sys.exit(1)


def unused_classes(sides: dict[str, list[Entry]], class_names: Sequence[str]) -> list[Fault]:
    """Classes of the list that training, or validation if any, has no sound object of."""
    looked_at = {side: entries for side, entries in sides.items() if entries}
    return [
        Fault("unused", f"{side}: no object of class {name}", name=name)
        for name, by_side in class_balance(looked_at, class_names).items()
        for side, count in by_side.items()
        if not count["objects"]
    ]


def facts(
    config: CheckConfig,
    class_names: Sequence[str],
    splits: dict[str, list[Entry]],
    faults: Sequence[Fault],
    found: dict[str, Reach],
) -> dict[str, Any]:
    """All that is known, as JSON has it; numbers of objects count the sound ones."""
    balance = class_balance(splits, class_names)
    counts = Counter(fault.kind for fault in faults)
    tables = {side: reach_by_size(overlaps) for side, overlaps in found.items()}
    report = {
        "data": config.data,
        "train": list(config.train),
        "val": list(config.val),
        "decoded": not config.fast,
        "trainable": not any(KINDS[kind].fatal for kind in counts),
        "splits": {split: split_facts(entries) for split, entries in splits.items()},
        "counts": {kind: counts[kind] for kind in KINDS if counts[kind]},
        "wrong_names": Counter(
            fault.name for fault in faults if fault.kind in ("class", "spelling")
        ),
        "classes": balance,
        "shapes": shapes([e for entries in splits.values() for e in entries], found["train"]),
        "priors": {"layout": config.layout, **tables},
        "advice": [*prior_advice(tables["train"]), *balance_advice(balance, config.train)],
        "faults": [{**fault._asdict(), "fatal": KINDS[fault.kind].fatal} for fault in faults],
    }
    return {"verdict": verdict(report), **report}


def summary(report: dict[str, Any], examples: int) -> str:
    """The report for the terminal."""
    lines = []
    for split, facts in report["splits"].items():
        share = facts["difficult_share"]
        difficult = "" if not share else f", {share:.1%} of them difficult"
        lines.append(f"{split}: {facts['images']} images, {facts['objects']} objects{difficult}")
    messages: dict[str, list[str]] = {}
    for fault in report["faults"]:
        messages.setdefault(fault["kind"], []).append(fault["message"])
    for fatal, title in ((True, "training refuses"), (False, "odd")):
        kinds = [kind for kind in report["counts"] if KINDS[kind].fatal is fatal]
        if kinds:
            lines.append(f"\n{title}:")
        for kind in kinds:
            lines.append(f"{report['counts'][kind]:6}  {KINDS[kind].title}: {KINDS[kind].remedy}")
            lines += [f"{'':8}{message}" for message in messages[kind][:examples]]
    if report["wrong_names"]:
        names = Counter(report["wrong_names"]).most_common(20)
        lines.append("\nnames that are not in the class list: " + listed(names))
    train = [
        (name, sum(by_split[split]["objects"] for split in report["train"]))
        for name, by_split in report["classes"].items()
    ]
    lines.append("\ntraining objects: " + listed(sorted(train, key=lambda item: -item[1])))
    lines.append(
        f"\n{'at the input':12} {'objects':>8} {'no prior':>9} {'share':>7} {'best IoU':>9}"
    )
    for size, row in report["priors"]["train"].items():
        if row["objects"]:
            lines.append(
                f"{size:12} {row['objects']:8} {row['unmatched']:9} {row['unmatched_share']:7.1%} "
                f"{row['median_best_iou']:9.2f}"
            )
    lines += ["", *report["advice"], "", report["verdict"]]
    return "\n".join(lines)


def listed(counts: Sequence[tuple[str, int]]) -> str:
    """`[("cat", 3)]` -> `cat 3`."""
    return ", ".join(f"{name} {count}" for name, count in counts)


def verdict(report: dict[str, Any]) -> str:
    """Whether training would start, in a line."""
    fatal = [fault for fault in report["faults"] if fault["fatal"]]
    unsure = "" if report["decoded"] else " (as far as file headers tell)"
    if not fatal:
        return f"training can start{unsure}"
    hurt = {(fault["split"], fault["image_id"]) for fault in fatal if fault["image_id"]}
    if any(fault["kind"] in ("list", "shared") for fault in fatal):
        remedy = "correct the lists first"
    else:
        remedy = "correct them, or leave these images out with --skip-bad"
    return f"training would fail: {len(fatal)} fault(s) in {len(hurt)} image(s); {remedy}"


if __name__ == "__main__":
    run(main)
