"""What this process's control groups allow, version 1 and 2, and the machine around them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

__all__ = ["MemoryLimit", "cores_of_time", "memory_limits"]

# What cannot be dropped when memory gets short, as memory.stat names it. Cached files can be.
USED = {
    1: ("total_rss", "total_shmem"),
    2: ("anon", "shmem", "slab_unreclaimable", "kernel_stack", "pagetables"),
}
MACHINE_USED = ("AnonPages", "Shmem", "SUnreclaim", "KernelStack", "PageTables")


class MemoryLimit:
    """How much memory somebody may use, and how much of it is left, in bytes."""

    def __init__(self, whose: str, limit: int, room: int, file: str) -> None:
        self.whose, self.limit, self.room = whose, limit, room
        self.file = file  # where the limit can be changed; "" for the machine


def memory_limits(root: str = "") -> list[MemoryLimit]:
    """Return every memory limit that holds for this process: of its group, the groups above, the machine.

    Parameters
    ----------
    root : str
        Where ``/proc`` and ``/sys`` lie.

    Returns
    -------
    list of MemoryLimit
        Empty where the kernel does not say.
    """
    machine = _sizes(f"{root}/proc/meminfo")
    swap = machine.get("SwapFree", 0)
    found = [
        limit for folder, version in _folders("memory", root) if (limit := _group(folder, version, swap))
    ]
    if "MemTotal" in machine:
        used = sum(machine.get(name, 0) for name in MACHINE_USED)
        total = machine["MemTotal"]
        found.append(MemoryLimit("this machine", total, total + swap - used, ""))
    return found


def cores_of_time(root: str = "") -> float | None:
    """Return how many cores' worth of time the control groups give, None if they set no limit."""
    shares = [share for folder, version in _folders("cpu", root) if (share := _share(folder, version))]
    return min(shares, default=None)


def _group(folder: str, version: int, swap: int) -> MemoryLimit | None:
    name = "memory.max" if version == 2 else "memory.limit_in_bytes"
    limit = _number(f"{folder}/{name}")
    if limit is None:
        return None
    stat = _sizes(f"{folder}/memory.stat")
    room = limit - sum(stat.get(key, 0) for key in USED[version])
    return MemoryLimit(
        f"the control group {folder}", limit, room + _swap(folder, version, swap), f"{folder}/{name}"
    )


def _swap(folder: str, version: int, free: int) -> int:
    """Return the bytes that may go out to swap when the limit is reached."""
    if version == 2:
        most, used = _number(f"{folder}/memory.swap.max"), _number(f"{folder}/memory.swap.current") or 0
    else:
        both = _number(f"{folder}/memory.memsw.limit_in_bytes")
        memory = _number(f"{folder}/memory.limit_in_bytes")
        most = None if both is None or memory is None else both - memory
        used = _sizes(f"{folder}/memory.stat").get("total_swap", 0)
    return free if most is None else max(0, min(free, most - used))


def _share(folder: str, version: int) -> float | None:
    if version == 2:
        quota, _, period = _text(f"{folder}/cpu.max").partition(" ")
    else:
        quota, period = _text(f"{folder}/cpu.cfs_quota_us"), _text(f"{folder}/cpu.cfs_period_us")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else None


def _folders(controller: str, root: str) -> Iterator[tuple[str, int]]:
    """Yield the folders of this process's groups, the innermost first, with the version of each hierarchy.

    Inside a container the group's path may be one of the world outside: what is mounted is the group then.
    """
    paths = _paths(controller, root)
    for line in _text(f"{root}/proc/self/mountinfo").splitlines():
        left, _, right = line.partition(" - ")
        words, kind = left.split(), right.split()
        if kind[0] == "cgroup2":
            version = 2
        elif kind[0] == "cgroup" and controller in kind[2].split(","):
            version = 1
        else:
            continue
        if version not in paths:
            continue
        mounted, path = words[3].rstrip("/"), paths[version]
        names = path.removeprefix(mounted).split("/")[1:] if path.startswith(mounted) else []
        for depth in range(0 if ".." in names else len(names), -1, -1):
            folder = "/".join([root + words[4], *names[:depth]]).rstrip("/")
            if os.path.isdir(folder):
                yield folder, version


def _paths(controller: str, root: str) -> dict[int, str]:
    """Return the path of this process's group in each hierarchy, by its version."""
    paths = {}
    for line in _text(f"{root}/proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            paths[2] = path
        elif controller in controllers.split(","):
            paths[1] = path
    return paths


def _text(path: str) -> str:
    try:
        with open(path, "rb", 0) as file:
            return os.fsdecode(file.read()).strip()
    except OSError:
        return ""


def _number(path: str) -> int | None:
    """Read a limit; None for none, which version 1 writes as a number near 2**63."""
    text = _text(path)
    return int(text) if text.isdigit() and int(text) < 1 << 62 else None


def _sizes(path: str) -> dict[str, int]:
    """Read lines of a name and a number of bytes or kB."""
    found = {}
    for line in _text(path).splitlines():
        words = line.replace(":", " ").split()
        with contextlib.suppress(ValueError, IndexError):
            found[words[0]] = int(words[1]) * (1024 if words[2:] == ["kB"] else 1)
    return found
