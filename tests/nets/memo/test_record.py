"""A record says what was said, to some part of a step; worked out beside it in a slow float64."""

import math

import pytest
import torch
from torch import Tensor

from nets.memo.codes import from_columns, in_columns, pack, size_in_columns, unpack
from nets.memo.record import FORMAT, LISTED, AnswerRecord, groups
from nets.outputs import Outputs
from nets.priors import LAYOUTS, prior_boxes
from tests.fake_gpu import GPU, fake_gpu

CLASSES = 3


def said(batch: int = 2, priors: int = 8732, classes: int = CLASSES, seed: int = 0) -> Outputs:
    """Outputs as of a trained teacher: background nearly everywhere, nowhere quite."""
    rng = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, priors, classes + 1, generator=rng)
    logits[..., 0] += 4 * torch.rand(batch, priors, generator=rng) + 2
    offsets = torch.randn(batch, priors, 4, generator=rng)
    return Outputs((), logits, offsets)


def mark(priors: int, *indices: int) -> Tensor:
    """`[2, P]`: the same positives in both images."""
    positive = torch.zeros(2, priors, dtype=torch.bool)
    positive[:, list(indices)] = True
    return positive


SKETCHED = 4000


@pytest.fixture(scope="module")
def record() -> AnswerRecord:
    """One in which there is no room for all: see `test_sizes`."""
    return AnswerRecord("paper", CLASSES, most=32 + 8732 + 468 + 400 * 12 + SKETCHED * 2 + 1)


def odds_of(logits: Tensor) -> Tensor:
    """Log odds of anything but background, float64."""
    p = logits.double().softmax(-1)[..., 0]
    return ((1 - p) / p).log()


def test_listed_priors_are_known_to_a_part_of_a_step(record: AnswerRecord) -> None:
    outputs, positive = said(), mark(8732, 0, 4000, 8731)
    heard = record.decode(record.encode(outputs, positive))
    for b in range(2):
        key = odds_of(outputs.logits[b])
        key[positive[b]] = math.inf
        listed = set(key.argsort(descending=True)[:LISTED].tolist())
        assert {0, 4000, 8731} <= listed
        told = {int(i) for i in (heard.offsets[b] != 0).any(-1).nonzero()[:, 0]}
        assert told == listed
        rows = torch.tensor(sorted(listed))
        exact = outputs.logits[b, rows].double()
        exact -= exact.amax(-1, keepdim=True)
        largest = -float(exact.min())
        # v = largest (c / 255)^2 has steps of 2 sqrt(v largest) / 255 (and largest / 255^2 at 0).
        step = 2 * (-exact * largest).sqrt() / 255 + largest / 255**2
        assert ((heard.logits[b, rows] - exact).abs() <= step / 2 + 1e-5).all()
        assert torch.equal(heard.offsets[b, rows], outputs.offsets[b, rows].half().float())


def test_of_all_others_the_odds_of_an_object_are_known(record: AnswerRecord) -> None:
    outputs = said()
    heard = record.decode(record.encode(outputs, mark(8732, 5)))
    for b in range(2):
        others = (heard.offsets[b] == 0).all(-1)
        assert int(others.sum()) == 8732 - LISTED
        exact, told = odds_of(outputs.logits[b])[others], odds_of(heard.logits[b])[others]
        order = exact.argsort(descending=True)
        # Each kind has codes of its own: 128..254 are 126 steps, 0..127 are 127.
        for kind, steps in ((order[:SKETCHED], 126), (order[SKETCHED:], 127)):
            step = float(exact[kind].max() - exact[kind].min()) / steps
            apart = (exact[kind] - told[kind]).abs()
            assert step / 4 < float(apart.max()) <= step / 2 + 1e-4


def test_their_classes_are_shared_as_among_their_neighbours(record: AnswerRecord) -> None:
    outputs = said()
    heard = record.decode(record.encode(outputs, mark(8732)))
    (group, _), logits, odds = (
        groups("paper"),
        outputs.logits[1].double(),
        odds_of(outputs.logits[1]),
    )
    others = torch.ones(8732, dtype=torch.bool)
    others[odds.argsort(descending=True)[: LISTED + SKETCHED]] = False
    for number in (0, 70, 155):
        members = [i for i in range(8732) if group[i] == number and others[i]]
        if not members:
            continue
        weights = [math.exp(float(odds[i]) / 2) for i in members]
        mean = [0.0] * CLASSES
        for i, weight in zip(members, weights, strict=True):
            log_shares = logits[i, 1:].log_softmax(-1)
            for c in range(CLASSES):
                mean[c] += weight * float(log_shares[c]) / sum(weights)
        expected = torch.tensor(mean, dtype=torch.float64).softmax(-1)
        found = heard.logits[1, members[0], 1:].double().softmax(-1)
        torch.testing.assert_close(found, expected, rtol=0.05, atol=0)


