"""TCP from the source to one sink: an own consumer, and session after session."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from shmring import Batch, Consumer, Ring
from shmring.ray._frames import pack
from shmring.ray._sink import Origin
from shmring.ray._target import Lost
from shmring.ray._tcp import Acknowledgement, Connection
from shmring.ray._way import (
    ANSWER,
    SLICE,
    Closing,
    Destination,
    Ended,
    Limits,
    Progress,
    Way,
    ask,
    look_ahead,
)

__all__ = ["Link"]

RETRY = 0.5  # seconds before another try to reach a sink


class Session:
    """Batches on their way to a sink, held until it has them; a thread hears what it has."""

    def __init__(self, connection: Connection, window: int, progress: Progress) -> None:
        self._connection, self._window, self._progress = connection, window, progress
        self.on_their_way: deque[Batch] = deque()
        self._acknowledged = 0
        self._changed = threading.Condition()
        self._ready = self._closing = False
        self.ended = False
        """Whether the stream has ended over there."""
        self._broken: Lost | None = None
        self._thread = threading.Thread(target=self._hear, name="shmring acknowledgements", daemon=True)
        self._thread.start()

    def _hear(self) -> None:
        while not self._closing:
            try:
                heard = self._connection.hear()
            except Lost as error:
                with self._changed:
                    self._broken = error
                    self._changed.notify_all()
                self._connection.hang_up()  # the other thread may be sending
                return
            if heard is not None:
                self._take(heard)

    def _take(self, heard: Acknowledgement) -> None:
        with self._changed:
            self._ready, self.ended = True, heard.ended
            while self._acknowledged < heard.messages and self.on_their_way:
                self._acknowledged += 1
                self.on_their_way.popleft().release()
            self._progress.arrived(heard.done)
            self._changed.notify_all()

    def _wait_for(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Whether it came true in time; Lost if the sink is gone."""
        with self._changed:
            self._changed.wait_for(lambda: self._broken is not None or condition(), seconds)
            if self._broken is not None:
                raise self._broken
            return condition()

    def wait_until_ready(self, seconds: float) -> None:
        """Wait for the sink to answer."""
        if not self._wait_for(lambda: self._ready, seconds):
            raise Lost(f"no answer within {seconds:g} s")

    def wait_for_room(self, seconds: float) -> bool:
        """Wait until one more batch may be sent."""
        return self._wait_for(lambda: len(self.on_their_way) < self._window, seconds)

    def wait_for_end(self, seconds: float) -> bool:
        """Wait until the sink has published everything and ended its stream."""
        return self._wait_for(lambda: self.ended, seconds)

    def end(self, end: Ended) -> None:
        """Send how the stream ended, behind its last frame."""
        self._connection.end(*end)

    def send(self, batch: Batch) -> None:
        """Send frames, and hold them until they have arrived."""
        with self._changed:
            self.on_their_way.append(batch)
        self._connection.send(*pack(batch))

    def hang_up(self) -> None:
        """End the session: the threads that use it get Lost."""
        self._connection.hang_up()

    def close(self) -> None:
        """End the session, and let go of the frames."""
        self._closing = True
        self.hang_up()
        self._thread.join()
        self._connection.close()
        for batch in self.on_their_way:
            batch.release()


class Link(Way):
    """Sends every frame to one sink, in a thread, whatever becomes of the other sinks."""

    def __init__(self, ring: Ring, to: Destination, limits: Limits, secret: bytes, origin: Origin) -> None:
        super().__init__(ring, to)
        self._limits, self._secret, self._origin = limits, secret, origin
        self._session: Session | None = None
        self._closing = Closing(ring)
        self._give_up = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"shmring mirror {to.node[:8]}", daemon=True)
        self._thread.start()

    @property
    def window(self) -> int:
        """Batches on their way."""
        session = self._session
        return 0 if session is None else len(session.on_their_way)

    def close(self, how: Ended) -> None:
        """Send what is published by now and end; does not wait."""
        self._closing.ask(how)

    def join(self, seconds: float) -> None:
        """Wait for the end of the thread, which comes at the latest now."""
        self._thread.join(seconds)
        self._give_up.set()
        if (session := self._session) is not None:
            session.hang_up()
        self._thread.join()

    def _run(self) -> None:
        while not self._give_up.is_set():
            try:
                self._send_all()
                self.state = "ended"
                return
            except Lost as error:
                self.lose(error)
                if self.error is not None:
                    return
            except Exception as error:
                self.fail(error)
                return
            if self._closing.asked.wait(RETRY):
                return

    def _send_all(self) -> None:
        """Send frames until the stream has ended; Lost if the sink goes away."""
        ask(self.to.sink.ping.remote())  # a sink that is not there must hold up nobody
        label = f"mirror {self.to.node[:8]}"
        with self._ring.consumer(lossless=self.to.lossless, label=label) as consumer:
            limits = self._limits.within(consumer.max_held)
            first_seq, first = look_ahead(self._ring, consumer, limits.frames)
            opened = self.open(first_seq, self._origin)
            assert opened.endpoint is not None  # this mirror has a secret
            connection = Connection(opened.endpoint, self._secret)
            session = self._session = Session(connection, limits.window, self.progress)
            try:
                session.wait_until_ready(ANSWER)
                self.runs()
                self._forward(consumer, session, first, limits.frames)
            finally:
                self._session = None
                session.close()

    def _forward(self, consumer: Consumer, session: Session, first: Batch | Ended | None, most: int) -> None:
        some = first
        while not self._give_up.is_set():
            if isinstance(some, Ended):
                self._end(session, some)
                return
            if some is not None:
                session.send(some)
            some = None
            if session.ended:
                raise RuntimeError("the mirrored ring has ended over there")
            if session.wait_for_room(SLICE):
                some = self._closing.take(consumer, most)

    def _end(self, session: Session, end: Ended) -> None:
        session.end(end)
        while not session.wait_for_end(SLICE):
            if self._give_up.is_set():
                return
        self.ended = end.how
