"""Batches follow from the step alone; those without labels go round by themselves."""

import torch

from utils.data.augment import uniforms
from utils.data.order import Order


def epoch(order: Order, number: int) -> list[list[int]]:
    steps = range(number * order.steps, (number + 1) * order.steps)
    return [order.indices(step).tolist() for step in steps]


class TestLabelsAlone:
    def test_an_epoch_is_a_pass_without_the_incomplete_batch(self) -> None:
        order = Order(8, 0, 3, 0, seed=0)
        assert order.steps == 2
        for number in (0, 1):
            found = torch.tensor(epoch(order, number)).flatten().tolist()
            assert len(set(found)) == 6
            assert set(found) <= set(range(8))
        assert epoch(order, 0) != epoch(order, 1)
        assert epoch(order, 0) == epoch(Order(8, 0, 3, 0, seed=0), 0)
        assert epoch(order, 0) != epoch(Order(8, 0, 3, 0, seed=1), 0)

    def test_row_i_of_the_epochs_table_is_image_is(self) -> None:
        order = Order(8, 0, 3, 0, seed=5)
        assert torch.equal(order.rows(1), uniforms(8, 5, 0)[order.indices(1)])
        assert torch.equal(order.rows(2), uniforms(8, 5, 1)[order.indices(2)])


class TestUnlabelled:
    def test_the_labelled_ones_are_those_of_smaller_batches(self) -> None:
        mixed, alone = Order(10, 7, 4, 2, seed=3), Order(10, 0, 2, 0, seed=3)
        assert mixed.steps == alone.steps == 5
        for step in range(12):
            labelled = mixed.indices(step) < 10
            assert mixed.indices(step)[labelled].tolist() == alone.indices(step).tolist()
            assert torch.equal(mixed.rows(step)[labelled], alone.rows(step))

    def test_the_others_go_round_across_batches_and_epochs(self) -> None:
        order = Order(10, 7, 4, 2, seed=3)
        seen = torch.cat([order.indices(step) for step in range(14)])
        places = (seen[seen >= 10] - 10).tolist()  # 14 steps of two images: four passes of seven
        passes = [places[start : start + 7] for start in range(0, 28, 7)]
        assert all(sorted(one) == list(range(7)) for one in passes)
        assert passes[0] != passes[1]

    def test_each_pass_shows_them_in_another_way(self) -> None:
        order = Order(10, 7, 4, 2, seed=3)
        rows: dict[int, list[torch.Tensor]] = {}
        for step in range(14):
            for index, row in zip(order.indices(step).tolist(), order.rows(step), strict=True):
                rows.setdefault(index, []).append(row)
        for index in range(10, 17):
            assert len(rows[index]) == 4
            for number, row in enumerate(rows[index]):
                assert torch.equal(row, uniforms(7, 3, -1 - number)[index - 10])
        every = torch.stack([row for of_image in rows.values() for row in of_image])
        assert len(every.unique(dim=0)) == len(every)

    def test_fewer_than_a_batch_takes(self) -> None:
        order = Order(6, 2, 8, 5, seed=0)  # 3 labelled, 5 of 2 others
        assert order.steps == 2
        found = [i for step in range(4) for i in order.indices(step).tolist() if i >= 6]
        assert all(set(found[start : start + 2]) == {6, 7} for start in range(0, 20, 2))
        assert order.rows(0).shape == (8, uniforms(1, 0, 0).shape[1])

    def test_equal_parts_of_a_batch_have_their_fraction(self) -> None:
        for batch, free in ((8, 4), (12, 3), (12, 5), (16, 15), (6, 1)):
            indices = Order(100, 100, batch, free, seed=0).indices(0)
            assert int((indices >= 100).sum()) == free
            for parts in (2, 3, 4):
                if batch % parts == 0:
                    counts = (indices.view(parts, -1) >= 100).sum(1)
                    assert counts.max() - counts.min() <= 1, (batch, free, parts)
        # Worked by hand: 0, 0, 1, 1, 2 of the first 0 to 4 images are without labels.
        assert (Order(9, 9, 4, 2, seed=0).indices(0) >= 9).tolist() == [False, True, False, True]

    def test_any_step_can_be_asked_for_first(self) -> None:
        through, resumed = Order(10, 7, 4, 2, seed=3), Order(10, 7, 4, 2, seed=3)
        batches = [(through.indices(step), through.rows(step)) for step in range(9)]
        indices, rows = resumed.indices(8), resumed.rows(8)
        assert torch.equal(indices, batches[8][0])
        assert torch.equal(rows, batches[8][1])
