"""docs/losses.md shows what the code computes: presets, and every number in bold."""

import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from nets.multibox_loss import MultiBoxLoss, mine_hard_negatives
from nets.multibox_loss_kd import MultiBoxLoss_KD
from nets.outputs import Matches, Outputs
from tests.nets.test_multibox_loss import matched
from utils.config import DistillConfig

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "losses.md").read_text(encoding="utf-8")


def section(heading: str) -> str:
    """The text under a heading, up to the next one."""
    found = re.search(rf"^#+ {re.escape(heading)}$(.*?)(?=^#|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found, heading
    return found[1]


def with_logits(logits: list[list[float]]) -> Outputs:
    """One image, a row for each prior."""
    return Outputs((), torch.tensor([logits]), torch.zeros(1, len(logits), 4))


def first_positive(priors: int) -> Matches:
    labels = torch.zeros(1, priors, dtype=torch.long)
    labels[0, 0] = 1
    return matched(labels, torch.zeros(1, priors, 4))


def mining() -> list[float]:
    loss = torch.tensor([0.01, 3.0])[:, None].expand(2, 10)
    # log(1 + exp(z)) = loss for logits (0, z)
    logits = torch.stack((torch.zeros(2, 10), loss.expm1().log()), dim=-1)
    labels = torch.zeros(2, 10, dtype=torch.long)
    labels[:, 0] = 1
    per_image = loss[mine_hard_negatives(logits, labels)].sum() / 2
    per_batch = loss[labels == 0].topk(6).values.sum() / 2
    return [per_image.item(), per_batch.item()]


def soft(student: list[float], teacher: list[float], **options: float) -> float:
    criterion = MultiBoxLoss_KD(**options)
    return criterion(with_logits([student]), with_logits([teacher]), first_positive(1))[
        "soft"
    ].item()


def underflow() -> list[float]:
    student, teacher = [200.0, 0.0], [0.0, 200.0]
    naive = torch.tensor(student).softmax(0).log()
    assert naive[1] == -math.inf
    return [soft(student, teacher, neg_w=1)]


def no_objects() -> list[float]:
    out = Outputs((), torch.zeros(2, 150, 21), torch.zeros(2, 150, 4))
    matches = matched(torch.zeros(2, 150, dtype=torch.long), torch.zeros(2, 150, 4))
    conf = MultiBoxLoss()(out, matches)["conf"].item()
    return [200 * conf, conf]


def bound() -> list[float]:
    def l2(errors_s: list[float], errors_t: list[float]) -> float:
        student, teacher = (
            torch.tensor([[[error**0.5, 0, 0, 0] for error in errors]])
            for errors in (errors_s, errors_t)
        )
        logits = torch.zeros(1, 3, 2)
        matches = matched(torch.ones(1, 3, dtype=torch.long), torch.zeros(1, 3, 4))
        terms = MultiBoxLoss_KD()(
            Outputs((), logits, student), Outputs((), logits, teacher), matches
        )
        return terms["l2"].item()

    return [l2([9, 1, 4], [4, 4, 1]), (9 + 1 + 4) / 3, l2([1, 1, 4], [4, 4, 1])]


UNIFORM, TEACHER = [0.0, 0.0, 0.0], [math.log(2), 0.0, 0.0]


def temperature() -> list[float]:
    warm = soft(UNIFORM, TEACHER, neg_w=1, temperature=2)
    return [soft(UNIFORM, TEACHER, neg_w=1), warm, warm / 4]


def columns() -> list[float]:
    return [soft(UNIFORM, TEACHER), soft(UNIFORM, TEACHER, neg_w=1)]


def optimum() -> list[float]:
    """p(object) of a student whose only lesson is `soft`, found by descent."""
    teacher = with_logits([[math.log(0.1), math.log(0.9)]])
    found = []
    for temperature in (1, 2, 4):
        criterion = MultiBoxLoss_KD(neg_w=1.5, temperature=temperature)
        student = torch.zeros(1, 1, 2, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.LBFGS([student], max_iter=100, tolerance_grad=1e-12)

        def loss(student=student, criterion=criterion, optimizer=optimizer) -> torch.Tensor:
            optimizer.zero_grad()
            said = Outputs((), student, torch.zeros(1, 1, 4))
            value = criterion(said, teacher, first_positive(1))["soft"]
            value.backward()
            return value

        optimizer.step(loss)
        found.append(student.softmax(-1)[0, 0, 1].item())
    return found


def validation() -> list[float]:
    return [(1 * 6 + 9 * 1) / 10]


EXAMPLES: dict[str, Callable[[], list[float]]] = {
    "Mining is per image": mining,
    "log_softmax, never log(softmax)": underflow,
    "A batch without objects": no_objects,
    "The teacher bound is per box": bound,
    "T² keeps the gradient's size": temperature,
    "neg_w and pos_w weigh columns": columns,
    "neg_w ≠ 1 teaches another distribution than the teacher's": optimum,
    "Validation loss is weighted by positives": validation,
}


@pytest.mark.parametrize("heading", EXAMPLES)
def test_numbers(heading):
    shown = re.findall(r"\*\*([\d.]+)\*\*", section(heading))
    computed = EXAMPLES[heading]()
    assert len(shown) == len(computed)
    for text, value in zip(shown, computed, strict=True):
        digits = len(text.partition(".")[2])
        assert text == f"{value:.{digits}f}"


def test_every_number_in_bold_is_checked():
    checked = sum(len(re.findall(r"\*\*[\d.]+\*\*", section(heading))) for heading in EXAMPLES)
    assert checked == len(re.findall(r"\*\*[\d.]+\*\*", PAGE)) == 17


def test_presets():
    pattern = r"^\| `(\w+)`" + r" \| `?([\w.()=]+)`?" * 4 + r" \|$"
    rows = re.findall(pattern, section("Presets"), re.MULTILINE)
    for column, name in enumerate(DistillConfig.presets, 1):
        decided = {key: str(value) for key, value in DistillConfig.presets[name].items()}
        for words in ("distill", "share"):
            decided[words] = " ".join(DistillConfig.presets[name][words]) or "none"
        assert {row[0]: row[column] for row in rows} == decided
    defaults = DistillConfig(neg_pos_ratio=3.0)
    assert (defaults.pos_w, defaults.negatives_for_hard) == (1.0, 100)
