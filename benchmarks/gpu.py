"""Everything that is claimed about GPUs, in one call; see gpu.sh.

python -m benchmarks.gpu --json benchmarks/results/NAME.json [--tiny]
"""

import argparse
import datetime
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torchvision

from benchmarks import scenes
from benchmarks.timing import compare, synchronize
from nets.inference import detect
from nets.multibox_loss import MultiBoxLoss
from nets.multibox_loss_kd import MultiBoxLoss_KD
from nets.outputs import Outputs
from nets.postprocess import postprocess
from nets.priors import prior_boxes
from nets.ssd import SSD300
from nets.tasks import DetectionTask, DistillTask
from utils.augment import resize
from utils.config import TrainConfig
from utils.device import Precision, choose_device
from utils.engine import Task, Trainer, channels_last
from utils.report import cost
from utils.store import Store
from utils.voc import Sample

KD_WEIGHTS = {"soft": 0.3, "conf": 0.7, "l2": 0.5, "loc": 1.0}


def seconds(work: Callable[[], object], repeats: int) -> float:
    """Median wall time of `work`, the device included, after one warm-up."""
    times = []
    for repeat in range(repeats + 1):
        synchronize()
        started = time.perf_counter()
        work()
        synchronize()
        if repeat:
            times.append(time.perf_counter() - started)
    return statistics.median(times)


def matrix_rate(device: torch.device, size: int) -> float:
    """Measured bf16 matrix products, FLOP/s."""
    a, b = (torch.randn(size, size, device=device).bfloat16() for _ in range(2))
    return 2 * size**3 / seconds(lambda: a @ b, 10)


def training(
    task: Task, samples: list[Sample], device: torch.device, batch: int, **options: Any
) -> dict[str, float]:
    """Images per second of whole epochs (store, augmentation, loss, optimiser) and peak memory.

    Options: `dtype`, `compile`, `cache`, `workers`.
    """
    config = TrainConfig(epochs=4, batch_size=batch, compile=options.get("compile", False))
    store = Store(
        samples, device, cache=options.get("cache", "auto"), workers=options.get("workers", 8)
    )
    precision = Precision(device, options.get("dtype"))
    trainer = Trainer(task.to(device), store, replace(config, log_every=10**6), precision)
    trainer.train_one_epoch()  # compiles, warms up
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    images = trainer.steps_per_epoch * batch
    rate = images / seconds(trainer.train_one_epoch, 2)
    peak = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else float("nan")
    return {"images_per_second": rate, "peak_GiB": peak, "batch": batch}


def torchvision_training(device: torch.device, batch: int, dtype: torch.dtype | None) -> float:
    """Images per second of torchvision's own SSD300 training step on ready tensors."""
    model = torchvision.models.detection.ssd300_vgg16(
        weights=None, weights_backbone=None, num_classes=21
    ).to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)
    boxes, labels = scenes.random_targets(batch).to(device)
    listed = [{"boxes": b * 300, "labels": n} for b, n in zip(boxes, labels, strict=True)]
    images = list(torch.rand(batch, 3, 300, 300, device=device))

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with Precision(device, dtype).autocast():
            loss = sum(model(images, listed).values())
        loss.backward()
        optimizer.step()

    return batch / seconds(step, 5)


def idle_share(work: Callable[[], object]) -> float:
    """The part of the wall time in which no kernel runs, by the profiler."""
    from torch.profiler import ProfilerActivity, profile

    work()
    synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        started = time.perf_counter()
        work()
        synchronize()
        wall = time.perf_counter() - started
    busy = sum(event.self_device_time_total for event in profiler.key_averages()) / 1e6
    return max(0.0, 1 - busy / wall)


def waits_in_step(trainer: Trainer, batches: Iterable[Any]) -> int:
    """How many times a training step makes the CPU wait for the GPU; 0 is the goal."""
    import warnings

    images, targets = next(iter(batches))
    trainer.step(images, targets)
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            trainer.step(images, targets)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in caught)


def inference(model: SSD300, device: torch.device, batch: int) -> float:
    """Images per second of network and post-processing in bf16 on a GPU, float32 on a CPU."""
    model = model.to(device, memory_format=torch.channels_last).eval()
    images = channels_last(torch.rand(batch, 3, 300, 300, device=device) * 255)
    dtype = torch.bfloat16 if device.type == "cuda" else None
    with Precision(device, dtype).autocast():
        return batch / seconds(lambda: detect(model, images), 10)


