"""Does distillation help? Trains a student alone and distilled, seed by seed, and compares them.

python -m tools.compare --teacher logs/teacher/best.pth --seeds 5 --test VOC2007/test
    --variant "objectness: --preset objectness" "soft: --preset soft" "longer: --alone --epochs 40"
    -- --train VOC2007/train --val VOC2007/val --backbone mobilenetv2 --epochs 20

Behind `--` stand the flags that all runs share. A variant adds its own: of train_kd.py, or with
`--alone` of train_teacher.py. The variant `alone`, without additions, is always there and is what
the others are compared with. Runs with one seed are a pair: initial weights, data order and
augmentation are the same. The same command goes on where it stopped; started several times (on
machines that share --out, or by torchrun) the processes share the work.
"""

import shlex
import signal
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from types import FrameType

from nets.inputs import check_checkpoint, check_inputs, check_unlabelled
from tools.compare.comparison import compare, headline
from tools.compare.jobs import Job, check_same, environments, finish
from tools.compare.page import drawings, page
from tools.compare.text import markdown
from tools.compare.variants import Variant, make_variants, settings, teacher_job
from tools.extras import require
from tools.jobs import Running, countdown, one_arithmetic, split_passed
from utils.cli import parse_arguments, run
from utils.config import at_least, option
from utils.data.voc import check_splits
from utils.engine.interrupts import Stopped
from utils.files import write_whole
from utils.runtime.distributed import is_main
from utils.show.dots import side_by_side
from utils.show.report import write_json

GO_ON = "the same command goes on"
WAIT = 2.0  # seconds between looks at what other processes do


@dataclass(frozen=True)
class CompareConfig:
    """Trains a student alone and in variants, seed by seed, and compares them in pairs. Flags that
    all runs share follow after --, e.g. -- --val VOC2007/val --epochs 20; a variant adds its own.
    """

    out: str = option("logs/compare", "folder of all runs and of the result")
    teacher: str = option("", "the teacher's checkpoint; without one it is trained first")
    teacher_flags: str = option(
        "", "flags of a teacher's training beside the shared ones: '--backbone vgg16 --pretrained'"
    )
    variant: tuple[str, ...] = option(
        ("objectness: --preset objectness",),
        "what to compare with the student alone: 'name: flags'",
    )
    seeds: int = option(5, "seeds of each variant; below 5 only large gains can be told")
    first_seed: int = option(0, "the first of them")
    test: tuple[str, ...] = option(("VOC2007/test",), "splits to score on, as YEAR/SPLIT")
    metric: str = option("voc07", "AP that the verdict is about", ("voc07", "voc10", "coco"))
    jobs: int = option(1, "runs at a time; they take the GPUs in turn")

    def __post_init__(self) -> None:
        """Refuses values that cannot work."""
        at_least(self, 1, "seeds", "jobs")
        at_least(self, 0, "first_seed")
        if not self.test:
            raise ValueError("--test names no split; give at least one, as YEAR/SPLIT")


def main(arguments: Sequence[str] | None) -> None:
    """Settings -> runs that are missing -> comparison.json, .md, .svg and .html."""
    own, shared = split_passed(arguments)
    config = parse_arguments(CompareConfig, own, __doc__)
    require("compare", "scipy")
    shared = [*common_ground(config), *shared]  # a flag that comes later beats these
    out, seeds = Path(config.out), range(config.first_seed, config.first_seed + config.seeds)
    variants = make_variants(config.variant, shared)
    teacher = teacher_job(out, config.teacher, shared, shlex.split(config.teacher_flags))
    jobs = [v.job(out, seed, teacher.weights) for seed in seeds for v in variants]
    for job in (teacher, *jobs):
        check_same(job, job.facts(config.test))
    if not all(job.scores() for job in (teacher, *jobs)):
        check_sources(config, teacher, variants)
    running = Running()
    signal.signal(signal.SIGTERM, partial(terminate, running))
    try:
        failures = work([teacher], config, running) or work(jobs, config, running)
    except KeyboardInterrupt as interrupt:  # a terminal tells the runs, too
        report(teacher, variants, jobs, config)
        raise Stopped(signal.SIGINT, GO_ON) from interrupt
    except Stopped:
        report(teacher, variants, jobs, config)
        raise
    report(teacher, variants, jobs, config)
    if failures and is_main():
        raise ValueError(f"{len(failures)} runs failed; the first: {failures[0]}")


