"""AP of each class and precision-recall curves, for pages."""

from collections.abc import Mapping

import numpy as np

from utils.metrics.evaluator import Evaluator
from utils.show.chart import lines
from utils.show.examples import View
from utils.show.page import Markup, element, grid, paragraph, table

PROTOCOLS = ("voc07", "coco")


def precision(view: View) -> list[Markup]:
    """AP of each class and its precision-recall curve, of all networks that saw the whole split."""
    networks = view.complete()
    results = [e.result(protocol) for e in networks.values() for protocol in PROTOCOLS]
    names, counts = view.own.class_names, object_counts(view)
    of_many = [f"{name} " if len(networks) > 1 else "" for name in networks]
    head = ["", "objects", *(name + protocol for name in of_many for protocol in PROTOCOLS)]
    rows = [
        [name, str(counts[k]), *(percent(result.per_class[name]) for result in results)]
        for k, name in enumerate(names)
    ]
    known = [name for name, count in zip(names, counts, strict=True) if count]
    rows.append(["mean", str(sum(counts)), *(percent(result.mean) for result in results)])
    return [
        paragraph(f"{view.title}. Percent; voc07 at IoU 0.5, coco over 0.50 to 0.95.", "faint"),
        table(head, rows),
        element("h3", "Precision over recall, IoU 0.5"),
        grid(
            "charts",
            [curve_of(name, networks) for name in known],
        ),
    ]


def object_counts(view: View) -> list[int]:
    """How many objects of each class there are to find; difficult ones need not be."""
    classes = len(view.own.class_names)
    counts = np.zeros(classes, int)
    for sample in view.samples:
        truth = sample.annotation
        counts += np.bincount(truth.labels[~truth.difficult] - 1, minlength=classes)
    return [int(count) for count in counts]


def curve_of(class_name: str, networks: Mapping[str, Evaluator]) -> Markup:
    """The precision-recall curves of a class."""
    series = {}
    for name, evaluator in networks.items():
        precision, recall, _ = evaluator.precision_recall(class_name)
        series[name] = list(zip(recall.tolist(), precision.tolist(), strict=True))
    limits = (0.0, 1.0)
    return lines(
        class_name, series, x_label="recall", x_limits=limits, y_limits=(0.0, 1.02), log=False
    )


def percent(value: float) -> str:
    """0.5 -> `50.0`; a dash for NaN, of a class without objects."""
    return "-" if np.isnan(value) else f"{100 * value:.1f}"
