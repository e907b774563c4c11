"""What a comparison compares: its variants, read from the command line, and their runs."""

import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tools.compare.jobs import Job
from tools.jobs import PLACE
from utils.cli import parse_arguments
from utils.config import DistillConfig, TrainConfig, flag

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
        if isinstance(config, DistillConfig) and config.teacher_views and not config.memo:
            words += ("--memo", str(out / "memo"))  # the first student fills it for all
            config = dataclasses.replace(config, memo=str(out / "memo"))
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
    if config.unlabelled_splits:
        steps = config.batch_size / (config.batch_size - config.unlabelled_images)
        splits = " ".join(config.unlabelled_splits)
        found.append(f"images of {splits} without labels, and {steps:.3g} x the steps an epoch")
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
