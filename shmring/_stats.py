"""What ``Ring.stats()`` returns."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from shmring._participants import ProducerState, command_of, rows_of
from shmring._words import clean, count

if TYPE_CHECKING:
    import numpy as np

    from shmring import _core
    from shmring._core import RingStatus

__all__ = ["ConsumerStats", "GroupStats", "ProducerStats", "RingStats"]

# What the table of RingStats says of each consumer.
COLUMNS = (
    "place",
    "label",
    "policy",
    "lag",
    "held",
    "max_held",
    "delivered",
    "lost",
    "skipped",
    "alive",
    "pid",
    "command",
)


@dataclass(frozen=True, slots=True)
class ProducerStats:
    """The producer, as far as the ring knows it.

    Attributes
    ----------
    state : {"none", "live", "closed", "failed", "died"}
        ``"none"``: there never was one. ``"failed"``: it ended the stream because of an error. ``"died"``:
        its process ended without closing.
    pid : int
        Process id, 0 if there never was one.
    command : str
        Its command line while it lives and can be seen from here, else ``""``. In one line: what cannot be
        printed is escaped.
    epoch : int
        Counts the ring's producers.
    start_time : int
        When its process started, in clock ticks since boot; 0 if unknown. `pid` is a number of the producer's
        own pid namespace: where the process of that number here started at another time, it is another one.
    failure : str
        What it said of the error that it failed by, else ``""``.
    """

    state: ProducerState
    pid: int
    command: str
    epoch: int
    start_time: int
    failure: str = ""


@dataclass(frozen=True, slots=True)
class ConsumerStats:
    """One consumer of a ring.

    Attributes
    ----------
    place : int
        Its place in the consumer table.
    pid, command, label : int, str, str
        Who it is, as for a producer; `label` is what it was given in ``Ring.consumer(label=...)``.
    policy : {"lossless", "lossy", "left", "member"}
        ``"left"``: closed, but frames of it are still held. ``"member"``: of a group.
    cursor : int
        The position that it holds the producer at (lossless, or its group), or its next one (lossy).
    lag : int
        Published frames that it, or its group, has not taken yet.
    lost, skipped, delivered : int
        Frames.
    held : int
        Frames it holds now.
    max_held : int or None
        Slots that it may hold at the same time, if it is lossy.
    alive : bool
        Whether its process lives (the kernel's word, not a guess).
    joined_ns : int
        When it joined, nanoseconds since 1970 (CLOCK_REALTIME).
    start_time : int
        When its process started, as for a producer.
    group : str or None
        The group that it is a member of.
    redelivered : int
        Frames it took that another member had when it died.
    """

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
    alive: bool
    joined_ns: int
    start_time: int
    group: str | None = None
    redelivered: int = 0
    max_held: int | None = None


@dataclass(frozen=True, slots=True)
class GroupStats:
    """A group: consumers that share the frames, each of which goes to one of them.

    Attributes
    ----------
    name : str
    at_most_once : bool
        Whether frames that a member had when it died are lost, rather than given to another one.
    next : int
        The position of the frame that its next member to ask gets.
    lag : int
        Published frames that no member has taken yet.
    members : tuple of int
        Their places in the consumer table.
    redelivered : int
        Frames that its present members took from members that died.
    lost : int
        Frames that nobody got, because a member died that had them (`at_most_once`).
    """

    name: str
    at_most_once: bool
    next: int
    lag: int
    members: tuple[int, ...]
    redelivered: int
    lost: int


@dataclass(frozen=True, slots=True, repr=False)
class RingStats:
    """A ring's counters and participants at one moment. ``print`` shows them as a table.

    Attributes
    ----------
    name, shape, dtype, slots, spares, nbytes
        As the ring's.
    spares_in_use : int
        Slots that are held and whose entries have taken spare ones. Where it equals `spares`, entries
        exchange slots for each further frame that is held.
    published : int
        Frames published since creation.
    next_seq : int
        Frames offered since creation: published or dropped.
    dropped : int
        Frames that the producer offered and had to drop.
    swaps : int
        How often the producer exchanged the slots of two entries.
    producer : ProducerStats
    consumers : tuple of ConsumerStats
    groups : tuple of GroupStats
        Those that have members.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    slots: int
    nbytes: int
    published: int
    next_seq: int
    dropped: int
    swaps: int
    producer: ProducerStats
    consumers: tuple[ConsumerStats, ...]
    groups: tuple[GroupStats, ...] = ()
    spares: int = 0
    spares_in_use: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return the same as plain values that ``json.dumps`` takes.

        Returns
        -------
        dict
            The fields by name; `dtype` is what ``numpy.lib.format.dtype_to_descr`` makes of it.
        """
        import numpy as np

        return {**asdict(self), "dtype": np.lib.format.dtype_to_descr(self.dtype)}

    def __repr__(self) -> str:
        """Summarise the ring in one line."""
        return (
            f"<shmring.RingStats of {self.name!r}, {count(self.published, 'frame')} published, "
            f"{self.dropped} dropped, producer {self.producer.state}, consumers: {len(self.consumers)}>"
        )

    def __str__(self) -> str:
        """Format it as a table: the ring, the producer, a line for each group and each consumer."""
        producer = self.producer
        who = f", pid {producer.pid}, epoch {producer.epoch}" if producer.state != "none" else ""
        what = f"shape {self.shape}, dtype {self.dtype}, {self.slots} slots{spares_of(self)}"
        counted = f"{self.dropped} dropped, next seq {self.next_seq}, {count(self.swaps, 'swap')}"
        lines = [
            f"ring {self.name!r}: {what}, {self.nbytes:,} bytes",
            f"{count(self.published, 'frame')} published, {counted}",
            f"producer {producer.state}{who}  {producer.command}".rstrip(),
        ]
        for group in self.groups:
            mode = ", at most once" if group.at_most_once else ""
            lines.append(
                f"group {group.name!r}: members at places {', '.join(map(str, group.members))}{mode}; lag "
                f"{group.lag}, {group.redelivered} redelivered, {group.lost} lost"
            )
        if not self.consumers:
            return "\n".join([*lines, "no consumers"])
        rows = [COLUMNS, *(tuple(_cell(getattr(one, key)) for key in COLUMNS) for one in self.consumers)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            lines.append("  ".join(cells).rstrip())
        return "\n".join(lines)

    def _repr_html_(self) -> str | None:
        """Show them in a notebook."""
        from shmring import _html

        return _html.stats(self)


def _cell(value: object) -> str:
    return "-" if value is None else clean(str(value))


def spares_of(stats: RingStats) -> str:
    """Say how many spare slots there are, after the number of slots."""
    if not stats.spares:
        return ""
    return f" and {count(stats.spares, 'spare one')} ({stats.spares_in_use} in use)"


def read_participants(
    block: _core.Block, lock_fd: int
) -> tuple[RingStatus, ProducerStats, tuple[ConsumerStats, ...], tuple[GroupStats, ...], int]:
    """Read the ring's counters, everyone who takes part, and how many spare slots are in use."""
    commands = functools.cache(command_of)  # several participants are often one process
    producer, status = read_producer(block, lock_fd, commands)
    places, groups, spares_in_use = block.participants(lock_fd)
    consumers = tuple(ConsumerStats(**row) for row in rows_of(places, status["head"], commands))
    return status, producer, consumers, groups_of(groups, consumers), spares_in_use


def read_producer(
    block: _core.Block, lock_fd: int, command_of: Callable[[int, int], str]
) -> tuple[ProducerStats, RingStatus]:
    """Read the producer and the ring's counters out of a block."""
    state, status = block.producer_state(lock_fd)
    pid, start_time = status["producer_pid"], status["start_time"]
    command = command_of(pid, start_time) if state == "live" else ""
    return ProducerStats(state, pid, command, status["epoch"], start_time, status["failure"]), status


def groups_of(rows: list[dict[str, Any]], consumers: tuple[ConsumerStats, ...]) -> tuple[GroupStats, ...]:
    """Return the groups that these consumers are in."""
    found = []
    for row in rows:
        members = [one for one in consumers if one.place in row["members"] and one.group == row["name"]]
        if members:  # else they joined since, or have left
            lag = min(one.lag for one in members)
            redelivered = sum(one.redelivered for one in members)
            row["members"] = tuple(one.place for one in members)
            found.append(GroupStats(**row, lag=lag, redelivered=redelivered))
    return tuple(found)
