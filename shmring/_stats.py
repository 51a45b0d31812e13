"""What ``Ring.stats()`` returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from shmring._census import ProducerState, command_of, consumer_rows, producer_state

if TYPE_CHECKING:
    import numpy as np

    from shmring import _core
    from shmring._core import RingReport

__all__ = ["ConsumerStats", "ProducerStats", "RingStats"]


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
        Its command line while it lives and can be seen from here, else ``""``.
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
    policy : {"lossless", "lossy", "left"}
        ``"left"``: closed, but frames of it are still held.
    cursor : int
        The position that it holds the producer at (lossless), or its next one (lossy).
    lag : int
        Published frames that it has not taken yet.
    lost, skipped, delivered : int
        Frames.
    held : int
        Frames it holds now.
    alive : bool
        Whether its process lives (the kernel's word, not a guess).
    joined_ns : int
        When it joined, nanoseconds since the epoch (CLOCK_REALTIME).
    start_time : int
        When its process started, as for a producer.
    """

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
    start_time: int


@dataclass(frozen=True, slots=True)
class RingStats:
    """Everything that a ring's header knows, at one moment.

    Attributes
    ----------
    name, shape, dtype, slots, nbytes
        As the ring's.
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


def read_producer(block: _core.Block, lock_fd: int) -> tuple[ProducerStats, RingReport]:
    """Read the producer and the ring's counters out of a block."""
    state, report = producer_state(block, lock_fd)
    pid, start_time = report["producer_pid"], report["start_time"]
    command = command_of(pid, start_time) if state == "live" else ""
    return ProducerStats(state, pid, command, report["epoch"], start_time, report["failure"]), report


def read_consumers(block: _core.Block, lock_fd: int) -> tuple[ConsumerStats, ...]:
    """Read every taken place of the consumer table."""
    return tuple(ConsumerStats(**row) for row in consumer_rows(block, lock_fd))
