"""How much memory a process may still take."""

from pathlib import Path

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
