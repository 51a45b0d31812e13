"""The way of the frames from the source to one sink, as far as it is the same for every transport."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from typing import Any, NamedTuple

import ray

from shmring import Batch, Consumer, ProducerDied, ProducerFailed, Ring, RingClosed, RingEmpty, SlotsHeld
from shmring.ray._nodes import is_dead
from shmring.ray._report import SinkStats, State
from shmring.ray._sink import Opened, Origin
from shmring.ray._target import Count, End, Lost

__all__ = ["Closing", "Destination", "Ended", "Gone", "Limits", "Lost", "Way", "ask", "look_ahead"]

LOG = logging.getLogger("shmring.ray")
ANSWER = 10.0  # seconds that a sink has to answer
SLICE = 0.1  # seconds to wait for frames before a look at what else there is
RATED = 2.0  # seconds that a rate is taken over


class Destination(NamedTuple):
    """A node that gets the frames."""

    node: str
    ring: str
    lossless: bool
    first_seq: int
    """Seq of the first frame that it gets at the earliest."""
    sink: Any


class Limits(NamedTuple):
    """How much may be on its way to a sink."""

    frames: int
    """In a batch."""
    window: int
    """Batches that are not acknowledged."""

    def within(self, max_held: int | None) -> Limits:
        """Return how much it may be if all of that is held by a consumer that may hold so much."""
        if max_held is None:
            return self
        window = min(self.window, max_held)
        return Limits(min(self.frames, max_held // window), window)


class Ended(NamedTuple):
    """The end of the source's stream."""

    how: End
    failure: str = ""
    next_seq: int = 0
    """Seq of the frame that would have come next, 0 if the stream continues without the mirror."""


class Gone(Exception):
    """The sink's node is gone for good."""


def ask(answer: Any) -> Any:
    """Return what a sink answers.

    Raises
    ------
    Lost
        It does not answer now.
    Gone
        It never will.
    ShmringError
        What went wrong over there.
    """
    try:
        return ray.get(answer, timeout=ANSWER)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.ActorDiedError as error:
        raise Gone(brief(error)) from None
    except (ray.exceptions.RayError, TimeoutError) as error:
        raise Lost(brief(error)) from None


def brief(error: BaseException) -> str:
    """Return the first line of an error that Ray made."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def take(consumer: Consumer, most: int, timeout: float) -> Batch | Ended | None:
    """Return the next frames, or the end of the stream; None if there is nothing now."""
    try:
        return consumer.batch(most, timeout=timeout)
    except (RingEmpty, SlotsHeld):
        return None
    except ProducerFailed as error:
        return Ended("failed", error.failure, consumer.ring.stats().next_seq)
    except ProducerDied:
        return Ended("died", "", consumer.ring.stats().next_seq)
    except RingClosed:
        return Ended("closed", "", consumer.ring.stats().next_seq)


def look_ahead(ring: Ring, consumer: Consumer, most: int) -> tuple[int, Batch | Ended | None]:
    """Return the seq that the stream of a new consumer begins with, and the first frames of it."""
    next_seq = ring.stats().next_seq
    first = take(consumer, most, 0)
    return (int(first.seqs[0]) - first.lost if isinstance(first, Batch) else next_seq), first


class Closing:
    """Whether the mirror is being closed, and the last frame that it sends then."""

    def __init__(self, ring: Ring) -> None:
        self._ring = ring
        self._how, self._head = Ended("closed"), 0
        self.asked = threading.Event()

    def ask(self, how: Ended) -> None:
        """End with what is published by now, however much the producer publishes after it."""
        self._how, self._head = how, self._ring._published
        self.asked.set()

    def take(self, consumer: Consumer, most: int) -> Batch | Ended | None:
        """Return the next frames to send, or the end of the stream; None if there is nothing now."""
        if not self.asked.is_set():
            return take(consumer, most, SLICE)
        left = self._head - consumer._position
        if left > 0:
            return take(consumer, min(most, left), SLICE)
        found = take(consumer, 1, 0)
        if isinstance(found, Ended):  # the stream has ended, too
            return found
        if found is not None:
            found.release()
        return self._how


class Progress:
    """Counts what a sink has got, what it has lost, and how fast."""

    def __init__(self) -> None:
        self.published = self.lost = self.joined = 0
        self.next_seq: int | None = None
        """Below it, the sink has every frame or has lost it; None before it has joined."""
        self._producer: tuple[bytes, int] | None = None
        self._earlier_published = self._earlier_lost = 0
        self._samples: deque[tuple[float, int]] = deque()

    def begin(self, opened: Opened) -> None:
        """Count what this sink does, and keep what an earlier life of it did."""
        self.joined += 1
        if opened.producer != self._producer:
            self._producer = opened.producer
            if self.next_seq is not None and not opened.taken_over:
                self.lost += max(0, opened.next_seq - self.next_seq)
            self._earlier_published, self._earlier_lost = self.published, self.lost
        self.next_seq = opened.next_seq
        self._sample()

    def arrived(self, count: Count) -> None:
        """Take in the sink's own counters."""
        self.next_seq = count.next_seq
        self.published = self._earlier_published + count.published
        self.lost = self._earlier_lost + count.lost
        self._sample()

    def _sample(self) -> None:
        now = time.monotonic()
        self._samples.append((now, self.published))
        while len(self._samples) > 2 and now - self._samples[0][0] > RATED:
            self._samples.popleft()

    @property
    def rate(self) -> float:
        """Frames per second of late."""
        samples = list(self._samples)
        if len(samples) < 2 or time.monotonic() - samples[-1][0] > RATED:
            return 0.0
        (began, before), (ended, after) = samples[0], samples[-1]
        return (after - before) / max(ended - began, 1e-9)


