"""Everything that is claimed about GPUs, in one call; see ../gpu.sh.

python -m benchmarks.gpu --json benchmarks/results/NAME.json [--tiny] [--no-tests]

First the tests that need a GPU, then the measurements. The exit status is 1 where a test fails.
"""

import argparse
import datetime
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import torchvision

from benchmarks import scenes
from benchmarks.gpu import measure
from benchmarks.gpu.tests import outcome
from nets.multibox_loss import MultiBoxLoss
from nets.multibox_loss_kd import MultiBoxLoss_KD
from nets.ssd import SSD300
from nets.tasks import DetectionTask, DistillTask
from utils.runtime.device import choose_device, device_name, let_cudnn_try
from utils.show.report import cost

KD_WEIGHTS = {"soft": 0.3, "conf": 0.7, "l2": 0.5, "loc": 1.0}


def main() -> int:
    """Tests, measures, prints and writes; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", required=True)
    parser.add_argument("--tiny", action="store_true", help="small sizes, to test the script")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--no-tests", action="store_true", help="measure only")
    options = parser.parse_args()
    device, tiny = choose_device(options.device), options.tiny
    bf16 = torch.bfloat16 if device.type == "cuda" else None
    let_cudnn_try(device)
    vgg, r50, r18, mobile = (
        ["resnet18(width=0.125)"] * 4 if tiny else ["vgg16", "resnet50", "resnet18", "mobilenetv2"]
    )
    batch = 2 if tiny else 128
    result: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "device": device_name(device),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
    }

    def note(name: str, value: object) -> None:
        result[name] = value
        print(f"{name}: {value}", flush=True)
        Path(options.json).write_text(json.dumps(result, indent=1) + "\n")

    if not options.no_tests:
        note("tests", outcome())

    def alone(spec: str) -> DetectionTask:
        return DetectionTask(SSD300(spec), MultiBoxLoss(), {"conf": 1, "loc": 1})

    def distilled(student: str, teacher: str) -> DistillTask:
        network = SSD300(teacher).to(device, memory_format=torch.channels_last)
        return DistillTask(SSD300(student), network, MultiBoxLoss_KD(), KD_WEIGHTS)

    with tempfile.TemporaryDirectory() as temporary:
        samples = scenes.drawn_samples(Path(temporary), 8 if tiny else 512)
        samples = samples * (1 if tiny else 8)
        rate = measure.matrix_rate(device, 256 if tiny else 8192)
        note("bf16_matrix_tflops", rate / 1e12)
        flop = 3 * 1e9 * cost(SSD300(vgg))["gflops"]
        note("training_gflop_per_image", flop / 1e9)
        for name, extra in (
            ("train_vgg16_bf16_compiled", {"dtype": bf16, "compile": not tiny}),
            ("train_vgg16_bf16", {"dtype": bf16}),
            ("train_vgg16_fp32", {}),
            ("train_vgg16_bf16_streamed", {"dtype": bf16, "cache": "none", "workers": 16}),
        ):
            found = measure.training(alone(vgg), samples, device, batch, **extra)
            note(name, found | {"share_of_matrix_rate": found["images_per_second"] * flop / rate})
        note("train_torchvision_bf16", measure.torchvision_training(device, batch, bf16))
        pairs = (("vgg16_to_mobilenetv2", mobile, vgg), ("resnet50_to_resnet18", r18, r50))
        for name, student, teacher in pairs:
            task = distilled(student, teacher)
            extra = {"dtype": bf16, "compile": not tiny}
            note(f"distil_{name}", measure.training(task, samples, device, batch, **extra))
            own = measure.training(alone(student), samples, device, batch, **extra)
            looking = measure.forward_rate(SSD300(teacher), device, batch)
            floor = 1 / (1 / own["images_per_second"] + 1 / looking)
            note(f"floor_{name}", {"alone": own, "teacher": looking, "images_per_second": floor})
        for size in (1, 2) if tiny else (1, 8, 64, 256):
            note(f"inference_vgg16_batch_{size}", measure.inference(SSD300(vgg), device, size))
        outputs = scenes.random_outputs(2 if tiny else 32, background=7.5)
        note("postprocess", measure.postprocess_ratio(outputs, device))
        if device.type == "cuda":
            for compiled in (False, True):
                facts = measure.step_facts(alone(vgg), samples, device, batch, compiled)
                note("step_compiled" if compiled else "step", facts)
    return int("failed" in result.get("tests", {}))


if __name__ == "__main__":
    sys.exit(main())
