"""The pictures of a split that are worth a look: best, worst, and where networks disagree most."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from utils.data.images import read_image
from utils.data.voc import Sample
from utils.metrics.agreement import Agreement, Boxes, agreement, without_difficult
from utils.metrics.evaluator import Evaluator
from utils.show.draw import Picture, beside, draw_boxes, fitted
from utils.show.page import Markup, figure

SHOWN = 0.3  # detections with at least this score are drawn, and judged
SIDE = 340  # pixels of a picture's longer side
GAP = 12  # pixels between pictures of a sheet


class View(NamedTuple):
    """What networks have detected in a split.

    title: which network and split, in words.
    samples: the split.
    networks: name -> its detections; the first is the one that the page is about. The others may
        have seen a part of the split.
    """

    title: str
    samples: Sequence[Sample]
    networks: dict[str, Evaluator]

    @property
    def own(self) -> Evaluator:
        """The detections of the network that the page is about."""
        return next(iter(self.networks.values()))

    def complete(self) -> dict[str, Evaluator]:
        """Those networks that have seen the whole split."""
        count = len(self.samples)
        return {name: e for name, e in self.networks.items() if len(e.detections) == count}

    def both(self) -> list[Sample]:
        """The images that all networks have seen."""
        return [
            sample
            for sample in self.samples
            if all(sample.image_id in e.detections for e in self.networks.values())
        ]


class Example(NamedTuple):
    """An image, and how far two agree on it."""

    sample: Sample
    says: Agreement


def shown(evaluator: Evaluator, sample: Sample) -> Boxes:
    """What a network shows in an image, see `SHOWN`."""
    found = Boxes(*evaluator.detections[sample.image_id])
    return found.where(found.scores >= SHOWN)


def objects(sample: Sample) -> Boxes:
    """What is in an image."""
    truth = sample.annotation
    labels = truth.labels.astype(np.int64)
    return Boxes(truth.boxes.astype(np.float64), np.ones(len(labels)), labels)


def against_objects(view: View) -> list[Example]:
    """Images by falling agreement of the first network with the objects; without difficult ones."""
    judged = []
    for sample in view.both():
        found, there = shown(view.own, sample), objects(sample)
        found, there = without_difficult(found, there, sample.annotation.difficult)
        if len(found.scores) or len(there.scores):
            judged.append(Example(sample, agreement(found, there)))
    # Of equals the one with more objects is the better, or the worse, example.
    return sorted(
        judged,
        key=lambda e: (round(-e.says.share, 6), -e.says.both, e.says.first + e.says.second),
    )


def against_each_other(view: View) -> list[Example]:
    """Images by rising agreement of the first network with the second; none of a single one."""
    if len(view.networks) < 2:
        return []
    own, other = list(view.networks.values())[:2]
    judged = [
        Example(sample, agreement(shown(own, sample), shown(other, sample)))
        for sample in view.both()
    ]
    differ = [e for e in judged if e.says.share < 1]
    return sorted(differ, key=lambda e: (e.says.share, -e.says.first - e.says.second))


def sections(view: View, most: int = 4) -> Iterator[tuple[str, list[Markup]]]:
    """Titles, each with at most so many figures; one without figures is left out."""
    names = list(view.networks)
    ranked = against_objects(view)
    good = [e for e in ranked if e.says.both][:most]
    bad = [e for e in ranked[::-1] if e.says.share < 1 and e not in good][:most]
    of = f" ({names[0]})" if len(names) > 1 else ""
    yield from (
        (title + of, [drawn(view, e, found_words(e.says)) for e in chosen])
        for title, chosen in (("Best", good), ("Worst", bad))
        if chosen
    )
    if apart := against_each_other(view)[:most]:
        title = f"Where {names[1]} and {names[0]} disagree most"
        yield title, [drawn(view, e, apart_words(e.says, *names[:2])) for e in apart]


def found_words(says: Agreement) -> str:
    """`3 of 4 objects found, 1 false; agreement 0.71`."""
    total = says.both + says.second
    return (
        f"{says.both} of {total} object{'' if total == 1 else 's'} found, {says.first} false; "
        f"agreement {says.share:.2f}"
    )


def apart_words(says: Agreement, own: str, other: str) -> str:
    """`2 in common, 1 of the student alone, 3 of the teacher alone; agreement 0.40`."""
    return (
        f"{says.both} in common, {says.first} of the {own} alone, {says.second} of the {other} "
        f"alone; agreement {says.share:.2f}"
    )


def drawn(view: View, example: Example, caption: str) -> Markup:
    """An image with its objects, and beside it what each network shows, the first one last."""
    return figure(pictures_of(view, example), example.sample.image_id, caption)


def pictures_of(view: View, example: Example) -> dict[str, Picture]:
    """What `drawn` shows, by what each picture is called."""
    sample = example.sample
    picture, scale = fitted(read_image(sample.image), SIDE)
    names = view.own.class_names
    there = objects(sample)
    pictures = {"objects": draw_boxes(picture, there.boxes * scale, there.labels.tolist(), names)}
    for name, evaluator in reversed(view.networks.items()):
        found = shown(evaluator, sample)
        title = f"the run {name}" if name in pictures else name
        pictures[title] = draw_boxes(
            picture, found.boxes * scale, found.labels.tolist(), names, found.scores.tolist()
        )
    return pictures


def worst_sheet(view: View, most: int = 8) -> Picture | None:
    """The images that a network agrees with least, each beside its objects; None without any."""
    worst = [e for e in against_objects(view)[::-1] if e.says.share < 1][:most]
    blocks = []
    for example in worst:
        titles = [f"{example.sample.image_id}: objects", found_words(example.says)]
        blocks.append(beside(list(pictures_of(view, example).values()), titles, SIDE))
    if not blocks:
        return None
    high, wide = (max(block.shape[side] for block in blocks) for side in (0, 1))
    sheet = np.full((-(-len(blocks) // 2), 2, high + GAP, wide + GAP, 3), 255, np.uint8)
    for i, block in enumerate(blocks):  # two in a row
        sheet[i // 2, i % 2, : block.shape[0], : block.shape[1]] = block
    rows = sheet.swapaxes(1, 2).reshape(len(sheet) * (high + GAP), 2 * (wide + GAP), 3)
    return np.asarray(rows, np.uint8)