def postprocess_ratio(outputs: Outputs, device: torch.device) -> dict[str, float]:
    """Milliseconds of our post-processing and of torchvision's, on the same raw outputs."""
    outputs = Outputs((), outputs.logits.to(device), outputs.offsets.to(device))
    priors = prior_boxes().to(device)
    with torch.no_grad():
        row = compare(
            "", lambda: postprocess(outputs, priors), "",
            lambda: scenes.torchvision_postprocess(outputs), "", repeats=5,
        )  # fmt: skip
    return {"ours_ms": row.ours, "torchvision_ms": row.other, "ratio": row.ratio}


def step_facts(
    task: Task, samples: list[Sample], device: torch.device, batch: int
) -> dict[str, float]:
    """GPU idle time of an epoch, and how often a step makes the CPU wait."""
    config = TrainConfig(epochs=4, batch_size=batch, log_every=10**6)
    store = Store(samples, device)
    trainer = Trainer(task.to(device), store, config, Precision(device, torch.bfloat16))
    idle = idle_share(trainer.train_one_epoch)
    some = next(store.batches([torch.arange(batch)]))
    batches = [resize(some.images, some.sizes, some.targets)]
    return {"gpu_idle_share": idle, "waits_in_step": waits_in_step(trainer, batches)}


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", required=True)
    parser.add_argument("--tiny", action="store_true", help="small sizes, to test the script")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    device, tiny = choose_device(options.device), options.tiny
    bf16 = torch.bfloat16 if device.type == "cuda" else None
    torch.backends.cudnn.benchmark = True
    vgg, r50, r18, mobile = (
        ["resnet18(width=0.125)"] * 4 if tiny else ["vgg16", "resnet50", "resnet18", "mobilenetv2"]
    )
    batch = 2 if tiny else 128
    result: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
    }

    def note(name: str, value: object) -> None:
        result[name] = value
        print(f"{name}: {value}", flush=True)
        Path(options.json).write_text(json.dumps(result, indent=1) + "\n")

    def alone(spec: str) -> DetectionTask:
        return DetectionTask(SSD300(spec), MultiBoxLoss(), {"conf": 1, "loc": 1})

    def distilled(student: str, teacher: str) -> DistillTask:
        network = SSD300(teacher).to(device, memory_format=torch.channels_last)
        return DistillTask(SSD300(student), network, MultiBoxLoss_KD(), KD_WEIGHTS)

    with tempfile.TemporaryDirectory() as temporary:
        samples = scenes.drawn_samples(Path(temporary), 8 if tiny else 512)
        samples = samples * (1 if tiny else 8)
        rate = matrix_rate(device, 256 if tiny else 8192)
        note("bf16_matrix_tflops", rate / 1e12)
        flop = 3 * 1e9 * cost(SSD300(vgg))["gflops"]
        note("training_gflop_per_image", flop / 1e9)
        for name, extra in (
            ("train_vgg16_bf16_compiled", {"dtype": bf16, "compile": not tiny}),
            ("train_vgg16_bf16", {"dtype": bf16}),
            ("train_vgg16_fp32", {}),
            ("train_vgg16_bf16_streamed", {"dtype": bf16, "cache": "none", "workers": 16}),
        ):
            found = training(alone(vgg), samples, device, batch, **extra)
            note(name, found | {"share_of_matrix_rate": found["images_per_second"] * flop / rate})
        note("train_torchvision_bf16", torchvision_training(device, batch, bf16))
        pairs = (("vgg16_to_mobilenetv2", mobile, vgg), ("resnet50_to_resnet18", r18, r50))
        for name, student, teacher in pairs:
            task = distilled(student, teacher)
            extra = {"dtype": bf16, "compile": not tiny}
            note(f"distil_{name}", training(task, samples, device, batch, **extra))
            note(f"alone_{name}", training(alone(student), samples, device, batch, **extra))
        for size in (1, 2) if tiny else (1, 8, 64, 256):
            note(f"inference_vgg16_batch_{size}", inference(SSD300(vgg), device, size))
        outputs = scenes.random_outputs(2 if tiny else 32, background=7.5)
        note("postprocess", postprocess_ratio(outputs, device))
        if device.type == "cuda":
            note("step", step_facts(alone(vgg), samples, device, batch))


if __name__ == "__main__":
    main()
