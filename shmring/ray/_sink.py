"""The actor on another node: has the mirrored ring, and ends it as its source ended."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import ray

from shmring.ray._frames import unpack
from shmring.ray._nodes import is_dead, this_node
from shmring.ray._target import Count, End, Like, Lost, Stopped, Target
from shmring.ray._tcp import Endpoint, Receiver

__all__ = ["Opened", "Origin", "Sink", "Turn"]

LOG = logging.getLogger("shmring.ray")
QUIET = 3.0  # seconds without a word from the source after which Ray is asked about it
ASK = 5.0  # seconds to wait for the source's answer


class Turn(NamedTuple):
    """Which of the calls of a session comes next."""

    session: int
    number: int


class Opened(NamedTuple):
    """The ring is there."""

    endpoint: Endpoint | None
    """Where it takes frames by TCP, None if it does not."""
    next_seq: int
    taken_over: bool
    producer: tuple[bytes, int]
    """Distinguishes this life of the sink from others."""
    turn: Turn
    """The first one of this session."""


class Origin(NamedTuple):
    """Where the frames come from."""

    source: Any
    node: str


class Sink:
    """The mirrored ring of one node. Ray starts it again if it dies."""

    def __init__(self, name: str, like: Like, secret: bytes | None) -> None:
        self._name, self._like, self._secret = name, like, secret
        self._lock = threading.Lock()
        self._target: Target | None = None
        self._receiver: Receiver | None = None
        self._origin: Origin | None = None
        self._heard_at = time.monotonic()
        self._closing = threading.Event()
        self._turns, self._turn = threading.Condition(), Turn(0, 0)
        self._watch: threading.Thread | None = None

    def ping(self) -> None:
        """Show that the actor is there."""

    def open(self, first_seq: int, origin: Origin) -> Opened:
        """Make the ring if it is not there yet, with the first frame that the source has for it."""
        with self._lock:
            self._origin = origin
            self._heard()
            if self._target is None:
                self._target = Target(self._name, self._like, first_seq)
            if self._secret is not None and self._receiver is None:
                address = ray.util.get_node_ip_address()
                self._receiver = Receiver(self._target, this_node(), address, self._secret, self._heard)
            if self._watch is None:
                self._watch = threading.Thread(target=self._watch_source, name="shmring watch", daemon=True)
                self._watch.start()
            endpoint = None if self._receiver is None else self._receiver.endpoint
            with self._turns:
                self._turn = Turn(self._turn.session + 1, 0)
                self._turns.notify_all()
            target = self._target
            return Opened(endpoint, target.next_seq, target.taken_over, target.identity, self._turn)

    @ray.method(concurrency_group="frames")  # type: ignore[untyped-decorator]
    def write(self, turn: Turn, columns: bytes, payload: list[Any]) -> Count:
        """Publish frames that came through Ray's object store; what was published so far."""
        target = self._opened()
        self._heard()
        with self._in(turn), contextlib.suppress(Stopped):
            target.publish(unpack(columns, payload, target.frame_format), self._wait)
        return target.count()

    @ray.method(concurrency_group="frames")  # type: ignore[untyped-decorator]
    def finish(self, turn: Turn, how: End, failure: str, next_seq: int) -> Count:
        """End the stream behind the last frame that was written."""
        target = self._opened()
        with self._in(turn):
            target.end(how, failure, next_seq)
        return target.count()

    @contextlib.contextmanager
    def _in(self, turn: Turn) -> Iterator[None]:
        """Wait for a turn: Ray starts the calls of an actor with threads in any order.

        Raises
        ------
        Lost
            The source has joined again since.
        """
        with self._turns:
            self._turns.wait_for(lambda: self._turn >= turn or self._turn.session != turn.session)
            if self._turn != turn:
                raise Lost("this call was for an earlier session")
        try:
            yield
        finally:
            with self._turns:
                if self._turn == turn:
                    self._turn = Turn(turn.session, turn.number + 1)
                self._turns.notify_all()

    def _opened(self) -> Target:
        if self._target is None:
            raise RuntimeError("this actor was started again and has no ring yet")
        return self._target

    def _wait(self) -> None:
        if self._closing.is_set():
            raise Stopped
        self._heard()  # the source waits for the acknowledgement, and says nothing

    def end(self, how: End, failure: str) -> None:
        """End the stream for the consumers of this node, now, if there is a ring."""
        if self._target is not None:
            self._target.end(how, failure)

    def close(self, how: End, failure: str) -> None:
        """End the stream if it has not ended, and remove the ring's name."""
        self._closing.set()
        if self._watch is not None:
            self._watch.join()
        with self._lock:
            if self._receiver is not None:
                self._receiver.close()
            if self._target is not None:
                self._target.end(how, failure)
                self._target.close()

    # ---- the source

    def _heard(self) -> None:
        self._heard_at = time.monotonic()

    def _watch_source(self) -> None:
        """End the stream as its source would have, if that one is gone for good."""
        while not self._closing.wait(QUIET / 3):
            if time.monotonic() - self._heard_at > QUIET and self._source_is_gone():
                target = self._opened()
                if target.ended is None:
                    LOG.warning(
                        "ring %r on node %s: the source of the mirror has died", self._name, this_node()
                    )
                    target.end("died", "")
                return

    def _source_is_gone(self) -> bool:
        """Ask Ray, twice: a call on its way fails in the same way when the source is only restarted."""
        assert self._origin is not None
        for _ in range(2):
            try:
                ray.get(self._origin.source.ping.remote(), timeout=ASK)
            except ray.exceptions.ActorDiedError:
                continue
            except (ray.exceptions.RayError, TimeoutError):
                return is_dead(self._origin.node)
            self._heard()
            return False
        return True
