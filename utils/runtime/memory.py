"""How much memory a process may still take, and where decoded images fit."""

import contextlib
import ctypes
import os
from pathlib import Path

import torch

WHERE = {"device": "on the device", "ram": "in memory", "none": "read anew each time"}
CACHES = ("auto", *WHERE)

# Of a control group (a container, a batch job): its limit, and what it uses; version 2, version 1.
CGROUPS = (
    ("sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
    (
        "sys/fs/cgroup/memory",
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        "total_inactive_file",
    ),
)


# Of mallopt in malloc.h: freed memory above this size goes back to the system; larger pieces are
# mapped one by one and always go back.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3


def keep_freed_memory() -> None:
    """Lets this process reuse the memory that it frees, where the C library is glibc.

    By default every large tensor of a step on a CPU is given back and asked for again in the next
    step, a page fault for each 4 KiB: about a tenth of the time of a small network's step.
    """
    with contextlib.suppress(OSError, AttributeError):  # another system, or another C library
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        mallopt(M_MMAP_THRESHOLD, 2**30)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def available_memory(root: Path = Path("/")) -> int:
    """Bytes of memory that can still be taken; 0 where the system does not tell.

    The least of what the machine has and of what the control groups of this process leave, up to
    the outermost one that is visible.

    Args:
        root: where `proc` and `sys` are.
    """
    machine = fields(root / "proc/meminfo").get("MemAvailable:", 0) * 1024
    return max(0, min([machine, *group_rooms(root)]))


def group_rooms(root: Path) -> list[int]:
    """What each control group with a limit still leaves, in bytes; may be negative."""
    rooms = []
    for home, limit_name, usage_name, cache_name in CGROUPS:
        for path in own_groups(root, root / home, "memory" if "limit" in limit_name else ""):
            limit, usage = number(path / limit_name), number(path / usage_name)
            if limit is not None and usage is not None:
                # Files that were read long ago are given back before the limit bites.
                cache = fields(path / "memory.stat").get(cache_name, 0)
                rooms.append(limit - usage + cache)
    return rooms


def own_groups(root: Path, home: Path, controller: str) -> list[Path]:
    """The group of this process and all around it, innermost first; `home` at least.

    Within a container the path may be one that only its host knows: then `home` is the group.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            inner = home / path.lstrip("/")
            return [inner, *(p for p in inner.parents if p.is_relative_to(home))]
    return [home]


def fields(path: Path) -> dict[str, int]:
    """A file of lines `name number ...`; empty where there is none."""
    try:
        rows = [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return {}
    return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdigit()}


def number(path: Path) -> int | None:
    """The number in a file; None for `max`, or where there is no file."""
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def choose_cache(cache: str, needed: int, device: torch.device) -> tuple[str, str]:
    """Where `needed` bytes of images go, and some words that say so, and why."""
    if cache not in CACHES:
        raise ValueError(f"unknown cache {cache!r}; choose one of {', '.join(CACHES)}")
    if cache != "auto":
        return cache, WHERE[cache]
    # Each process of this machine keeps a copy: in the one RAM, but each on a GPU of its own.
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    note = f" for each of {processes} processes" if processes > 1 else ""
    free = {"ram": available_memory() // processes}
    if device.type == "cuda":
        free = {"device": torch.cuda.mem_get_info(device)[0], **free}
    for place, memory in free.items():
        if needed <= memory / 2:
            room = f"{needed / 2**30:.2f} of {memory / 2**30:.1f} GiB free{note}"
            return place, f"{WHERE[place]} ({room})"
    most = max(free.values()) / 2**30
    return "none", (
        f"{WHERE['none']} ({needed / 2**30:.2f} GiB is over half of the free memory, "
        f"{most:.1f} GiB{note})"
    )
