"""Is the teacher any use? What it knows that the student does not, by class and size of object.

python -m tools.teacher_report --teacher logs/teacher/best.pth --student logs/alone/best.pth
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from nets.inputs import read_class_names
from nets.matching import match
from nets.outputs import Detections, Outputs
from nets.postprocess import postprocess
from nets.saved import check_class_names, load_network
from nets.ssd import SSD300
from nets.tasks.cross_priors import CrossPriors, check_compatible
from tools.teacher_report.calibration import LEAST_SCORE, calibration
from tools.teacher_report.page import page
from tools.teacher_report.tables import as_text, tables
from tools.teacher_report.usefulness import NEARLY_ONE_HOT, SIDES, SIZES, Comparison, size_of
from tools.teacher_report.verdict import FEW_OBJECTS, ROOM, conclusions, judge
from utils.boxes import area
from utils.cli import parse_arguments, run
from utils.config import LARGEST, DataConfig, at_least, option
from utils.data.augment import resize
from utils.data.store import Store, open_store
from utils.data.voc import check_splits
from utils.engine.evaluation import Seen, channels_last, tell
from utils.files import check_file, check_folder
from utils.metrics.evaluator import Evaluator
from utils.runtime.device import choose_device
from utils.runtime.distributed import world_size
from utils.show.report import average_precision, write_json

PAGE = "teacher.html"


@dataclass(frozen=True)
class ReportConfig(DataConfig):
    """Compares a teacher with a student on a split: what could distillation bring, and where?"""

    teacher: str = option("", "the teacher's checkpoint, e.g. logs/teacher/best.pth")
    student: str = option("", "the student's, trained alone or distilled, e.g. logs/alone/best.pth")
    split: tuple[str, ...] = option(("VOC2007/test",), "splits to compare on, as YEAR/SPLIT")
    batch_size: int = option(32, "images a forward pass")
    cache: str = option("none", "where decoded images live", ("auto", "device", "ram", "none"))
    reg_m: float = option(0.0, "margin of the teacher bound, in squared encoded units")
    match_priors: bool = option(False, "let student and teacher have different prior sets")
    json: str = option("", "write everything into this file")
    out: str = option("", f"write the page {PAGE}, with charts and tables, into this folder")
    tables: bool = option(False, "print every table behind the verdict, too")

    def __post_init__(self) -> None:
        """Refuses what cannot be meant."""
        super().__post_init__()
        if not self.teacher or not self.student:
            raise ValueError("--teacher and --student are needed, e.g. logs/teacher/best.pth")
        if not self.split:
            raise ValueError("--split names no split; give at least one, as YEAR/SPLIT")
        at_least(self, -LARGEST, "reg_m")
        if world_size() > 1:
            raise ValueError("the report is made by one process; start it without torchrun")


def main(arguments: Sequence[str] | None) -> None:
    """One pass over the split -> verdict in words, tables, JSON, a page with charts."""
    config = parse_arguments(ReportConfig, arguments, __doc__)
    check_outputs(config)
    device = choose_device(config.device)
    check_splits(config.data, config.split, "--split")
    teacher, student, class_names = load_pair(config, device)
    store = open_store(config, config.split, class_names, device)
    comparison, evaluators = compare(config, teacher, student, store, class_names)
    report = {
        "split": list(config.split),
        "images": len(store),
        "teacher": {"weights": config.teacher, "backbone": teacher.spec},
        "student": {"weights": config.student, "backbone": student.spec},
        **facts(comparison, evaluators, count_objects(store, len(class_names))),
    }
    print("\n".join(report["conclusions"]))
    for table in tables(report) if config.tables else ():
        print(f"\n{as_text(table)}")
    if config.json:
        write_json(config.json, report)
        print(f"everything: {config.json}")
    if config.out:
        page(report).write(Path(config.out) / PAGE)
        print(f"page: {Path(config.out) / PAGE}")
    if not (config.tables or config.json or config.out):
        print("the numbers: --tables, --json FILE, or as a page with charts: --out FOLDER")


def check_outputs(config: ReportConfig) -> None:
    """Raises ValueError, before the work, where its result cannot be written."""
    if config.json:
        inputs = (config.teacher, config.student, config.classes)
        check_file(config.json, "--json", inputs=inputs)
    if config.out:
        check_folder(config.out, "--out")


def load_pair(config: ReportConfig, device: torch.device) -> tuple[SSD300, SSD300, tuple[str, ...]]:
    """Teacher, student and their class names.

    Raises:
        FileNotFoundError, ValueError: see `nets.saved.load_network`; or the two differ in classes,
            in priors (without --match-priors), or from the class list that is given.
    """
    wanted = read_class_names(config.classes) if config.classes else ()
    teacher, theirs = load_network(config.teacher, device, wanted)
    student, ours = load_network(config.student, device, wanted)
    check_compatible(student, teacher, config.match_priors)
    check_class_names(theirs, ours, where="the student's checkpoint")
    if wanted:
        check_class_names(ours, wanted, "the student")
    last = torch.channels_last
    return teacher.to(memory_format=last), student.to(memory_format=last), ours


@torch.inference_mode()
def compare(
    config: ReportConfig,
    teacher: SSD300,
    student: SSD300,
    store: Store,
    class_names: Sequence[str],
) -> tuple[Comparison, dict[str, Evaluator]]:
    """Shows every image to both networks; AP is that of each network with its own priors."""
    comparison = Comparison(student.classes, student.priors, config.reg_m)
    on_student_priors: nn.Module = nn.Identity()
    if config.match_priors:
        on_student_priors = CrossPriors(student.priors, teacher.priors).to(store.device)
    evaluators = {side: Evaluator(class_names) for side in SIDES}
    pixels = torch.tensor([(s.annotation.width, s.annotation.height) for s in store.samples])
    order = torch.arange(len(store)).split(config.batch_size)
    for number, batch in enumerate(
        tqdm(store.batches(order), "teacher and student", len(order), leave=False)
    ):
        images, targets = resize(batch.images, batch.sizes, batch.targets)
        images = channels_last(images)
        said: dict[str, Outputs] = {}
        for side, model in (("teacher", teacher), ("student", student)):
            said[side] = model(images)
            found = Detections(*(x.cpu() for x in postprocess(said[side], model.priors)))
            tell(evaluators[side], store, Seen(number, 1.0, {}, batch.indices, found))
        comparison.update(
            said["student"],
            on_student_priors(said["teacher"]),
            match(targets, student.priors),
            pixels[batch.indices],
        )
    return comparison, evaluators


def count_objects(store: Store, classes: int) -> Tensor:
    """`[K, 3]`: how many objects of each class and of each of `SIZES`; difficult ones left out."""
    chosen = [(s.annotation, ~s.annotation.difficult) for s in store.samples]
    boxes = torch.cat([torch.from_numpy(a.boxes[real]) for a, real in chosen])
    labels = torch.cat([torch.from_numpy(a.labels[real]) for a, real in chosen])
    groups = (labels - 1) * len(SIZES) + size_of(area(boxes))
    return torch.bincount(groups, minlength=classes * len(SIZES)).view(classes, len(SIZES))


def facts(
    comparison: Comparison, evaluators: dict[str, Evaluator], objects: Tensor
) -> dict[str, Any]:
    """All that was measured, judged, and in sentences; `objects` as `count_objects` has them."""
    ap = {side: average_precision(evaluator) for side, evaluator in evaluators.items()}

    def group(count: Tensor, of: dict[str, Any], **which: Any) -> dict[str, Any]:
        values = {"objects": int(count), "ap": of, **comparison.means(**which)}
        return {**values, **judge(values, NEARLY_ONE_HOT)}

    classes = {
        name: {
            **group(
                objects[label - 1].sum(),
                {p: pair(ap, p, "per_class", name) for p in ("voc07", "coco")},
                label=label,
            ),
            "sizes": {size: comparison.means(label, size) for size in SIZES},
        }
        for label, name in enumerate(evaluators["student"].class_names, start=1)
    }
    sizes = {
        size: group(objects[:, i].sum(), {"coco": pair(ap, "coco", f"AP{size[0]}")}, size=size)
        for i, size in enumerate(SIZES)
    }
    means = {"voc07": pair(ap, "voc07", "mAP"), "coco": pair(ap, "coco", "AP")}
    report: dict[str, Any] = {
        "thresholds": {"nearly_one_hot": NEARLY_ONE_HOT, "room": ROOM, "few_objects": FEW_OBJECTS},
        "all": group(objects.sum(), means),
        "sizes": sizes,
        "classes": classes,
        "hard_negatives": comparison.hard_negative_loss(),
        "calibration": {
            "least_score": LEAST_SCORE,
            **{side: calibration(evaluator) for side, evaluator in evaluators.items()},
        },
    }
    return {**report, "conclusions": conclusions(report)}


def pair(ap: dict[str, Any], *keys: str) -> dict[str, float]:
    """One number of both sides, and how much the teacher has more."""
    values = {side: float(reduce(getitem, keys, ap[side])) for side in SIDES}
    return {**values, "difference": values["teacher"] - values["student"]}


if __name__ == "__main__":
    run(main)