def test_groups_are_of_one_shape_and_near_each_other() -> None:
    # Blocks a side: 38 // 5 -> 4, 19 // 5 = 3, 10 // 5 = 2, then 1; of 4 or 6 shapes each.
    (group, count), priors = groups("paper"), prior_boxes("paper")
    assert count == 16 * 4 + 9 * 6 + 4 * 6 + 6 + 4 + 4
    assert (group.bincount(minlength=count) > 0).all()
    assert len(group.unique()) == count
    inside = ((priors[:, :2] - priors[:, 2:] / 2 > 0) & (priors[:, :2] < 1)).all(1)
    for number in (0, 1, 30, 64, 100, 140):
        members = priors[(group == number) & inside]
        assert (members[:, :2].amax(0) - members[:, :2].amin(0)).max() < 0.51
        middle = members[((members[:, :2] > 0.2) & (members[:, :2] < 0.8)).all(1)]
        if len(middle):
            assert (middle[:, 2:] - middle[:1, 2:]).abs().max() < 1e-6


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_has_its_record(layout: str) -> None:
    record, priors = AnswerRecord(layout, 20), len(prior_boxes(layout))
    outputs = said(1, priors, 20)
    records = record.encode(outputs, torch.zeros(1, priors, dtype=torch.bool))
    assert records.shape == (1, record.size)
    assert records.dtype == torch.uint8
    assert record.size <= 40_000
    assert record.decode(records).logits.shape == outputs.logits.shape


def test_sizes() -> None:
    # 32 + 8732 odds + 156 groups * K + 400 * (K + 1 + 8), and K / 2 for each sketched one;
    # with 3 classes: 32 + 8732 + 468 + 4800 + 8332 * 2 = 30696: all of them have room
    record = AnswerRecord("paper", 3)
    assert (record.sketched, record.size) == (8332, 30696)
    # with 6: 32 + 8732 + 936 + 6000 = 15700, so that (40000 - 15700) / 3 have, 24300 bytes
    record = AnswerRecord("paper", 6)
    assert (record.sketched, record.size) == (8100, 40000)
    # with 20: 32 + 8732 + 3120 + 11600 = 23484, so that (40000 - 23484) / 10 = 1651 have
    record = AnswerRecord("paper", 20)
    assert (record.sketched, record.size) == (1651, 39996)  # a multiple of 4
    # with 90, of which there are too many: nobody is sketched but in groups
    assert AnswerRecord("paper", 90).sketched == 0


