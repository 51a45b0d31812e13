"""Who takes part in a ring, as plain rows: for the messages of errors, and for `Ring.stats()`."""

from __future__ import annotations

from typing import Literal, TypedDict

from shmring import _core

__all__ = ["ConsumerRow", "ProducerState", "command_of", "consumer_rows", "producer_state"]

ProducerState = Literal["none", "live", "closed", "died"]


class ConsumerRow(TypedDict):
    """What ConsumerStats documents; a plain dict is made in no time when shmring is imported."""

    place: int
    pid: int
    command: str
    label: str
    policy: Literal["lossless", "lossy", "left"]
    cursor: int
    lag: int
    lost: int
    skipped: int
    delivered: int
    held: int
    alive: bool
    joined_ns: int


def command_of(pid: int) -> str:
    """Return the command line of a process, ``""`` if it is gone or hidden."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read(4096).replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def producer_state(block: _core.Block, lock_fd: int) -> tuple[ProducerState, dict[str, int]]:
    """Read how the producer is, and the ring's counters, out of a block."""
    report = block.report()
    if report["producer_state"] == _core.PRODUCER_NONE:
        return "none", report
    if report["producer_state"] == _core.PRODUCER_CLOSED:
        return "closed", report
    return ("live" if _core.lock_held(lock_fd, _core.LOCK_PRODUCER) else "died"), report


def consumer_rows(block: _core.Block, lock_fd: int) -> list[ConsumerRow]:
    """Read every taken place of the consumer table."""
    head = block.report()["head"]
    found: list[ConsumerRow] = []
    for place in range(block.consumers):
        row = block.report_place(place)
        if row is None:
            continue
        alive = _core.lock_held(lock_fd, _core.lock_place(place))
        found.append(
            {
                "place": place,
                "pid": row["pid"],
                "command": command_of(row["pid"]) if alive else "",
                "label": row["label"],
                "policy": row["policy"],
                "cursor": row["cursor"],
                "lag": 0 if row["policy"] == "left" else max(0, head - row["next"]),
                "lost": row["lost"],
                "skipped": row["skipped"],
                "delivered": row["delivered"],
                "held": max(row["held"], row["pins"]),
                "alive": alive,
                "joined_ns": row["joined_ns"],
            }
        )
    return found
