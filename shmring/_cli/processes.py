"""Who a process is and what it does, as psutil knows it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Process:
    """A process; blank where it is gone or hidden."""

    user: str = ""
    status: str = ""
    cpu_seconds: float | None = None
    memory: int | None = None


def describe(pid: int, *, alive: bool) -> Process:
    """Describe a process that the ring says is alive."""
    import psutil

    if not alive:
        return Process()
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            times = process.cpu_times()
            return Process(
                process.username(), process.status(), times.user + times.system, process.memory_info().rss
            )
    except psutil.Error:
        return Process()
