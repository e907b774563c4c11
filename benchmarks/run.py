"""`make bench`: every part of the pipeline beside another way to do the same work, one table.

python -m benchmarks.run [--threads N] [--json FILE]

Ratios are medians of interleaved runs in one process. Absolute times depend on the machine and on
what else it does; compare ratios.
"""

import argparse
import datetime
import json
import platform
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
import torchvision

from benchmarks import data, kernels, memory, steps
from benchmarks.ap import ap_rows
from benchmarks.timing import Row


def main() -> None:
    """Prints the table and, where asked, writes it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1, help="torch's threads")
    parser.add_argument("--json", help="write the rows to this file")
    parser.add_argument("--only", help="parts, e.g. losses inference", nargs="+")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        parts: dict[str, Callable[[], Iterator[Row]]] = {
            "reading": lambda: data.reading(folder),
            "losses": kernels.losses,
            "inference": kernels.inference,
            "ap": ap_rows,
            "steps": steps.steps,
            "evaluation": lambda: steps.evaluation(folder),
            "memory": memory.memory_rows,
        }
        table = []
        print(f"{'work':46} {'beside':36} {'ours':>9} {'other':>9} {'ratio':>6}  reach")
        for name, part in parts.items():
            if options.only and name not in options.only:
                continue
            for row in part():
                table.append(row)
                print(row.line(), flush=True)
    machine = {
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.processor() or platform.machine()}, {options.threads} thread(s)",
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "numpy": np.__version__,
    }
    print(", ".join(f"{k} {v}" for k, v in machine.items()))
    if options.json:
        rows = [row._asdict() | {"ratio": row.ratio} for row in table]
        Path(options.json).write_text(json.dumps({**machine, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
