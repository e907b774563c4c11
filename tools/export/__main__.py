"""Writes a network as one ONNX file that detects by itself: pixels in, boxes, scores, labels out.

python -m tools.export --weights logs/student/best.pth --out student.onnx --check VOC2007/test
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nets.inputs import read_class_names
from nets.postprocess import Limits
from nets.saved import check_class_names, load_network
from nets.saved.exported import SUFFIX, Exported, require_runtime
from nets.ssd import SSD300
from tools.export.checking import TOLERANCE, check, precision_of
from tools.export.graph import network_graph, require_onnx, whole_graph
from tools.export.quantise import Images, quantise
from utils.cli import parse_arguments, run
from utils.config import DataConfig, at_least, option
from utils.data.store import Store, open_store
from utils.files import check_file, whole
from utils.runtime.device import choose_device
from utils.show.report import percent


@dataclass(frozen=True)
class ExportConfig(DataConfig):
    """Writes a checkpoint as an ONNX file: normalisation, boxes and suppression are in it."""

    weights: str = option("", "checkpoint, e.g. logs/RUN/best.pth, or another project's")
    out: str = option("", f"the file to write, NAME{SUFFIX}")
    classes: str = option("", "class list; default: the one in the checkpoint")
    input: str = option(
        "bytes",
        "bytes: uint8 RGB [B,300,300,3]; floats: RGB 0..255 [B,3,300,300]",
        ("bytes", "floats"),
    )
    raw: bool = option(
        False, "end with all boxes and class scores, for runtimes without suppression"
    )
    score: float = option(Limits().score, "detections have a score above this")
    iou: float = option(Limits().iou, "of two boxes of a class that overlap by more, one goes")
    check: tuple[str, ...] = option(
        (), "compare with PyTorch on these splits, as YEAR/SPLIT, before the file is written"
    )
    int8: bool = option(False, "weights and activations in eight bits")
    calibrate: tuple[str, ...] = option((), "with --int8: splits that tell the activations' ranges")
    images: int = option(200, "images of them, evenly spread")
    cache: str = option("none", "where decoded images live", ("auto", "device", "ram", "none"))
    batch_size: int = option(8, "images a forward pass of the comparison")
    device: str = option("cpu", "where the comparison runs", ("auto", "cpu", "cuda"))

    def __post_init__(self) -> None:
        """Refuses values that cannot be meant."""
        super().__post_init__()
        if not self.weights or not self.out:
            raise ValueError("--weights and --out are needed, e.g. logs/student/best.pth")
        if Path(self.out).suffix != SUFFIX:
            raise ValueError(
                f"--out {self.out}: only {SUFFIX} is written; docs/deploy.md leads on from there"
            )
        at_least(self, 1, "images")
        if self.int8 != bool(self.calibrate):
            raise ValueError(
                "--int8 needs --calibrate SPLIT, such as VOC2007/train, and the other way round"
            )
        for name in ("score", "iou"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"--{name} must be in [0, 1), not {getattr(self, name)}")


def main(arguments: Sequence[str] | None) -> None:
    """Checkpoint -> ONNX file, compared with PyTorch where asked."""
    config = parse_arguments(ExportConfig, arguments, __doc__)
    check_file(config.out, "--out", inputs=(config.weights, config.classes))
    require_onnx()
    require_runtime()
    wanted = read_class_names(config.classes) if config.classes else ()
    model, class_names = load_network(config.weights, class_names=wanted)
    if wanted:
        check_class_names(class_names, wanted, config.weights)
    device = choose_device(config.device)
    images = open_store(config, config.check, class_names, device) if config.check else None
    seen = open_store(config, config.calibrate, class_names, device) if config.int8 else None
    limits = Limits(config.score, config.iou)
    network = network_graph(model)
    if seen:
        rounded = config.input == "bytes"
        network = quantise(network, Images(seen, config.images, rounded=rounded))
    file = whole_graph(
        network, model, class_names, limits, takes_bytes=config.input == "bytes", raw=config.raw
    )
    Path(config.out).parent.mkdir(parents=True, exist_ok=True)
    with whole(config.out) as unfinished:
        unfinished.write_bytes(file.SerializeToString())
        if images:
            exported = Exported(unfinished, device)
            look = losses if config.int8 else compared
            print(look(config, model.to(device), exported, images, class_names))
    size = Path(config.out).stat().st_size
    print(f"{config.out}: {size / 2**20:.2f} MiB, {model.spec}, {len(class_names)} classes")


def losses(
    config: ExportConfig,
    model: SSD300,
    exported: Exported,
    images: Store,
    class_names: Sequence[str],
) -> str:
    """What eight bits have cost, for people: they do not detect the same, so AP has to tell."""
    limits = Limits(config.score, config.iou)  # which the file has inside
    both = [
        precision_of(network, images, limits, class_names, config.batch_size)
        for network in (model, exported)
    ]
    return "\n".join(
        f"{protocol}: {percent(before)} in PyTorch, {percent(after)} in eight bits, "
        f"{100 * (after - before):+.2f} points"
        for protocol, before, after in zip(("voc07", "coco "), *both, strict=True)
    )


def compared(
    config: ExportConfig,
    model: SSD300,
    exported: Exported,
    images: Store,
    class_names: Sequence[str],
) -> str:
    """What a check has seen, for people.

    Raises:
        ValueError: the two do not detect the same.
    """
    limits = Limits(config.score, config.iou)
    try:
        seen = check(model, exported, images, limits, class_names, config.batch_size)
    except ValueError as error:
        raise ValueError(
            f"{config.out} is not written, it would not detect what {config.weights} does: {error}"
        ) from error
    lines = [
        f"{seen.images} images, {seen.detections} detections: PyTorch's and ONNX Runtime's agree "
        f"within {TOLERANCE:g}"
    ]
    if seen.close:
        lines.append(
            f"{len(seen.close)} were decided by the last digits; the first: {seen.close[0]}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    run(main)
