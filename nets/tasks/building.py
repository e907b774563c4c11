"""Settings -> the network that a run starts from, and the objective of stage 2."""

from collections.abc import Sequence

import torch

from nets.distillers import DISTILLERS, Distiller
from nets.distillers.base import NETWORK, OUTPUTS
from nets.memo.record import AnswerRecord
from nets.multibox_loss_kd import MultiBoxLoss_KD
from nets.priors import DEFAULT_LAYOUT, layout_named
from nets.saved import load_start
from nets.ssd import SSD300
from nets.tasks.cross_priors import check_compatible
from nets.tasks.distillation import DistillTask
from nets.tasks.schedule import Schedule
from nets.tasks.shares import read_shares
from utils import spec
from utils.config import DistillConfig, TrainConfig


def build_network(
    config: TrainConfig, class_names: Sequence[str], layout: str = DEFAULT_LAYOUT
) -> SSD300:
    """The network that a run starts from; that of `--weights` brings backbone and layout along.

    The same seed gives a student the same initial weights with and without a teacher.

    Raises:
        ValueError: the backbone cannot be built or does not serve the layout; `--weights` knows the
            classes in another order or has another backbone than `--backbone` asks for.
    """
    torch.manual_seed(config.seed)
    if not config.weights:
        return SSD300(
            config.backbone, len(class_names), layout=layout, pretrained=config.pretrained
        )
    model, new_heads = load_start(config.weights, class_names)
    if config.backbone not in ("", model.spec):
        raise ValueError(
            f"--backbone is {config.backbone}, the network in {config.weights} is {model.spec}; "
            "leave out one of the two"
        )
    heads = "; it knows other classes, so the class heads begin anew" if new_heads else ""
    print(f"starting from {config.weights}: {model.spec}, layout {model.layout}{heads}")
    return model


def distill_task(config: DistillConfig, student: SSD300, teacher: SSD300) -> DistillTask:
    """The objective of stage 2.

    Raises:
        ValueError: see `build_distillers` and `check_compatible`; or a distiller needs more of the
            teacher than is written down.
    """
    check_compatible(student, teacher, config.match_priors)
    distillers = build_distillers(config.distill, student, teacher)
    asks = {name: distiller.asks_for for name, distiller in distillers.items()}
    if config.teacher_views and NETWORK in asks.values():
        name = next(name for name, what in asks.items() if what == NETWORK)
        raise ValueError(
            f"--distill {name} (given, or by --preset) needs the teacher itself, not only what "
            "--teacher-views writes down of its outputs; leave out one of the two"
        )
    writes = AnswerRecord(student.layout, student.classes, whole=OUTPUTS in asks.values())
    return DistillTask(
        student,
        writes if config.teacher_views else teacher,
        MultiBoxLoss_KD(
            config.neg_pos_ratio,
            config.negatives_for_hard,
            config.neg_w,
            config.pos_w,
            config.temperature,
            config.reg_m,
        ),
        {
            "soft": config.soft_weight,
            "conf": config.conf_weight,
            "l2": config.l2_weight,
            "loc": config.loc_weight,
            **{name: distiller.weight for name, distiller in distillers.items()},
        },
        distillers,
        config.match_priors,
        Schedule(config.kd_schedule, config.kd_final, config.kd_epochs, config.epochs),
        config.pseudo_score,
        config.pseudo_doubt,
        read_shares(config.share),
    )


def build_distillers(
    specs: Sequence[str], student: SSD300, teacher: SSD300
) -> dict[str, Distiller]:
    """The terms of `--distill`, by name.

    Raises:
        ValueError: a spec is wrong or named twice, or compares source maps of different grids.
    """
    ours, theirs = (layout_named(model.layout).grids for model in (student, teacher))
    outputs = [name for name, kind in DISTILLERS.items() if not kind.compares_maps]
    distillers: dict[str, Distiller] = {}
    for text in specs:
        name, _ = spec.parse(text)
        if name in distillers:
            raise ValueError(f"--distill names {name!r} twice")
        distillers[name] = spec.build(
            text,
            DISTILLERS,
            "distiller",
            student_channels=student.channels,
            teacher_channels=teacher.channels,
        )
        if distillers[name].compares_priors and student.layout != teacher.layout:
            raise ValueError(
                f"--distill {name} asks the teacher's heads about the student's priors, but the "
                f"student's layout is {student.layout!r} and the teacher's {teacher.layout!r}; "
                f"leave it out, or take one that compares outputs: {', '.join(outputs)}"
            )
        if distillers[name].compares_maps and ours != theirs:
            raise ValueError(
                f"--distill {name} (given, or by --preset) compares source maps, but the student's "
                f"have grids {ours} and the teacher's {theirs}; pass --distill by itself to leave "
                f"it out, or one that compares outputs: {', '.join(outputs)}"
            )
    return distillers
