"""What the sound objects of a data set are like, and how well priors reach them."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tools.check_data.faults import Entry
from utils.boxes import cxcywh_to_xyxy, iou
from utils.data.augment import IMAGE_SIZE

# COCO's limits of area in pixels; here of the network's input, which is what decides.
SIZES = {"small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, float("inf"))}
MATCHED = 0.5  # the IoU from which a prior answers for an object, see nets.matching
LONGEST_PRIOR = 3.0
# Below this share of objects without a prior there is nothing to do.
ACCEPTABLE = 0.05
FEW_OBJECTS = 20


class Reach(NamedTuple):
    """How priors overlap the N objects that train, row by row.

    `where` holds the entry of each object and its number in the annotation, counted from 0.
    """

    where: list[tuple[Entry, int]]
    pixels: npt.NDArray[np.float64]  # [N, 2] width and height at the input
    best: npt.NDArray[np.float64]  # [N] IoU with the best prior
    matched: npt.NDArray[np.int64]  # [N] priors that overlap by `MATCHED`


def reach(entries: Iterable[Entry], priors: Tensor) -> Reach:
    """The overlap of priors with all objects but the difficult ones, without augmentation.

    Args:
        entries: of `tools.check_data.examine.examine_split`.
        priors: `[P, 4]`, cxcywh in image fractions.
    """
    where: list[tuple[Entry, int]] = []
    rows = [torch.zeros(0, 4)]
    for entry in entries:
        if entry.annotation is not None:
            annotation = entry.annotation
            scale = torch.tensor([annotation.width, annotation.height] * 2)
            kept = np.flatnonzero(~annotation.difficult)
            where += [(entry, i) for i in kept.tolist()]
            rows.append(torch.from_numpy(annotation.boxes[kept]) / scale)
    boxes = torch.cat(rows)
    best, matched = [torch.zeros(0)], [torch.zeros(0, dtype=torch.long)]
    for some in boxes.split(256):  # 256 x 8732 overlaps are 9 MB
        overlaps = iou(some, cxcywh_to_xyxy(priors))
        best.append(overlaps.amax(1))
        matched.append((overlaps >= MATCHED).sum(1))
    pixels = (boxes[:, 2:] - boxes[:, :2]).double() * IMAGE_SIZE
    return Reach(
        where, pixels.numpy(), torch.cat(best).double().numpy(), torch.cat(matched).numpy()
    )


def reach_by_size(found: Reach) -> dict[str, dict[str, Any]]:
    """For small, medium, large and all: objects, how many no prior matches, and their shapes."""
    areas = found.pixels.prod(1)
    table = {}
    for name, (low, high) in {**SIZES, "all": (0.0, float("inf"))}.items():
        chosen = (areas >= low) & (areas < high)
        pixels, best = found.pixels[chosen], found.best[chosen]
        lonely = found.matched[chosen] == 0
        count = int(chosen.sum())
        table[name] = {
            "objects": count,
            "unmatched": int(lonely.sum()),
            "unmatched_share": float(lonely.mean()) if count else None,
            "unmatched_long": int((elongation(pixels[lonely]) > LONGEST_PRIOR).sum()),
            "median_best_iou": float(np.median(best)) if count else None,
            "priors_per_object": float(found.matched[chosen].mean()) if count else None,
        }
    return table


def elongation(pixels: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """`[N, 2]` width and height -> `[N]` the longer over the shorter."""
    longest: npt.NDArray[np.float64] = pixels.max(1, initial=0) / np.maximum(
        pixels.min(1, initial=np.inf), 1e-9
    )
    return longest


def prior_advice(table: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What `reach_by_size` of the training objects means, in sentences."""
    total = table["all"]
    if not total["objects"]:
        return ["There is no object to train on."]
    lines = []
    if total["unmatched_share"] < ACCEPTABLE:
        lines.append(
            f"On the whole the priors suit these objects: {total['unmatched_share']:.1%} of them "
            f"have none that overlaps by {MATCHED}."
        )
    for size in SIZES:
        row = table[size]
        if not row["objects"] or row["unmatched_share"] < ACCEPTABLE:
            continue
        text = (
            f"{row['unmatched_share']:.0%} of the {row['objects']} {size} objects overlap no prior "
            f"by {MATCHED}. Each still trains its single best prior, but will be found less often."
        )
        if row["unmatched_long"] > row["unmatched"] / 2:
            text += (
                f" Longer than {LONGEST_PRIOR:g}:1, the longest prior, are {row['unmatched_long']} "
                f"of these {row['unmatched']}: label their parts, or cut images so that only a "
                "part is seen at a time."
            )
        elif size == "small":
            text += (
                " Cut the images into tiles in which objects are larger, and train with "
                "--expand 1: zooming out makes them smaller still."
            )
        else:
            text += " They lie between the priors' sizes and places; long training helps."
        lines.append(text)
    share = table["small"]["objects"] / total["objects"]
    if share > 0.5:
        lines.append(
            f"{share:.0%} of the objects are small at the input. SSD300 is weak there: tiles help "
            "more than any loss."
        )
    return lines