class Way:
    """What is known of one sink."""

    def __init__(self, ring: Ring, to: Destination) -> None:
        self._ring, self.to = ring, to
        self.progress = Progress()
        self.state: State = "starting"
        self._failure = ""
        self.error: Exception | None = None
        """What keeps this sink from taking frames for good."""
        self.ended: End | None = None
        self.begun = threading.Event()
        """Set as soon as it takes frames, or never will."""

    @property
    def window(self) -> int:
        """Batches on their way."""
        raise NotImplementedError

    def open(self, first_seq: int, origin: Origin) -> Opened:
        """Let the sink make its ring."""
        opened: Opened = ask(self.to.sink.open.remote(max(first_seq, self.to.first_seq), origin))
        self.progress.begin(opened)
        return opened

    def runs(self) -> None:
        """Note that it takes frames."""
        self.state, self._failure = "running", ""
        self.begun.set()
        if self.progress.joined > 1:
            LOG.warning("mirror of ring %r: node %s is back", self._ring.name, self.to.node)

    def lose(self, error: Exception) -> None:
        """Note that it is not there now."""
        if is_dead(self.to.node):
            self.fail(Gone("its node is gone"))
        else:
            self._report("out of contact", error)

    def fail(self, error: Exception) -> None:
        """Note that it will not take frames any more."""
        self.error = error
        self._report("dead" if isinstance(error, Gone) else "failed", error)
        if self.state == "failed":
            self.to.sink.end.remote("failed", f"{type(error).__name__}: {error}")
        self.begun.set()

    def _report(self, state: State, error: Exception) -> None:
        if self.state != state:
            LOG.warning("mirror of ring %r: node %s is %s: %s", self._ring.name, self.to.node, state, error)
        self.state, self._failure = state, str(error)

    def stats(self) -> SinkStats:
        """Return how far it is."""
        progress, state = self.progress, self.state  # which is "ended" once all else is final
        next_seq = progress.next_seq  # before the head, which it follows
        head = self._ring.stats().next_seq
        return SinkStats(
            node=self.to.node,
            ring=self.to.ring,
            lossless=self.to.lossless,
            state=state,
            failure=self._failure,
            published=progress.published,
            rate=progress.rate,
            window=self.window,
            next_seq=self.to.first_seq if next_seq is None else next_seq,
            lag=0 if next_seq is None else head - next_seq,
            lost=progress.lost,
            joined=progress.joined,
        )
