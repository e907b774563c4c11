"""A distillation step, and the evaluation of a split, over what they cannot do without."""

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks import scenes
from benchmarks.served.client import THEN
from benchmarks.timing import Row, compare
from nets.multibox_loss import MultiBoxLoss
from nets.multibox_loss_kd import MultiBoxLoss_KD
from nets.outputs import Outputs, Targets
from nets.postprocess import postprocess
from nets.ssd import SSD300
from nets.tasks import DetectionTask, DistillTask
from nets.tasks.frozen import frozen
from utils.data.augment import resize
from utils.data.store import Store
from utils.engine.evaluation import channels_last, evaluate
from utils.metrics.evaluator import Evaluator
from utils.runtime.device import Precision, choose_precision, native_bf16

# Candidates (scores above 0.01) of an image that a trained detector has; see `calibrate`.
CANDIDATES = 1000


def steps() -> Iterator[Row]:
    """A distillation step over what it cannot do without, and a teacher's forward by itself."""
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
            distilled.teacher(images)

    yield compare(
        "distillation beside its parts",
        "distillation step, resnet34 -> mobilenetv2 (8)",
        lambda: step(distilled),
        "student's step + teacher's forward",
        floor,
        repeats=5,
    )
    for name, spec in (("resnet18", "resnet18(width=0.25)"), ("resnet34", "resnet34")):
        yield from frozen_teacher(name, spec, images)


def frozen_teacher(name: str, spec: str, images: Tensor) -> Iterator[Row]:
    """The forward of a teacher as it is asked now, beside how `THEN` asked it and not frozen."""
    model = SSD300(spec).to(memory_format=torch.channels_last).eval()
    teacher = frozen(model)
    precision = choose_precision(torch.device("cpu"), "bf16" if native_bf16() else "off")

    def forward(asked: nn.Module, amp: bool = True) -> None:
        with torch.no_grad(), precision.autocast() if amp else nullcontext():
            asked(images)

    now = f"{spec} as a teacher ({precision.record()['dtype']}, {len(images)})"
    yield compare(
        f"teacher {name}",
        now,
        lambda: forward(teacher),
        f"as {THEN} asked it (float32)",
        lambda: forward(model, amp=False),
    )
    yield compare(
        f"frozen {name}",
        now,
        lambda: forward(teacher),
        "the same arithmetic, norms apart",
        lambda: forward(model),
    )


def evaluation(folder: Path) -> Iterator[Row]:
    """A split whose images give as many candidates as those of a trained detector."""
    model = SSD300("mobilenetv2").to(memory_format=torch.channels_last).eval()
    store = Store(scenes.drawn_samples(folder, 32), torch.device("cpu"), cache="ram")
    batches = [
        channels_last(resize(b.images, b.sizes, b.targets)[0])
        for b in store.batches(torch.arange(len(store)).split(8))
    ]
    background = calibrate(model, batches[0])

    def predict(shown: Tensor, objects: Targets) -> object:
        del objects
        outputs = model(shown)
        outputs.logits[..., 0] += background
        return {}, postprocess(outputs, model.priors)

    def whole_split() -> None:
        evaluate(predict, store, Evaluator(scenes.NAMES), Precision(torch.device("cpu")), 8)

    def forward_alone() -> None:
        with torch.inference_mode():
            for images in batches:
                model(images)

    yield compare(
        "evaluation",
        f"evaluation, mobilenetv2 (32, {CANDIDATES} candidates each)",
        whole_split,
        "network's forward alone",
        forward_alone,
        repeats=5,
    )


@torch.inference_mode()
def calibrate(model: SSD300, images: Tensor) -> float:
    """What to add to the background's logits so that `CANDIDATES` scores of an image stay.

    An untrained network calls everything everything: all 8732 x 20 scores would be candidates.
    """
    outputs: Outputs = model(images)
    low, high = 0.0, 50.0
    for _ in range(20):
        middle = (low + high) / 2
        logits = outputs.logits.clone()
        logits[..., 0] += middle
        many = (logits.softmax(-1)[..., 1:] > 0.01).sum() > CANDIDATES * len(images)
        low, high = (middle, high) if many else (low, middle)
    return high
