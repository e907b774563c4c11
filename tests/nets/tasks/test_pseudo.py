"""Objects that nobody has labelled: worked by hand, and beside what an evaluation detects."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from nets.outputs import Detections, Outputs, Targets
from nets.postprocess import postprocess
from nets.priors import prior_boxes
from nets.tasks import pseudo as module
from nets.tasks.pseudo import completed, doubted, pseudo_objects

# Five priors, cxcywh: two that overlap by 0.6, one that overlaps neither, and two at its place.
PRIORS = torch.tensor(
    [
        [0.2, 0.2, 0.2, 0.2],
        [0.25, 0.2, 0.2, 0.2],  # 0.15 of 0.25 across: IoU 0.15 / 0.25 = 0.6
        [0.7, 0.7, 0.2, 0.2],
        [0.7, 0.7, 0.2, 0.2],
        [0.7, 0.7, 0.2, 0.2],
    ]
)


def said(*rows: list[tuple[float, float]]) -> Outputs:
    """An image of two classes for each row: the probabilities of both for each prior."""
    classes = torch.tensor(rows)
    background = 1 - classes.sum(-1, keepdim=True)
    logits = torch.cat((background, classes), -1).log()
    return Outputs((), logits, torch.zeros(len(rows), len(PRIORS), 4))


NOTHING = (0.01, 0.01)
SCENE = [(0.6, 0.1), (0.9, 0.05), (0.1, 0.55), (0.7, 0.1), NOTHING]
EVERY = torch.ones(1, dtype=torch.bool)


def found(detections: Detections, image: int = 0) -> list[tuple[int, float, list[float]]]:
    boxes, scores, labels = (x[image] for x in detections)
    real = labels > 0
    triples = zip(labels[real].tolist(), scores[real].tolist(), boxes[real].tolist(), strict=True)
    return [(k, round(s, 4), [round(v, 4) for v in box]) for k, s, box in triples]


@pytest.fixture(params=[False, True], ids=["values decide", "shapes never change"])
def _both_forms(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param:
        monkeypatch.setattr(module, "looks_at_all", lambda _: True)


@pytest.mark.usefixtures("_both_forms")
class TestByHand:
    def test_the_surest_of_a_class_hides_what_overlaps_it(self) -> None:
        detections = pseudo_objects(said(SCENE), PRIORS, 0.5, EVERY)
        # Prior 1 hides prior 0; prior 3 hides nothing, since prior 2 is of the other class.
        assert found(detections) == [
            (1, 0.9, [0.15, 0.1, 0.35, 0.3]),
            (1, 0.7, [0.6, 0.6, 0.8, 0.8]),
            (2, 0.55, [0.6, 0.6, 0.8, 0.8]),
        ]

    def test_the_score_is_reached_or_not(self) -> None:
        outputs = said(SCENE)
        exact = outputs.logits.softmax(-1)[0, 1, 1].item()
        assert [s for _, s, _ in found(pseudo_objects(outputs, PRIORS, exact, EVERY))] == [0.9]
        assert found(pseudo_objects(outputs, PRIORS, exact + 1e-6, EVERY)) == []
        # One that is below it hides nothing, and what hides it is not there at all.
        scores = [s for _, s, _ in found(pseudo_objects(outputs, PRIORS, 0.65, EVERY))]
        assert scores == [0.9, 0.7]

    def test_a_prior_speaks_for_its_likeliest_class(self) -> None:
        outputs = said([(0.45, 0.4), NOTHING, NOTHING, NOTHING, (0.3, 0.35)])
        labels = [(k, s) for k, s, _ in found(pseudo_objects(outputs, PRIORS, 0.2, EVERY))]
        assert labels == [(1, 0.45), (2, 0.35)]

    def test_images_that_are_not_asked_for_have_nothing(self) -> None:
        outputs = said(SCENE, SCENE)
        detections = pseudo_objects(outputs, PRIORS, 0.5, torch.tensor([False, True]))
        assert found(detections, 0) == []
        assert len(found(detections, 1)) == 3

    def test_boxes_end_at_the_image(self) -> None:
        outputs = said([NOTHING, NOTHING, (0.9, 0.05), NOTHING, NOTHING])
        # 20 x 0.1 x 0.2 = 0.4 to the right: the centre is at 1.1, the left edge at 1.
        outputs.offsets[0, 2, 0] = 20
        ((label, _, box),) = found(pseudo_objects(outputs, PRIORS, 0.5, EVERY))
        assert (label, box) == (1, [1.0, 0.6, 1.0, 0.8])

    def test_nothing_at_all(self) -> None:
        detections = pseudo_objects(said([NOTHING] * 5), PRIORS, 0.5, EVERY)
        assert found(detections) == []
        assert not detections.boxes.any()

    def test_what_is_no_number_is_no_object(self) -> None:
        outputs = said(SCENE)
        outputs.logits[0, 0] = torch.nan
        assert len(found(pseudo_objects(outputs, PRIORS, 0.5, EVERY))) == 3

    def test_so_many_at_most(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "SLOTS", 2)
        detections = pseudo_objects(said(SCENE), PRIORS, 0.5, EVERY)
        assert detections.labels.shape == (1, 2)
        assert [s for _, s, _ in found(detections)] == [0.9, 0.7]


def scene(seed: int, images: int = 3, layout: str = "paper") -> tuple[Outputs, Tensor]:
    """Outputs with some sure priors, in half of the images close together."""
    rng = torch.Generator().manual_seed(seed)
    priors = prior_boxes(layout)
    logits = torch.randn(images, len(priors), 5, generator=rng)
    logits[..., 0] += 6
    sure = torch.rand(images, len(priors), generator=rng) < 0.01
    logits[..., 1:][sure] += 6 * torch.rand(int(sure.sum()), 4, generator=rng)
    offsets = torch.randn(images, len(priors), 4, generator=rng) / 3
    return Outputs((), logits, offsets), priors


@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("score", [0.5, 0.7])
def test_it_is_what_an_evaluation_detects(
    score: float, static: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "looks_at_all", lambda _: static)
    monkeypatch.setattr(module, "SLOTS", 30)
    for seed in range(3):
        outputs, priors = scene(seed)
        expected = postprocess(outputs, priors, score, per_image=30)
        detections = pseudo_objects(outputs, priors, score, torch.ones(3, dtype=torch.bool))
        assert (expected.labels > 0).sum(1).max() > 3
        for image in range(3):
            assert found(detections, image) == found(expected, image)


def test_half_precision_is_judged_in_float32() -> None:
    outputs, priors = scene(0)
    halves = Outputs((), outputs.logits.bfloat16(), outputs.offsets.bfloat16())
    detections = pseudo_objects(halves, priors, 0.5, torch.ones(3, dtype=torch.bool))
    assert detections.scores.dtype == detections.boxes.dtype == torch.float32
    floats = Outputs((), halves.logits.float(), halves.offsets.float())
    expected = pseudo_objects(floats, priors, 0.5, torch.ones(3, dtype=torch.bool))
    assert all(map(torch.equal, detections, expected))


def test_what_is_in_doubt_is_nobodys_object() -> None:
    scores, labels = torch.tensor([[0.9, 0.5, 0.49, 0.2, 0.0]]), torch.tensor([[2, 1, 3, 1, 0]])
    found = Detections(torch.rand(1, 5, 4), scores, labels)
    boxes, same, marked = doubted(found, 0.5)
    assert marked.tolist() == [[2, 1, -1, -1, 0]]
    assert torch.equal(boxes, found.boxes)
    assert torch.equal(same, scores)
    assert labels.tolist() == [[2, 1, 3, 1, 0]]  # those that came in are as they were


class TestCompleted:
    LABELLED = Targets(torch.rand(2, 3, 4), torch.tensor([[1, -1, 2], [0, 0, 0]]))
    SECOND = torch.tensor([False, True])

    @staticmethod
    def seen(count: int) -> Detections:
        labels = torch.zeros(2, count, dtype=torch.long)
        labels[1, :2] = torch.tensor([2, 1])
        return Detections(torch.rand(2, count, 4), torch.rand(2, count), labels)

    @pytest.mark.parametrize("count", [2, 3, 5])
    def test_only_images_without_labels_get_what_was_found(self, count: int) -> None:
        seen = self.seen(count)
        boxes, labels = completed(self.LABELLED, self.SECOND, seen)
        assert labels.shape == (2, max(3, count))
        assert labels[0].tolist()[:3] == [1, -1, 2]
        assert labels[1].tolist()[:2] == [2, 1]
        assert not labels[:, 3:].any()
        assert torch.equal(boxes[0, :3], self.LABELLED.boxes[0])
        assert torch.equal(boxes[1, :2], seen.boxes[1, :2])

    def test_nothing_found_is_an_image_without_objects(self) -> None:
        none = Detections(torch.zeros(2, 0, 4), torch.zeros(2, 0), torch.zeros(2, 0).long())
        boxes, labels = completed(self.LABELLED, self.SECOND, none)
        assert labels.tolist() == [[1, -1, 2], [0, 0, 0]]
        assert not boxes[1].any()


@pytest.fixture
def _fresh() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.usefixtures("_fresh")
def test_it_is_one_graph_for_all_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SLOTS", 6)

    def objects(outputs: Outputs, priors: Tensor, wanted: Tensor) -> Detections:
        return pseudo_objects(outputs, priors, 0.5, wanted)

    compiled = torch.compile(objects, fullgraph=True, backend="eager")
    wanted = torch.tensor([True, False, True])
    first = compiled(*scene(0), wanted)
    assert first.labels.shape == (3, 6)
    with torch.compiler.set_stance("fail_on_recompile"):
        for seed in (1, 2):
            outputs, priors = scene(seed)
            detections = compiled(outputs, priors, wanted.roll(seed))
            for image in range(3):
                expected = pseudo_objects(outputs, priors, 0.5, wanted.roll(seed))
                assert found(detections, image) == found(expected, image)
