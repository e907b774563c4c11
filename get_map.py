"""Evaluates a network, or another detector's result files, on a split: VOC07, VOC10 and COCO AP.

python get_map.py --weights logs/teacher/best.pth --data VOCdevkit --split VOC2007/test
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from nets.detect import cost_of, detect_split
from nets.inputs import read_class_names
from nets.postprocess import Limits
from nets.saved import check_class_names, limits_for, load_detector
from nets.saved.exported import Exported
from utils.cli import parse_arguments, run
from utils.config import MapConfig
from utils.data.store import open_store, read_samples
from utils.data.voc import Sample, check_splits
from utils.files import check_file, check_folder, whole
from utils.metrics.evaluator import Evaluator
from utils.metrics.result_files import (
    check_id,
    class_files,
    load_detections,
    result_ids,
    save_detections,
)
from utils.runtime.device import choose_device, memory_for
from utils.runtime.distributed import is_main
from utils.show.examples import SHOWN, View, worst_sheet
from utils.show.plots import draw_confusion, draw_precision_recall
from utils.show.report import average_precision, table, write_json


def main(arguments: Sequence[str] | None) -> None:
    """Detections of a split -> AP table, JSON, plots, result files.

    Of several processes the main one receives what all have detected, and goes on alone.
    """
    config = parse_arguments(MapConfig, arguments)
    check_outputs(config)
    check_splits(config.data, config.split, "--split")
    evaluate = from_files if config.detections else from_network
    evaluator, samples, facts = evaluate(config)
    if not is_main():
        return
    report = {"split": list(config.split), **facts, **average_precision(evaluator)}
    print(table(report))
    if math.isnan(report["voc07"]["mAP"]):
        print(f"no object in {' '.join(config.split)}: AP is not defined")
    if config.json:
        write_json(config.json, report)
    if config.plots:
        draw_plots(Path(config.plots), evaluator, samples)
    if config.save_detections:
        names = result_ids(list(evaluator.detections))
        found = {names[image_id]: values for image_id, values in evaluator.detections.items()}
        save_detections(config.save_detections, evaluator.class_names, found)


def draw_plots(folder: Path, evaluator: Evaluator, samples: Sequence[Sample]) -> None:
    """Writes the pictures of an evaluation."""
    folder.mkdir(parents=True, exist_ok=True)
    with whole(folder / "precision_recall.png") as unfinished:
        draw_precision_recall(evaluator, unfinished)
    with whole(folder / "confusion.png") as unfinished:
        draw_confusion(evaluator, unfinished, SHOWN)
    worst = worst_sheet(View("", samples, {"detected": evaluator}))
    if worst is not None:
        with whole(folder / "worst.png") as unfinished:
            Image.fromarray(worst).save(unfinished, "PNG")


def check_outputs(config: MapConfig) -> None:
    """Raises ValueError, before the work, where its result cannot be written."""
    if config.json:
        found = map(str, Path(config.detections).glob("*")) if config.detections else ()
        check_file(config.json, "--json", inputs=(config.weights, config.classes, *found))
    if config.plots:
        check_folder(config.plots, "--plots")
    if config.save_detections:
        check_folder(config.save_detections, "--save-detections")


def from_network(config: MapConfig) -> tuple[Evaluator, Sequence[Sample], dict[str, Any]]:
    """What a network detects in the split, the split, and facts about both."""
    device = choose_device(config.device)
    wanted = read_class_names(config.classes) if config.classes else ()
    model, class_names, precision = load_detector(config.weights, device, config.amp, wanted)
    limits = limits_for(model, Limits(config.score, config.nms, config.per_class, config.top_k))
    model = model.to(memory_format=torch.channels_last)
    if wanted:
        check_class_names(class_names, wanted, config.weights)
    if config.save_detections:
        class_files(config.save_detections, class_names)  # refuses names before the work
    store = open_store(config, config.split, class_names, device)
    for sample in store.samples if config.save_detections else ():
        check_id(sample.image_id)
    evaluator = Evaluator(class_names)
    with memory_for(config.batch_size):
        speed = detect_split(model, store, evaluator, precision, config.batch_size, limits)
    used = model.arithmetic if isinstance(model, Exported) else precision.record()
    print(
        f"{speed['images_per_second']:.1f} images/s (network and post-processing), "
        f"{used['dtype']} on {used['device']}"
    )
    facts: dict[str, Any] = {
        "weights": config.weights,
        "backbone": model.spec,
        "layout": model.layout,
    }
    facts["limits"] = limits._asdict()
    facts |= {"arithmetic": used, "images": len(store), **speed, **cost_of(model)}
    return evaluator, store.samples, facts


def from_files(config: MapConfig) -> tuple[Evaluator, Sequence[Sample], dict[str, Any]]:
    """What VOC result files say of the split, whichever detector wrote them.

    Raises:
        ValueError: they speak of an image that is not in the split, or of one in two ways.
    """
    class_names = read_class_names(config.classes)
    samples = read_samples(config, config.split, class_names)
    found = load_detections(config.detections, class_names)
    names = result_ids([sample.image_id for sample in samples])
    two_names = [i for i, short in names.items() if i != short and {i, short} <= found.keys()]
    if two_names:
        raise ValueError(
            f"{config.detections}: image {two_names[0]} is there as {names[two_names[0]]}, too; "
            "write every image one way"
        )
    if unknown := found.keys() - names.keys() - set(names.values()):
        raise ValueError(
            f"{config.detections}: image {min(unknown)} is not in {' '.join(config.split)} "
            f"({len(unknown)} such images); evaluate on the split that was detected on"
        )
    evaluator = Evaluator(class_names)
    nothing = (np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64))
    for sample in samples:
        full, truth = sample.image_id, sample.annotation
        boxes, scores, labels = found.get(full) or found.get(names[full]) or nothing
        evaluator.update(
            full,
            boxes=boxes,
            scores=scores,
            labels=labels,
            truth_boxes=truth.boxes,
            truth_labels=truth.labels,
            difficult=truth.difficult,
        )
    return evaluator, samples, {"detections": config.detections, "images": len(samples)}


if __name__ == "__main__":
    run(main)
