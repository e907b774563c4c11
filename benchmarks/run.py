"""`make bench`: every part of the pipeline beside another way to do the same work, one table.

python -m benchmarks.run [--threads N] [--json [FILE]] [--only PART ...]

Ratios are of medians of runs in turn. Times depend on the machine and on what else it does; compare
ratios. The exit status is 1 where a reach is missed.
"""

import argparse
import datetime
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
import torchvision

from benchmarks import ap, data, distillers, kernels, memo, memory, steps, training
from benchmarks.reaches import REACHES
from benchmarks.timing import HEAD, Row
from utils.runtime.device import device_name
from utils.runtime.memory import keep_freed_memory

RESULTS = "benchmarks/results/cpu.json"
PARTS: dict[str, Callable[[Path, int], Iterator[Row]]] = {
    "training": training.training,
    "reading": lambda folder, _: data.reading(folder),
    "losses": lambda *_: kernels.losses(),
    "inference": lambda *_: kernels.inference(),
    "ap": lambda *_: ap.ap_rows(),
    "steps": lambda *_: steps.steps(),
    "memo": lambda folder, _: memo.memo_rows(folder),
    "distillers": lambda *_: distillers.distillers(),
    "evaluation": lambda folder, _: steps.evaluation(folder),
    "memory": lambda _, threads: memory.memory_rows(threads),
}


def main() -> int:
    """Prints the table and, where asked, writes it; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1, help="threads of each process")
    parser.add_argument("--json", nargs="?", const=RESULTS, help=f"also write it, to {RESULTS}")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts to measure")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()  # page faults are as much of a burden to either side as the machine is busy
    print(HEAD)
    table = []
    for name in options.only:
        torch.manual_seed(0)
        with tempfile.TemporaryDirectory() as temporary:
            for row in PARTS[name](Path(temporary), options.threads):
                table.append(row)
                print(row.line(), flush=True)
    facts = {
        "date": datetime.date.today().isoformat(),
        "machine": f"{device_name(torch.device('cpu'))}, {options.threads} thread(s)",
        **{m.__name__: m.__version__ for m in (torch, torchvision, np, cv2)},
    }
    print(", ".join(f"{k} {v}" for k, v in facts.items()))
    if options.json:
        rows = [
            {**row._asdict(), "ratio": row.ratio, "reach": row.reach, "verdict": row.verdict}
            for row in table
        ]
        Path(options.json).write_text(json.dumps({**facts, "rows": rows}, indent=1) + "\n")
    missed = [row.name for row in table if row.verdict == "MISSED"]
    absent = REACHES.keys() - {row.name for row in table} if options.only is PARTS else set()
    for what, names in (("missed", missed), ("not measured", sorted(absent))):
        if names:
            print(f"{what}: {', '.join(names)}")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
