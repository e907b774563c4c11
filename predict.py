"""Shows what a network detects in an image, a folder of images, a video or a camera.

python predict.py --weights logs/student/best.pth --source street.jpg --out logs/predict --json
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from nets.detect import detect_images
from nets.saved import load_detector
from utils.cli import parse_arguments, run
from utils.config import PredictConfig
from utils.data.media import Frame, ImageWriter, VideoWriter, open_source
from utils.files import check_folder
from utils.runtime.device import choose_device, memory_for
from utils.show.draw import draw_boxes
from utils.show.report import write_json


def main(arguments: Sequence[str] | None) -> None:
    """Network + source -> drawn result, JSON, frames per second."""
    config = parse_arguments(PredictConfig, arguments)
    check_folder(config.out, "--out")
    device = choose_device(config.device)
    model, class_names, precision = load_detector(config.weights, device, config.amp)
    source = open_source(config.source, skip_bad=config.skip_bad)
    out = Path(config.out)
    if out.resolve() in (Path(config.source).resolve(), Path(config.source).resolve().parent):
        raise ValueError(f"--out {out} is where the source is; choose another folder")
    out.mkdir(parents=True, exist_ok=True)
    frames: Iterable[Frame] = source.frames
    if config.frames:
        frames = islice(frames, config.frames)
    found: dict[str, list[dict[str, Any]]] = {}
    seconds = 0.0
    writer = VideoWriter(out, source) if source.video else ImageWriter(out)
    try:
        with writer, memory_for(config.batch_size):
            for batch in batched(frames, config.batch_size):
                started = time.perf_counter()
                with precision.autocast():
                    pictures = [frame.image for frame in batch]
                    detections = detect_images(model, pictures, config.score)
                seconds += time.perf_counter() - started
                for frame, (boxes, scores, labels) in zip(batch, detections, strict=True):
                    picture = draw_boxes(frame.image, boxes, labels, class_names, scores)
                    writer.write(frame.name, picture)
                    found[frame.name] = [
                        {"class": class_names[label - 1], "score": score, "box": box}
                        for box, score, label in zip(boxes, scores, labels, strict=True)
                    ]
    finally:  # a bad image or Ctrl-C on a camera must not cost what was found before
        if config.json and found:
            write_json(out / "detections.json", found)
    if not found:
        raise ValueError(f"{config.source}: nothing could be read")
    total = sum(map(len, found.values()))
    print(f"{len(found)} images, {total} detections, {len(found) / seconds:.1f} fps -> {out}")


def batched(frames: Iterable[Frame], size: int) -> Iterator[list[Frame]]:
    """Lists of up to `size` frames."""
    iterator = iter(frames)
    while batch := list(islice(iterator, size)):
        yield batch


if __name__ == "__main__":
    run(main)
