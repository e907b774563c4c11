"""Devices and arithmetic: what is chosen, written down and read again."""

import platform
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from utils.runtime import device as module
from utils.runtime.device import (
    Precision,
    choose_device,
    choose_precision,
    device_name,
    let_cudnn_try,
    recorded_precision,
)

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def test_devices() -> None:
    assert choose_device("cpu") == CPU
    if not torch.cuda.is_available():
        assert choose_device("auto") == CPU
        with pytest.raises(ValueError, match="PyTorch sees no GPU"):
            choose_device("cuda")


def test_a_cpu_computes_in_bf16_where_asked() -> None:
    assert choose_precision(CPU, "auto").dtype is None  # a run measures first
    assert choose_precision(CPU, "off").dtype is None
    matrix = torch.ones(2, 2)
    with choose_precision(CPU, "bf16").autocast():
        assert (matrix @ matrix).dtype is torch.bfloat16
    with Precision(CPU).autocast():
        assert (matrix @ matrix).dtype is torch.float32
    with pytest.raises(ValueError, match="--amp fp16 is for GPUs; pass --amp bf16"):
        choose_precision(CPU, "fp16")


@pytest.mark.parametrize("bf16", [True, False])
def test_a_gpu_takes_bf16_where_it_has_it(bf16: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: bf16)
    assert choose_precision(GPU, "auto").dtype is (torch.bfloat16 if bf16 else torch.float16)
    assert choose_precision(GPU, "fp16").dtype is torch.float16
    assert choose_precision(GPU, "off").dtype is None
    record = {"device": "cuda", "dtype": "bfloat16"}
    assert recorded_precision(record, GPU).dtype is (torch.bfloat16 if bf16 else None)
    if not bf16:
        with pytest.raises(ValueError, match="this GPU has no bf16; pass --amp fp16"):
            choose_precision(GPU, "bf16")


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_what_is_recorded_is_found_again(dtype: torch.dtype | None) -> None:
    precision = Precision(CPU, dtype)
    assert recorded_precision(precision.record(), CPU) == precision
    half = Precision(GPU, torch.float16)
    assert half.record() == {"device": "cuda", "dtype": "float16"}
    assert recorded_precision(half.record(), GPU) == half
    assert recorded_precision(half.record(), CPU) == Precision(CPU)  # of another kind of device


@pytest.mark.parametrize(
    "record", [None, 3, [], {}, {"device": "cpu"}, {"device": "cpu", "dtype": 1}]
)
def test_a_record_that_says_nothing_is_float32(record: object) -> None:
    assert recorded_precision(record, CPU) == Precision(CPU)


@pytest.mark.parametrize(
    ("avx512", "amx", "library", "native"),
    [
        (True, False, True, True),
        (False, True, True, True),
        (False, False, True, False),  # emulated
        (True, True, False, False),  # PyTorch was built without it, or told not to use it
    ],
)
def test_bf16_is_native_where_cpu_and_library_have_it(
    avx512: bool, amx: bool, library: bool, native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: library)
    assert NATIVE() is native


NATIVE = module.native_bf16  # before tests/conftest.py replaces it


def test_pytorch_says_what_the_machine_says() -> None:
    flags = Path("/proc/cpuinfo").read_text() if platform.system() == "Linux" else ""
    if platform.machine() == "x86_64" and flags:
        assert NATIVE() == ("avx512_bf16" in flags or "amx_bf16" in flags)


def test_a_device_has_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert device_name(CPU)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU {device.type}")
    assert device_name(GPU) == "GPU cuda"


@pytest.fixture
def cudnn(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine with a GPU, and torch's own settings before and after."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, allow_tf32=True):
        yield
    torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("name", ["auto", "cuda"])
@pytest.mark.usefixtures("cudnn")
def test_on_a_gpu_float32_is_float32(name: str) -> None:
    torch.set_float32_matmul_precision("high")
    assert choose_device(name) == GPU
    assert not torch.backends.cudnn.allow_tf32
    assert torch.get_float32_matmul_precision() == "highest"
    assert not torch.backends.cudnn.benchmark  # an evaluation is the same each time


@pytest.mark.usefixtures("cudnn")
def test_training_on_a_gpu_lets_cudnn_try_its_algorithms() -> None:
    choose_precision(GPU, "auto")
    assert not torch.backends.cudnn.benchmark
    let_cudnn_try(GPU)
    assert torch.backends.cudnn.benchmark


@pytest.mark.usefixtures("cudnn")
def test_a_cpu_leaves_everything_as_it_is() -> None:
    torch.set_float32_matmul_precision("high")
    choose_precision(choose_device("cpu"), "auto")
    let_cudnn_try(CPU)
    assert torch.backends.cudnn.allow_tf32
    assert not torch.backends.cudnn.benchmark
    assert torch.get_float32_matmul_precision() == "high"
