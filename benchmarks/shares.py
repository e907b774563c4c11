"""Whether the shares of `--share` hold over a run, and what that costs.

python -m benchmarks.shares OUT.json DISTILLER [DISTILLER ...] -- FLAGS OF train_kd.py

Trains a student with each distiller in turn, which is to have a fifth of the gradient, and the soft
targets three tenths. The weights follow when they would in any run of train_kd.py; but the shares
are read off in every third step, and so not only where the weights are made to follow them.
"""

import datetime
import json
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from nets.stages import train_student
from nets.tasks.loudness import Loudness
from tools.jobs import script, split_passed, typed
from utils.cli import parse_arguments
from utils.config import DistillConfig
from utils.engine.ledger import SHARE, WEIGHT
from utils.engine.trainer import Trainer
from utils.runtime.device import device_name

SOFT, OWN = 0.3, 0.2  # asked for
EVERY = 3  # steps between two looks
LIMIT = 0.2  # part of what was asked for by which the mean of an epoch may be off
TEST = "neu_det/test"


class Watch:
    """Looks at the shares of a run while it trains.

    Attributes:
        seen: of the steps that were looked at: the epoch, and the terms they returned.
        followed: in how many steps the weights followed.
        seconds: of this thread's time in each step, by whether it was measured.
    """

    def __init__(self) -> None:
        self.follows = False
        self.followed = 0
        self.seen: list[tuple[int, dict[str, float]]] = []
        self.seconds: dict[bool, list[float]] = {True: [], False: []}

    def train(self, config: DistillConfig) -> Path:
        """The run; returns its best.pth."""
        step, hear = Trainer.step, Loudness.hear

        def watched_step(trainer: Trainer, *batch: Any) -> dict[str, Tensor]:
            *shown, self.follows = batch
            self.followed += self.follows
            looked = trainer.steps % EVERY == 0
            started = time.thread_time()
            terms = step(trainer, *shown, self.follows or looked)
            self.seconds[self.follows or looked].append(time.thread_time() - started)
            if looked:
                said = {n: float(v) for n, v in terms.items() if n.startswith((SHARE, WEIGHT))}
                self.seen.append((trainer.epoch, said))
            return terms

        def watched_hear(loudness: Loudness, norms: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return hear(loudness, norms) if self.follows else loudness.weights()

        with (
            patch.object(Trainer, "step", watched_step),
            patch.object(Loudness, "hear", watched_hear),
        ):
            return train_student(config)

    def about(self, name: str, asked: float) -> dict[str, Any]:
        """How well a term's share held, and which weights that took."""
        shares = [
            [said[SHARE + name] for e, said in self.seen if e == epoch]
            for epoch in range(self.seen[-1][0] + 1)
        ]
        weights = [said[WEIGHT + name] for _, said in self.seen]
        means = [statistics.mean(epoch) for epoch in shares]
        every = [share for epoch in shares for share in epoch]
        return {
            "asked": asked,
            "mean": short(statistics.mean(every)),
            "deviation_of_a_batch": short(statistics.stdev(every)),
            "epochs": [short(mean) for mean in means],
            "holds": all(abs(mean / asked - 1) <= LIMIT for mean in means),
            "weight": {
                "first": short(weights[0]),
                "least": short(min(weights)),
                "most": short(max(weights)),
                "mean": short(statistics.mean(weights)),
            },
        }

    def cost(self) -> dict[str, float]:
        """How many steps the weights followed, and how much longer that makes a run."""
        steps = sum(map(len, self.seconds.values()))
        ratio = statistics.median(self.seconds[True]) / statistics.median(self.seconds[False])
        return {
            "steps": steps,
            "followed": self.followed,
            "measured_step_over_other": round(ratio, 2),
            "run_over_fixed_weights": round(1 + self.followed / steps * (ratio - 1), 3),
        }


def short(value: float) -> float:
    """Four digits of it."""
    return float(f"{value:.4g}")


def measure(words: Sequence[str], name: str) -> dict[str, Any]:
    """What is written down of a run with one distiller; `words` are the flags of all."""
    own = [*words, "--distill", name, "--share", f"soft={SOFT}", f"{name}={OWN}", "--name", name]
    config = parse_arguments(DistillConfig, own)
    watch = Watch()
    best = watch.train(config)
    result = best.with_name("test.json")
    script(
        "get_map.py", "--weights", best, "--data", config.data, "--split", TEST, "--json", result
    )
    return {
        "command": typed("train_kd.py", *own),
        "shares": {"soft": watch.about("soft", SOFT), name: watch.about(name, OWN)},
        "voc07": short(json.loads(result.read_text())["voc07"]["mAP"]),
        "cost": watch.cost(),
    }


def main() -> None:
    """Writes after every run what is known by then."""
    (out, *names), words = split_passed(sys.argv[1:])
    torch.set_num_threads(1)
    facts = {
        "date": datetime.date.today().isoformat(),
        "machine": f"{device_name(torch.device('cpu'))}, 1 thread",
        "torch": torch.__version__,
    }
    runs = {}
    for name in names:
        runs[name] = measure(words, name)
        Path(out).write_text(json.dumps({**facts, "runs": runs}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
