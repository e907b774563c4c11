"""The two stages: a detector trained on objects alone, then a student trained under it.

Stage 1 also trains the baseline that a distilled student is compared with: the same backbone, seed
and schedule, without a teacher.
"""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from nets.inputs import check_inputs, warn_of_choice
from nets.memo.asking import Asked, open_memo
from nets.memo.record import AnswerRecord
from nets.multibox_loss import MultiBoxLoss
from nets.preflight import preflight
from nets.priors import DEFAULT_LAYOUT
from nets.saved import check_class_names, describe_network, load_network
from nets.ssd import SSD300
from nets.tasks import DetectionTask
from nets.tasks.building import build_network, distill_task
from nets.tasks.cross_priors import on_student_priors
from nets.tasks.shares import fixed_instead
from utils.config import DistillConfig, TrainConfig
from utils.data.store import Store
from utils.engine.fit import fit
from utils.engine.memo import Memo
from utils.engine.runs.folder import check_resumable, has_run, run_folder
from utils.engine.runs.log import METRICS, read_metrics
from utils.engine.stores import check_processes
from utils.engine.terminal import Stage
from utils.engine.trainer import Trainer
from utils.files import digest
from utils.runtime.device import choose_device
from utils.show.report import cost


def train_detector(config: TrainConfig, stage: Stage | None = None) -> Path:
    """Stage 1, of a piece of work or all of it; returns the path of best.pth."""
    device = choose_device(config.device)
    run_folder(config)
    class_names = check_inputs(config)
    warn_of_choice(config)
    model = build_network(config, class_names)
    config = dataclasses.replace(config, backbone=model.spec)  # that of --weights, too
    task = DetectionTask(
        model,
        MultiBoxLoss(config.neg_pos_ratio, config.negatives_for_hard),
        {"conf": config.conf_weight, "loc": config.loc_weight},
    )
    description = describe_network(model, class_names)
    return fit(task, config, class_names, description, device, stage=stage)


def train_student(config: DistillConfig) -> Path:
    """Stage 2, after stage 1 where no teacher is given; returns the path of best.pth."""
    device = choose_device(config.device)
    run_folder(config)
    class_names = check_inputs(config)
    warn_of_choice(config)
    teacher_path: str | Path = config.teacher
    if not teacher_path:
        teacher_path = train_teacher(config, class_names)
        # What stopped in stage 1 has no stage 2 to go on with.
        config = dataclasses.replace(config, resume=config.resume and has_run(config))
    load = partial(load_network, teacher_path, class_names=class_names)
    # It is only looked at here: a task takes a frozen copy, a memo loads it again when it is asked.
    original = digest(teacher_path) if config.teacher_views else ""
    teacher, teacher_names = load(None)
    check_class_names(teacher_names, class_names)
    layout = DEFAULT_LAYOUT if config.match_priors else teacher.layout
    student = build_network(config, class_names, layout)
    config = dataclasses.replace(config, backbone=student.spec)  # that of --weights, too
    task = distill_task(config, student, teacher)

    def remember(store: Store) -> Memo:
        assert isinstance(task.teacher, AnswerRecord)
        to_priors = partial(on_student_priors, student, match_priors=config.match_priors)
        asked_again = partial(unchanged, teacher_path, original, lambda: load(device)[0])
        ask = partial(Asked, asked_again, to_priors, task.model.priors, task.teacher)
        return open_memo(config, store, original, class_names, task.teacher, ask)

    def look(trainer: Trainer, validation: Store | None) -> None:
        picture = Path(config.logs) / config.name / "pseudo.png" if config.pseudo_pictures else None
        preflight(trainer, validation, class_names, warm=bool(config.weights), picture=picture)

    description = describe_network(student, class_names)
    shown = look if config.preflight else None
    memo = remember if config.teacher_views else None
    stage = None if config.teacher else both_stages(config, student, teacher)[1]
    written = fit(task, config, class_names, description, device, shown, teacher_path, memo, stage)
    if config.share and not config.profile:
        config = dataclasses.replace(config, teacher=str(teacher_path), teacher_epochs=0)
        print(fixed_instead(config, task.loudness, read_metrics(written.parent / METRICS)))
    return written


def unchanged(path: str | Path, original: str, load: Callable[[], SSD300]) -> SSD300:
    """What `load` reads from a file that still has the digest `original`.

    Raises:
        ValueError: it has become another one, whose answers would count as those of the first.
    """
    network = load()
    if digest(path) != original:
        raise ValueError(
            f"{path}: has changed since the run began; copy a teacher that is still training"
        )
    return network


def train_teacher(config: DistillConfig, class_names: Sequence[str]) -> Path:
    """Stage 1 with the teacher's settings of a stage-2 configuration.

    A teacher that is finished is taken as it is, an interrupted one is gone on with, so that the
    two-stage script can be resumed in either stage.
    """
    shared = {f.name: getattr(config, f.name) for f in dataclasses.fields(TrainConfig)}
    shared |= {
        "name": f"{config.name}-teacher",
        "classes": config.classes or config.weights,
        "backbone": config.teacher_backbone,
        "epochs": config.teacher_epochs or config.epochs,
        "pretrained": config.teacher_pretrained,
        "conf_weight": TrainConfig.conf_weight,
        "loc_weight": TrainConfig.loc_weight,
        "weights": "",  # the student's
    }
    teacher_config = TrainConfig(**shared)
    check_resumable(config, teacher_config)
    if not has_run(teacher_config):
        teacher_config = dataclasses.replace(teacher_config, resume=False)
    folder = run_folder(teacher_config)
    # What is wrong with the student shows before hours of teacher training.
    student = build_network(config, class_names)
    untrained = SSD300(config.teacher_backbone, len(class_names))
    check_processes(config, distill_task(config, student, untrained))
    print(f"stage 1 of 2: teacher {config.teacher_backbone} -> {folder}")
    best = train_detector(teacher_config, both_stages(config, student, untrained)[0])
    print(f"\nstage 2 of 2: student {config.backbone or config.weights} under {best}")
    return best


def both_stages(config: DistillConfig, student: SSD300, teacher: SSD300) -> tuple[Stage, Stage]:
    """Teacher and student on the bar of a script that trains both.

    What one costs beside the other is estimated by multiply-adds, forward and back three times
    those of forward alone: an image costs the teacher's stage 3 t, the student's 3 s + t, where the
    teacher is asked each time. With images without labels an epoch is so many longer.
    """
    t, s = (cost(model)["gflops"] for model in (teacher, student))
    asked = min(1.0, (config.teacher_views or config.epochs) / config.epochs)
    images = config.batch_size / (config.batch_size - config.unlabelled_images)
    work = config.epochs * images * (3 * s + asked * t)
    ratio = work / ((config.teacher_epochs or config.epochs) * 3 * t)
    return Stage("teacher", after=ratio), Stage("student", before=1 / ratio)
