"""Where and in which arithmetic networks run."""

import contextlib
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from utils.runtime.distributed import local_rank, world_size


def constant(values: Sequence[object], device: torch.device) -> Tensor:
    """A small table on a device. Nothing waits, as `torch.tensor(values, device=device)` would."""
    return torch.tensor(values).to(device, non_blocking=True)


class Precision(NamedTuple):
    """A device and the arithmetic of the forward pass; `dtype` None is plain float32."""

    device: torch.device
    dtype: torch.dtype | None = None

    def autocast(self) -> torch.autocast:
        """The context in which networks run; losses and boxes stay in float32."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None)

    def record(self) -> dict[str, str]:
        """`{"device": "cuda", "dtype": "bfloat16"}`, for files; `recorded_precision` reads it."""
        dtype = str(self.dtype or torch.float32).removeprefix("torch.")
        return {"device": self.device.type, "dtype": dtype}


def choose_device(name: str) -> torch.device:
    """`auto`, `cpu` or `cuda` -> a device; each of several processes has a GPU of its own.

    On a GPU float32 is float32 from here on: without TF32, which rounds the factors of products to
    10 bits. So what is computed in float32, such as an evaluation, agrees with a CPU; for speed
    there is `choose_precision`.

    Raises:
        ValueError: `cuda` is asked for and there is none, or there are fewer than processes.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: PyTorch sees no GPU; pass --device auto or cpu")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda":
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.allow_tf32 = False
    if name == "cuda" and world_size() > 1:
        if local_rank() >= torch.cuda.device_count():
            raise ValueError(
                f"{torch.cuda.device_count()} GPUs are too few: process {local_rank() + 1} of this "
                "machine has none; lower --nproc-per-node, or pass --device cpu"
            )
        torch.cuda.set_device(local_rank())  # where collectives and kernels look by default
        return torch.device("cuda", local_rank())
    return torch.device(name)


@contextlib.contextmanager
def memory_for(batch_size: int, remedy: str = "lower it") -> Iterator[None]:
    """Within, running out of memory is a MemoryError that names the batch and what to try."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch's two are RuntimeErrors
        cpu = "DefaultCPUAllocator" in str(error)
        if not (cpu or isinstance(error, MemoryError | torch.OutOfMemoryError)):
            raise
        what = "" if cpu else str(error).partition(". ")[0]
        raise MemoryError(
            f"--batch-size {batch_size} is too large: {what or 'out of memory'}; {remedy}"
        ) from error


def choose_precision(device: torch.device, amp: str) -> Precision:
    """`auto`, `off`, `bf16` or `fp16`; `auto` is float32 on a CPU, see `utils.engine.rehearsal`.

    Raises:
        ValueError: the device does not have it.
    """
    if amp == "off" or (device.type != "cuda" and amp == "auto"):
        return Precision(device)
    if device.type != "cuda":
        if amp == "fp16":
            raise ValueError("--amp fp16 is for GPUs; pass --amp bf16, auto or off")
        return Precision(device, torch.bfloat16)
    if amp == "fp16":
        return Precision(device, torch.float16)
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return Precision(device, torch.bfloat16)
    if amp == "bf16":
        raise ValueError("--amp bf16: this GPU has no bf16; pass --amp fp16")
    return Precision(device, torch.float16)


def let_cudnn_try(device: torch.device) -> None:
    """Lets cuDNN try its algorithms on the first step of a training on a GPU.

    Training shows it the same shapes in every step. Which algorithm is the fastest may differ from
    run to run, and with it the last bits; so an evaluation does without.
    """
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True


def recorded_precision(record: object, device: torch.device) -> Precision:
    """The arithmetic that `Precision.record` wrote down.

    It is float32 where `record` says nothing, is of another kind of device, or of an arithmetic
    that this device does not have.
    """
    names = {"bfloat16": "bf16", "float16": "fp16"}
    if not isinstance(record, dict) or record.get("device") != device.type:
        return Precision(device)
    try:
        return choose_precision(device, names.get(str(record.get("dtype")), "off"))
    except ValueError:
        return Precision(device)


def native_bf16() -> bool:
    """Whether the CPU computes in bf16 itself and PyTorch's convolutions let it.

    Without avx512_bf16 or AMX (which comes with amx_bf16) bf16 is emulated, and slower.
    """
    instructions = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return bool(instructions and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def device_name(device: torch.device) -> str:
    """What a device calls itself, `NVIDIA H200` or `AMD EPYC`; its kind where it has no name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine() or device.type
