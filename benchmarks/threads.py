"""How a CPU's cores are best shared: as many runs as cores, or one run of as many threads?

python -m benchmarks.threads [--cores N]
"""

import argparse
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from benchmarks import scenes
from benchmarks.served.client import Training, Worker
from benchmarks.training import BATCH, NETWORKS, ROUNDS, STEPS


def main() -> None:
    """Prints the images per second of both, in turn, for each of the students under a teacher."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cores", type=int, default=2, help="cores to share")
    cores = parser.parse_args().cores
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        scenes.drawn_samples(folder, STEPS * BATCH)
        for _, student, teacher in NETWORKS:
            alone = Training(str(folder / scenes.DEVKIT), student, teacher, batch_size=BATCH)
            with ExitStack() as stack:
                several = [stack.enter_context(Worker(alone)) for _ in range(cores)]
                one = [stack.enter_context(Worker(alone._replace(threads=cores)))]
                rounds = [(rate(several), rate(one)) for _ in range(ROUNDS + 1)][1:]
            apart, together = map(statistics.median, zip(*rounds, strict=True))
            print(
                f"{teacher} -> {student}: {cores} runs of one thread {apart:.1f} images/s, "
                f"one run of {cores} threads {together:.1f}; {apart / together:.2f} times as many"
            )


def rate(workers: list[Worker]) -> float:
    """Images per second of all of them together, over an epoch of each, at the same time."""
    started = time.perf_counter()
    for worker in workers:
        worker.ask()
    for worker in workers:
        worker.answer()
    return len(workers) * STEPS * BATCH / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
