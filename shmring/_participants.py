"""The participants of a ring as plain rows, for the messages of errors and for `Ring.stats()`."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from shmring import _core
from shmring._words import clean

__all__ = ["ProducerState", "command_line", "command_of", "consumer_rows", "is_here", "rows_of"]

ProducerState = Literal["none", "live", "closed", "failed", "died"]

if TYPE_CHECKING:  # rows are plain dicts; to make the class would slow down the import of shmring
    from typing import TypedDict

    class ConsumerRow(TypedDict):
        """What ConsumerStats documents."""

        place: int
        pid: int
        command: str
        label: str
        policy: Literal["lossless", "lossy", "left", "member"]
        cursor: int
        lag: int
        lost: int
        skipped: int
        delivered: int
        held: int
        max_held: int | None
        alive: bool
        joined_ns: int
        start_time: int
        group: str | None
        redelivered: int


def is_here(pid: int, start_time: int) -> bool:
    """Return whether `pid` is, in this pid namespace, the process that started then.

    A ring knows a participant by the pid and the start time (clock ticks since boot) that the participant saw
    itself. In another pid namespace the same number is another process, which started at another time.
    """
    try:
        fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()  # the command may hold spaces
        return int(fields[19]) == start_time
    except (OSError, IndexError, ValueError):
        return False


def _read(path: str) -> bytes:
    """Read the beginning of a file of the kernel: a file object would take three times as long."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 4096)
    finally:
        os.close(fd)


def command_of(pid: int, start_time: int) -> str:
    """Return the command line of a participant, as `command_line`; ``""`` if it is not here."""
    return command_line(pid) if is_here(pid, start_time) else ""


def command_line(pid: int) -> str:
    """Return the command line of a process of this pid namespace, ``""`` if it is gone or hidden.

    In one line that is safe to print: a process may call itself anything.
    """
    try:
        return clean(_read(f"/proc/{pid}/cmdline").replace(b"\0", b" ").decode(errors="replace").strip())
    except OSError:
        return ""


def consumer_rows(block: _core.Block, lock_fd: int) -> list[ConsumerRow]:
    """Read every taken place of the consumer table."""
    head = block.status(lock_fd)["head"]
    return rows_of(block.place_statuses(lock_fd), head, functools.cache(command_of))


def rows_of(
    places: list[dict[str, Any]], head: int, command_of: Callable[[int, int], str]
) -> list[ConsumerRow]:
    """Return what the consumers at these places did and have, with the ring's head at about that time."""
    return [
        {
            "place": row["place"],
            "pid": row["pid"],
            "command": command_of(row["pid"], row["start_time"]) if row["alive"] else "",
            "label": row["label"],
            "policy": row["policy"],
            "cursor": row["cursor"],
            "lag": 0 if row["policy"] == "left" else max(0, head - row["next"]),
            "lost": row["lost"],
            "skipped": row["skipped"],
            "delivered": row["delivered"],
            "held": max(row["held"], row["pins"]),
            "max_held": row["max_held"] if row["policy"] == "lossy" else None,
            "alive": row["alive"],
            "joined_ns": row["joined_ns"],
            "start_time": row["start_time"],
            "group": row["group"],
            "redelivered": row["redelivered"],
        }
        for row in places
    ]
