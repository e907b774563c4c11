"""A run on a GPU: nothing waits, a compiled step is the same step, and it can be resumed."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from nets.tasks import DetectionTask
from tests.gpu.scenes import TASKS, alone, distilled
from utils.config import TrainConfig
from utils.data.store import Store
from utils.data.voc import read_classes, read_split
from utils.engine.trainer import Trainer
from utils.runtime.device import Precision, choose_precision


@pytest.fixture(scope="module")
def stores(drawn: Path) -> Callable[[torch.device, bool], Store]:
    names = read_classes(drawn / "VOC2007/classes.txt")
    samples, _ = read_split(drawn, ["VOC2007/train"], names)
    return lambda device, fixed: Store(samples, device, cache="ram", fixed_objects=fixed)


@pytest.fixture
def trainer(
    stores: Callable[[torch.device, bool], Store], device: torch.device
) -> Callable[..., Trainer]:
    """Makes trainers with equal weights of a task, on batches of four of eight images."""

    def make(task: DetectionTask, precision: Precision | None = None, **settings: Any) -> Trainer:
        config = TrainConfig(
            backbone="resnet18(width=0.125)",
            batch_size=4,
            epochs=20,
            optimizer="adamw",
            warmup=0,
            lr=1e-4,
            ema=0.9,
            clip_norm=10.0,
            **{"ledger_every": 0, **settings},
        )
        moved = copy.deepcopy(task).to(device)
        return Trainer(
            moved, stores(device, config.compile), config, precision or Precision(device)
        )

    return make


@contextmanager
def no_wait(device: torch.device) -> Iterator[None]:
    """Within, whatever makes the CPU wait for the GPU raises."""
    if device.type == "cuda":
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        if device.type == "cuda":
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize(
    ("name", "cache"), [*((name, "device") for name in TASKS), ("alone", "ram"), ("alone", "none")]
)
def test_an_epoch_waits_nowhere_but_where_it_reads_its_losses(
    name: str,
    cache: str,
    trainer: Callable[..., Trainer],
    device: torch.device,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = trainer(TASKS[name](), choose_precision(device, "auto"), ledger_every=1)
    run.store = Store(run.store.samples, device, cache=cache)
    run.train_steps()  # allocates what later steps use again
    run.next_epoch()
    monkeypatch.setattr(run, "read", dict)
    with no_wait(device):
        run.train_steps()
    assert len(run.readings.pending) == run.steps_per_epoch == 2


def weights(run: Trainer) -> dict[str, Tensor]:
    return {name: value.cpu() for name, value in run.task.state_dict().items()}


def test_a_resumed_run_ends_like_one_that_never_stopped(
    trainer: Callable[..., Trainer], device: torch.device
) -> None:
    # In float64 a GPU's sums, which it may add in any order, differ too little to matter.
    straight, stopped, resumed = (trainer(distilled("hint").double()) for _ in range(3))
    straight.train_one_epoch()
    straight.train_one_epoch()
    stopped.train_one_epoch()
    saved = copy.deepcopy(stopped.state_dict())
    resumed.load_state_dict(saved)
    resumed.train_one_epoch()
    assert straight.average is not None
    assert resumed.average is not None
    pairs = [(weights(straight), weights(resumed))]
    pairs.append((straight.average.model.state_dict(), resumed.average.model.state_dict()))
    for expected, found in pairs:
        for name, value in expected.items():
            if device.type == "cpu":
                assert torch.equal(found[name], value), name
            else:
                torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize(
    "device",
    [
        pytest.param("cpu", marks=pytest.mark.slow),  # compiles with a C++ compiler
        pytest.param("cuda", marks=pytest.mark.gpu),
    ],
    indirect=True,
)
@pytest.mark.parametrize("name", ["alone", "cwd"])
def test_a_compiled_step_is_the_same_step(name: str, trainer: Callable[..., Trainer]) -> None:
    # In float64, or rounding alone would move gradients by some per cent, see test_kernels.py.
    eager, compiled = (trainer(TASKS[name]().double(), compile=c) for c in (False, True))
    for run in (eager, compiled):
        run.prepare()
    for step in range(eager.steps_per_epoch):
        (batch,) = compiled.store.batches([eager.order.indices(step)])
        shown, also = (run.shown(batch, step) for run in (eager, compiled))
        assert (also.images - shown.images).abs().mean() < 0.1  # levels of 255
        here, there = (run.step(shown) for run in (eager, compiled))
        for term, value in here.items():
            torch.testing.assert_close(there[term], value, rtol=1e-4, atol=1e-6, msg=term)


def test_the_scaler_of_fp16_skips_a_step_that_overflows_and_goes_on(
    trainer: Callable[..., Trainer], device: torch.device
) -> None:
    # A CPU takes half a minute for a step in fp16, so it overflows bf16 there. Gradients of about 1
    # times 2^60 are beyond fp16 (2^16), times 2^127 beyond bf16 (2^128); times 2^10 they fit both.
    gpu = device.type == "cuda"
    run = trainer(alone(), Precision(device, torch.float16 if gpu else torch.bfloat16))
    scale = 2.0**60 if gpu else 2.0**127
    run.scaler = torch.GradScaler(device.type, init_scale=scale, backoff_factor=2.0**10 / scale)
    before = {name: p.detach().clone() for name, p in run.task.named_parameters()}
    run.prepare()
    (batch,) = run.store.batches([run.order.indices(0)])
    run.step(run.shown(batch, 0))
    assert run.scaler.get_scale() == 2.0**10
    for name, parameter in run.task.named_parameters():
        assert torch.equal(parameter, before[name]), name
    run.step(run.shown(batch, 1))
    assert run.scaler.get_scale() == 2.0**10
    now = dict(run.task.named_parameters())
    assert all(parameter.isfinite().all() for parameter in now.values())
    moved = {name for name, parameter in now.items() if not torch.equal(parameter, before[name])}
    assert len(moved) > 0.9 * len(now)  # four images may have no prior on a coarse map
