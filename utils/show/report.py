"""The result of an evaluation as numbers, as JSON, and as a table."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from utils.data.augment import IMAGE_SIZE
from utils.files import write_whole
from utils.metrics.evaluator import Evaluator


def average_precision(evaluator: Evaluator) -> dict[str, Any]:
    """`{"voc07": {"mAP", "per_class"}, "voc10": {...}, "coco": {"AP", "AP50", "AP75", ...}}`, 0..1.

    NaN stands for what cannot be said: a class, or a size, of which there are no objects.
    """
    report: dict[str, Any] = {}
    for protocol in ("voc07", "voc10"):
        mean, per_class = evaluator.result(protocol)
        report[protocol] = {"mAP": mean, "per_class": per_class}
    per_class = evaluator.result("coco").per_class
    return {**report, "coco": {**evaluator.coco_summary(), "per_class": per_class}}


def cost(model: nn.Module) -> dict[str, float]:
    """Size and work of an SSD300: `parameters`, and `gflops` of one image (a multiply-add is 2)."""
    device, training = next(model.parameters()).device, model.training
    model.eval()  # one image is no batch for batch norm
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 3, IMAGE_SIZE, IMAGE_SIZE, device=device))
    model.train(training)
    parameters = sum(p.numel() for p in model.parameters())
    return {"parameters": parameters, "gflops": counter.get_total_flops() / 1e9}


def table(report: Mapping[str, Any]) -> str:
    """AP per class and over all, for the terminal, in percent."""
    names = list(report["voc07"]["per_class"])
    width = max(map(len, [*names, "class"]))
    lines = [f"{'class':{width}}  voc07  voc10   coco"]
    for name in names:
        values = (report[protocol]["per_class"][name] for protocol in ("voc07", "voc10", "coco"))
        lines.append(f"{name:{width}} {' '.join(map(percent, values))}")
    means = (report["voc07"]["mAP"], report["voc10"]["mAP"], report["coco"]["AP"])
    lines.append(f"{'mean':{width}} {' '.join(map(percent, means))}")
    lines.append(
        f"coco AP50 {percent(report['coco']['AP50']).strip()}, "
        f"AP75 {percent(report['coco']['AP75']).strip()}"
    )
    return "\n".join(lines)


def percent(value: float) -> str:
    """0.5 -> ` 50.00`; NaN, of a class without objects, -> `     -`."""
    return "     -" if math.isnan(value) else f"{100 * value:6.2f}"


def duration(length: float) -> str:
    """`42 s`, `17 min`, `5 h 3 min`."""
    if length < 100:
        return f"{length:.0f} s"
    minutes = round(length / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def write_json(path: str | Path, report: Mapping[str, Any]) -> None:
    """Writes a report, whole or not at all; NaN, which JSON does not have, becomes null."""
    write_whole(path, json.dumps(without_nan(report), indent=1) + "\n")


def without_nan(value: Any) -> Any:
    """The same structure with None for NaN."""
    if isinstance(value, Mapping):
        return {k: without_nan(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(v) for v in value]
    return None if isinstance(value, float) and math.isnan(value) else value
