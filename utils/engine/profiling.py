"""Where the time of a training step goes."""

from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from utils.engine.trainer import Trainer

WARM_UP, STEPS = 3, 8
PARTS = ("load", "augment", "network and loss", "backward", "optimiser")


def profile_steps(trainer: Trainer, folder: Path) -> str:
    """Runs some training steps under the profiler; writes `trace.json` (for Perfetto).

    Returns:
        The time of each part of a step and the five most expensive operations, for the terminal.
    """
    trainer.task.train()
    steps = iter(range(WARM_UP + STEPS))
    batches = trainer.store.batches(map(trainer.order.indices, range(WARM_UP + STEPS)))
    cuda = trainer.precision.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    for _ in range(WARM_UP):
        trainer.step(trainer.shown(next(batches), next(steps)))
    # There is one cycle; without acc_events some versions of torch warn of losing those before it.
    with profile(activities=activities, acc_events=True) as profiler:
        for _ in range(STEPS):
            with record_function("load"):
                batch = next(batches)
            trainer.step(trainer.shown(batch, next(steps)))
        if cuda:
            torch.cuda.synchronize()
    folder.mkdir(parents=True, exist_ok=True)
    profiler.export_chrome_trace(str(folder / "trace.json"))
    events = profiler.key_averages()
    lines = [f"{STEPS} steps of {trainer.config.batch_size} images; trace: {folder}/trace.json"]
    for event in events:
        if event.key in PARTS:
            lines.append(
                f"{event.key:40} {event.cpu_time_total / STEPS / 1000:9.2f} ms of CPU a step"
            )

    def own_time(event: torch.autograd.profiler_util.FunctionEventAvg) -> float:
        return float(event.self_device_time_total if cuda else event.self_cpu_time_total)

    for event in sorted(events, key=own_time, reverse=True)[:5]:
        place = "GPU" if cuda else "CPU"
        lines.append(
            f"{event.key[:40]:40} {own_time(event) / STEPS / 1000:9.2f} ms of {place} a step"
        )
    return "\n".join(lines)
