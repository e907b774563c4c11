"""What counts as a difference between PyTorch and the file, and what as a close call."""

import pytest
import torch

from nets.postprocess import Limits
from tools.export.checking import Found, compare, partners

NAMES = ("cat", "dog")


def found(*rows):
    """`(label, score, x1, y1, x2, y2)` each."""
    table = torch.tensor(rows).reshape(-1, 6)
    return Found(table[:, 2:], table[:, 1], table[:, 0].long())


CAT = (1, 0.9, 0.1, 0.1, 0.5, 0.5)
DOG = (2, 0.8, 0.5, 0.5, 0.9, 0.9)


def difference(ours, theirs, limits=None, candidates=None):
    """Every box is a candidate, unless the test says which are."""
    both = Found(*(torch.cat(parts) for parts in zip(ours, theirs, strict=True)))
    return compare(ours, theirs, candidates or both, limits or Limits(), NAMES, "2007_1")


def test_equal_ones_agree_in_any_order():
    assert difference(found(CAT, DOG), found(DOG, CAT)) == []
    assert difference(found(), found()) == []


def test_last_digits_do_not_count():
    near = (1, 0.90009, 0.10009, 0.1, 0.5, 0.5)
    assert difference(found(CAT), found(near)) == []


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ((1, 0.9002, 0.1, 0.1, 0.5, 0.5), "the file has cat 0.900200 at .*, the other one has 0.9"),
        ((1, 0.9, 0.1002, 0.1, 0.5, 0.5), "has cat 0.900000 at .* nearest to it"),
        ((2, 0.9, 0.1, 0.1, 0.5, 0.5), "PyTorch has cat .* has nothing of this class"),
    ],
)
def test_real_differences(other, message):
    with pytest.raises(ValueError, match=f"2007_1: .*{message}"):
        difference(found(CAT), found(other), candidates=found(CAT))


def test_one_that_is_missing_is_a_difference():
    with pytest.raises(ValueError, match="PyTorch has dog"):
        difference(found(CAT, DOG), found(CAT))
    with pytest.raises(ValueError, match="the file has dog"):
        difference(found(CAT), found(CAT, DOG))


def test_each_has_one_partner():
    assert partners(found(CAT, CAT), found(CAT)).tolist() == [0, -1]
    with pytest.raises(ValueError, match="PyTorch has cat"):
        difference(found(CAT, CAT), found(CAT))


def test_a_score_at_the_threshold():
    low = (1, 0.01005, 0.1, 0.1, 0.5, 0.5)
    (reason,) = difference(found(low), found())
    assert reason == "only PyTorch has cat 0.010050: its score is at the threshold of 0.01"


def test_an_overlap_at_the_threshold():
    # 0.2 x 0.4 of 0.4 x 0.4 are shared by a box moved by half its width: IoU 8 / 24 = 1 / 3.
    moved = (1, 0.7, 0.3, 0.1, 0.7, 0.5)
    (reason,) = difference(found(CAT, moved), found(CAT), Limits(iou=1 / 3))
    assert "it overlaps a better one by 0.333333" in reason
    with pytest.raises(ValueError, match="PyTorch has cat"):
        difference(found(CAT, moved), found(CAT), Limits(iou=0.34))
    better = (1, 0.95, *moved[2:])  # does not go
    with pytest.raises(ValueError, match="PyTorch has cat"):
        difference(found(better, CAT), found(CAT), Limits(iou=1 / 3))


def test_equal_scores_may_suppress_one_another():
    moved = (1, 0.90001, 0.15, 0.1, 0.55, 0.5)
    reasons = difference(found(CAT), found(moved))
    assert len(reasons) == 2
    with pytest.raises(ValueError, match="the file has cat"):  # PyTorch knows of no such box
        difference(found(CAT), found(moved), candidates=found(CAT))
    assert all("one of the same score" in reason for reason in reasons)


def test_what_follows_from_a_close_call():
    """The moved one goes or not; where it goes, the third is free."""
    moved, third = (1, 0.7, 0.3, 0.1, 0.7, 0.5), (1, 0.6, 0.35, 0.1, 0.75, 0.5)
    reasons = difference(found(CAT, moved), found(CAT, third), Limits(iou=1 / 3))
    assert "a better one by 0.333333" in reasons[0]
    assert "another close call" in reasons[1]


def test_the_last_that_fits():
    limits = Limits(per_image=1)
    same = (2, 0.9, 0.5, 0.5, 0.9, 0.9)
    assert len(difference(found(CAT), found(same), limits)) == 2
    with pytest.raises(ValueError, match="PyTorch has cat"):
        difference(found(CAT), found(DOG), limits)


def test_the_last_candidate_of_a_class():
    limits = Limits(per_class=2)
    many = found((1, 0.95, *DOG[2:]), CAT, (1, 0.89, *DOG[2:]), (2, 0.9, *DOG[2:]))
    (reason,) = difference(found(CAT), found(), limits, many)
    assert "the last of the 2 candidates" in reason
    with pytest.raises(ValueError, match="PyTorch has cat"):
        difference(found(CAT), found(), candidates=many)
