"""What a device computes in is decided once, for GPUs alone; tried without one."""

from collections.abc import Iterator

import pytest
import torch

from utils.runtime.device import choose_device, choose_precision

GPU = torch.device("cuda")


@pytest.fixture(autouse=True)
def cudnn(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine with a GPU, and torch's own settings before and after."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, allow_tf32=True):
        yield
    torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_on_a_gpu_float32_is_float32(name: str) -> None:
    torch.set_float32_matmul_precision("high")
    assert choose_device(name) == GPU
    assert not torch.backends.cudnn.allow_tf32
    assert torch.get_float32_matmul_precision() == "highest"
    assert not torch.backends.cudnn.benchmark  # an evaluation is the same each time


@pytest.mark.parametrize("amp", ["auto", "off", "bf16", "fp16"])
def test_training_on_a_gpu_lets_cudnn_try_its_algorithms(amp: str) -> None:
    precision = choose_precision(GPU, amp)
    expected = {"off": None, "fp16": torch.float16}
    assert precision.dtype == expected.get(amp, torch.bfloat16)
    assert torch.backends.cudnn.benchmark


def test_a_cpu_leaves_everything_as_it_is() -> None:
    torch.set_float32_matmul_precision("high")
    choose_precision(choose_device("cpu"), "auto")
    assert torch.backends.cudnn.allow_tf32
    assert not torch.backends.cudnn.benchmark
    assert torch.get_float32_matmul_precision() == "high"
