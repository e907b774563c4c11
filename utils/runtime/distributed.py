"""Everything that changes when several processes train or evaluate one network.

`torchrun` starts the processes and tells each who it is. Without it there is one process, and every
function here does nothing: it returns its argument, or what a single process expects.

What is small or is no tensor travels between CPUs (gloo), also where networks are on GPUs: so
waiting for another process is never waiting for a GPU.
"""

import contextlib
import os
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

T = TypeVar("T")


@contextlib.contextmanager
def processes() -> Iterator[None]:
    """Joins the processes that torchrun has started; leaves them at the end. Only the main prints.

    Of several processes that fail, the first one speaks (its exception leaves the context) and the
    others end at once and silently: theirs is the same complaint, or a consequence of the first.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    store, own_rank, size = next(rendezvous("env://"))
    gpus = torch.cuda.is_available() and dist.is_nccl_available()
    try:
        prefix = meet(store, own_rank, size)
        store = dist.PrefixStore(prefix, store)  # type: ignore[attr-defined]  # public all the same
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if gpus else "gloo", store=store, rank=own_rank, world_size=size
        )
        # One that failed now would leave the others with half a network, and them to complain.
        barrier()
        with only_the_main_prints():
            yield
    except BaseException as error:
        finished = isinstance(error, SystemExit) and not error.code
        if not finished and not first_to_fail(store):
            sys.stdout.flush()
            sys.stderr.flush()
            # A normal exit may wait for collectives in which a process that is gone takes part.
            os._exit(1)
        if tells_of_another(error):
            raise ConnectionError(
                "another process of this run has ended without a word, perhaps killed by the "
                "system for lack of memory; the same command with --resume goes on from the last "
                "save"
            ) from error
        raise
    dist.destroy_process_group()


def meet(store: Any, own_rank: int, size: int) -> str:
    """A word that these processes agree on, and that none before them had.

    torchrun keeps its store when it starts processes again, and in it the addresses of those that
    have died; and how often it did so is not the same number on every machine. So the main process
    takes a random word, and the others trust a word once it answers to theirs.

    Raises:
        ConnectionError: the main process has not come within the store's time limit.
    """
    word = uuid.uuid4().hex
    if own_rank == 0:
        store.set("main", word)
        others = [store.get(f"{word}/{other}").decode() for other in range(1, size)]  # waits
        store.set(f"{word}/met", " ".join(others))
        return word
    limit = time.monotonic() + store.timeout.total_seconds()
    while time.monotonic() < limit:
        main: str = store.get("main").decode()
        store.set(f"{main}/{own_rank}", word)
        if store.check([f"{main}/met"]) and word in store.get(f"{main}/met").decode().split():
            return main
        time.sleep(0.02)
    raise ConnectionError(f"the main process has not come within {store.timeout}; is it running?")


def tells_of_another(error: BaseException) -> bool:
    """Whether an error only says that another process does not answer any more."""
    if not isinstance(error, RuntimeError):
        return False
    words = ("gloo", "NCCL", "onnection closed", "onnection reset")
    return isinstance(error, dist.DistError) or any(word in str(error) for word in words)


def first_to_fail(store: Any) -> bool:
    """Counts this process's failure in the store that all of them share."""
    try:
        return bool(store.add("failures", 1) == 1)
    except RuntimeError:  # without torchrun the main process keeps the store: it has gone
        return False


@contextlib.contextmanager
def only_the_main_prints() -> Iterator[None]:
    """Silences standard output in every process but the main one."""
    if is_main():
        yield
    else:
        with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
            yield


def world_size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of them this one is, from 0."""
    return dist.get_rank() if world_size() > 1 else 0


def is_main() -> bool:
    """Whether this is the process that prints and writes."""
    return rank() == 0


def local_rank() -> int:
    """Which of the processes on this machine this one is, from 0."""
    return int(os.environ.get("LOCAL_RANK", "0")) if world_size() > 1 else 0


def restarted() -> bool:
    """Whether torchrun (`--max-restarts`) has started this process again after a failure."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


def own_part(batch: Tensor) -> Tensor:
    """The part of a batch `[B, ...]` that is this process's; B divides by the number of them."""
    assert len(batch) % world_size() == 0
    return batch.chunk(world_size())[rank()]


def mean_over_processes(value: Tensor) -> Tensor:
    """The mean of `value` (any shape) over all processes; `value` itself where there is only one.

    Dividing a local sum by the mean count, and averaging gradients as DDP does, equals one process
    dividing the whole sum by the whole count.

    In inference mode it is `value` itself, too: there each process has batches of its own, as many
    as it happens to get.
    """
    if world_size() == 1 or torch.is_inference_mode_enabled():
        return value
    total = value.clone()
    dist.all_reduce(total)
    return total / world_size()


def most_of_processes(value: int) -> int:
    """The largest of the processes' values."""
    if world_size() == 1:
        return value
    number = torch.tensor(value)
    dist.all_reduce(number, dist.ReduceOp.MAX)
    return int(number)


def barrier() -> None:
    """Waits until every process is here."""
    most_of_processes(0)


def gather(value: T) -> list[T]:
    """Every process's value by rank in the main process, nothing in the others."""
    if world_size() == 1:
        return [value]
    values: list[Any] | None = [None] * world_size() if is_main() else None
    dist.gather_object(value, values)
    return values or []


def average_gradients(module: nn.Module) -> nn.Module:
    """`module` such that backward averages its gradients over the processes.

    The gradients are those of the parameters that train now: after some are frozen or thawed, call
    it again. In a forward pass norms start from the main process's running statistics.
    """
    if world_size() == 1:
        return module
    # Every step computes the same graph; so parameters that no term uses, such as a distiller's
    # adapter for a map of one cell, are found once and not in every step.
    return DistributedDataParallel(module, static_graph=True)


def kept_apart(module: nn.Module) -> contextlib.AbstractContextManager[None]:
    """Within, backward adds to this process's own gradients; the next one outside averages them.

    `module` comes from `average_gradients`. Its first backward must average: it learns the graph.
    """
    if isinstance(module, DistributedDataParallel):
        return module.no_sync()
    return contextlib.nullcontext()


def synchronise_norms(module: nn.Module, device: torch.device) -> nn.Module:
    """`module` with batch norms whose statistics are those of all processes' images.

    Raises:
        ValueError: `device` is no GPU; PyTorch has it for GPUs only.
    """
    if device.type != "cuda":
        raise ValueError("--sync-bn works on GPUs only; leave it out, or pass --device cuda")
    if world_size() == 1:
        return module
    synchronised: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(module)
    return synchronised


def spread_buffers(module: nn.Module) -> None:
    """Gives every process the main one's buffers, such as the running statistics of norms."""
    if world_size() > 1:
        for buffer in module.buffers():
            dist.broadcast(buffer, 0)
