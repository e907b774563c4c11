"""Both orders of work lead to the same numbers: all rows with a mask, and the marked ones alone."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from nets.matching import match
from nets.multibox_loss import MultiBoxLoss, mine_hard_negatives
from nets.multibox_loss_kd import MultiBoxLoss_KD
from nets.outputs import Outputs
from nets.priors import prior_boxes
from nets.rows import Rows, in_order, largest_of_rows, largest_place, over_classes
from tests.nets.test_matching import random_scene
from tests.nets.test_multibox_loss import random_batch

USERS = ("nets.rows", "nets.matching", "nets.multibox_loss")  # of `looks_at_all`


@pytest.fixture
def both(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], tuple[object, ...]]:
    """What a function returns where all rows are looked at, and where few are."""

    def run(work: Callable[[], object]) -> tuple[object, ...]:
        results = []
        for everything in (True, False):
            with monkeypatch.context() as patch:
                for user in USERS:
                    patch.setattr(f"{user}.looks_at_all", lambda _, all_=everything: all_)
                results.append(work())
        return tuple(results)

    return run


class TestRows:
    def test_hand_worked(self, both):
        mask = torch.tensor([[True, False], [False, True]])
        values = torch.tensor([[1.0, torch.nan], [torch.inf, 4.0]])

        def work() -> tuple[list[int], float]:
            rows = Rows(mask)
            squares = rows.take(values) ** 2
            return list(squares.shape), rows.total(squares).item()

        assert both(work) == (([4], 17.0), ([2], 17.0))  # 1 + 16

    def test_nothing_is_marked(self, both):
        mask = torch.zeros(2, 3, dtype=torch.bool)
        assert both(lambda: Rows(mask).total(Rows(mask).take(torch.ones(2, 3))).item()) == (0, 0)

    def test_the_largest(self, both):
        values = torch.tensor([[3.0, 1, 2], [5, 5, -1]])
        counts = torch.tensor([[2], [3]])
        for found in both(lambda: largest_of_rows(values, counts)):
            assert found.tolist() == [[2], [-1]]
        # Below 1 the largest, above P the smallest.
        for found in both(lambda: largest_of_rows(values, torch.tensor([[0], [9]]))):
            assert found.tolist() == [[3], [-1]]

    def test_equal_ones_are_in_the_order_of_their_places(self, both):
        values = torch.tensor([[255, 0, 7, 0, 255], [3, 2, 1, 1, 0]], dtype=torch.uint8)
        for found in both(lambda: in_order(values)):
            assert found.tolist() == [[1, 3, 2, 0, 4], [4, 2, 3, 1, 0]]

    def test_the_place_of_the_largest_is_the_first(self, both):
        values = torch.tensor([[[3.0, 1, 3], [5, 7, 7]], [[0, 0, 0], [-1, -2, -1]]])
        for found in both(lambda: largest_place(values)):
            assert found.tolist() == [[0, 1], [0, 0]]

    @pytest.mark.parametrize("columns", [1, 7, 16, 21])
    @pytest.mark.parametrize("softmax", [torch.softmax, torch.log_softmax])
    def test_over_classes(self, both, columns, softmax):
        logits = 5 * torch.randn(2, 30, columns, generator=torch.Generator().manual_seed(0))
        expected = softmax(logits.double(), -1)
        for found in both(lambda: over_classes(softmax, logits)):
            torch.testing.assert_close(found.double(), expected, atol=1e-6, rtol=1e-6)


def gradients(loss: Callable[[Outputs], dict[str, Tensor]], outputs: Outputs) -> list[Tensor]:
    """The terms, and the gradients of their sum at logits and offsets."""
    leaves = [x.detach().clone().requires_grad_() for x in outputs[1:]]
    terms = loss(Outputs((), *leaves))
    torch.stack(list(terms.values())).sum().backward()
    return [*(term.detach() for term in terms.values()), *(leaf.grad for leaf in leaves)]


@pytest.mark.parametrize("positives", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_losses_and_gradients(both, positives, temperature):
    outputs, matches = random_batch(4, 200, seed=1, positives=positives)
    teacher, _ = random_batch(4, 200, seed=2)
    matches.labels[:, ::7] = -1  # ignored
    distilled = MultiBoxLoss_KD(temperature=temperature, reg_m=0.3)
    for loss in (
        lambda o: MultiBoxLoss()(o, matches),
        lambda o: distilled(o, teacher, matches),
        lambda o: (
            distilled.watch(o, teacher, matches, distilled.select(o, matches))
            | {"kept": o.logits.sum() + o.offsets.sum()}
        ),
    ):
        masked, gathered = both(lambda loss=loss: gradients(loss, outputs))
        for a, b in zip(masked, gathered, strict=True):
            torch.testing.assert_close(a, b)


def test_mining_is_equal_to_the_last_tie(both):
    # The two add columns up in their own order, so equal losses must come of equal columns.
    few = torch.randn(5, 300, 2, generator=torch.Generator().manual_seed(0)).round()
    logits = few[..., [0, 1, 1, 1]]
    labels = (torch.arange(300) % 60 == 0).long().repeat(5, 1)
    labels[1], labels[2, 50:] = 0, 1
    for ratio in (0, 0.5, 3, 1000):
        a, b = both(lambda ratio=ratio: mine_hard_negatives(logits, labels, ratio))
        assert torch.equal(a, b)
    # A logit that is no number must show in the loss, so it is chosen.
    logits[0, 7] = torch.nan
    for mined in both(lambda: mine_hard_negatives(logits, labels)):
        assert mined[0, 7]


@pytest.mark.parametrize("seed", range(3))
def test_matching(both, seed):
    scene = random_scene(4, 5, seed)
    scene.labels[:, 1] = scene.labels[:, 1].clamp(max=1) * -1
    masked, gathered = both(lambda: match(scene, prior_boxes().double()))
    assert torch.equal(masked.labels, gathered.labels)
    assert torch.equal(masked.offsets, gathered.offsets)
    positive = masked.labels > 0  # elsewhere the objects mean nothing
    assert torch.equal(masked.objects[positive], gathered.objects[positive])
