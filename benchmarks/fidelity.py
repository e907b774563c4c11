"""How well a memo says what a teacher said: a student's gradient beside the live teacher's.

python -m benchmarks.fidelity --teacher logs/teacher/best.pth --students logs/early/best.pth
    --train neu_det/train --classes VOCdevkit/neu_det/classes.txt [--json FILE]

Every batch goes through the live teacher and through its record. For each term that reads one it
prints the cosine of the two gradients, with respect to what the student puts out and with respect
to its weights; the mean over the batches and the least of them.
"""

import argparse
import datetime
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nets.distillers.base import Distiller
from nets.distillers.dkd import Decoupled
from nets.distillers.objectness import KINDS, ObjectnessScaled
from nets.matching import match
from nets.memo.record import LISTED, MOST, AnswerRecord
from nets.multibox_loss_kd import MultiBoxLoss_KD
from nets.outputs import Lesson, Outputs, Targets
from nets.saved import load_network
from nets.ssd import SSD300
from utils.config import DataConfig
from utils.data.augment import augment, uniforms
from utils.data.store import open_store
from utils.data.voc import read_classes
from utils.engine.evaluation import channels_last

SEED = 5  # of the augmentation that is looked at
NO_MAPS: Any = {"student_channels": (), "teacher_channels": ()}


def main() -> None:
    """Prints a line for each student and form of the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="VOCdevkit")
    parser.add_argument("--train", nargs="+", required=True, help="splits, as YEAR/SPLIT")
    parser.add_argument("--classes", required=True)
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--students", nargs="+", required=True, help="early and late ones")
    parser.add_argument("--listed", nargs="+", type=int, default=[LISTED])
    parser.add_argument("--most", nargs="+", type=int, default=[MOST], help="bytes of a record")
    parser.add_argument("--whole", action="store_true", help="keep every box, as for objectness")
    parser.add_argument("--batches", type=int, default=6)
    parser.add_argument("--expand", type=float, default=1.0)
    parser.add_argument("--json", default="")
    options = parser.parse_args()
    names = read_classes(options.classes)
    teacher, _ = load_network(options.teacher)
    batches = list(some_batches(options, names, teacher))
    rows: list[dict[str, Any]] = []
    for listed, most in itertools.product(options.listed, options.most):
        record = AnswerRecord(teacher.layout, len(names), listed, most, whole=options.whole)
        for path in options.students:
            student, _ = load_network(path)
            found = [cosines(student, record, *batch) for batch in batches]
            row: dict[str, Any] = {"listed": listed, "sketched": record.sketched}
            row |= {"bytes": record.size, "student": path}
            for name in found[0]:
                values = [one[name] for one in found]
                row[name] = {"mean": sum(values) / len(values), "least": min(values)}
            rows.append(row)
            print(text(row), flush=True)
    if options.json:
        about = {
            "date": datetime.date.today().isoformat(),
            "torch": torch.__version__,
            "teacher": options.teacher,
            "train": options.train,
            "images": sum(len(batch[0]) for batch in batches),
        }
        Path(options.json).write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")


def some_batches(
    options: argparse.Namespace, names: Sequence[str], teacher: SSD300
) -> Iterator[tuple[Tensor, Targets, Outputs]]:
    """Augmented images, their objects, and what the teacher says of them."""
    config = DataConfig(data=options.data, cache="none", workers=1)
    store = open_store(config, options.train, names, torch.device("cpu"))
    generator = torch.Generator().manual_seed(SEED)
    chosen = torch.randperm(len(store), generator=generator)[: 8 * options.batches].split(8)
    table = uniforms(len(store), SEED, 0)
    for batch in store.batches(chosen):
        rows = table[batch.indices]
        images, targets = augment(batch.images, batch.sizes, batch.targets, rows, options.expand)
        with torch.no_grad():
            yield images, targets, teacher(channels_last(images))


def cosines(
    student: SSD300, record: AnswerRecord, images: Tensor, targets: Targets, live: Outputs
) -> dict[str, float]:
    """For each term, at the outputs and at the weights."""
    student.train()
    outputs: Outputs = student(channels_last(images))
    heard = record.decode(record.encode(live, match(targets, student.priors).labels > 0))
    parameters = tuple(student.parameters())
    found = {}
    for name in ("soft", "l2", "dkd", *(f"objectness, {kind}" for kind in KINDS)):
        for where, at in (("outputs", tuple(outputs[1:])), ("weights", parameters)):
            one, other = (
                gradient(terms(outputs, said, targets, student.priors)[name], at)
                for said in (live, heard)
            )
            found[f"{name}, {where}"] = float(torch.cosine_similarity(one, other, dim=0))
    return found


def terms(
    student: Outputs, teacher: Outputs, targets: Targets, priors: Tensor
) -> dict[str, Tensor]:
    """The terms that read what a teacher said, with their defaults; soft targets at T = 2."""
    criterion = MultiBoxLoss_KD(temperature=2.0, neg_w=1.0)
    matches = match(targets, priors)
    chosen = criterion.select(student, matches)
    lesson = Lesson(
        targets, matches, chosen.positive.mask, chosen.negative, chosen.divisor, priors,
        teacher=None, rows=torch.arange(len(targets.labels)), progress=torch.zeros(()),  # type: ignore[arg-type]
    )  # fmt: skip
    distillers: dict[str, Distiller] = {"dkd": Decoupled(**NO_MAPS)}
    distillers |= {f"objectness, {kind}": ObjectnessScaled(**NO_MAPS, kind=kind) for kind in KINDS}
    return {
        **criterion(student, teacher, matches, chosen),
        **{name: distiller(student, teacher, lesson) for name, distiller in distillers.items()},
    }


def gradient(term: Tensor, at: Sequence[Tensor]) -> Tensor:
    """Of a term, in one piece."""
    parts = torch.autograd.grad(term, at, retain_graph=True, materialize_grads=True)
    return torch.cat([part.flatten() for part in parts]).double()


def text(row: dict[str, Any]) -> str:
    """A line for the terminal."""
    values = [
        f"{name} {value['mean']:.4f} ({value['least']:.4f})"
        for name, value in row.items()
        if isinstance(value, dict)
    ]
    form = f"{row['listed']} listed, {row['sketched']} sketched, {row['bytes']} bytes"
    return f"{form}, {row['student']}: {'  '.join(values)}"


if __name__ == "__main__":
    main()
