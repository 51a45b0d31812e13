"""What the harness needs of a way to send frames. Each adapter, ours included, implements it."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

Words = np.ndarray[Any, np.dtype[np.uint64]]


@dataclass(frozen=True)
class Job:
    """What both ends must agree on."""

    name: str  # unique: whatever an adapter creates is named after it
    nbytes: int
    slots: int
    consumers: int = 1
    sleeping: bool = False  # waits sleep in the kernel; otherwise they are as fast as the transport allows
    options: dict[str, Any] = field(default_factory=dict)

    def channel(self, suffix: str) -> "Job":
        return replace(self, name=f"{self.name}{suffix}")


def giving_way(job: Job) -> Callable[[], object]:
    """What a polling loop calls when nothing is there: it yields only if processes share cores."""
    return os.sched_yield if job.consumers + 1 > (os.cpu_count() or 1) else bool


class Sender:
    """The producer's end. `send` takes one payload, and waits until there is space."""

    send: Callable[[Any], Any]

    def close(self) -> None:
        """Called when every consumer has got everything."""


class Receiver:
    """A consumer's end. `recv` waits for one message; what it returns is dropped before the next call."""

    recv: Callable[[], Any]
    lossy = False  # may lose frames; then `seq_of` gives a message's number

    def view(self, message: Any) -> Words:
        """The payload, in place if the transport can."""
        return np.frombuffer(message, np.uint64)

    def seq_of(self, message: Any) -> int:
        raise NotImplementedError

    def close(self) -> None:
        """Called before the sender is closed."""


class Transport:
    """One row of the tables."""

    name: str
    settings = ""  # which of its settings were chosen, for the table
    package: str | None = None  # distribution whose version is reported
    modules: tuple[str, ...] = ()  # what must be importable
    payload = "array"  # what `send` takes: "array" (uint64 words), "bytes", "bytearray", "number" (in place)
    deferred = False  # `send` may read the payload after it has returned
    batch = 1  # frames per message
    credit = False  # loses frames by nature: gets an application-level credit window
    fan_out = False  # one send reaches every consumer
    spins = True  # can wait without sleeping
    sleeps = True  # can sleep in the kernel until a frame comes
    in_place = False
    whole = False  # starts its own processes, in whole_stream and whole_ping_pong
    contender = False  # one of the fastest: takes part in more cases
    slow = False  # takes long to start: fewer rounds
    most_nbytes = 1 << 30
    most_slots = 1 << 30
    leftovers: tuple[str, ...] = ()  # what it may leave behind when it is killed: patterns of files

    def setup(self, job: Job) -> Any:
        """Runs before the processes are forked; they inherit what it returns."""
        return None

    def sender(self, job: Job, link: Any) -> Sender:
        raise NotImplementedError

    def receiver(self, job: Job, link: Any, index: int) -> Receiver:
        raise NotImplementedError

    def cleanup(self, job: Job, link: Any) -> None:
        """Runs after the processes have ended, however they ended."""

    def whole_stream(self, job: Job, reads: str, seconds: float) -> dict[str, float]:
        raise NotImplementedError

    def whole_ping_pong(self, job: Job, seconds: float) -> dict[str, float]:
        raise NotImplementedError
