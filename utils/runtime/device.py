"""Where and in which arithmetic networks run."""

import contextlib
from collections.abc import Iterator, Sequence
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
    """The arithmetic of training by `auto`, `off`, `bf16` or `fp16`; a CPU's is always float32.

    Training shows a GPU the same shapes in every step, so cuDNN may try its algorithms on the first
    one. Which is the fastest may differ from run to run, and with it the last bits.

    Raises:
        ValueError: bf16 is asked for on a GPU that does not have it.
    """
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True
    if device.type != "cuda" or amp == "off":
        return Precision(device)
    if amp == "fp16":
        return Precision(device, torch.float16)
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return Precision(device, torch.bfloat16)
    if amp == "bf16":
        raise ValueError("--amp bf16: this GPU has no bf16; pass --amp fp16")
    return Precision(device, torch.float16)