def split_facts(entries: Sequence[Entry]) -> dict[str, Any]:
    """Images, sound objects and the share of difficult ones."""
    annotations = [e.annotation for e in entries if e.annotation is not None]
    objects = sum(len(a.labels) for a in annotations)
    difficult = sum(int(a.difficult.sum()) for a in annotations)
    return {
        "images": len(entries),
        "objects": objects,
        "difficult": difficult,
        "difficult_share": difficult / objects if objects else None,
    }


def class_balance(
    splits: Mapping[str, Sequence[Entry]], class_names: Sequence[str]
) -> dict[str, dict[str, dict[str, int]]]:
    """By class and split the number of sound objects and of images that have one."""
    balance: dict[str, dict[str, dict[str, int]]] = {name: {} for name in class_names}
    for split, entries in splits.items():
        objects: Counter[int] = Counter()
        images: Counter[int] = Counter()
        for entry in entries:
            if entry.annotation is not None:
                labels = entry.annotation.labels.tolist()
                objects.update(labels)
                images.update(set(labels))
        for label, name in enumerate(class_names, start=1):
            balance[name][split] = {"objects": objects[label], "images": images[label]}
    return balance


def balance_advice(balance: Mapping[str, Mapping[str, Any]], train: Sequence[str]) -> list[str]:
    """Which classes have too little to learn from."""
    counts = {
        name: sum(by_split[split]["objects"] for split in train)
        for name, by_split in balance.items()
    }
    rare = sorted(counts.items(), key=lambda item: item[1])
    few = [f"{name} ({n})" for name, n in rare if n < FEW_OBJECTS]
    lines = []
    if few:
        rest = f" and {len(few) - 8} more" if len(few) > 8 else ""
        lines.append(f"Fewer than {FEW_OBJECTS} training objects: {', '.join(few[:8])}{rest}.")
    known = {name: n for name, n in counts.items() if n}
    if known and max(known.values()) >= 20 * min(known.values()):
        most, fewest = max(known, key=known.__getitem__), min(known, key=known.__getitem__)
        lines.append(
            f"{most} has {known[most] / known[fewest]:.0f} times the training objects of {fewest}; "
            "mAP counts both alike, so more examples of the rare ones pay most."
        )
    return lines


def shapes(entries: Iterable[Entry], found: Reach) -> dict[str, Any]:
    """Percentiles of image and object shapes, and the commonest image sizes."""
    sizes = [(e.annotation.width, e.annotation.height) for e in entries if e.annotation]
    sides = np.array(sizes, float).reshape(-1, 2)
    return {
        "commonest_images": [[*size, n] for size, n in Counter(sizes).most_common(5)],
        "image_width": percentiles(sides[:, 0]),
        "image_height": percentiles(sides[:, 1]),
        "image_aspect": percentiles(sides[:, 0] / sides[:, 1]),
        "images_longer_than_2": int((elongation(sides) > 2).sum()),
        "object_side": percentiles(np.sqrt(found.pixels.prod(1))),
        "object_aspect": percentiles(found.pixels[:, 0] / np.maximum(found.pixels[:, 1], 1e-9)),
    }


def percentiles(values: npt.NDArray[np.float64]) -> dict[str, float] | None:
    """Minimum, 5 %, median, 95 % and maximum; None of nothing."""
    if not values.size:
        return None
    names = ("min", "p5", "median", "p95", "max")
    return dict(zip(names, np.percentile(values, (0, 5, 50, 95, 100)).tolist(), strict=True))
