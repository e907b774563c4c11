"""A network that `tools.export` wrote, run by ONNX Runtime: it detects, and that is all it does."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nets.outputs import Detections
from nets.postprocess import EVALUATED, Candidates, Limits, best_detections
from nets.priors import prior_boxes

FORMAT = "ssd300-distillation/onnx/1"
SUFFIX = ".onnx"


class Exported(nn.Module):
    """An ONNX file as the scripts see a network.

    Args:
        path: what `tools.export` wrote.
        device: a GPU is used where ONNX Runtime itself has been built for one, else the CPU with as
            many threads as PyTorch.

    Attributes:
        spec, layout: of the network that was exported.
        class_names: of the classes 1..K.
        cost: its `parameters` and `gflops`, as `utils.show.report.cost` counts them.
        arithmetic: as `Precision.record` tells it: the device that ONNX Runtime uses, and `float32`
            or `int8`.
        priors: `[P, 4]` buffer, cxcywh in image fractions.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: ONNX Runtime is not installed, or the file is damaged or another program's.
    """

    priors: Tensor

    def __init__(self, path: str | Path, device: torch.device | None = None) -> None:
        super().__init__()
        if not Path(path).is_file():
            raise FileNotFoundError(f"{path}: no such file; export a network or check the path")
        self.session: Any = open_session(path, device)
        facts = self.session.get_modelmeta().custom_metadata_map
        if facts.get("format") != FORMAT:
            raise ValueError(
                f"{path}: an ONNX file of another program or version; write one with "
                "python -m tools.export"
            )
        self.spec: str = facts["backbone"]
        self.layout: str = facts["layout"]
        self.class_names: tuple[str, ...] = tuple(json.loads(facts["class_names"]))
        self.cost: dict[str, float] = json.loads(facts["cost"])
        on_gpu = "CUDAExecutionProvider" in self.session.get_providers()
        self.arithmetic = {
            "device": "cuda" if on_gpu else "cpu",
            "dtype": facts.get("dtype", "float32"),  # files did not always say so
        }
        self.iou_threshold = float(facts["iou_threshold"])
        self.score_threshold = float(facts["score_threshold"])
        self.takes_bytes = self.session.get_inputs()[0].type == "tensor(uint8)"
        self.raw = "labels" not in {output.name for output in self.session.get_outputs()}
        self.register_buffer("priors", prior_boxes(self.layout), persistent=False)

    def detect(self, images: Tensor, limits: Limits = EVALUATED) -> Detections:
        """What the file shows in `[B, 3, 300, 300]` float RGB 0..255; see `nets.detect.detect`.

        A file that takes bytes is given the nearest ones. Suppression is the file's own; so is the
        score threshold, where the higher one, and the number of detections, where the lower one.
        """
        shown = as_bytes(images) if self.takes_bytes else images
        results = self.session.run(None, {"images": shown.contiguous().cpu().numpy()})
        found = [torch.from_numpy(np.ascontiguousarray(x)).to(images.device) for x in results]
        if self.raw:
            boxes, scores = found
            batch, _, classes = scores.shape
            least = max(limits.score, self.score_threshold)
            candidates = candidates_of(boxes, scores, least)
            rest = (limits.per_class, limits.per_image)
            return best_detections(candidates, batch, classes, self.iou_threshold, *rest)
        most = (x[:, : limits.per_image] for x in found)  # the best come first
        return above(Detections(*most), limits.score)


def as_bytes(images: Tensor) -> Tensor:
    """`[B, 3, H, W]` float 0..255 -> `[B, H, W, 3]` uint8, as decoders give pictures."""
    return images.round().clamp(0, 255).byte().permute(0, 2, 3, 1)


def above(found: Detections, score_threshold: float) -> Detections:
    """Without those whose score is not above the threshold; they are the last ones."""
    real = found.scores > score_threshold
    return Detections(found.boxes * real[..., None], found.scores * real, found.labels * real)


def candidates_of(boxes: Tensor, scores: Tensor, score_threshold: float) -> Candidates:
    """What `--raw` files say, `[B, P, 4]` and `[B, P, K]`: every score above the threshold."""
    image, row, column = (scores > score_threshold).nonzero().unbind(1)
    return Candidates(image, column + 1, scores[image, row, column], boxes[image, row])


def open_session(path: str | Path, device: torch.device | None) -> Any:
    """An `onnxruntime.InferenceSession`.

    Raises:
        ValueError: ONNX Runtime is not installed, or cannot read the file.
    """
    runtime = require_runtime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # what goes wrong is raised, too
    wanted = {"CPUExecutionProvider"}
    if device is not None and device.type == "cuda":
        wanted.add("CUDAExecutionProvider")
    providers = [name for name in runtime.get_available_providers() if name in wanted]
    try:
        return runtime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # broken bytes make the parser raise anything
        why = " ".join(str(error).split())[:200]
        raise ValueError(f"{path}: damaged, or no ONNX file that can be run ({why})") from error


def require_runtime() -> Any:
    """The module `onnxruntime`, an extra; raises ValueError where it is not installed."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ValueError(
            "this needs ONNX Runtime; install it with: pip install -e '.[export]'"
        ) from error
    onnxruntime.set_default_logger_severity(4)
    return onnxruntime
