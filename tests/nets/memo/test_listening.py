"""A task that reads what was said learns what it would learn from whoever said it."""

import pytest
import torch

from nets.matching import match
from nets.memo.record import AnswerRecord
from nets.multibox_loss_kd import MultiBoxLoss_KD
from nets.ssd import SSD300
from nets.tasks import DistillTask
from tests.fake_gpu import GPU, fake_gpu
from tests.gpu.scenes import CLASSES, STUDENT, TEACHER, objects
from utils.engine.task import Shown

WEIGHTS = {"soft": 3.0, "conf": 0.7, "l2": 0.5, "loc": 1.0}


def tasks() -> tuple[DistillTask, DistillTask]:
    """Of the same student: under a teacher, and under what is written down."""
    torch.manual_seed(3)
    student, teacher = SSD300(STUDENT, CLASSES), SSD300(TEACHER, CLASSES)
    record = AnswerRecord("paper", CLASSES)
    live, read = (
        DistillTask(student, who, MultiBoxLoss_KD(temperature=2.0), WEIGHTS)
        for who in (teacher, record)
    )
    return live, read


@pytest.fixture
def shown() -> Shown:
    return Shown(torch.rand(4, 3, 300, 300) * 255, objects())


def test_what_is_read_is_learnt(shown: Shown) -> None:
    live, read = tasks()
    record, teacher = read.teacher, live.teacher
    assert isinstance(record, AnswerRecord)
    positive = match(shown.targets, read.model.priors).labels > 0
    with torch.no_grad():
        said = record.encode(teacher(shown.images), positive)
    gradients = []
    for task, batch in ((live, shown), (read, shown._replace(said=said))):
        task.zero_grad()
        terms = task.train()(*batch, ledger=True)
        terms["loss"].backward()
        assert terms["ledger/share/soft"] > 0
        gradients.append(torch.cat([p.grad.flatten() for p in task.model.parameters()]))
    # Mostly that of the objects: both have the same conf, loc and bounds of the regression.
    assert torch.cosine_similarity(*gradients, dim=0) > 0.999


def test_without_either_there_are_the_terms_of_objects(shown: Shown) -> None:
    live, read = tasks()
    with torch.inference_mode():
        expected, _ = live.eval().evaluate(shown.images, shown.targets)
        terms, detections = read.eval().evaluate(shown.images, shown.targets)
    assert set(terms) == {"conf", "loc", "positives"}
    for name, value in terms.items():
        assert torch.equal(value, expected[name])
    assert len(detections.scores) == 4


def test_no_record_of_it_is_in_a_checkpoint() -> None:
    live, read = tasks()
    assert live.state_dict().keys() == read.state_dict().keys()
    read.load_state_dict(live.state_dict())


def test_a_gpu_listens_without_waiting() -> None:
    _, read = tasks()
    with fake_gpu():
        record = read.to(GPU).teacher
        assert isinstance(record, AnswerRecord)
        said = torch.zeros(4, record.size, dtype=torch.uint8, device=GPU)
        images = torch.zeros(4, 3, 300, 300, device=GPU)
        targets = objects().to(GPU, non_blocking=True)
        terms = read.train()(images, targets, None, said)
        assert all(value.device == GPU for value in terms.values())
