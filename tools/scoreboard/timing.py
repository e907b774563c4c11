"""How long a network takes for one image, as it will run: network and post-processing."""

import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from nets.detect import detect
from nets.saved import load_detector
from utils.data.augment import IMAGE_SIZE
from utils.runtime.device import choose_device

WARM_UP = 3


def latencies(
    networks: Mapping[str, Path], device_name: str, runs: int, class_names: Sequence[str] = ()
) -> dict[str, float]:
    """Milliseconds for a batch of one, the median of `runs`, by name, as `get_map.py` detects.

    The networks take turns, so that what else the machine does meets all of them alike.

    Args:
        networks: their files by name.
        device_name: see `choose_device`.
        runs: how often each is asked.
        class_names: for networks of other projects, which know none.
    """
    device = choose_device(device_name)
    models = {}
    for name, path in networks.items():
        model, _, precision = load_detector(path, device, class_names=class_names)
        models[name] = model.to(memory_format=torch.channels_last), precision
    generator = torch.Generator().manual_seed(0)
    image = 255 * torch.rand(1, 3, IMAGE_SIZE, IMAGE_SIZE, generator=generator).to(device)
    image = image.contiguous(memory_format=torch.channels_last)
    times: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(WARM_UP + runs):
        for name, (model, precision) in models.items():
            started = time.perf_counter()
            with precision.autocast():
                detect(model, image)[1].cpu()  # waits for the device
            times[name].append(1000 * (time.perf_counter() - started))
    return {name: statistics.median(values[WARM_UP:]) for name, values in times.items()}
