"""Shows what a network detects in images, a video, a stream or a camera.

python predict.py --weights logs/student/best.pth --source street.jpg --out logs/predict --json
"""

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from nets.detect import Found, detect_images
from nets.heat import heat_of_images
from nets.inputs import labels_named
from nets.postprocess import Limits
from nets.saved import limits_for, load_detector
from nets.saved.exported import Exported
from nets.ssd import SSD300
from utils.cli import parse_arguments, run
from utils.config import PredictConfig
from utils.data.media import Frame, Source, open_source
from utils.files import check_folder
from utils.runtime.clock import Clock
from utils.runtime.device import Precision, choose_device, memory_for
from utils.show.draw import Picture, beside, draw_boxes, over_heat
from utils.show.outlets import Crops, ImageWriter, VideoWriter, Window
from utils.show.report import write_json


@dataclass(frozen=True)
class Detector:
    """A network, what is to be seen of it, and what it has found.

    labels: the classes to show, 1..K.
    heat: those to colour images by; none: no colours.
    clock: what its time went to.
    found: name of an image -> its detections as JSON has them.
    """

    weights: str
    model: SSD300 | Exported
    class_names: tuple[str, ...]
    precision: Precision
    limits: Limits
    labels: Sequence[int]
    heat: Sequence[int]
    clock: Clock
    found: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def look(self, batch: Sequence[Frame]) -> list[Found]:
        """What it detects in a batch, which it also keeps."""
        with self.precision.autocast():
            images = [frame.image for frame in batch]
            results = detect_images(self.model, images, self.limits, self.clock)
        results = [result.only(self.labels) for result in results]
        for frame, result in zip(batch, results, strict=True):
            self.found[frame.name] = [
                {"class": self.class_names[label - 1], "score": score, "box": box}
                for box, score, label in zip(*result, strict=True)
            ]
        return results

    def draw(self, batch: Sequence[Frame], results: Sequence[Found]) -> list[Picture]:
        """Copies of the images with what was found in them."""
        images = [frame.image for frame in batch]
        if self.heat:
            with self.precision.autocast():
                heats = heat_of_images(self.model, images, self.heat)
            images = [over_heat(*pair) for pair in zip(images, heats, strict=True)]
        return [
            draw_boxes(image, boxes, labels, self.class_names, scores)
            for image, (boxes, scores, labels) in zip(images, results, strict=True)
        ]


def main(arguments: Sequence[str] | None) -> None:
    """Network + source -> drawn result, JSON, and what it took."""
    config = parse_arguments(PredictConfig, arguments)
    out = Path(config.out)
    check_folder(out, "--out")
    if config.crops:
        check_folder(config.crops, "--crops")
    device = choose_device(config.device)
    networks = [weights for weights in (config.weights, config.compare) if weights]
    detectors = [load(weights, config, device) for weights in networks]
    source = open_source(config.source, skip_bad=config.skip_bad)
    for flag, folder in (("--out", config.out), ("--crops", config.crops)):
        if folder and Path(folder).resolve() in source.folders:
            raise ValueError(f"{flag} {folder} is where the source is; choose another folder")
    out.mkdir(parents=True, exist_ok=True)
    clock = Clock(device)
    try:
        with memory_for(config.batch_size):
            show(config, detectors, source, clock)
    finally:  # a bad image or Ctrl-C on a camera must not cost what was found before
        facts = summary(config, detectors, source, clock)
        if config.json and detectors[0].found:
            write_json(out / "detections.json", detectors[0].found)
            write_json(out / "summary.json", facts)
            if config.compare:
                write_json(out / "detections_compare.json", detectors[1].found)
    if not detectors[0].found:
        raise ValueError(f"{config.source}: nothing could be read")
    report(config, facts)


def load(weights: str, config: PredictConfig, device: torch.device) -> Detector:
    """A network of the command line, and the labels of the classes that are asked for."""
    model, names, precision = load_detector(weights, device, config.amp)
    limits = limits_for(model, Limits(config.score, config.nms, config.per_class, config.top_k))
    everything = range(1, len(names) + 1)
    labels = labels_named(config.classes, names, "--classes") or everything
    if config.heatmap and isinstance(model, Exported):
        raise ValueError(f"--heatmap: {weights} is an exported network; give the checkpoint")
    if config.heatmap == ("all",):
        heat: Sequence[int] = everything
    else:
        heat = labels_named(config.heatmap, names, "--heatmap")
    return Detector(weights, model, names, precision, limits, labels, heat, Clock(device))


