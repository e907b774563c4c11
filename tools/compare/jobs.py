"""A run of a comparison, and how it is done exactly once."""

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from tools.jobs import Running, claimed, decisive, known, logged_script, typed
from utils.config import TrainConfig
from utils.engine.runs.folder import plain
from utils.show.report import write_json

SCORES, FACTS = "map.json", "job.json"


class Job(NamedTuple):
    """A training run and the scoring of its network.

    script: `train_teacher.py` or `train_kd.py`; empty where the network is given.
    words: its flags, without those that say where it writes.
    config: the same, read.
    folder: of the run; the scores come into its map.json.
    weights: the network that it makes.
    """

    title: str
    seed: int
    script: str
    words: tuple[str, ...]
    config: TrainConfig
    folder: Path
    weights: Path

    @property
    def place(self) -> tuple[str, ...]:
        """The flags that say where the run writes."""
        return ("--logs", str(self.folder.parent), "--name", self.folder.name)

    def scores(self) -> dict[str, Any] | None:
        """What get_map.py has found; None while the job is not done."""
        path = self.folder / SCORES
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    def command(self) -> str:
        """What trains it, as a user would type it; empty where nothing does."""
        return typed(self.script, *self.words, *self.place) if self.script else ""

    def facts(self, splits: Sequence[str]) -> dict[str, Any]:
        """What its result depends on, for later runs of the comparison to compare."""
        facts = {"script": self.script, "test": list(splits)}
        if not self.script:
            return {**facts, "weights": known(self.weights)}
        return facts | decisive(self.config)

    def chosen_on(self, splits: Sequence[str]) -> bool:
        """Whether its network is the best of several epochs by images of `splits`."""
        chooses = bool(self.script) and self.config.chooses
        return chooses and not set(self.config.val).isdisjoint(splits)


def environments(jobs: int) -> list[dict[str, str]]:
    """What each of some jobs at a time has to know: its GPU, or its share of the CPU's cores."""
    gpus = torch.cuda.device_count()
    if gpus:
        listed = os.environ.get("CUDA_VISIBLE_DEVICES")
        names = listed.split(",") if listed else [str(i) for i in range(gpus)]
        first = int(os.environ.get("LOCAL_RANK", "0"))
        return [{"CUDA_VISIBLE_DEVICES": names[(first + i) % len(names)]} for i in range(jobs)]
    if "OMP_NUM_THREADS" in os.environ or jobs == 1:
        return [{}] * jobs
    # More threads than cores make all of them crawl; OpenCV's work has one thread anyway.
    return [{"OMP_NUM_THREADS": str(max(1, cores() // jobs))}] * jobs


def cores() -> int:
    """How many cores this process may use; a batch system often grants a part of the machine's."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def finish(
    job: Job, splits: Sequence[str], environment: dict[str, str], running: Running
) -> str | None:
    """Does what is left of a job.

    Args:
        job: perhaps done already, perhaps at work in another process.
        splits: what to score on.
        environment: variables for the scripts.
        running: what the scripts belong to.

    Returns:
        An empty text when it is done; what went wrong; None while another process has it.

    Raises:
        ValueError: the folder holds a run with other flags.
    """
    with claimed(job.folder) as claim:
        if claim is None:
            return None
        check_same(job, facts := job.facts(splits))
        if job.scores():
            return ""
        write_json(job.folder / FACTS, facts)

        def run(script: str, *words: str) -> None:
            logged_script(
                script, *words, log=job.folder / "log.txt", environment=environment,
                claim=claim, running=running,
            )  # fmt: skip

        try:
            if job.script:
                resume = ["--resume"] if any(job.folder.glob("last*.pth")) else []
                run(job.script, *job.words, *job.place, *resume)
            words = ["--weights", str(job.weights), "--split", *splits]
            words += ["--data", job.config.data, "--device", job.config.device]
            words += ["--classes", job.config.classes] if job.config.classes else []
            words += ["--skip-bad"] if job.config.skip_bad else []
            run("get_map.py", *words, "--json", str(job.folder / SCORES))
        except ValueError as error:
            return f"{job.title}, seed {job.seed}: {error}"
    return ""


def check_same(job: Job, facts: dict[str, Any]) -> None:
    """Raises ValueError where the job's folder holds a run with other flags."""
    path = job.folder / FACTS
    if not path.is_file():
        return
    # What was no setting yet when the run was made had what is the default now.
    defaults = plain(dataclasses.asdict(type(job.config)()))
    known_since = {key: value for key, value in defaults.items() if job.script and key in facts}
    found = known_since | json.loads(path.read_text(encoding="utf-8"))
    if found != facts:
        key = next(key for key in {**facts, **found} if found.get(key) != facts.get(key))
        raise ValueError(
            f"{job.folder} holds a run with other {key} ({found.get(key)} instead of "
            f"{facts.get(key)}); give the variant another name, or pass another --out"
        )
