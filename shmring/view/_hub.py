"""The hub of one ring: a thread that copies the newest frame once when some page is ready for it.

It holds no slot while a page is slow, and reads nothing while no page looks.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable
from typing import Any, Literal

from shmring import ProducerDied, Ring, RingAccessDenied, RingClosed, RingNotFound, ShmringError, attrs
from shmring._alone import alone
from shmring._follow import Succession
from shmring._inventory import Found, look
from shmring._messages import producer_of
from shmring._words import clean, count
from shmring.attrs import RingAttrs
from shmring.view import _images, _tables
from shmring.view._clients import Client, Shot
from shmring.view._kinds import TABLE, Layout, layout_of
from shmring.view._reader import Reader, last_frame
from shmring.view._rings import id_of
from shmring.view._signals import Trace
from shmring.view._wants import Want
from shmring.view._wire import pack, plain, text

__all__ = ["Hub"]

SLICE = 0.02  # seconds until a wait for a frame looks at what pages want
IDLE = 0.1  # seconds until a hub that nobody wants a frame of looks whether the stream has ended
RETRY = 0.1  # seconds between two looks for a ring
PEEK = 1.0  # the same, where it would be described
GATHER = 0.01  # seconds in which frames of a signal are gathered
SHORTEST = 0.01  # seconds between two pictures that are read, for however many pages
SIGNAL_RATE = 30.0  # pictures of a signal per second, however many frames there are
ERROR_RATE = 1.0  # messages per second that a frame cannot be drawn
FORGOTTEN = 5.0  # seconds without an acknowledgement after which a page no longer counts as looking
MOST_KEPT = 512 << 20  # bytes of frames that pages have on show


class Hub:
    """All pages that look at one ring."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lock = threading.Condition()
        self._clients: set[Client] = set()
        self._thread: threading.Thread | None = None
        self._rings = Succession(name)
        self._reader: Reader | None = None
        self._schema: dict[str, Any] | None = None
        self._end: dict[str, Any] | None = None
        self._layout = TABLE
        self._trace: Trace | None = None
        self._newest: Shot | None = None
        self._read_at = 0.0
        self._over = False  # the stream that was shown before
        self._generation = b""
        self._ended_generation = b""
        self._peeked: tuple[Any, ...] | None = None
        self._peek_at = 0.0
        self._said: RingAttrs | None = None

    # ---- pages; from any thread

    def add(self, client: Client) -> None:
        """Let a page look."""
        self.change(lambda: self._add(client))

    def _add(self, client: Client) -> None:
        self._clients.add(client)
        if self._schema is not None:
            client.deliver(text({**self._schema, "client": client.id}))
        if self._end is not None:
            client.deliver(text(self._end))
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=f"view {self.name}", daemon=True)
            self._thread.start()

    def remove(self, client: Client) -> None:
        """Forget a page."""
        self.change(lambda: self._clients.discard(client))

    def find(self, client_id: str) -> Client | None:
        """Return the page of that id."""
        found = [one for one in alone(self.lock, self._clients.copy) if one.id == client_id]
        return found[0] if found else None

    def change(self, work: Callable[[], None]) -> None:
        """Change something of a page while the thread does not look, and wake it."""

        def change() -> None:
            work()
            self.lock.notify()

        alone(self.lock, change)

    def join(self, timeout: float) -> None:
        """Wait until the thread has ended, which it does when the last page has left."""
        thread = self._thread
        if thread is not None:
            thread.join(timeout)

    # ---- the thread

    def _run(self) -> None:
        while self._is_watched():
            try:
                self._turn()
            except Exception as error:
                self._fail(error)

    def _is_watched(self) -> bool:
        """Whether somebody looks. If not, the ring is left before the next page can start a thread."""
        with self.lock:
            if self._clients:
                return True
        self._leave()
        with self.lock:
            if self._end is None:
                self._newest = None  # who comes back later sees what is new then
            if not self._clients:
                self._thread = None
            return bool(self._clients)

    def _turn(self) -> None:
        if self._reader is None:
            self._look_for_ring()
        else:
            self._read(self._reader)
        self._serve()

    def _look_for_ring(self) -> None:
        try:
            if self._open():
                return
        except ShmringError:
            if look(self.name).ring is not None:
                raise
        if time.monotonic() >= self._peek_at:
            self._peek_at = time.monotonic() + PEEK
            self._peek()
        with self.lock:
            if not any(one.next(self._newest) for one in self._clients):
                self.lock.wait(RETRY)

    def _open(self) -> bool:
        """Join the next stream of that name, if there is one."""
        try:
            ring = self._rings.find()
        except RingAccessDenied:
            ring = self._rings.find(readonly=True)
        if ring is None:
            return False
        try:
            self._reader = Reader(ring)
        except BaseException:
            ring.close()
            raise
        replaced, self._over = self._over, False
        self._begin(ring)
        if replaced:
            self._tell({"type": "replaced", "message": "the next producer has come"})
        self._tell_schema()
        return True

    def _begin(self, ring: Ring) -> None:
        """Describe a ring that is read from now on."""
        self._generation = ring._generation
        said = attrs.read(ring)
        self._layout = layout_of(ring, said)
        self._said = said
        self._trace = None
        state = ring._producer_state()[0]
        with self.lock:
            if self._newest is not None and self._newest.ring != self._generation:
                self._newest = None
            self._end = None
            self._schema = {
                "type": "schema",
                "name": clean(self.name),
                "id": id_of(self.name),
                "state": state,
                "kind": self._layout.kind,
                "shape": list(ring.shape),
                "dtype": _tables.fields_of(ring.dtype),
                "meta": None if ring.meta_dtype is None else _tables.fields_of(ring.meta_dtype),
                "slots": ring.slots,
                "frame_nbytes": ring.frame_nbytes,
                "variable_rows": ring.variable_rows,
                "colour": self._layout.colour,
                "sample_rate": self._layout.sample_rate,
                "attrs": ring.attrs,
                "axes": [axis.as_dict() for axis in said.axes],
                "names": list(self._layout.names),
                "unit": said.unit,
                "range": said.range,
                "frame_rate": said.frame_rate,
                "clock": said.clock,
                "guessed": sorted(said.guessed),
                "problems": [clean(problem) for problem in said.problems],
            }

    def _read(self, reader: Reader) -> None:
        """Read what pages want, if they want something."""
        with self.lock:
            gathers = any(self._gathers(one) for one in self._clients)
            is_ready = gathers or any(one.is_ready() for one in self._clients)
            waiting = any(one.next(self._newest) for one in self._clients)
            rest = 0.0 if gathers else max(0.0, self._read_at + SHORTEST - time.monotonic())
            if not waiting and (rest or not is_ready):
                waits = [one.wait for one in self._clients if one.unacknowledged is None and one.running]
                self.lock.wait(rest if is_ready else min([IDLE, *waits]))
        if rest or (not is_ready and not reader.has_ended()):
            return
        timeout = SLICE if is_ready and not waiting else 0
        try:
            if gathers:
                self._gather(reader, timeout)
            else:
                self._take(reader.latest(timeout))
        except (RingClosed, ProducerDied):
            self._end_stream(reader)

    def _gathers(self, client: Client) -> bool:
        """Whether a page looks at a signal, of which every frame counts."""
        if client.want is None or _mode(client.want, self._layout) != "signal" or not client.running:
            return False
        return client.unacknowledged is None or time.monotonic() - client.answered_at < FORGOTTEN

    def _gather(self, reader: Reader, timeout: float) -> None:
        if self._trace is None:
            self._trace = Trace(reader.ring.shape, reader.ring.dtype, self._layout)
        shot = None
        try:
            for shot in reader.all(timeout):
                assert shot.array is not None
                self._trace.add(shot.array, shot.seq, shot.timestamp_ns)
        finally:
            self._take(shot)
        with self.lock:
            self.lock.wait(GATHER)

    def _take(self, shot: Shot | None) -> None:
        newest = self._newest
        if shot is None or (newest and newest.ring == self._generation and shot.seq <= newest.seq):
            return  # the last one of the producer before
        shot.ring, shot.layout = self._generation, self._layout
        with self.lock:
            if self._newest is not None:
                self._newest.pictures.clear()
            self._newest, self._read_at = shot, time.monotonic()
            self._make_room()

    def _make_room(self) -> None:
        """Forget the oldest frames on show if there are too many: of pages that are not paused, first."""
        by_need = sorted(self._clients, key=lambda one: (one.paused, one.shown.seq if one.shown else 0))
        shots = [one.shown for one in by_need if one.shown is not None and one.shown is not self._newest]
        total = sum({shot: shot.nbytes for shot in shots}.values())
        for shot in shots:
            if total > MOST_KEPT:
                total -= shot.nbytes
                shot.array = None

    def _end_stream(self, reader: Reader) -> None:
        state, said = _end_of(reader.ring)
        self._ended_generation, self._over = reader.ring._generation, True
        self._leave()
        self._tell_end(state, said)

    def _fail(self, error: Exception) -> None:
        """Show why a ring cannot be read, and try again after a while."""
        self._leave()
        said = str(error) if isinstance(error, ShmringError | OSError) else f"{type(error).__name__}: {error}"
        self._tell_end("damaged", said)
        with self.lock:
            self.lock.wait(PEEK)

    def _leave(self) -> None:
        """Leave the ring, so that it is not in the way of the next one of its name."""
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.leave()
            with contextlib.suppress(ShmringError, OSError):  # its file may be damaged
                self._rings.pass_by(reader.ring)

    # ---- a name without a stream

    def _peek(self) -> None:
        """Show what is there of a ring that nobody publishes to."""
        try:
            found = look(self.name)
        except RingNotFound:
            name = clean(self.name)
            if self._schema is None:
                self._tell_end("missing", f"there is no ring {name!r} yet: it is shown when it comes")
            elif self._end is None:  # it went while nobody looked
                said = f"ring {name!r} is gone: the next one of that name is shown when it comes"
                self._tell_end("missing", said)
            return
        key = (found.inode, found.state, found.problem)
        if key == self._peeked:
            return
        self._peeked = key
        if found.ring is None:
            self._tell_end(found.state, found.problem)
        else:
            self._show_last(found)

    def _show_last(self, found: Found) -> None:
        with Ring.attach(self.name, readonly=True) as ring:
            if ring._generation == self._ended_generation:
                return
            last = last_frame(ring)
            state = ring._producer_state()[0]
            if state == "live":  # it has just come, and is read from its first frame on
                self._peeked = None
                return
            self._begin(ring)
            self._take(last)
        self._tell_schema()
        if state == "none":
            self._tell_end("none", f"ring {clean(self.name)!r} has no producer yet")
        elif found.state == "stale":
            self._over = True
            self._tell_end("stale", f"nobody uses ring {clean(self.name)!r} any more: this is its last frame")

    # ---- telling

    def _tell(self, message: dict[str, Any]) -> None:
        said = text(message)
        with self.lock:
            for client in self._clients:
                client.deliver(said)

    def _tell_schema(self) -> None:
        with self.lock:
            if self._schema is not None:
                for client in self._clients:
                    client.deliver(text({**self._schema, "client": client.id}))

    def _tell_end(self, state: str, message: str) -> None:
        end = {"type": "end", "state": state, "message": clean(message)}
        with self.lock:
            if end == self._end:
                return
            self._end = end
        self._serve()  # the last frame comes before the end
        self._tell(end)

    # ---- frames

    def _serve(self) -> None:
        """Send each page what it waits for."""
        with self.lock:
            jobs = [(one, shot, one.want) for one in self._clients if (shot := one.next(self._newest))]
        for client, shot, want in jobs:
            if want is None:
                continue
            if shot.ring != self._generation and want.mode not in (None, shot.layout.kind):
                client.outdated = False  # a frame of the ring before: its page has a view for the next one
                continue
            message = self._message(client, want, shot)
            rate = want.rate or (SIGNAL_RATE if _mode(want, shot.layout) == "signal" else None)
            with self.lock:
                client.sent(shot, want, rate if isinstance(message, bytes) else ERROR_RATE)
                if not isinstance(message, bytes):
                    client.acknowledge(shot.seq)  # there is nothing to draw
                client.deliver(message)

    def _message(self, client: Client, want: Want, shot: Shot) -> bytes | str:
        gap, lost = client.missed(shot)
        has_all = _mode(want, shot.layout) == "signal"  # a trace has the samples of each frame that was read
        try:
            return self._packed(want, shot, 0 if has_all else gap - lost, lost)
        except Exception as error:  # a frame that cannot be drawn must not end the others
            said = clean(f"this frame cannot be shown: {type(error).__name__}: {error}")
            return text({"type": "error", "message": said, "seq": shot.seq})

    def _packed(self, want: Want, shot: Shot, skipped: int, lost: int) -> bytes:
        """Make the message that a page gets; its picture once for all pages that want the same."""
        key = dataclasses.replace(want, rate=None)
        made = shot.pictures.get(key)
        if made is None:
            made = self._make_view(want, shot)
            if shot is self._newest:
                shot.pictures[key] = made
        header, payload = made
        return pack({**self._facts(shot), "skipped": skipped, "lost": lost, **header}, payload)

    def _make_view(self, want: Want, shot: Shot) -> tuple[dict[str, Any], Any]:
        mode = _mode(want, shot.layout)
        array = shot.array
        if array is None:
            raise ValueError("this frame had to make room for newer ones")
        if mode == "signal":
            trace = self._trace if shot.ring == self._generation else None
            trace = trace or _trace_of(array, shot.layout, shot)
            picture = trace.view(want, self._said.unit if self._said else None)
            return picture.header, picture.payload
        if mode == "image":
            picture = _images.picture_of(array, shot.layout, want)
            return picture.header, picture.payload
        return _tables.table_of(array), b""

    def _facts(self, shot: Shot) -> dict[str, Any]:
        """Return what is said of every frame; its age is that of the moment `now_ns`."""
        now = time.clock_gettime_ns(time.CLOCK_REALTIME)
        clocks = {"monotonic": time.monotonic_ns(), "realtime": now}
        clock = self._said.clock if self._said else ""
        return {
            "seq": shot.seq,
            "epoch": shot.epoch,
            "timestamp_ns": shot.timestamp_ns,
            "now_ns": now,
            "age_ns": clocks[clock] - shot.timestamp_ns if clock in clocks else None,
            "meta": None if shot.meta is None else plain(shot.meta),
        }


def _end_of(ring: Ring) -> tuple[str, str]:
    """Return the producer's state, and how the stream ended, for somebody who need not do anything."""
    state, status = ring._producer_state()
    name = ring.name
    frames = count(status["head"], "frame")
    if state == "closed":
        return state, f"the producer of ring {name!r} closed it after {frames}"
    if state == "failed":
        who = producer_of(status)
        return state, f"the producer of ring {name!r} ({who}) failed after {frames}: {status['failure']}"
    return state, f"the producer of ring {name!r} (pid {status['producer_pid']}) died after {frames}"


def _mode(want: Want, layout: Layout) -> Literal["image", "signal", "table"]:
    """Return what a page is shown of frames like that."""
    return layout.kind if want.mode is None or layout.kind == "table" else want.mode


def _trace_of(array: Any, layout: Layout, shot: Shot) -> Trace:
    trace = Trace(array.shape, array.dtype, layout)
    trace.add(array, shot.seq, shot.timestamp_ns)
    return trace
