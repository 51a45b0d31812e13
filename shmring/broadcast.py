"""Python objects from one process to many: a `MessageQueue`, with the interface of vLLM's class of that name.

The objects are pickled, with the memory of arrays beside the pickle, into the slots of a ring. Unpickling
runs what the pickle says, so a process that can write into the ring's file can run code in every reader. The
file mode decides which users that lets in: only your own (0o600), unless you ask for another one.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import struct
import threading
import time
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from shmring import _core, _ending, _messages, errors
from shmring._format import slot_bytes
from shmring._packing import ALIGNMENT, Arrival, Packed, unpack
from shmring._ring import Ring
from shmring._schema import check_int

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from shmring._stats import ConsumerStats

__all__ = ["Handle", "MessageQueue"]

T = TypeVar("T")

# A chunk: which object it is of, how many bytes that has, where in them this chunk's begin; then those.
HEADER = struct.Struct("=3Q")
HEADER_BYTES = ALIGNMENT
START = "keeps the beginning until every reader has joined"  # a label
GUESTS = 8  # places for other consumers, such as `shmring read`
MOST_READERS = _core.MAX_CONSUMERS - 1
GLANCE = 0.1  # seconds between looks at what no wait of the ring notices
LOOK_AT_READERS = 1.0  # seconds between looks whether one is gone
UNLOGGED = 1e8  # seconds: a wait with a timeout is not logged, however long it is


@dataclass(frozen=True)
class Handle:
    """Where readers find a queue: from `MessageQueue.export_handle`. It pickles, so pass it by any way."""

    local_reader_ranks: tuple[int, ...]
    """The ranks of the readers."""
    name: str
    """Name of the ring, for `shmring info` and its like."""
    generation: bytes
    """Identifies the ring among all that ever have its name."""


class MessageQueue:
    """Sends Python objects to other processes of this machine; each reader gets all of them, in order.

    The process that creates it is the writer. Each reader makes its own by `create_from_handle`. Nothing is
    lost: the writer waits for the slowest reader once all chunks are taken. A context manager.

    Use it from one thread at a time; a second one gets `HandleBusy`. Only `close` may be called from any
    thread, and ends the wait of another.

    Objects go through `pickle`: only share a queue with processes that you trust. A user that may write to
    the ring's file, as `mode` says, can run code in the readers.

    Parameters
    ----------
    n_reader : int
        How many readers there are, 0 to 63.
    n_local_reader : int, optional
        How many of them are on this machine; must be all.
    local_reader_ranks : sequence of int, optional
        The ranks of the readers. Default: 0 to ``n_reader - 1``.
    max_chunk_bytes : int
        Bytes of a chunk, rounded up. An object takes at least one; a larger one takes several, one after the
        other.
    max_chunks : int
        Chunks in the ring, at least 2: how far readers may lag behind.
    connect_ip : str, optional
        Ignored. In vLLM it is for readers on other machines.
    name : str, optional
        Name of the ring. Default: generated.
    mode : int
        File mode of the ring, which decides which users may read and write. Default 0o600: only this user.
    pickler : type
        A subclass of ``pickle.Pickler``, such as ``cloudpickle.Pickler``.

    Raises
    ------
    ValueError, TypeError
        A wrong argument; or readers on other machines.
    RingExists, NoSpace, RingAccessDenied
        As `Ring.create`.

    Examples
    --------
    >>> import numpy as np
    >>> from shmring.broadcast import MessageQueue
    >>> with MessageQueue(n_reader=1) as writer:
    ...     reader = MessageQueue.create_from_handle(writer.export_handle(), rank=0)
    ...     writer.enqueue({"step": 1, "weights": np.ones(3)})
    ...     reader.dequeue(timeout=5)
    ...     reader.close()
    {'step': 1, 'weights': array([1., 1., 1.])}
    """

    _ring: Ring
    _handle: Handle
    _rank: int | None = None  # None: the writer
    _producer: _core.Producer | None = None
    _consumer: _core.Consumer | None = None
    _start: _core.Consumer | None = None  # reads nothing, so that nothing is overwritten
    _arrival: Arrival | None = None  # of an object in several chunks
    _arrived = (0, 0)  # its number, and how many bytes of it
    _sent = 0  # objects, those that were cut short too

    def __init__(
        self,
        n_reader: int,
        n_local_reader: int | None = None,
        local_reader_ranks: list[int] | tuple[int, ...] | range | None = None,
        max_chunk_bytes: int = 2 << 20,
        max_chunks: int = 16,
        connect_ip: str | None = None,
        *,
        name: str | None = None,
        mode: int = 0o600,
        pickler: type[pickle.Pickler] = pickle.Pickler,
    ) -> None:
        n_reader = check_int("n_reader", n_reader, 0, MOST_READERS)
        if n_local_reader is not None and n_local_reader != n_reader:
            raise ValueError(
                f"{n_local_reader} of {n_reader} readers are on this machine, but shared memory reaches no "
                f"other one: make one queue on each machine, for its readers alone, and let the writer of "
                f"each get the objects by the network (ZeroMQ, torch.distributed.broadcast_object_list)"
            )
        ranks = check_ranks(n_reader, local_reader_ranks)
        max_chunk_bytes = check_int("max_chunk_bytes", max_chunk_bytes, ALIGNMENT, 1 << 40)
        max_chunks = check_int("max_chunks", max_chunks, 2, _core.MAX_SLOTS)
        if not (isinstance(pickler, type) and hasattr(pickler, "dump")):
            raise TypeError(f"pickler must be a subclass of pickle.Pickler, not {pickler!r}")
        self._pickler = pickler
        ring = Ring.create(
            name,
            shape=(slot_bytes(HEADER_BYTES + max_chunk_bytes, max_chunks),),
            dtype="u1",
            slots=max_chunks,
            consumers=min(n_reader + 1 + GUESTS, _core.MAX_CONSUMERS),
            attrs={"kind": "shmring.broadcast", "readers": n_reader},
            mode=mode,
        )
        try:
            self._start = ring.consumer(label=START)
            self._producer = ring.producer()
        except BaseException:
            ring.__exit__(None, None, None)
            raise
        self._adopt(ring, Handle(ranks, ring.name, ring._generation))
        self._known: set[int] = set()
        self._look_at = 0.0

    @classmethod
    def create_from_handle(cls, handle: Handle, rank: int) -> MessageQueue:
        """Join the queue of a handle as the reader of that rank.

        The reader gets every object, from the first one on. If it comes after all others, because an earlier
        reader of the rank has left or died, it gets what is enqueued from then on.

        Parameters
        ----------
        handle : Handle
            From the writer's `export_handle`.
        rank : int
            One of the ranks that the writer named.

        Returns
        -------
        MessageQueue

        Raises
        ------
        ValueError
            The queue has no such rank, or a living reader has it.
        RingNotFound
            The queue is gone: its writer closed it, or runs elsewhere.
        RingAccessDenied
            The file mode forbids it.
        """
        if not isinstance(handle, Handle):
            raise TypeError(
                f"handle must be what export_handle() of the writer returned, not {type(handle).__name__}"
            )
        rank = check_int("rank", rank, 0)  # the label of True or 0.0 is not the one that the writer looks for
        if rank not in handle.local_reader_ranks:
            raise ValueError(f"rank must be one of {list(handle.local_reader_ranks)}, not {rank!r}")
        ring = attach(handle)
        self = cls.__new__(cls)
        try:
            everyone_came = not any(one.label == START for one in ring.stats().consumers)
            self._consumer = ring.consumer(label=label_of(rank), start="next" if everyone_came else "oldest")
            refuse_twin(ring, rank, self._consumer.place)
        except BaseException:
            ring.close()
            raise
        self._rank = rank
        self._adopt(ring, handle)
        return self

    def _adopt(self, ring: Ring, handle: Handle) -> None:
        self._ring, self._handle = ring, handle
        self._calls: dict[object, None] = {}  # that have not returned; the first of them has its turn
        self._finalizer = weakref.finalize(self, leave_behind, ring)

    # ---- both

    def export_handle(self) -> Handle:
        """Return what readers need to join.

        Returns
        -------
        Handle
            Pass it as an argument of a process, through a pipe, or by ``torch.distributed``.
        """
        return self._handle

    def broadcast_object(self, obj: Any = None, timeout: float | None = None) -> Any:
        """Enqueue in the writer, dequeue in a reader: the same call everywhere.

        Parameters
        ----------
        obj : object, optional
            What the writer sends. Readers leave it out.
        timeout : float, optional
            As for `enqueue` and `dequeue`.

        Returns
        -------
        object
            The same object everywhere; in the writer, `obj` itself.
        """
        if self._rank is not None:
            return self.dequeue(timeout)
        self.enqueue(obj, timeout)
        return obj

    def wait_until_ready(self, timeout: float | None = None) -> None:
        """Wait until every reader has joined.

        The writer waits. A reader returns at once: it has joined, so it misses nothing from there on.

        Parameters
        ----------
        timeout : float, optional
            Seconds; None waits forever, 0 never waits.

        Raises
        ------
        TooFewConsumers
            Some are missing; the message names them.
        """
        _core.check_timeout(timeout)
        if self._rank is not None:
            self._ring._check_open()
            return
        self._alone(self._wait_for_readers, Deadline(timeout))

    def close(self) -> None:
        """Leave the queue; in the writer, end it. May be called twice, and while another thread waits in it.

        Readers get what is left, then `RingClosed`. The name in /dev/shm goes with the writer.
        """
        self._finalizer.detach()
        self._ring.__exit__(None, None, None)

    shutdown = close  # the name that vLLM has for it

    def __enter__(self) -> MessageQueue:
        """Return self."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close; if an error ends the writer's block, readers get `ProducerFailed` behind the last object."""
        self._finalizer.detach()
        self._ring.__exit__(kind, error, traceback)

    def __reduce__(self) -> Any:
        """Refuse: a queue belongs to its process."""
        raise TypeError(
            "a MessageQueue belongs to its process and cannot be pickled: pass export_handle(), and join "
            "there with MessageQueue.create_from_handle(handle, rank)"
        )

    def __repr__(self) -> str:
        """Summarise the queue for an interactive prompt."""
        who = "writer" if self._rank is None else f"reader of rank {self._rank}"
        closed = ", closed" if self._ring.closed else ""
        return (
            f"<shmring.broadcast.MessageQueue {self.name!r}, {who}, "
            f"{len(self._handle.local_reader_ranks)} readers{closed}>"
        )

    @property
    def name(self) -> str:
        """Name of the ring."""
        return self._handle.name

    @property
    def readers(self) -> list[int]:
        """Ranks of the readers that have joined and are alive."""
        self._ring._check_open()
        return sorted(self._joined())

    def _joined(self) -> dict[int, ConsumerStats]:
        """Return the readers that have joined and are alive, by rank."""
        ranks = {label_of(rank): rank for rank in self._handle.local_reader_ranks}
        return {
            ranks[one.label]: one
            for one in self._ring.stats().consumers
            if one.label in ranks and one.alive and one.policy == "lossless"
        }

    def _alone(self, do: Callable[..., T], *arguments: Any) -> T:
        """Call a function; HandleBusy in a second thread, or in a call from within another one."""
        call = object()
        try:
            self._calls[call] = None
            if next(iter(self._calls.copy())) is not call:
                raise errors.HandleBusy(
                    f"another call on this MessageQueue of ring {self.name!r} has not returned yet: use it "
                    f"from one thread at a time"
                )
            return do(*arguments)
        finally:
            self._calls.pop(call, None)  # whether or not Ctrl-C let it come that far

    # ---- the writer

    def enqueue(self, obj: Any, timeout: float | None = None) -> None:
        """Send an object to every reader.

        It is copied once, into shared memory. Before all readers have joined, objects wait in the ring for
        the others as long as there is space.

        Parameters
        ----------
        obj : object
            Whatever `pickle` takes. The memory of arrays is not pickled, but copied directly; see the
            how-to guide for the exceptions.
        timeout : float, optional
            Seconds to wait for space; None waits forever, 0 never waits.

        Raises
        ------
        RingFull
            No space in time; the message names the reader that holds it up. No reader gets the object.
        TooFewConsumers
            No space in time, because not every reader has joined.
        SlotsHeld
            Without a timeout: only this thread could make space, by reading.
        RingClosed, ForkedHandle, HandleBusy
            The queue cannot be used: closed, of another process, in use.
        RuntimeError
            This is a reader.
        Exception
            What `pickle` raises for the object. Nothing was sent.
        """
        _core.check_timeout(timeout)
        if self._producer is None:
            raise RuntimeError(f"this is the reader of rank {self._rank}: only the writer enqueues")
        self._alone(self._send, obj, timeout)

    def _send(self, obj: Any, timeout: float | None) -> None:
        assert self._producer is not None
        packed = Packed(obj, self._pickler)
        deadline = Deadline(timeout)
        capacity = self._ring.shape[0] - HEADER_BYTES
        self._check_readers(-(-packed.nbytes // capacity), deadline)
        self._sent += 1
        try:
            for begin in range(0, packed.nbytes, capacity):
                with self._producer.claim(1, deadline.left()) as slot:
                    chunk = memoryview(slot.array)
                    HEADER.pack_into(chunk, 0, self._sent, packed.nbytes, begin)
                    packed.write(chunk[HEADER_BYTES:], begin)
        except errors.RingFull:
            raise full(self._ring, deadline) from None

    def _check_readers(self, chunks: int, deadline: Deadline) -> None:
        """Wait for readers that would miss something otherwise; log those that are gone."""
        if self._start is not None:
            assert self._producer is not None
            if not self._have_joined() and self._producer.published + chunks > self._ring.slots:
                self._wait_for_readers(deadline)
        elif time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + LOOK_AT_READERS
            self._log_gone()

    def _have_joined(self) -> bool:
        """Whether every reader has joined; then they keep what they have not read by themselves."""
        missing = self._missing()
        if not missing and self._start is not None:
            self._known = set(self._handle.local_reader_ranks)
            self._start.close()
            self._start = None
        return not missing

    def _missing(self) -> list[int]:
        joined = self._joined()
        return [rank for rank in self._handle.local_reader_ranks if rank not in joined]

    def _wait_for_readers(self, deadline: Deadline) -> None:
        assert self._producer is not None
        notices = 0
        while not self._have_joined():
            left = deadline.left()
            waited = time.monotonic() - deadline.began
            if left == 0:
                raise self._too_few(waited)
            if left is None and _core.notice_is_due(waited, notices):
                notices += 1
                _messages.still_waiting("MessageQueue", self._too_few(waited))
            there = len(self._ring.stats().consumers)
            with contextlib.suppress(errors.TooFewConsumers):
                most = GLANCE if left is None else min(left, GLANCE)
                self._producer.wait_for_consumers(min(there + 1, self._ring.consumers), most)

    def _too_few(self, waited: float) -> errors.TooFewConsumers:
        missing = self._missing()
        return errors.TooFewConsumers(
            f"{len(missing)} of {len(self._handle.local_reader_ranks)} readers have not joined the queue "
            f"{self.name!r} within {waited:.3g} s: rank {', '.join(map(str, missing))}. Each joins by "
            f"MessageQueue.create_from_handle(handle, rank)"
        )

    def _log_gone(self) -> None:
        joined = self._joined()
        for rank in sorted(self._known - joined.keys()):
            import logging

            logging.getLogger("shmring").warning(
                "reader of rank %d is gone from the queue %r: it died or closed. Readers left: %d of %d",
                rank,
                self.name,
                len(joined),
                len(self._handle.local_reader_ranks),
            )
        self._known = set(joined)

    # ---- a reader

    def dequeue(
        self,
        timeout: float | None = None,
        cancel: threading.Event | None = None,
        indefinite: bool = False,
        *,
        copy: bool = True,
    ) -> Any:
        """Take the next object, waiting for it if need be.

        Parameters
        ----------
        timeout : float, optional
            Seconds; None waits forever, 0 never waits.
        cancel : threading.Event, optional
            Ends the wait within 100 ms once it is set. `close`, in another thread, ends it at once.
        indefinite : bool
            A long wait is normal here: do not log it.
        copy : bool
            True: the object owns its memory, like any other that comes out of `pickle`. False: its arrays are
            read-only, and views of the ring's memory if the object fits into a chunk: nothing is copied,
            but their chunk is taken until the last of them is gone. If you keep them, the writer stops.

        Returns
        -------
        object

        Raises
        ------
        RingEmpty
            No object in time. What has come of a large one is kept for the next call.
        RingClosed
            The writer closed the queue, and you have read everything; or this queue is closed.
        ProducerDied, ProducerFailed
            The same, but the writer's process died, or an exception ended its `with` block.
        SlotsHeld
            With ``copy=False``: the arrays that this process keeps take every chunk.
        RuntimeError
            `cancel` is set; or this is the writer.
        Exception
            What unpickling raises. The next call gives the next object.
        """
        _core.check_timeout(timeout)
        indefinite = _core.check_flag("indefinite", indefinite)
        copy = _core.check_flag("copy", copy)
        if cancel is not None and not hasattr(cancel, "is_set"):
            raise TypeError(f"cancel must be a threading.Event, not {cancel!r}")
        if self._consumer is None:
            raise RuntimeError("this is the writer: only readers dequeue")
        deadline = Deadline(UNLOGGED if indefinite and timeout is None else timeout)
        return self._alone(self._receive, deadline, cancel, copy)

    def _receive(self, deadline: Deadline, cancel: threading.Event | None, copy: bool) -> Any:
        while True:
            with self._next_chunk(deadline, cancel) as frame, memoryview(frame) as chunk:
                number, nbytes, begin = HEADER.unpack_from(chunk)
                with chunk[HEADER_BYTES : HEADER_BYTES + nbytes - begin] as part:
                    if len(part) == nbytes:
                        self._arrival = None
                        return unpack(part, copies=copy)
                    arrival = self._add(part, number, begin, nbytes)
            if arrival is not None:
                return arrival.unpack(writable=copy)

    def _next_chunk(self, deadline: Deadline, cancel: threading.Event | None) -> _core.Frame:
        assert self._consumer is not None
        try:
            if cancel is None:
                return self._consumer.get(deadline.left())
            while not cancel.is_set():
                left = deadline.left()
                with contextlib.suppress(errors.RingEmpty):
                    return self._consumer.get(GLANCE if left is None else min(left, GLANCE))
                if left == 0:
                    raise errors.RingEmpty
        except errors.RingEmpty:
            raise empty(self._ring, deadline) from None
        except (errors.RingClosed, errors.ProducerDied) as error:
            if self._consumer.closed:
                raise
            if type(error) is errors.ProducerDied:
                with contextlib.suppress(errors.ShmringError):  # another reader has done so, or must
                    self._ring.unlink()
            raise ended(self._ring, error) from None
        raise RuntimeError("dequeue was cancelled: the event passed as cancel= is set")

    def _add(self, part: memoryview, number: int, begin: int, nbytes: int) -> Arrival | None:
        """Add a part of a large object; the object's, once it is complete.

        A part that does not continue what is there is the rest of an object that this reader could not keep;
        the beginning of one replaces another, whose rest the writer could not send.
        """
        if begin == 0:
            self._arrival, self._arrived = Arrival(), (number, 0)
        arrival, self._arrival = self._arrival, None  # an exception in here loses the object
        if arrival is None or self._arrived != (number, begin):
            return None
        arrival.add(part)
        self._arrived = number, begin + len(part)
        if begin + len(part) == nbytes:
            return arrival
        self._arrival = arrival
        return None


class Deadline:
    """The end of a timeout, which several waits share."""

    def __init__(self, timeout: float | None) -> None:
        self.began = time.monotonic()
        self.timeout = timeout
        self._end = None if timeout is None else self.began + timeout

    def left(self) -> float | None:
        """Seconds; None: forever."""
        return None if self._end is None else max(0.0, self._end - time.monotonic())


def check_ranks(n_reader: int, given: Any) -> tuple[int, ...]:
    """Return the ranks of the readers; ValueError unless there are as many as readers."""
    wanted = range(n_reader) if given is None else given
    ranks = tuple(check_int("a rank", rank, 0, 1 << 62) for rank in wanted)
    if len(set(ranks)) != n_reader or len(ranks) != n_reader:
        raise ValueError(f"local_reader_ranks must name {n_reader} readers, each once, not {list(ranks)}")
    return ranks


def label_of(rank: int) -> str:
    return f"rank {rank}"


def attach(handle: Handle) -> Ring:
    """Attach to the ring of a queue."""
    try:
        return Ring._attach_again(handle.name, handle.generation, False)
    except errors.RingNotFound:
        raise errors.RingNotFound(
            f"the queue {handle.name!r} is gone: its writer closed it or died; or it is on another machine, "
            f"or in another container with a /dev/shm of its own"
        ) from None


def refuse_twin(ring: Ring, rank: int, place: int) -> None:
    """Raise if another living reader had the rank before the one at this place."""
    label = label_of(rank)
    same = [one for one in ring.stats().consumers if one.label == label and one.alive]
    first = min(same, key=lambda one: (one.joined_ns, one.place))
    if first.place != place:
        raise ValueError(
            f"a reader of rank {rank} has joined already: {_messages.process(first.pid, first.start_time)}. "
            f"Each reader needs a rank of its own"
        )


def full(ring: Ring, deadline: Deadline) -> errors.RingFull:
    """Explain a queue without space: the slowest readers."""
    readers = [one for one in ring.stats().consumers if one.policy == "lossless"]
    most = max((one.lag + one.held for one in readers), default=0)
    slowest = "; ".join(
        f"{_messages.process(one.pid, one.start_time, one.label)}: {one.lag} not read, {one.held} kept"
        for one in readers
        if one.lag + one.held == most
    )
    return errors.RingFull(
        f"the queue {ring.name!r} had no space for the object, or not for all of it, within "
        f"{deadline.timeout:g} s: all {ring.slots} chunks wait for {slowest or 'a reader that has just left'}"
        f". No reader gets the object. Wait longer, or create the queue with more max_chunks"
    )


def empty(ring: Ring, deadline: Deadline) -> errors.RingEmpty:
    """Explain a timeout of a reader."""
    return errors.RingEmpty(
        _messages.Later(
            lambda: (
                f"no object in the queue {ring.name!r} within {deadline.timeout:g} s; its writer "
                f"({_messages.producer_of(ring._producer_state()[1])}) has not closed it"
            )
        )
    )


def ended(ring: Ring, error: errors.ShmringError) -> errors.ShmringError:
    """Explain the end of a queue to a reader that has read everything, with an error of the same type."""
    queue = f"the queue {ring.name!r}"
    if isinstance(error, errors.RingClosed):
        return errors.RingClosed(f"the writer of {queue} closed it, and this reader has read every object")
    rest = "This reader has read every object that was complete"
    if isinstance(error, errors.ProducerFailed):
        failed = errors.ProducerFailed(f"the writer of {queue} failed: {error.failure}. {rest}")
        failed.failure = error.failure
        return failed
    return errors.ProducerDied(
        f"the writer of {queue} (pid {ring._producer_state()[1]['producer_pid']}) died without closing it. "
        f"{rest}"
    )


def leave_behind(ring: Ring) -> None:
    """Close the ring of a queue that nobody closed, at the latest at exit, and remove its name."""
    if ring._process != os.getpid():
        return
    _core.warn_unclosed("MessageQueue", ring.name)
    if ring._creator:
        with contextlib.suppress(errors.RingNotFound):
            ring.unlink()
    ring._close(_ending.failure_of_program())
