"""Free memory as made-up systems tell it."""

from pathlib import Path

import pytest
import torch

from utils.runtime import memory as module
from utils.runtime.memory import available_memory, choose_cache

CPU = torch.device("cpu")

GIB = 2**30


def system(root: Path, files: dict[str, object]) -> Path:
    """A root folder with these files, and a machine that has 8 GiB available."""
    meminfo = f"MemTotal: 99 kB\nMemAvailable:   {8 * GIB // 1024} kB\nHugePages_Total: 0\n"
    for name, text in {"proc/meminfo": meminfo, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return root


V2 = {"proc/self/cgroup": "0::/"}
V1 = {"proc/self/cgroup": "4:cpu:/\n3:memory,hugetlb:/job"}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 8),
        (V2 | {"sys/fs/cgroup/memory.max": "max", "sys/fs/cgroup/memory.current": GIB}, 8),
        # 4 GiB allowed, 3 in use, of which 1 is cache that can go: 4 - 3 + 1.
        (
            V2
            | {
                "sys/fs/cgroup/memory.max": 4 * GIB,
                "sys/fs/cgroup/memory.current": 3 * GIB,
                "sys/fs/cgroup/memory.stat": f"anon {2 * GIB}\ninactive_file {GIB}",
            },
            2,
        ),
        # The group around this process's own has the tighter limit.
        (
            {
                "proc/self/cgroup": "0::/job/step",
                "sys/fs/cgroup/job/step/memory.max": 6 * GIB,
                "sys/fs/cgroup/job/step/memory.current": 0,
                "sys/fs/cgroup/job/memory.max": 5 * GIB,
                "sys/fs/cgroup/job/memory.current": 2 * GIB,
            },
            3,
        ),
        # A container sees its own group as the outermost, under a name that its host has for it.
        (
            {
                "proc/self/cgroup": "0::/docker/0123",
                "sys/fs/cgroup/memory.max": 2 * GIB,
                "sys/fs/cgroup/memory.current": GIB,
            },
            1,
        ),
        # Version 1: 9223372036854771712 means that there is no limit.
        (
            V1
            | {
                "sys/fs/cgroup/memory/memory.limit_in_bytes": 9223372036854771712,
                "sys/fs/cgroup/memory/memory.usage_in_bytes": GIB,
                "sys/fs/cgroup/memory/job/memory.limit_in_bytes": 3 * GIB,
                "sys/fs/cgroup/memory/job/memory.usage_in_bytes": 2 * GIB,
                "sys/fs/cgroup/memory/job/memory.stat": f"total_inactive_file {GIB // 2}",
            },
            1.5,
        ),
        # More in use than allowed (a limit that was lowered): nothing is free.
        (V2 | {"sys/fs/cgroup/memory.max": GIB, "sys/fs/cgroup/memory.current": 2 * GIB}, 0),
    ],
)
def test_the_tightest_limit_counts(
    tmp_path: Path, files: dict[str, object], expected: float
) -> None:
    assert available_memory(system(tmp_path, files)) == expected * GIB


def test_a_system_that_does_not_tell_has_none(tmp_path: Path) -> None:
    assert available_memory(tmp_path) == 0


def test_this_machine_has_some() -> None:
    assert available_memory() > 0


def test_the_cache_is_chosen_by_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "available_memory", lambda: 1000)
    assert choose_cache("auto", 500, CPU)[0] == "ram"
    assert choose_cache("auto", 501, CPU)[0] == "none"
    assert "over half of the free memory" in choose_cache("auto", 501, CPU)[1]
    assert choose_cache("ram", 10**12, CPU)[0] == "ram"
    with pytest.raises(ValueError, match="unknown cache 'disk'; choose one of auto"):
        choose_cache("disk", 1, CPU)


def test_processes_share_the_memory_of_their_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "available_memory", lambda: 4000)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert choose_cache("auto", 500, CPU)[0] == "ram"
    place, reason = choose_cache("auto", 501, CPU)
    assert place == "none"
    assert "for each of 4 processes" in reason


def test_freed_memory_is_kept_where_the_c_library_can() -> None:
    asked: list[tuple[int, int]] = []

    class Library:
        def mallopt(self, name: int, value: int) -> int:
            asked.append((name, value))
            return 1

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ctypes.CDLL", lambda _: Library())
        module.keep_freed_memory()
        assert asked == [(-3, 2**30), (-1, 2**31 - 1)]  # numbers of glibc's malloc.h
        patch.setattr("ctypes.CDLL", lambda _: object())  # a library without it
        module.keep_freed_memory()


def test_a_system_without_glibc_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: str) -> None:
        raise OSError("libc.so.6: cannot open shared object file")

    monkeypatch.setattr("ctypes.CDLL", missing)
    module.keep_freed_memory()
