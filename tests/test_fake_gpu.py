"""A GPU's training step never waits and never leaves its device; tested on any machine.

The registries say what is tested: a new backbone or distiller is covered by itself.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from nets.backbones import BACKBONES
from nets.foreign.bubbliiiing import FOREIGN_BACKBONES
from nets.priors import LAYOUTS
from nets.ssd import SSD300, serves
from nets.tasks import DetectionTask
from tests.fake_gpu import GPU, Waits, fake_gpu
from tests.gpu.scenes import TASKS, distilled
from tests.utils.data.scenes import without_labels
from utils import spec
from utils.config import DistillConfig, TrainConfig
from utils.data.store import Batch, Store
from utils.data.voc import read_classes, read_split
from utils.engine.trainer import Trainer
from utils.runtime.device import Precision

KNOWN = BACKBONES | FOREIGN_BACKBONES
DTYPES = (None, torch.bfloat16, torch.float16)


@pytest.mark.parametrize(
    "work",
    [
        lambda x: x.sum().item(),
        lambda x: bool((x > 0).any()),
        lambda x: x.tolist(),
        lambda x: x.nonzero(),
        lambda x: x[x > 0],
        lambda x: torch.equal(x, x),
        lambda x: x.unique(),
        lambda x: x.cpu(),
        lambda x: x.new_tensor(1.0),
        lambda x: torch.tensor([1.0], device=x.device),
        lambda x: torch.zeros(3, 4).to(x.device),
        lambda x: x.copy_(torch.zeros(3, 4)),
        lambda x: x[torch.tensor([0, 2])],
        lambda x: x.__setitem__(x > 0, x[0]),
        lambda x: x + torch.zeros(3, 4),  # two devices
    ],
)
def test_the_fake_gpu_notices(work: Callable[[Tensor], object]) -> None:
    with fake_gpu():
        x = torch.zeros(3, 4, device=GPU)
        with pytest.raises((Waits, RuntimeError)):  # FakeTensorMode's are RuntimeErrors
            work(x)


def test_the_fake_gpu_lets_pass_what_does_not_wait() -> None:
    with fake_gpu():
        x = torch.zeros(3, 4, device=GPU)
        x[x > 1] = 0.0  # a fill
        x.copy_(torch.zeros(3, 4), non_blocking=True)
        assert x[torch.arange(2, device=GPU)].device == GPU
        assert torch.where(x > 0, x, 1.0).to(torch.float64).device == GPU


@pytest.mark.parametrize("name", KNOWN)
def test_every_backbone_stays_on_its_gpu(name: str) -> None:
    with fake_gpu():
        backbone = spec.build(name, KNOWN, "backbone", pretrained=False)
        layout = next(k for k, v in LAYOUTS.items() if serves(backbone, v.grids))
        model = SSD300(name, layout=layout).to(GPU)
        for dtype in DTYPES:
            with Precision(GPU, dtype).autocast():
                outputs = model(torch.zeros(2, 3, 300, 300, device=GPU))
            assert outputs.logits.shape == (2, len(model.priors), 21)
            assert {x.device for x in (*outputs.features, *outputs[1:])} == {GPU}
            assert outputs.logits.dtype == (dtype or torch.float32)


class FakeStore(Store):
    """A store whose batches lie on a fake GPU."""

    ready: Batch

    def batches(self, order: Iterable[Tensor]) -> Iterator[Batch]:
        """The same batch, as often as one is asked for."""
        return (self.ready for _ in order)


@pytest.fixture(scope="module")
def store(drawn: Path) -> FakeStore:
    names = read_classes(drawn / "VOC2007/classes.txt")
    samples, _ = read_split(drawn, ["VOC2007/train"], names)
    return FakeStore(samples, torch.device("cpu"), cache="ram")


def train(
    task: DetectionTask, store: FakeStore, config: TrainConfig, dtype: torch.dtype | None
) -> Trainer:
    """An epoch of one step, with the ledger; its losses stay unread."""
    (batch,) = Store.batches(store, [torch.arange(8)])

    def move(mask: Tensor | None) -> Tensor | None:
        return None if mask is None else mask.to(GPU, non_blocking=True)

    with fake_gpu():
        store.ready = batch._replace(
            images=batch.images.to(GPU, non_blocking=True),
            sizes=batch.sizes.to(GPU, non_blocking=True),
            targets=batch.targets.to(GPU, non_blocking=True),
            unlabelled=move(batch.unlabelled),
        )
        task.to(GPU)
        trainer = Trainer(task, store, config, Precision(GPU, dtype))
        trainer.read = dict  # type: ignore[method-assign]  # the one place where training waits
        trainer.train_steps()
    assert trainer.position == 1
    return trainer


@pytest.mark.parametrize("name", TASKS)
def test_no_objective_makes_the_cpu_wait(name: str, store: FakeStore) -> None:
    config = TrainConfig(batch_size=8, epochs=1, optimizer="adamw", ema=0.99, ledger_every=1)
    trainer = train(TASKS[name](), store, config, torch.bfloat16)
    ((terms, _),) = trainer.readings.pending
    assert terms.device == GPU
    assert trainer.ledger.pending
    assert trainer.average is not None
    assert {x.device for x in trainer.average.model.state_dict().values()} == {GPU}
    for state in trainer.optimizer.state.values():
        assert state["exp_avg"].device == GPU


def test_weights_that_follow_shares_do_not_wait_either(store: FakeStore) -> None:
    config = TrainConfig(batch_size=8, epochs=1, ledger_every=1, accumulate=2)
    trainer = train(distilled("cwd", shares={"soft": 0.4, "cwd": 0.2}), store, config, None)
    ((terms, _),) = trainer.readings.pending
    assert terms.device == GPU
    assert {"weight/soft", "weight/cwd"} <= set(trainer.readings.names)


def test_a_batch_in_parts_does_not_wait_either(store: FakeStore) -> None:
    config = TrainConfig(batch_size=8, epochs=1, accumulate=4, clip_norm=1.0)
    trainer = train(distilled(), store, config, torch.bfloat16)
    ((terms, _),) = trainer.readings.pending
    assert terms.device == GPU


@pytest.mark.parametrize(("layout", "parts"), [("paper", 2), ("bubbliiiing", 1)])
def test_objects_of_images_without_labels_are_found_without_waiting(
    layout: str, parts: int, store: FakeStore
) -> None:
    samples = [*store.samples[:4], *(without_labels(s) for s in store.samples[4:])]
    mixed = FakeStore(samples, torch.device("cpu"), cache="ram")
    config = DistillConfig(batch_size=8, epochs=1, unlabelled=("x",), accumulate=parts)
    trainer = train(distilled(layout=layout), mixed, config, torch.bfloat16)
    ((terms, _),) = trainer.readings.pending
    assert terms.device == GPU
    assert "pseudo_objects" in trainer.readings.names


def test_float32_and_sgd_without_clipping_do_not_wait_either(store: FakeStore) -> None:
    config = TrainConfig(batch_size=8, epochs=1, optimizer="sgd", clip_norm=0.0)
    trainer = train(distilled(), store, config, None)
    for state in trainer.optimizer.state.values():
        assert state["momentum_buffer"].device == GPU
