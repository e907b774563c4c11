"""Settings of what a trained network is asked: its mAP, or what it sees."""

from dataclasses import dataclass
from typing import ClassVar

from utils.config.data import ARITHMETICS, DataConfig
from utils.config.options import at_least, flag, option

# What post-processing keeps.
NMS = "of two boxes of a class that overlap (IoU) by more, the lower score goes"
PER_CLASS = "candidates of a class that are looked at"
TOP_K = "most detections of an image"


@dataclass(frozen=True)
class MapConfig(DataConfig):
    """Evaluation on a split, of a network or of any detector's VOC result files."""

    example_lines: ClassVar[tuple[str, ...]] = (
        "get_map.py --weights logs/student/best.pth --split VOC2007/test --json map.json",
        "get_map.py --weights logs/student/best.pth --split MYSET/test --plots logs/student/plots",
        "get_map.py --detections results --classes model_data/voc_classes.txt",
    )

    weights: str = option("", "checkpoint, e.g. logs/RUN/best.pth, or exported network, *.onnx")
    detections: str = option("", "instead: a folder of files comp4_det_test_CLASS.txt")
    split: tuple[str, ...] = option(("VOC2007/test",), "splits to evaluate, as YEAR/SPLIT")
    batch_size: int = option(32, "images a forward pass, in each process")
    amp: str = option(
        "auto",
        "arithmetic; auto is what training measured the mAP in, off where that is not known",
        ARITHMETICS,
    )
    cache: str = option("none", "where decoded images live", ("auto", "device", "ram", "none"))
    json: str = option("", "write the result to this file")
    plots: str = option(
        "",
        "write pictures into this folder: precision-recall curves, the confusion matrix, "
        "and the images that agree least with their objects",
    )
    save_detections: str = option("", "write VOC result files into this folder")
    score: float = option(0.01, "detections have a score above this")
    nms: float = option(0.45, NMS)
    per_class: int = option(400, PER_CLASS)
    top_k: int = option(200, TOP_K)

    def __post_init__(self) -> None:
        """Refuses values that no run can work with."""
        super().__post_init__()
        if bool(self.weights) == bool(self.detections):
            raise ValueError("give either --weights, such as logs/RUN/best.pth, or --detections")
        if not self.split:
            raise ValueError("--split names no split; give at least one, as YEAR/SPLIT")
        if self.detections and not self.classes:
            raise ValueError("--detections needs --classes: result files do not name their order")
        limits = ("score", "nms", "per_class", "top_k")
        changed = [name for name in limits if getattr(self, name) != getattr(MapConfig, name)]
        if self.detections and changed:
            raise ValueError(
                f"{flag(changed[0])} is a network's; --detections are evaluated as they are"
            )
        check_limits(self)


@dataclass(frozen=True)
class PredictConfig:
    """Detection on images or a video."""

    example_lines: ClassVar[tuple[str, ...]] = (
        "predict.py --weights logs/student/best.pth --source photo.jpg",
        "predict.py --weights logs/student/best.pth --source photos --score 0.3 --json",
        "predict.py --weights logs/student/best.pth --source camera:0 --frames 100",
    )

    weights: str = option("", "checkpoint, e.g. logs/RUN/best.pth, or exported network, *.onnx")
    source: str = option(
        "",
        "an image, a folder or pattern ('street/*.jpg') of images, a text file of paths, a video, "
        "a URL (http, rtsp), or camera:0",
    )
    out: str = option("logs/predict", "folder for the drawn results")
    json: bool = option(False, "also write detections.json and summary.json into --out")
    compare: str = option("", "show a second network beside --weights")
    classes: tuple[str, ...] = option((), "show these classes only, as cat dog or cat,dog")
    heatmap: tuple[str, ...] = option(
        (), "colour the images by where the network sees these classes, or all"
    )
    crops: str = option("", "write each detected object into a file of its own in this folder")
    counts: bool = option(False, "print how many objects of each class there are")
    show: bool = option(False, "open a window; q ends")
    score: float = option(0.5, "detections have a score above this")
    nms: float = option(0.45, NMS)
    per_class: int = option(400, PER_CLASS)
    top_k: int = option(200, TOP_K)
    batch_size: int = option(8, "images a forward pass")
    device: str = option("auto", "auto takes a GPU where there is one", ("auto", "cpu", "cuda"))
    amp: str = option(
        "auto",
        "arithmetic; auto is what training measured the mAP in, off where that is not known",
        ARITHMETICS,
    )
    frames: int = option(0, "stop after this many frames or images; 0: at the end")
    skip_bad: bool = option(False, "leave out unreadable images, and list them")

    def __post_init__(self) -> None:
        """Refuses values that no run can work with."""
        if not self.weights or not self.source:
            raise ValueError("--weights and --source are needed; see --help")
        at_least(self, 1, "batch_size")
        at_least(self, 0, "frames")
        check_limits(self)


def check_limits(config: MapConfig | PredictConfig) -> None:
    """Refuses limits that no post-processing can keep to."""
    for name in ("score", "nms"):
        if not 0 <= getattr(config, name) <= 1:
            raise ValueError(f"{flag(name)} must be in 0 .. 1, not {getattr(config, name)}")
    at_least(config, 1, "per_class", "top_k")
