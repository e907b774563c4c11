"""The runs of a comparison: which there are, and how one of them is done exactly once."""

import dataclasses
import hashlib
import json
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from utils.cli import parse_arguments
from utils.config import DistillConfig, TrainConfig, flag
from utils.engine import FREE, plain
from utils.jobs import claimed, logged_script, typed
from utils.report import write_json

BASELINE = "alone"
ALONE = "--alone"
# What the comparison decides for each run.
OURS = ("name", "logs", "seed", "resume", "teacher", "profile")
# Settings that two variants may differ in and still have had the same budget: those of the loss.
LOSS = {field.name for field in dataclasses.fields(DistillConfig)}
LOSS -= {field.name for field in dataclasses.fields(TrainConfig)}
LOSS |= {"conf_weight", "loc_weight", "neg_pos_ratio", "negatives_for_hard"}
SCHEMAS: dict[str, type[TrainConfig]] = {
    "train_teacher.py": TrainConfig,
    "train_kd.py": DistillConfig,
}
SCORES, FACTS = "map.json", "job.json"
# What neither the budget nor the result of a run depends on.
PLACE = FREE - {"val_every", "data", "classes", "skip_bad"}


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
            return {**facts, "weights": digest(self.weights)}
        settings = plain(dataclasses.asdict(self.config))
        for key in ("teacher", "weights"):  # a file may become another one under its old name
            if settings.get(key):
                settings[key] = digest(Path(settings[key]))
        return facts | {k: v for k, v in settings.items() if k not in PLACE}

    def chosen_on(self, splits: Sequence[str]) -> bool:
        """Whether its network is the best of several epochs by images of `splits`."""
        config = self.config
        choice = bool(self.script) and 0 < config.val_every < config.epochs
        return choice and not set(config.val).isdisjoint(splits)


def digest(path: Path) -> str:
    """What tells a file from another one; empty where there is none."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


class Variant(NamedTuple):
    """A way to train the student; `flags` stand behind the shared ones.

    other_budget: what makes its budget another one than the baseline's; empty where nothing does.
    """

    name: str
    script: str
    words: tuple[str, ...]
    flags: str
    other_budget: str

    def job(self, out: Path, seed: int, teacher: Path) -> Job:
        """Its run with one seed."""
        words = (*self.words, "--seed", str(seed))
        if self.script == "train_kd.py":
            words += ("--teacher", str(teacher))
        config = parse_arguments(SCHEMAS[self.script], words)
        folder = out / "runs" / self.name / f"seed-{seed}"
        return Job(self.name, seed, self.script, words, config, folder, folder / "best.pth")


def make_variants(texts: Sequence[str], shared: Sequence[str]) -> list[Variant]:
    """The baseline and what `--variant` asks for, each checked as its script would.

    Raises:
        ValueError: a text is no `name: flags`, a name is used twice or is no folder's name, or the
            flags are wrong.
    """
    if not settings("train_kd.py", shared, BASELINE).weights:
        # The scripts' defaults differ; a flag that comes later beats this one.
        shared = ["--backbone", DistillConfig.usual_backbone, *shared]
    baseline = settings("train_teacher.py", shared, BASELINE)
    variants = [Variant(BASELINE, "train_teacher.py", tuple(shared), "", "")]
    for text in texts:
        name, colon, flags = text.partition(":")
        name = name.strip()
        if not colon or not name or name.startswith(".") or "/" in name:
            raise ValueError(f"--variant {text!r} is not 'name: flags', name being a folder's name")
        if name in (variant.name for variant in variants):
            raise ValueError(f"--variant names {name!r} twice; {BASELINE!r} is always there")
        own = shlex.split(flags)
        script = "train_teacher.py" if ALONE in own else "train_kd.py"
        words = [*shared, *(word for word in own if word != ALONE)]
        budget = difference(baseline, settings(script, words, name))
        variants.append(Variant(name, script, tuple(words), flags.strip(), budget))
    return variants


def settings(script: str, words: Sequence[str], name: str) -> TrainConfig:
    """The settings of a run; refuses bad ones and those that a comparison sets itself."""
    for field in OURS:
        given = next((w for w in words if w.partition("=")[0] == flag(field)), None)
        if given:
            raise ValueError(f"{name}: the comparison sets {given} for each run; leave it out")
    try:
        return parse_arguments(SCHEMAS[script], words)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def difference(baseline: TrainConfig, config: TrainConfig) -> str:
    """`epochs 40 instead of 20`: what of the budget differs; settings of the loss do not count."""
    found = []
    for field in dataclasses.fields(TrainConfig):
        ours, theirs = getattr(config, field.name), getattr(baseline, field.name)
        if field.name not in LOSS | PLACE and ours != theirs:
            found.append(f"{field.name} {ours} instead of {theirs}")
    return ", ".join(found)


def teacher_job(out: Path, given: str, shared: Sequence[str], flags: Sequence[str]) -> Job:
    """The teacher: a checkpoint that is there, or the run that makes it.

    Raises:
        ValueError: its flags are wrong, or there are some although the teacher is given.
    """
    folder = out / "teacher"
    if given:
        if flags:
            raise ValueError("--teacher-flags are for a teacher that is trained; leave out one")
        config = settings("train_teacher.py", shared, "teacher")
        return Job("teacher", config.seed, "", (), config, folder, Path(given))
    words = (*shared, "--backbone", DistillConfig.teacher_backbone, *flags)
    config = settings("train_teacher.py", words, "teacher")
    script = "train_teacher.py"
    return Job("teacher", config.seed, script, words, config, folder, folder / "best.pth")


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
    # More threads than cores make all of them crawl.
    return [{"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // jobs))}] * jobs


def finish(job: Job, splits: Sequence[str], environment: dict[str, str]) -> str | None:
    """Does what is left of a job.

    Args:
        job: perhaps done already, perhaps at work in another process.
        splits: what to score on.
        environment: variables for the scripts.

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
            log = job.folder / "log.txt"
            logged_script(script, *words, log=log, environment=environment, claim=claim)

        try:
            if job.script:
                resume = ["--resume"] if any(job.folder.glob("last*.pth")) else []
                run(job.script, *job.words, *job.place, *resume)
            words = ["--weights", str(job.weights), "--split", *splits]
            words += ["--data", job.config.data, "--device", job.config.device]
            words += ["--classes", job.config.classes]
            words += ["--skip-bad"] if job.config.skip_bad else []
            run("get_map.py", *words, "--json", str(job.folder / SCORES))
        except ValueError as error:
            return f"{job.title}, seed {job.seed}: {error}"
    return ""


def check_same(job: Job, facts: dict[str, Any]) -> None:
    """Raises ValueError where the job's folder holds a run with other flags."""
    path = job.folder / FACTS
    if path.is_file() and (found := json.loads(path.read_text(encoding="utf-8"))) != facts:
        key = next(key for key in {**facts, **found} if found.get(key) != facts.get(key))
        raise ValueError(
            f"{job.folder} holds a run with other {key} ({found.get(key)} instead of "
            f"{facts.get(key)}); give the variant another name, or pass another --out"
        )
