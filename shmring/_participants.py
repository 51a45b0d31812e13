"""The participants of a ring as plain rows, for the messages of errors and for `Ring.stats()`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from shmring import _core

__all__ = ["ProducerState", "command_of", "consumer_rows", "is_here"]

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
        with open(f"/proc/{pid}/stat", "rb", 0) as file:
            fields = file.read().rpartition(b")")[2].split()  # the command may hold spaces
        return int(fields[19]) == start_time
    except (OSError, IndexError, ValueError):
        return False


def command_of(pid: int, start_time: int) -> str:
    """Return the command line of a participant, ``""`` if it is not here or hidden."""
    if not is_here(pid, start_time):
        return ""
    try:
        with open(f"/proc/{pid}/cmdline", "rb", 0) as file:
            return file.read(4096).replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def consumer_rows(block: _core.Block, lock_fd: int) -> list[ConsumerRow]:
    """Read every taken place of the consumer table."""
    head = block.status(lock_fd)["head"]
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
        for row in block.place_statuses(lock_fd)
    ]
