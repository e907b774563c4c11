"""A distillation step whose teacher is read, beside the student's own step."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import torch
from torch import nn

from benchmarks import scenes
from benchmarks.timing import Row, medians
from nets.memo.asking import Asked
from nets.memo.record import AnswerRecord
from nets.multibox_loss import MultiBoxLoss
from nets.multibox_loss_kd import MultiBoxLoss_KD
from nets.ssd import SSD300
from nets.tasks import DetectionTask, DistillTask
from utils.config import TrainConfig
from utils.data.store import Store
from utils.data.voc import read_classes, read_split
from utils.engine.memo import Memo
from utils.engine.task import Task
from utils.engine.trainer import Trainer
from utils.runtime.device import Precision

STEPS, BATCH, CLASSES = 4, 8, 20
REPEATS, WARM_UPS = 5, 2
EPOCHS, VIEWS = 60, 20  # of a run whose teacher is asked about each view once
PAIRS = (
    ("resnet18", "resnet18(width=0.125)", "resnet18(width=0.25)"),
    ("mobilenetv2", "mobilenetv2", "resnet34"),
)
CPU = torch.device("cpu")


def memo_rows(folder: Path) -> Iterator[Row]:
    """Steps from images in memory to weights: reading, decoding and listening included."""
    scenes.voc_size_devkit(folder, STEPS * BATCH)
    devkit = folder / scenes.DEVKIT
    names = read_classes(devkit / "VOC2007/classes.txt")
    samples, _ = read_split(devkit, ["VOC2007/train"], names)
    store = Store(samples, CPU, cache="ram")
    for name, student, teacher in PAIRS:
        torch.manual_seed(0)
        alone = DetectionTask(SSD300(student, CLASSES), MultiBoxLoss(), {"conf": 1, "loc": 1})
        network, record = SSD300(student, CLASSES), AnswerRecord("paper", CLASSES)
        weights = {"soft": 0.3, "conf": 0.7, "l2": 0.5, "loc": 1.0}
        taught = DistillTask(network, record, MultiBoxLoss_KD(temperature=2.0), weights)
        load = SSD300(teacher, CLASSES).eval
        asked = Asked(load, lambda _: nn.Identity(), network.priors, record, Precision(CPU))
        full, growing = folder / name, folder / f"{name}, growing"
        for place in (full, growing):
            place.mkdir()
        with (
            closing(Memo(full, len(store), 1, record.size, asked, CPU)) as one_view,
            # An epoch shows each image one view further, so no view comes twice in what follows.
            closing(Memo(growing, len(store), REPEATS + WARM_UPS, record.size, asked, CPU)) as new,
        ):
            clocks = [epochs(taught, store, one_view), epochs(alone, store)]
            clocks.append(epochs(taught, store, new))
            read, own, filled = medians(*clocks, repeats=REPEATS, warm_ups=WARM_UPS)
        pair = f"{teacher} -> {student}"
        work = f"step from a full memo, {pair} ({BATCH})"
        yield Row(f"memo, {name}", work, "the student's own step", read, own)
        whole = (VIEWS * filled + (EPOCHS - VIEWS) * read) / EPOCHS
        work = f"{EPOCHS} epochs, {VIEWS} views, a step's share, {pair}"
        yield Row(f"memo, filled by {name}", work, "the student's own step", whole, own)


def epochs(task: Task, store: Store, memo: Memo | None = None) -> Callable[[], float]:
    """A function that trains for an epoch and returns the milliseconds of a step."""
    config = TrainConfig(
        batch_size=BATCH, epochs=10**4, optimizer="adamw", ema=0.99, ledger_every=0, workers=1
    )
    trainer = Trainer(task, store, config, Precision(CPU), memo)

    def epoch() -> float:
        started = time.perf_counter()
        trainer.train_one_epoch()
        return 1000 * (time.perf_counter() - started) / trainer.steps_per_epoch

    return epoch