def show(
    config: PredictConfig, detectors: Sequence[Detector], source: Source, clock: Clock
) -> None:
    """Takes the frames through the networks to wherever the command line wants them."""
    out = Path(config.out)
    window = Window(source.video) if config.show else None
    crops = Crops(Path(config.crops)) if config.crops else None
    video = out / f"{source.name}.mp4"
    writer = VideoWriter(video, source.fps) if source.video else ImageWriter(out)
    titles = short_names([detector.weights for detector in detectors])
    # Who looks on waits for one frame, not for a batch of them.
    size = 1 if config.show or source.live else config.batch_size
    with writer, window or contextlib.nullcontext():
        for batch in batches(source.frames, size, config.frames, clock):
            results = [detector.look(batch) for detector in detectors]
            with clock.part("drawing and writing"):
                drawn = [d.draw(batch, r) for d, r in zip(detectors, results, strict=True)]
                for frame, *pictures in zip(batch, *drawn, strict=True):
                    picture = pictures[0] if len(pictures) == 1 else beside(pictures, titles)
                    writer.write(frame.name, picture)
                    if crops:
                        crops.write(frame.name, frame.image, detectors[0].found[frame.name])
            # A batch of one; how long somebody looks at it is no part of the work.
            if window and not window.show(picture):
                return


def short_names(paths: Sequence[str]) -> list[str]:
    """What tells networks apart in a picture: of `logs/student/best.pth` the run, `student`."""
    names = [
        p.absolute().parent.name if p.stem in ("best", "last") else p.stem for p in map(Path, paths)
    ]
    return names if len(set(names)) == len(names) else list(paths)


def batches(frames: Iterator[Frame], size: int, most: int, clock: Clock) -> Iterator[list[Frame]]:
    """Lists of up to `size` frames, `most` in all unless that is 0."""
    limited = islice(frames, most) if most else frames
    while True:
        with clock.part("decode"):
            batch = list(islice(limited, size))
        if not batch:
            return
        yield batch


def summary(
    config: PredictConfig, detectors: Sequence[Detector], source: Source, clock: Clock
) -> dict[str, Any]:
    """How much there was, of what, and how long it took."""
    number = len(detectors[0].found)
    return {
        "source": config.source,
        "frames" if source.video else "images": number,
        "networks": [
            {
                "weights": detector.weights,
                "detections": sum(map(len, detector.found.values())),
                "counts": counts(detector.found),
                **timing(detector.clock, number),
            }
            for detector in detectors
        ],
        **timing(clock, number),
    }


def timing(clock: Clock, number: int) -> dict[str, dict[str, float]]:
    """Seconds of each part in all, and milliseconds of each for one of `number` images."""
    each = {part: 1000 * seconds / max(1, number) for part, seconds in clock.seconds.items()}
    return {"seconds": dict(clock.seconds), "milliseconds_each": each}


def counts(found: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, int]]:
    """Class -> its objects, and the images that have some; the commonest class first."""
    objects = Counter(row["class"] for rows in found.values() for row in rows)
    images = Counter(name for rows in found.values() for name in {row["class"] for row in rows})
    return {name: {"objects": n, "images": images[name]} for name, n in objects.most_common()}


def report(config: PredictConfig, facts: dict[str, Any]) -> None:
    """Prints what `summary` knows."""
    what = "frames" if "frames" in facts else "images"
    for network in facts["networks"]:
        if config.compare:
            print(f"{network['weights']}:")
        if config.counts:
            width = max(map(len, [*network["counts"], "class"]))
            print(f"{'class':{width}}  objects  {what}")
            for name, row in network["counts"].items():
                print(f"{name:{width}}  {row['objects']:7}  {row['images']:6}")
        print(f"{facts[what]} {what}, {network['detections']} detections -> {config.out}")
        if not network["detections"] and config.score > 0.02:
            print(
                f"nothing scores {config.score:g} or more; --score {config.score / 5:g} shows what "
                "it is less sure of"
            )
        parts = {**facts["milliseconds_each"], **network["milliseconds_each"]}
        order = sorted(parts, key=lambda part: part == "drawing and writing")
        each = ", ".join(f"{part} {parts[part]:.1f} ms" for part in order)
        print(f"of one of them: {each}")
    clocks = [facts, *facts["networks"]]
    print(f"in all: {sum(sum(of['seconds'].values()) for of in clocks):.1f} s")


if __name__ == "__main__":
    run(main)
