"""Training steps, from images in memory to averaged weights, beside the project as it was."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from benchmarks import scenes
from benchmarks.served.client import THEN, Training, Worker, earlier_tree
from benchmarks.timing import Row, medians

STEPS, BATCH = 4, 8  # an epoch; of VOC's images and number of classes
NETWORKS = (
    ("resnet18", "resnet18(width=0.125)", "resnet18(width=0.25)"),
    ("mobilenetv2", "mobilenetv2(width=0.35)", "resnet18(width=0.25)"),
)
ROUNDS = 7


def training(folder: Path, threads: int) -> Iterator[Row]:
    """Students alone and distilled; in the arithmetic that `--amp auto` chooses, and in float32."""
    scenes.voc_size_devkit(folder, STEPS * BATCH)
    then = earlier_tree(folder)
    if then is None:
        print(
            f"this clone has no commit {THEN} (git fetch --unshallow brings it): no row beside it"
        )
        return
    for name, student, teacher in NETWORKS:
        for manner in ("alone", "distilled"):
            wanted = Training(
                str(folder / scenes.DEVKIT),
                student,
                teacher if manner == "distilled" else "",
                batch_size=BATCH,
                threads=threads,
            )
            yield from step_rows(f"step of {name} {manner}", wanted, then)


def step_rows(name: str, wanted: Training, then: Path) -> Iterator[Row]:
    """One step, `--amp auto` and, where that is another arithmetic, `--amp off`."""
    work = f"{wanted.teacher} -> {wanted.student}".removeprefix(" -> ")
    with ExitStack() as stack:
        old, auto = (stack.enter_context(Worker(wanted, tree)) for tree in (then, None))
        workers = [old, auto]
        if auto.arithmetic != "float32":
            workers.append(stack.enter_context(Worker(wanted._replace(amp="off"))))
        before, *now = medians(*(worker.milliseconds for worker in workers), repeats=ROUNDS)
        for worker, took in zip(workers[1:], now, strict=True):
            row = Row(name, f"{work} ({worker.arithmetic})", f"{THEN} (float32)", took, before)
            # Only what users get by default has to reach something.
            yield row if worker is auto else row._replace(name=f"{name}, amp off")
