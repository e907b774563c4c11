"""`make bench`: every part of the pipeline beside another way to do the same work, one table.

python -m benchmarks.run [--threads N] [--json FILE]

Ratios are medians of interleaved runs in one process. Absolute times depend on the machine and on
what else it does; compare ratios.
"""

import argparse
import datetime
import json
import platform
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import tv_tensors
from torchvision.transforms import v2

from benchmarks import memory, scenes
from benchmarks.ap import ap_rows
from benchmarks.timing import Row, compare
from nets.matching import match
from nets.multibox_loss import MultiBoxLoss
from nets.multibox_loss_kd import MultiBoxLoss_KD
from nets.outputs import Outputs
from nets.postprocess import postprocess
from nets.priors import prior_boxes
from nets.ssd import SSD300
from nets.tasks import DetectionTask, DistillTask
from utils.augment import augment, uniforms
from utils.boxes import Targets
from utils.device import Precision
from utils.engine import channels_last, evaluate
from utils.evaluator import Evaluator
from utils.images import load_padded, read_image
from utils.store import LARGEST_SIDE, Store


def reading(folder: Path) -> Iterator[Row]:
    """Images from disk to uint8 squares, and to augmented batches."""
    paths = scenes.voc_size_images(folder, 16)
    yield compare(
        "JPEG -> uint8 square (16 images)",
        lambda: [load_padded(path, LARGEST_SIDE) for path in paths],
        "decoding alone",
        lambda: [read_image(path) for path in paths],
        "time <= 1.3x",
    )
    targets = scenes.random_targets(16)
    pixels = Targets(targets.boxes * torch.tensor((500.0, 375, 500, 375)), targets.labels)
    rows = uniforms(16, seed=0, epoch=0)

    def ours() -> object:
        decoded = [load_padded(path, LARGEST_SIDE) for path in paths]
        images = torch.stack([torch.from_numpy(image) for image, _ in decoded])
        sizes = torch.tensor([size for _, size in decoded]).float()
        return augment(images, sizes, pixels, rows)

    transforms = v2.Compose(
        [
            v2.RandomPhotometricDistort(),
            v2.RandomZoomOut(fill=(123, 117, 104)),
            v2.RandomIoUCrop(),
            v2.RandomHorizontalFlip(),
            v2.Resize((300, 300)),
            v2.ToDtype(torch.float32),
            v2.SanitizeBoundingBoxes(),
        ]
    )

    def theirs() -> object:
        images = []
        for path, boxes, labels in zip(paths, *pixels, strict=True):
            image = tv_tensors.Image(torch.from_numpy(read_image(path)).permute(2, 0, 1))
            wrapped = tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=image.shape[-2:])
            images.append(transforms(image, {"boxes": wrapped, "labels": labels})[0])
        return torch.stack(images)

    yield compare("JPEG -> augmented 300 x 300 batch (16)", ours, "torchvision v2", theirs, ">= 3x")


def losses() -> Iterator[Row]:
    """Matching and loss, forward and backward, 32 x 8732 x 21."""
    priors, criterion = prior_boxes(), MultiBoxLoss()
    targets = scenes.random_targets()
    outputs = scenes.random_outputs()
    leaves = Outputs((), outputs.logits.requires_grad_(), outputs.offsets.requires_grad_())

    def backward(terms: dict[str, Tensor]) -> None:
        leaves.logits.grad = leaves.offsets.grad = None
        torch.stack(list(terms.values())).sum().backward()

    def ours() -> None:
        backward(criterion(leaves, match(targets, priors)))

    yield compare(
        "match + MultiBoxLoss, forward and backward",
        ours,
        "torchvision SSD.compute_loss",
        lambda: backward(scenes.torchvision_loss(leaves, targets)),
        ">= 1.5x",
    )
    labels = match(targets, priors).labels.flatten()
    yield compare(
        "match + MultiBoxLoss, forward and backward",
        ours,
        "dense cross-entropy alone (floor)",
        lambda: backward({"ce": F.cross_entropy(leaves.logits.flatten(0, 1), labels)}),
        "floor",
    )
    distil, teacher = MultiBoxLoss_KD(), scenes.random_outputs(seed=1)
    yield compare(
        "match + MultiBoxLoss_KD, forward and backward",
        lambda: backward(distil(leaves, teacher, match(targets, priors))),
        "torchvision SSD.compute_loss",
        lambda: backward(scenes.torchvision_loss(leaves, targets)),
        "-",
    )


