"""Gradients of a batch's parts add up to those of the batch, whatever is divided by what."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from nets.backbones import BACKBONES
from nets.distillers import DISTILLERS
from nets.multibox_loss import MultiBoxLoss
from nets.multibox_loss_kd import MultiBoxLoss_KD
from nets.outputs import Targets
from nets.ssd import SSD300
from nets.tasks import DetectionTask, DistillTask
from tests.soak.launcher import Launcher, Plain
from tests.soak.test_soak import outcome
from tests.test_distributed import errors, largest_difference, request
from utils.engine.task import Shown
from utils.engine.updates import terms_of_batch

KD_WEIGHTS = {"soft": 0.3, "conf": 0.7, "l2": 0.5, "loc": 1.0}
# What these compare is scaled or counted over a batch, not image by image.
OF_A_BATCH = {"hint", "imitation", "pkd"}


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network without batch norm."""
    monkeypatch.setitem(BACKBONES, "plain", Plain)


def detection() -> DetectionTask:
    torch.manual_seed(0)
    return DetectionTask(SSD300("plain", 2), MultiBoxLoss(), {"conf": 2.0, "loc": 0.25}).double()


def distillation() -> DetectionTask:
    torch.manual_seed(0)
    student, teacher = SSD300("plain", 2), SSD300("plain", 2)
    channels = {"student_channels": student.channels, "teacher_channels": teacher.channels}
    names = [name for name in DISTILLERS if name not in OF_A_BATCH]
    distillers = {name: DISTILLERS[name](**channels) for name in names}
    weights = KD_WEIGHTS | dict.fromkeys(distillers, 1.0)
    criterion = MultiBoxLoss_KD(temperature=2.0)
    return DistillTask(student, teacher, criterion, weights, distillers).double()


def scene(*objects: int) -> tuple[Tensor, Targets]:
    """Images with so many objects each."""
    rng = torch.Generator().manual_seed(len(objects))
    images = 255 * torch.rand(len(objects), 3, 300, 300, generator=rng, dtype=torch.float64)
    low = 0.5 * torch.rand(len(objects), 3, 2, generator=rng)
    boxes = torch.cat((low, low + 0.1 + 0.3 * torch.rand(low.shape, generator=rng)), -1)
    labels = 1 + (torch.arange(3) % 2).expand(len(objects), -1)
    real = torch.arange(3) < torch.tensor(objects)[:, None]
    return images, Targets(boxes.double(), labels * real)


def gradients(task: DetectionTask) -> list[Tensor]:
    found = [p.grad.clone() for p in task.parameters() if p.grad is not None]
    task.zero_grad()
    return found


@pytest.mark.parametrize("make", [detection, distillation])
@pytest.mark.parametrize(
    "objects",
    [
        (3, 1, 0, 2),
        (3, 1, 0, 0),  # a part without positives: its negatives are divided by those of the other
        (0, 0, 0, 0),  # none at all: by the mined negatives of all
    ],
)
@pytest.mark.parametrize("parts", [2, 4])
def test_the_mean_of_the_parts_is_the_batch(
    make: Callable[[], DetectionTask], objects: tuple[int, ...], parts: int
) -> None:
    task, (images, targets) = make().train(), scene(*objects)
    rows = torch.arange(len(images))
    whole = task(images, targets, rows)
    whole["loss"].backward()
    expected = gradients(task)
    shares = Shown(images, targets, rows).parts(parts)
    divisor = task.divisor(shares)
    said = []
    for share in shares:
        said.append(task(*share, divisor=divisor))
        (said[-1]["loss"] / parts).backward()
    for name, value in terms_of_batch(said).items():
        torch.testing.assert_close(value, whole[name], rtol=1e-5, atol=1e-8, msg=name)
    found = gradients(task)
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-7)
    if 0 < objects.count(0) < 4:  # by its own count each part would weigh as much as the other
        alone = terms_of_batch([task(*share) for share in shares])
        assert not torch.isclose(alone["conf"], whole["conf"], rtol=0.01)


def test_the_divisor_by_hand() -> None:
    criterion = MultiBoxLoss(neg_pos_ratio=3, negatives_for_hard=5)
    labels = torch.zeros(2, 8, dtype=torch.long)
    assert criterion.divisor(labels).item() == 10  # 5 negatives of each image
    assert criterion.divisor(labels, parts=2).item() == 5
    labels[0, :4] = -1  # ignored: 4 candidates are left, and 5 in the other image
    assert criterion.divisor(labels).item() == 9
    labels[1, :3] = 1
    assert criterion.divisor(labels).item() == 3
    assert criterion.divisor(labels, parts=2).item() == 1.5


def test_runs_in_parts_are_runs_in_one_piece(
    drawn: Path, launcher: Launcher, tmp_path: Path
) -> None:
    ways = {"whole": (1, 1), "quarters": (1, 4), "both": (2, 2)}
    found = {}
    for name, (processes, parts) in ways.items():
        words = ["--accumulate", parts, "--epochs", 3, "--freeze-epochs", 1, "--log-every", 1]
        run = request(drawn, tmp_path, name, *words, "--clip-norm", 5)
        run = replace(run, processes=processes)
        assert launcher(run).status == [0] * processes, errors(run)
        found[name] = outcome(tmp_path / name)
    whole = found.pop("whole")
    for name, other in found.items():
        for part in ("task", "average"):
            moved = largest_difference(whole["training"][part], other["training"][part])
            print(f"{name}: largest difference of {part}: {moved:.1e}")
            assert moved < 1e-6, name
        for a, b in zip(whole["metrics"], other["metrics"], strict=True):
            assert a.keys() == b.keys()
            for key in a:
                if not key.startswith("ledger/"):  # of a part
                    assert a[key] == pytest.approx(b[key], rel=1e-5), (name, key)


def test_a_distilled_run_in_parts(drawn: Path, launcher: Launcher, tmp_path: Path) -> None:
    teacher = request(drawn, tmp_path, "teacher", "--epochs", 1)
    assert launcher(teacher).status == [0], errors(teacher)
    # cwd has an adapter without a gradient: that of the map of a single cell.
    words = ["--teacher", tmp_path / "teacher/best.pth", "--distill", "cwd(weight=3)", "attention"]
    words += ["--epochs", 2, "--freeze-epochs", 1, "--no-preflight"]
    states = []
    for count in (1, 2):  # of processes, and of parts in each
        run = request(drawn, tmp_path, str(count), *words, "--accumulate", count)
        run = replace(run, processes=count, script="train_kd")
        assert launcher(run).status == [0] * count, errors(run)
        states.append(outcome(tmp_path / str(count))["training"]["task"])
    assert largest_difference(*states) < 1e-6


def test_a_batch_that_does_not_divide_is_refused(
    drawn: Path, tmp_path: Path, script: Callable[..., int], one_line: Callable[[], str]
) -> None:
    words = request(drawn, tmp_path, "run").arguments
    assert script("train_teacher", *words, "--accumulate", "3") == 2
    line = one_line()
    assert "--batch-size 4 does not divide by the 3 parts of --accumulate that share it" in line
    norms = ["--backbone", "resnet18(width=0.125)", "--accumulate", "4"]
    assert script("train_teacher", *words, *norms) == 2
    assert "need two images in each process and part; use at least 8" in one_line()
