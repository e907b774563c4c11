"""What gpu.py measures: rates, peak memory, idle time and waits of one piece of work each."""

import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torchvision

from benchmarks import scenes
from benchmarks.steps import calibrate
from benchmarks.timing import compare, synchronize
from nets.outputs import Outputs
from nets.postprocess import postprocess
from nets.priors import prior_boxes
from nets.ssd import SSD300
from utils.config import TrainConfig
from utils.data.store import Store
from utils.data.voc import Sample
from utils.engine.evaluation import channels_last
from utils.engine.task import Task
from utils.engine.trainer import Trainer
from utils.runtime.device import Precision


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
) -> dict[str, Any]:
    """Images per second of whole epochs (store, augmentation, loss, optimiser) and peak memory.

    Options: `dtype`, `compile`, `cache`, `workers`.
    """
    config = TrainConfig(epochs=4, batch_size=batch, compile=options.get("compile", False))
    store = Store(
        samples,
        device,
        cache=options.get("cache", "auto"),
        workers=options.get("workers", 8),
        fixed_objects=config.compile,
    )
    precision = Precision(device, options.get("dtype"))
    trainer = Trainer(task.to(device), store, replace(config, log_every=10**6), precision)
    trainer.train_one_epoch()  # compiles, warms up
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    images = trainer.steps_per_epoch * batch
    rate = images / seconds(trainer.train_one_epoch, 2)
    peak = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else float("nan")
    return {"images_per_second": rate, "peak_GiB": peak, "batch": batch, "store": store.reason}


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


def waits_in_step(trainer: Trainer) -> int:
    """How many times a training step makes the CPU wait for the GPU; 0 is the goal.

    From the batch in the store to the updated weights, augmentation included.
    """
    order = [torch.arange(trainer.config.batch_size)] * 2
    first, second = trainer.store.batches(order)
    trainer.step(trainer.shown(first, 0))
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            trainer.step(trainer.shown(second, 0))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in caught)


def inference(model: SSD300, device: torch.device, batch: int) -> dict[str, float]:
    """Network and post-processing in bf16 on a GPU, float32 on a CPU: images/s and ms a batch."""
    model = model.to(device, memory_format=torch.channels_last).eval()
    images = channels_last(torch.rand(batch, 3, 300, 300, device=device) * 255)
    dtype = torch.bfloat16 if device.type == "cuda" else None
    with torch.no_grad(), Precision(device, dtype).autocast():
        background = calibrate(model, images[:8])

        def work() -> None:
            outputs = model(images)
            outputs.logits[..., 0] += background
            postprocess(outputs, model.priors)

        took = seconds(work, 10)
    return {"images_per_second": batch / took, "latency_ms": 1000 * took}


def forward_rate(model: SSD300, device: torch.device, batch: int) -> float:
    """Images per second of a network's forward alone, as a teacher's: bf16 on a GPU."""
    model = model.to(device, memory_format=torch.channels_last).eval()
    images = channels_last(torch.rand(batch, 3, 300, 300, device=device) * 255)
    dtype = torch.bfloat16 if device.type == "cuda" else None
    with torch.no_grad(), Precision(device, dtype).autocast():
        return batch / seconds(lambda: model(images), 10)


def postprocess_ratio(outputs: Outputs, device: torch.device) -> dict[str, float]:
    """Milliseconds of our post-processing and of torchvision's, on the same raw outputs."""
    outputs = Outputs((), outputs.logits.to(device), outputs.offsets.to(device))
    priors = prior_boxes().to(device)
    with torch.no_grad():
        row = compare(
            "", "", lambda: postprocess(outputs, priors), "",
            lambda: scenes.torchvision_postprocess(outputs), repeats=5,
        )  # fmt: skip
    return {"ours_ms": row.ours, "torchvision_ms": row.other, "ratio": row.ratio}


def step_facts(
    task: Task, samples: list[Sample], device: torch.device, batch: int, compiled: bool
) -> dict[str, float]:
    """GPU idle time of an epoch, and how often a step makes the CPU wait."""
    config = TrainConfig(epochs=4, batch_size=batch, log_every=10**6, compile=compiled)
    store = Store(samples, device, fixed_objects=compiled)
    trainer = Trainer(task.to(device), store, config, Precision(device, torch.bfloat16))
    idle = idle_share(trainer.train_one_epoch)
    return {"gpu_idle_share": idle, "waits_in_step": waits_in_step(trainer)}