def inference() -> Iterator[Row]:
    """Post-processing of a batch with about 3000 candidates an image."""
    priors, outputs = prior_boxes(), scenes.random_outputs(background=7.5)
    scores = outputs.logits.softmax(-1)[..., 1:]
    count = int((scores > 0.01).sum()) / len(scores)
    with torch.no_grad():
        yield compare(
            f"post-processing of 32 images ({count:.0f} candidates each)",
            lambda: postprocess(outputs, priors),
            "torchvision SSD",
            lambda: scenes.torchvision_postprocess(outputs),
            ">= 1.5x on a CPU",
            repeats=5,
        )


def steps(folder: Path) -> Iterator[Row]:
    """A distillation step, and evaluation of a split, over what they cannot do without."""
    teacher = SSD300("resnet34").to(memory_format=torch.channels_last)
    student = SSD300("mobilenetv2").to(memory_format=torch.channels_last)
    alone = DetectionTask(student, MultiBoxLoss(), {"conf": 1, "loc": 1})
    weights = {"soft": 0.3, "conf": 0.7, "l2": 0.5, "loc": 1.0}
    distilled = DistillTask(student, teacher, MultiBoxLoss_KD(), weights)
    images = channels_last(torch.rand(8, 3, 300, 300) * 255)
    targets = scenes.random_targets(8)

    def step(task: nn.Module) -> None:
        task.zero_grad()
        task(images, targets)["loss"].backward()

    def floor() -> None:
        step(alone)
        with torch.no_grad():
            teacher(images)

    yield compare(
        "distillation step, resnet34 -> mobilenetv2 (8)",
        lambda: step(distilled),
        "student's step + teacher's forward",
        floor,
        "time <= 1.05x",
        repeats=5,
    )
    model = student.eval()
    store = Store(scenes.drawn_samples(folder, 32), torch.device("cpu"), cache="ram")

    def predict(shown: Tensor, objects: Targets) -> object:
        del objects
        return {}, postprocess(model(shown), model.priors)

    def whole_split() -> None:
        evaluate(predict, store, Evaluator(scenes.NAMES), Precision(torch.device("cpu")), 8)

    def forward_alone() -> None:
        with torch.inference_mode():
            for _ in range(4):
                model(images)

    yield compare(
        "evaluation of a split, mobilenetv2 (32 images)",
        whole_split,
        "network's forward alone",
        forward_alone,
        "time <= 1.15x",
        repeats=5,
    )


def main() -> None:
    """Prints the table and, where asked, writes it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1, help="torch's threads")
    parser.add_argument("--json", help="write the rows to this file")
    parser.add_argument("--only", help="parts, e.g. losses inference", nargs="+")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        parts: dict[str, Callable[[], Iterator[Row]]] = {
            "reading": lambda: reading(folder),
            "losses": losses,
            "inference": inference,
            "ap": ap_rows,
            "steps": lambda: steps(folder),
            "memory": memory.memory_rows,
        }
        table = []
        print(f"{'work':46} {'beside':36} {'ours':>9} {'other':>9} {'ratio':>6}  reach")
        for name, part in parts.items():
            if options.only and name not in options.only:
                continue
            for row in part():
                table.append(row)
                print(row.line(), flush=True)
    machine = {
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.processor() or platform.machine()}, {options.threads} thread(s)",
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "numpy": np.__version__,
    }
    print(", ".join(f"{k} {v}" for k, v in machine.items()))
    if options.json:
        rows = [row._asdict() | {"ratio": row.ratio} for row in table]
        Path(options.json).write_text(json.dumps({**machine, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
