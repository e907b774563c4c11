"""Every kind of store gives the same batches."""

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.utils.data.scenes import without_labels
from utils.data import store as module
from utils.data.images import load_padded
from utils.data.store import Batch, Store
from utils.data.voc import Sample, read_classes, read_split

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def samples(drawn: Path) -> list[Sample]:
    names = read_classes(drawn / "VOC2007/classes.txt")
    return read_split(drawn, ["VOC2007/train"], names)[0]


@pytest.fixture
def with_difficult(samples: list[Sample]) -> list[Sample]:
    """The same images with the first object of each marked difficult."""
    marked = []
    for sample in samples:
        flags = sample.annotation.difficult.copy()
        flags[:1] = True
        marked.append(replace(sample, annotation=sample.annotation._replace(difficult=flags)))
    return marked


def test_every_kind_of_store_gives_the_same_batches(samples: list[Sample]) -> None:
    order = [torch.tensor([5, 0, 3]), torch.tensor([7]), torch.tensor([1, 2])] * 3
    stores = [Store(samples, CPU, cache=cache) for cache in ("ram", "none", "device")]
    for batches in zip(*(store.batches(order) for store in stores), strict=True):
        for other in batches[1:]:
            assert_equal(batches[0], other)


def test_images_lie_channels_last(samples: list[Sample]) -> None:
    for cache in ("ram", "none"):
        (batch,) = Store(samples, CPU, cache=cache).batches([torch.arange(3)])
        assert batch.images.shape[:2] == (3, 3)
        assert batch.images.is_contiguous(memory_format=torch.channels_last)


def test_what_is_in_memory_needs_no_threads_on_a_cpu(samples: list[Sample]) -> None:
    before = threading.active_count()
    stream = Store(samples, CPU, cache="ram").batches([torch.arange(3)] * 2)
    next(stream)
    assert threading.active_count() == before


def test_threads_fetch_from_memory_for_another_device(samples: list[Sample]) -> None:
    order = [torch.tensor([5, 0, 3]), torch.tensor([7])] * 3
    store = Store(samples, torch.device("meta"), cache="ram")  # as a GPU is: another one
    assert [batch.images.device.type for batch in store.batches(order)] == ["meta"] * 6
    expected = Store(samples, CPU, cache="ram").batches(order)
    for images, batch in zip(store._fetched(order), expected, strict=True):
        assert torch.equal(images.permute(0, 3, 1, 2), batch.images)


@pytest.mark.gpu
def test_a_gpu_gets_the_same_batches_from_every_kind_of_store(samples: list[Sample]) -> None:
    gpu, order = torch.device("cuda"), list(torch.randint(0, 8, (40, 3)))
    expected = list(Store(samples, CPU, cache="ram").batches(order))
    for cache in ("device", "ram", "none"):
        # No batch is looked at before all are there: none may be overwritten on its way.
        found = list(Store(samples, gpu, cache=cache).batches(order))
        for a, b in zip(expected, found, strict=True):
            assert torch.equal(a.images, b.images.cpu())
            assert torch.equal(a.targets.boxes, b.targets.boxes.cpu())


def assert_equal(a: Batch, b: Batch) -> None:
    """Bit for bit."""
    assert torch.equal(a.images, b.images)
    assert torch.equal(a.sizes, b.sizes)
    assert torch.equal(a.indices, b.indices)
    assert all(torch.equal(x, y) for x, y in zip(a.targets, b.targets, strict=True))


def test_a_batch_holds_what_the_files_hold(samples: list[Sample]) -> None:
    store = Store(samples, CPU, cache="none", difficult="train")
    (batch,) = store.batches([torch.tensor([4, 6])])
    for row, i in enumerate((4, 6)):
        square = np.empty((store.side, store.side, 3), np.uint8)
        size = load_padded(samples[i].image, square)
        assert torch.equal(batch.images[row], torch.from_numpy(square).permute(2, 0, 1))
        assert tuple(batch.sizes[row].tolist()) == size
        truth = samples[i].annotation
        count = len(truth.labels)
        assert batch.targets.labels[row, :count].tolist() == truth.labels.tolist()
        assert not batch.targets.labels[row, count:].any()
        assert torch.equal(batch.targets.boxes[row, :count], torch.from_numpy(truth.boxes))


def test_large_images_shrink_with_their_boxes(
    samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LARGEST_SIDE", 100)
    store = Store(samples, CPU, cache="ram", difficult="train")
    assert store.side == 100
    (batch,) = store.batches([torch.arange(len(samples))])
    for row, sample in enumerate(samples):
        truth = sample.annotation
        scale = 100 / max(truth.width, truth.height)
        expected = torch.from_numpy(truth.boxes) * scale
        found = batch.targets.boxes[row, : len(expected)]
        torch.testing.assert_close(found, expected, atol=1.0, rtol=0.02)


def test_difficult_objects_are_targets_only_when_asked_for(
    with_difficult: list[Sample],
) -> None:
    samples = with_difficult
    flags = [sample.annotation.difficult for sample in samples]
    easy = sum(int((~flag).sum()) for flag in flags)
    every = sum(len(flag) for flag in flags)
    assert 0 < easy < every
    assert int((Store(samples, CPU).targets.labels > 0).sum()) == easy
    assert int((Store(samples, CPU, difficult="train").targets.labels > 0).sum()) == every
    assert int((Store(samples, CPU).targets.labels == -1).sum()) == every - easy
    left_out = Store(samples, CPU, difficult="background").targets.labels
    assert int((left_out != 0).sum()) == int((left_out > 0).sum()) == easy


def test_images_without_labels_are_told_from_those_without_objects(samples: list[Sample]) -> None:
    mixed = [*samples[:5], *map(without_labels, samples[5:])]
    order = [torch.tensor([6, 0, 5])]
    store, labelled = Store(mixed, CPU), Store(samples, CPU)
    (batch,), (known,) = store.batches(order), labelled.batches(order)
    assert store.labelled == 5
    assert batch.unlabelled is not None
    assert batch.unlabelled.tolist() == [True, False, True]
    assert known.unlabelled is None
    assert torch.equal(batch.images, known.images)
    assert not batch.targets.labels[[0, 2]].any()
    most = batch.targets.labels.shape[1]
    assert batch.targets.labels[1].tolist() == known.targets.labels[1, :most].tolist()
    for unlabelled in store.batches([torch.tensor([5, 7])]):
        assert unlabelled.targets.boxes.shape == (2, 0, 4)
    alone = Store([without_labels(sample) for sample in samples[:2]], CPU)
    assert alone.labelled == 0


def test_a_bad_image_is_an_error_that_names_it(samples: list[Sample], tmp_path: Path) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(samples[0].image.read_bytes()[:500])
    broken = [*samples, Sample("VOC2007/bad", bad, samples[0].annotation)]
    with pytest.raises(ValueError, match=r"bad\.jpg: the image cannot be decoded"):
        Store(broken, CPU, cache="ram")
    store = Store(broken, CPU, cache="none")
    with pytest.raises(ValueError, match=r"bad\.jpg"):
        list(store.batches([torch.tensor([0]), torch.tensor([8])]))