@pytest.mark.parametrize("classes", [1, 2, 7])
def test_four_bits_a_class(classes: int) -> None:
    codes = torch.randint(0, 16, (2, 5, classes), dtype=torch.uint8)
    packed = pack(codes)
    assert packed.shape == (2, 5, (classes + 1) // 2)
    assert torch.equal(unpack(packed)[..., :classes], codes)
    assert not unpack(packed)[..., classes:].any()


def test_a_byte_a_number_in_columns() -> None:
    # The columns 0, 1, 255 and -10, 500, 10.4: steps of 1 and of 2, the codes 0, 1, 255 and
    # 0, 255, 10 (20.4 / 2 = 10.2).
    values = torch.tensor([[[0.0, -10.0], [1.0, 500.0], [255.0, 10.4]]])
    written = in_columns(values)
    assert written.shape == (1, size_in_columns(3, 2))
    assert written[0, 16:].tolist() == [0, 0, 1, 255, 255, 10]
    heard = torch.tensor([[[0.0, -10.0], [1.0, 500.0], [255.0, 10.0]]])
    torch.testing.assert_close(from_columns(written, 2), heard)
    even = torch.full((2, 3, 1), -7.0)  # no step at all
    torch.testing.assert_close(from_columns(in_columns(even), 1), even, atol=1e-5, rtol=0)


def test_a_whole_record_knows_every_box_and_every_logit(record: AnswerRecord) -> None:
    outputs, positive = said(), mark(8732, 0, 4000, 8731)
    whole = AnswerRecord("paper", CLASSES, most=32 + 8732 + 468 + 400 * 12 + 4000 * 2, whole=True)
    records, shorter = whole.encode(outputs, positive), record.encode(outputs, positive)
    assert records.shape[1] == shorter.shape[1] + 43_700 == whole.size
    heard, less = whole.decode(records), record.decode(shorter)
    listed = (less.offsets != 0).any(-1)
    assert torch.equal(heard.offsets[listed], less.offsets[listed])
    torch.testing.assert_close(heard.logits.softmax(-1), less.logits.softmax(-1))
    for exact, told in (
        (outputs.offsets.double(), heard.offsets.double()),
        (outputs.logits[..., :1].double(), heard.logits[..., :1].double()),
    ):
        step = (exact.amax(1, keepdim=True) - exact.amin(1, keepdim=True)) / 255
        assert ((exact - told).abs() <= step / 2 + 1e-3).all()


@pytest.mark.parametrize("classes", [1, 6, 20])
def test_a_whole_record_by_itself(classes: int) -> None:
    """Its numbers may begin anywhere among the bytes."""
    record = AnswerRecord("paper", classes, whole=True)
    records = record.encode(said(classes=classes), mark(8732, 7))
    whole = record.decode(records)
    for b in range(2):
        part = record.decode(records[b : b + 1])
        assert torch.equal(part.logits[0], whole.logits[b])
        assert torch.equal(part.offsets[0], whole.offsets[b])


def test_what_was_heard_is_said_again(record: AnswerRecord) -> None:
    """Images have no part in each other's records, nor in how they are read."""
    outputs, positive = said(), mark(8732, 7)
    records = record.encode(outputs, positive)
    whole = record.decode(records)
    for b in range(2):
        alone = Outputs((), *(x[b : b + 1] for x in outputs[1:]))
        assert torch.equal(record.encode(alone, positive[b : b + 1]), records[b : b + 1])
        part = record.decode(records[b : b + 1])
        assert torch.equal(part.logits[0], whole.logits[b])
        assert torch.equal(part.offsets[0], whole.offsets[b])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_any_arithmetic_is_written_down(record: AnswerRecord, dtype: torch.dtype) -> None:
    outputs = Outputs((), *(x.to(dtype) for x in said()[1:]))
    as_float = Outputs((), *(x.float() for x in outputs[1:]))
    positive = mark(8732, 7)
    assert torch.equal(record.encode(outputs, positive), record.encode(as_float, positive))


@pytest.mark.parametrize("value", [0.0, 5.0])
def test_a_teacher_that_says_nothing(record: AnswerRecord, value: float) -> None:
    outputs = Outputs((), torch.full((1, 8732, 4), value), torch.zeros(1, 8732, 4))
    heard = record.decode(record.encode(outputs, torch.zeros(1, 8732, dtype=torch.bool)))
    torch.testing.assert_close(heard.logits.softmax(-1), torch.full((1, 8732, 4), 0.25))
    assert not heard.offsets.any()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_not_written_down(record: AnswerRecord, value: float) -> None:
    outputs = said()
    outputs.logits[1, 17, 2] = value
    records = record.encode(outputs, mark(8732, 7))
    assert records[:, 0].tolist() == [FORMAT, 0]
    outputs = said()
    outputs.offsets[0, 17, 2] = value
    assert record.encode(outputs, mark(8732, 7))[:, 0].tolist() == [0, FORMAT]


def test_more_positives_than_are_listed(record: AnswerRecord) -> None:
    heard = record.decode(record.encode(said(), torch.ones(2, 8732, dtype=torch.bool)))
    assert heard.logits.isfinite().all()
    kept = (heard.offsets != 0).any(-1)
    assert kept.sum(1).tolist() == [LISTED] * 2
    odds = odds_of(said().logits)
    for b in range(2):  # of all that answer for an object the likeliest
        assert odds[b][kept[b]].min() >= odds[b][~kept[b]].max() - 0.01


@pytest.mark.parametrize("whole", [False, True])
def test_a_gpu_never_waits(whole: bool) -> None:
    with fake_gpu():
        record = AnswerRecord("paper", CLASSES, whole=whole).to(GPU)
        outputs = Outputs((), *(torch.zeros(2, 8732, n, device=GPU) for n in (CLASSES + 1, 4)))
        positive = torch.zeros(2, 8732, dtype=torch.bool, device=GPU)
        heard = record.decode(record.encode(outputs, positive))
        assert heard.logits.device == heard.offsets.device == GPU
        assert heard.logits.shape == (2, 8732, CLASSES + 1)


def test_shares_of_sketched_priors_have_four_bits(record: AnswerRecord) -> None:
    outputs = said()
    heard = record.decode(record.encode(outputs, mark(8732)))
    for b in range(2):
        order = odds_of(outputs.logits[b]).argsort(descending=True)
        rows = order[LISTED : LISTED + SKETCHED]
        exact = outputs.logits[b, rows, 1:].double()
        exact -= exact.amax(-1, keepdim=True)
        largest = -float(exact.min())
        told = heard.logits[b, rows, 1:].double()
        told -= told.amax(-1, keepdim=True)
        step = 2 * (-exact * largest).sqrt() / 15 + largest / 15**2
        assert ((told - exact).abs() <= step / 2 + 1e-4).all()
