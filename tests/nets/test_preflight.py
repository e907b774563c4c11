"""A look before the first step: it warns of what would make distillation pointless, no more."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from nets.preflight import judge_shares
from nets.preflight.teacher import MixedUp
from nets.preflight.unlabelled import judged
from utils.engine.runs.checkpoint import load_tensors

TINY = "resnet18(width=0.125)"


def seen_by(labels: list[int], truth: list[int]) -> MixedUp:
    """Perfect boxes with these labels in an image of three classes."""
    evaluator = MixedUp(("a", "b", "c"))
    boxes = np.array([[10.0 * i, 0, 10 * i + 8, 8] for i in range(len(labels))])
    evaluator.update(
        "1",
        boxes=boxes,
        scores=np.linspace(0.9, 0.5, len(labels)),
        labels=np.array(labels),
        truth_boxes=boxes,
        truth_labels=np.array(truth),
        difficult=np.zeros(len(truth)),
    )
    return evaluator


def test_a_class_list_off_by_one_shows() -> None:
    evaluator = seen_by(labels=[2, 3, 1], truth=[1, 2, 3])
    assert evaluator.result("voc07").mean == 0
    assert evaluator.best_move() == (1.0, 2)  # 2 -> 1, 3 -> 2, 1 -> 3: each moved by -1, or by 2


def test_a_good_teacher_is_above_its_mixed_up_classes() -> None:
    evaluator = seen_by(labels=[1, 2, 3], truth=[1, 2, 3])
    assert evaluator.result("voc07").mean == pytest.approx(1)
    assert evaluator.best_move()[0] == 0


def test_one_class_cannot_be_mixed_up() -> None:
    assert MixedUp(("only",)).best_move() == (0.0, 0)


def test_shares_worth_a_warning() -> None:
    weights = {"soft": 0.3, "conf": 0.7, "l2": 0.0}
    shares = {"soft": 0.001, "conf": 0.999, "l2": 0.0}
    silent, loud = judge_shares({f"ledger/share/{k}": v for k, v in shares.items()}, weights)
    assert silent.startswith("soft has 0.1 % of the gradient and will hardly be heard")
    assert loud.startswith("conf has 100 % of the gradient and drowns the other terms")
    balanced = {"soft": 0.3, "conf": 0.7, "l2": 0.0}
    assert judge_shares({f"ledger/share/{k}": v for k, v in balanced.items()}, weights) == []
    assert judge_shares({"ledger/share/conf": 1.0}, {"conf": 1.0}) == []


def test_a_share_that_cannot_be_had_is_worth_one_too() -> None:
    weights = {"soft": 0.3, "conf": 0.7, "cwd": 1.0}
    terms = {"ledger/share/soft": 0.001, "ledger/share/conf": 0.999, "ledger/share/cwd": 0.0}
    terms |= {"weight/soft": 9.0, "weight/cwd": 1.0}
    (loud, none) = judge_shares(terms, weights, ("soft", "cwd"))
    assert loud.startswith("conf has 100 %")
    assert none.startswith("cwd has no gradient at the source maps here, so --share cannot decide")
    assert none.endswith("its weight: it stays 1 until there is one")


@pytest.fixture
def words(drawn: Path, untrained: Path, tmp_path: Path) -> list[object]:
    """Flags of train_kd.py."""
    shared = ["--data", drawn, "--train", "VOC2007/train", "--val", "VOC2007/val", "--epochs", 1]
    shared += ["--classes", drawn / "VOC2007/classes.txt", "--no-pretrained", "--device", "cpu"]
    shared += ["--batch-size", 4, "--backbone", TINY, "--logs", tmp_path]
    return [*shared, "--teacher", untrained]


def test_the_look_changes_nothing(
    words: list[object],
    tmp_path: Path,
    script: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    capsys.readouterr()
    words += ["--share", "soft=0.3"]
    assert script("train_kd", *words, "--name", "with") == 0
    shown = capsys.readouterr().out
    assert "preflight: the teacher is frozen and in evaluation mode" in shown
    assert "preflight: at the start, gradient shares soft " in shown
    assert "WARNING: the teacher's mAP" in shown  # it knows nothing
    assert script("train_kd", *words, "--name", "without", "--no-preflight") == 0
    assert "preflight:" not in capsys.readouterr().out
    one, two = (load_tensors(tmp_path / name / "last.pth") for name in ("with", "without"))
    assert one["model"].keys() == two["model"].keys()
    for name, value in one["model"].items():
        assert torch.equal(value, two["model"][name]), name


def test_shares_are_looked_at_as_the_first_step_has_them(
    words: list[object], script: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    asked = ["--distill", "cwd(maps=(0, 1))", "attention(maps=(5,))"]
    asked += ["--share", "soft=0.4, cwd=0.2", "attention=0.1"]
    assert script("train_kd", *words, *asked, "--ledger-every", 1) == 0
    shown = capsys.readouterr().out
    (look,) = [x for x in shown.splitlines() if x.startswith("preflight: at the start")]
    assert " soft 40 % " in look
    assert " cwd 20 % " in look
    assert " attention 0 % " in look  # of a single cell it is always 1
    (line,) = [x for x in shown.splitlines() if "--share begins with" in x]
    assert line.startswith("preflight: weights that --share begins with: soft ")
    assert line.endswith(" attention 1")
    assert shown.count("attention has no gradient at the source maps here") == 1
    assert shown.count("--share attention: never had a gradient at the source maps") == 1


def test_a_teacher_that_speaks_later_is_looked_at_when_it_does(
    words: list[object], script: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    late = ["--distill", "hint", "--epochs", 2, "--kd-epochs", -1]
    assert script("train_kd", *words, *late) == 0
    (look,) = [x for x in capsys.readouterr().out.splitlines() if "gradient shares" in x][:1]
    assert look.startswith("preflight: at the start, gradient shares")
    assert " hint 0 %" not in look


def test_without_validation_images_the_teacher_sees_those_of_training(
    words: list[object], script: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert script("train_kd", *words) == 0
    assert "preflight: teacher's mAP on 4 validation images" in capsys.readouterr().out
    assert script("train_kd", *words, "--name", "all", "--val") == 0
    assert "preflight: teacher's mAP on 8 training images" in capsys.readouterr().out


def test_a_student_that_is_no_worse_than_its_teacher_is_noticed(
    words: list[object],
    untrained: Path,
    script: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert script("train_kd", *words, "--weights", untrained) == 0
    assert "a better teacher is needed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (0, "finds no object in any"),
        (1, "finds only 1 objects"),
        (4, None),
        (12, None),
        (13, "finds 13 objects in an unlabelled image, labelled ones have 4"),
    ],
)
def test_how_many_objects_pictures_without_labels_may_have(found: int, said: str | None) -> None:
    warnings = judged([torch.full((found,), 0.9)] * 3, 0.5, 4.1 if found == 1 else 4.0)
    assert [said in warning for warning in warnings if said] == ([True] if said else [])
    assert bool(warnings) is (said is not None)
