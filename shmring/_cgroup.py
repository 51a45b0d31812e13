"""What this process's control groups allow, version 1 and 2, and the machine around them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["MemoryLimit", "cores_of_time", "memory_limits"]

ROOT = Path("/")
# What cannot be dropped when memory gets short, as memory.stat names it. Cached files can be.
USED = {
    1: ("total_rss", "total_shmem"),
    2: ("anon", "shmem", "slab_unreclaimable", "kernel_stack", "pagetables"),
}
MACHINE_USED = ("AnonPages", "Shmem", "SUnreclaim", "KernelStack", "PageTables")


@dataclass(frozen=True, slots=True)
class MemoryLimit:
    """How much memory somebody may use, and how much of it is left, in bytes."""

    whose: str
    limit: int
    room: int
    file: str  # where the limit can be changed; "" for the machine


def memory_limits(root: Path = ROOT) -> list[MemoryLimit]:
    """Return every memory limit that holds for this process: of its group, the groups above, the machine.

    Parameters
    ----------
    root : Path
        Where ``proc`` and ``sys`` lie.

    Returns
    -------
    list of MemoryLimit
        Empty where the kernel does not say.
    """
    machine = _sizes(root / "proc/meminfo")
    swap = machine.get("SwapFree", 0)
    found = [
        limit for folder, version in _folders("memory", root) if (limit := _group(folder, version, swap))
    ]
    if "MemTotal" in machine:
        used = sum(machine.get(name, 0) for name in MACHINE_USED)
        total = machine["MemTotal"]
        found.append(MemoryLimit("this machine", total, total + swap - used, ""))
    return found


def cores_of_time(root: Path = ROOT) -> float | None:
    """Return how many cores' worth of time the control groups give, None if they set no limit."""
    shares = [share for folder, version in _folders("cpu", root) if (share := _share(folder, version))]
    return min(shares, default=None)


def _group(folder: Path, version: int, swap: int) -> MemoryLimit | None:
    name = "memory.max" if version == 2 else "memory.limit_in_bytes"
    limit = _number(folder / name)
    if limit is None:
        return None
    stat = _sizes(folder / "memory.stat")
    room = limit - sum(stat.get(key, 0) for key in USED[version])
    return MemoryLimit(
        f"the control group {folder}", limit, room + _swap(folder, version, swap), str(folder / name)
    )


def _swap(folder: Path, version: int, free: int) -> int:
    """Return the bytes that may go out to swap when the limit is reached."""
    if version == 2:
        most, used = _number(folder / "memory.swap.max"), _number(folder / "memory.swap.current") or 0
    else:
        both, memory = (
            _number(folder / "memory.memsw.limit_in_bytes"),
            _number(folder / "memory.limit_in_bytes"),
        )
        most = None if both is None or memory is None else both - memory
        used = _sizes(folder / "memory.stat").get("total_swap", 0)
    return free if most is None else max(0, min(free, most - used))


def _share(folder: Path, version: int) -> float | None:
    if version == 2:
        quota, _, period = _text(folder / "cpu.max").partition(" ")
    else:
        quota, period = _text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else None


def _folders(controller: str, root: Path) -> Iterator[tuple[Path, int]]:
    """Yield the folders of this process's groups, the innermost first, with the version of each hierarchy.

    Inside a container the group's path may be one of the world outside: what is mounted is the group then.
    """
    paths = {}
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            paths[2] = path
        elif controller in controllers.split(","):
            paths[1] = path
    for line in _text(root / "proc/self/mountinfo").splitlines():
        left, _, right = line.partition(" - ")
        words, kind = left.split(), right.split()
        if len(words) < 5 or len(kind) < 3:
            continue
        version = (
            2
            if kind[0] == "cgroup2"
            else 1
            if kind[0] == "cgroup" and controller in kind[2].split(",")
            else 0
        )
        if version not in paths:
            continue
        mounted, top = words[3].rstrip("/"), root / words[4].lstrip("/")
        path = paths[version]
        inside = path.removeprefix(mounted).strip("/") if path.startswith(mounted) else ""
        folder = top / inside
        yield from (
            (one, version) for one in (folder, *folder.parents) if one.is_relative_to(top) and one.is_dir()
        )


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    """Read a limit; None for none, which version 1 writes as a number near 2**63."""
    text = _text(path)
    return int(text) if text.isdigit() and int(text) < 1 << 62 else None


def _sizes(path: Path) -> dict[str, int]:
    """Read lines of a name and a number of bytes or kB."""
    found = {}
    for line in _text(path).splitlines():
        words = line.replace(":", " ").split()
        with contextlib.suppress(ValueError, IndexError):
            found[words[0]] = int(words[1]) * (1024 if words[2:] == ["kB"] else 1)
    return found
