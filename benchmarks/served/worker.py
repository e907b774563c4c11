"""The process that trains: python worker.py TREE SETTINGS, started by `benchmarks.served.client`.

It imports the project from TREE, be it this one or that of `client.THEN`; so it names modules by
both their names and uses nothing that one of the two does not have. SETTINGS is the JSON of a
`client.Training`. Its first line says what it computes in; then it answers every line of its input
with the milliseconds of a step.
"""

import json
import sys
import time
from contextlib import redirect_stdout, suppress
from importlib import import_module
from typing import Any

VOC_CLASSES = 20


def main() -> None:
    """Answers until its input ends."""
    tree, settings = sys.argv[1], json.loads(sys.argv[2])
    sys.path[0] = tree  # in place of this file's folder
    train = training(**settings)
    for _ in sys.stdin:
        print(train(), flush=True)


def module(*names: str) -> Any:
    """The first of these modules that the tree has; None where it has none."""
    for name in names:
        with suppress(ModuleNotFoundError):
            return import_module(name)
    return None


def training(
    devkit: str, student: str, teacher: str, amp: str, batch_size: int, threads: int
) -> Any:
    """A function that trains for an epoch, as a run does; it returns the milliseconds of a step."""
    import cv2
    import torch

    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    torch.manual_seed(0)
    if memory := module("utils.runtime.memory"):  # as `utils.cli` starts every script
        memory.keep_freed_memory()
    cpu = torch.device("cpu")
    voc = module("utils.data.voc", "utils.voc")
    classes = voc.read_classes(f"{devkit}/VOC2007/classes.txt")
    samples, _ = voc.read_split(devkit, ["VOC2007/train"], classes)
    config = module("utils.config").TrainConfig(
        backbone=student,
        batch_size=batch_size,
        epochs=10**4,
        optimizer="adamw",
        ema=0.99,
        ledger_every=0,  # measured every 100 steps by default: too seldom for this
        amp=amp,
    )
    precision = module("utils.runtime.device", "utils.device").choose_precision(cpu, amp)
    store = module("utils.data.store", "utils.store").Store(samples, cpu, cache="ram")
    task = objective(student, teacher, VOC_CLASSES)
    trainer = module("utils.engine.trainer", "utils.trainer").Trainer(
        task, store, config, precision
    )
    if found := module("utils.engine.rehearsal"):  # what `--amp auto` is decided by
        with redirect_stdout(sys.stderr):  # older versions print what they find
            found.choose_arithmetic(trainer)
    print(str(trainer.precision.dtype or torch.float32).removeprefix("torch."), flush=True)

    def epoch() -> float:
        started = time.perf_counter()
        trainer.train_steps()
        trainer.next_epoch()
        return 1000 * (time.perf_counter() - started) / trainer.steps_per_epoch

    return epoch


def objective(student: str, teacher: str, classes: int) -> Any:
    """The task of training `student` alone, or under `teacher` where one is named."""
    import torch

    from nets.multibox_loss import MultiBoxLoss
    from nets.multibox_loss_kd import MultiBoxLoss_KD
    from nets.ssd import SSD300
    from nets.tasks import DetectionTask, DistillTask

    model = SSD300(student, classes)
    if not teacher:
        return DetectionTask(model, MultiBoxLoss(), {"conf": 1.0, "loc": 1.0})
    master = SSD300(teacher, classes).to(memory_format=torch.channels_last)
    weights = {"soft": 0.3, "conf": 0.7, "l2": 0.5, "loc": 1.0}
    return DistillTask(model, master, MultiBoxLoss_KD(temperature=2.0), weights)


if __name__ == "__main__":
    main()
