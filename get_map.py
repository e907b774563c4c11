"""Evaluates a checkpoint on a split: VOC07, VOC10 and COCO AP, per class, in one pass.

python get_map.py --weights logs/teacher/best.pth --data VOCdevkit --split VOC2007/test
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from nets.inference import detect
from nets.outputs import Detections, Targets
from nets.saved import load_network
from nets.stages import check_class_names
from utils.cli import parse_arguments, run
from utils.config import MapConfig
from utils.device import Precision, choose_device
from utils.draw import draw_precision_recall
from utils.engine import evaluate
from utils.evaluator import Evaluator
from utils.report import average_precision, cost, table, write_json
from utils.runs import open_store
from utils.voc import read_classes


def main(arguments: Sequence[str] | None) -> None:
    """Checkpoint + split -> AP table, JSON, plots."""
    config = parse_arguments(MapConfig, arguments)
    device = choose_device(config.device)
    wanted = read_classes(config.classes) if config.classes else ()
    model, class_names = load_network(config.weights, device, wanted)
    model = model.to(memory_format=torch.channels_last)
    if wanted:
        check_class_names(class_names, wanted)
    store = open_store(config, config.split, class_names, device)
    evaluator = Evaluator(class_names)

    def predict(images: Tensor, targets: Targets) -> tuple[dict[str, Tensor], Detections]:
        del targets
        return {}, detect(model, images)

    speed = evaluate(predict, store, evaluator, Precision(device), config.batch_size)
    report = {
        "weights": config.weights,
        "backbone": model.spec,
        "split": list(config.split),
        "images": len(store),
        "images_per_second": speed["images_per_second"],
        **cost(model),
        **average_precision(evaluator),
    }
    print(table(report))
    print(f"{len(store)} images, {speed['images_per_second']:.1f} images/s (network and NMS)")
    if config.json:
        write_json(config.json, report)
    if config.plots:
        Path(config.plots).mkdir(parents=True, exist_ok=True)
        draw_precision_recall(evaluator, Path(config.plots) / "precision_recall.png")


if __name__ == "__main__":
    run(main)
