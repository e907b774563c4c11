"""The three networks side by side: as a table, and on the first test images."""

from pathlib import Path
from typing import Any

from PIL import Image

from nets.detect import detect_images
from nets.postprocess import Limits
from nets.saved import load_network
from utils.data.images import read_image
from utils.data.voc import read_classes, read_split
from utils.show.draw import draw_boxes, side_by_side

TEACHER, ALONE, DISTILLED = "teacher", "student alone", "student distilled"


def draw_comparison(out: Path, devkit: Path, images: int = 6) -> Path:
    """Draws what the three networks see in the first test images beside what is there."""
    names = read_classes(devkit / "VOC2007/classes.txt")
    samples, _ = read_split(devkit, ["VOC2007/test"], names)
    samples = [sample for sample in samples if len(sample.annotation.labels)][:images]
    pictures = [read_image(sample.image) for sample in samples]
    truth = [
        draw_boxes(picture, sample.annotation.boxes, sample.annotation.labels.tolist(), names)
        for picture, sample in zip(pictures, samples, strict=True)
    ]
    columns = [truth]
    for name in ("teacher", "alone", "distilled"):
        model, _ = load_network(out / name / "best.pth")
        found = detect_images(model, pictures, Limits(score=0.3))
        columns.append(
            [
                draw_boxes(picture, boxes, labels, names, scores)
                for picture, (boxes, scores, labels) in zip(pictures, found, strict=True)
            ]
        )
    path = out / "side_by_side.png"
    rows = list(zip(*columns, strict=True))
    Image.fromarray(side_by_side(rows, ("objects", TEACHER, ALONE, DISTILLED))).save(path)
    return path


def comparison(reports: dict[str, dict[str, Any]]) -> str:
    """The table that the demonstration ends with; AP in percent."""

    def scores(report: dict[str, Any]) -> list[float]:
        values = (report["voc07"]["mAP"], report["voc10"]["mAP"], report["coco"]["AP"])
        return [100 * value for value in values]

    lines = [
        f"{'':18} {'params':>8} {'GFLOPs':>7} {'img/s':>7} {'voc07':>7} {'voc10':>7} {'coco':>7}"
    ]
    for title, report in reports.items():
        cost = f"{report['parameters'] / 1e6:7.2f}M {report['gflops']:7.2f}"
        ap = " ".join(f"{value:7.2f}" for value in scores(report))
        lines.append(f"{title:18} {cost} {report['images_per_second']:7.1f} {ap}")
    gains = [
        f"{d - a:+7.2f}"
        for d, a in zip(scores(reports[DISTILLED]), scores(reports[ALONE]), strict=True)
    ]
    lines.append(f"{'distilled - alone':18} {'':32} {' '.join(gains)}")
    return "\n".join(lines)