def common_ground(config: CompareConfig) -> list[str]:
    """Flags that make runs comparable which would each decide by themselves."""
    flags = one_arithmetic()
    if config.teacher:  # the student alone has its classes, too
        flags += ["--classes", config.teacher]
    return flags


def check_sources(config: CompareConfig, teacher: Job, variants: Sequence[Variant]) -> None:
    """Looks, before the first run, for all that the runs read; see `nets.inputs`."""
    check_splits(teacher.config.data, config.test, "--test")
    check_checkpoint(config.teacher, "--teacher")
    if teacher.script:
        check_inputs(teacher.config)
    for variant in variants:
        student = settings(variant.script, variant.words, variant.name)
        check_inputs(student)
        check_unlabelled(student, {"--test": config.test})


def terminate(running: Running, signum: int, frame: FrameType | None) -> None:
    """Handles SIGTERM, which nobody but this process gets: the runs save themselves and end."""
    del frame
    running.pass_on(signum)
    raise Stopped(signum, GO_ON)


def report(
    teacher: Job, variants: Sequence[Variant], jobs: Sequence[Job], config: CompareConfig
) -> None:
    """Writes and prints what the runs that are done say."""
    if not is_main() or not teacher.scores() or not any(job.scores() for job in jobs):
        return
    comparison = compare(teacher, variants, jobs, config.metric)
    out = Path(config.out)
    write_json(out / "comparison.json", comparison)
    text = markdown(comparison)
    (out / "comparison.md").write_text(text, encoding="utf-8")
    write_whole(out / "comparison.svg", side_by_side(drawings(comparison)))
    page(comparison).write(out / "comparison.html")
    print(f"\n{text}\nwritten: {out}/comparison.json, .md and .svg\npage: {out}/comparison.html")


def work(jobs: Sequence[Job], config: CompareConfig, running: Running) -> list[str]:
    """Does what is left of some jobs, together with other processes; returns what went wrong."""
    places: SimpleQueue[dict[str, str]] = SimpleQueue()
    for environment in environments(config.jobs):
        places.put(environment)

    begun, before = time.monotonic(), len(done_of(jobs))

    def attempt(job: Job) -> str | None:
        known = bool(job.scores())
        place = places.get()
        try:
            outcome = finish(job, config.test, place, running)
        finally:
            places.put(place)
        if outcome:
            print(outcome, flush=True)
        elif outcome is not None:
            done = len(done_of(jobs))
            left = "" if known else f" ({countdown(begun, before, done, len(jobs))})"
            print(headline(job, config.metric) + left, flush=True)
        return outcome

    failures: dict[Job, str] = {}
    said = False
    with ThreadPoolExecutor(config.jobs) as pool:
        waiting = list(jobs)
        try:
            while waiting:
                outcomes = list(pool.map(attempt, waiting))
                failures |= {j: o for j, o in zip(waiting, outcomes, strict=True) if o}
                # Another process has these; if it dies they are ours.
                waiting = [job for job, o in zip(waiting, outcomes, strict=True) if o is None]
                if waiting and not said:
                    print(f"waiting for {len(waiting)} runs of other processes", flush=True)
                    said = True
                if waiting:
                    time.sleep(WAIT)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    # Another process may have had more luck with one of them.
    return [text for job, text in failures.items() if not job.scores()]


def done_of(jobs: Sequence[Job]) -> list[Job]:
    """Those of the jobs that are done."""
    return [job for job in jobs if job.scores()]


if __name__ == "__main__":
    run(main)
