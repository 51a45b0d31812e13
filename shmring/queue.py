"""The methods of `multiprocessing.Queue` for arrays, which go through slots of a ring, not through a pipe."""

from __future__ import annotations

import contextlib
import math
import queue
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing import util
from typing import TYPE_CHECKING, Any

import numpy as np

from shmring import _core, _messages, errors
from shmring._alone import alone
from shmring._dtypes import brief
from shmring._ending import failure_of_block, failure_of_program
from shmring._format import check_format, describe_array, slot_bytes
from shmring._meta import refuse_masked
from shmring._ring import Ring
from shmring._schema import check_int

if TYPE_CHECKING:
    from types import TracebackType

    import numpy.typing as npt

__all__ = ["RingQueue"]

GROUP = "getters"
COPYING = 0.001  # seconds between two looks at a thread that copies its item
BEFORE_CHILDREN, AFTER_CHILDREN = 10, -10  # when multiprocessing ends a process: its children are joined at 0


class RingQueue:
    """A `multiprocessing.Queue` for arrays: one process puts, each item goes to one of those that get.

    Pass it to child processes as you pass a `multiprocessing.Queue`, with any start method: in
    ``Process(args=...)``, or inherited by a fork. An item is copied into shared memory by `put` and out of it
    by `get`; nothing is pickled, and no thread runs. Threads of a process share what it has of the queue.

    A context manager: at its end the queue is closed in this process, as one that failed if an exception
    leaves the block. An iterator over the items, up to the end of the stream. Its memory, and its name in
    ``/dev/shm``, go with this object in the process that created it.

    Parameters
    ----------
    maxsize : int
        The most items that wait in it, at least 2. There is no queue without a limit.
    shape : tuple of int
        The largest shape of an item. One may be shorter along any axis, and keeps its own shape.
    dtype : dtype
        Of every item: anything but Python objects.
    spares : int
        Slots beyond `maxsize`, for items that getters keep with ``get(copy=False)``.

    Raises
    ------
    NoSpace
        /dev/shm is too small, or more memory than a limit allows.
    TypeError, ValueError
        An argument is invalid.

    Examples
    --------
    >>> import numpy as np
    >>> from shmring.queue import RingQueue
    >>> with RingQueue(4, (480, 640), "u1") as items:
    ...     items.put(np.ones((2, 3), "u1"))
    ...     items.get()
    array([[1, 1, 1],
           [1, 1, 1]], dtype=uint8)
    """

    def __init__(self, maxsize: int, shape: Any, dtype: npt.DTypeLike, *, spares: int = 0) -> None:
        item = check_format(shape, dtype, None, False)
        self._shape, self._dtype, self._maxsize = item.shape, item.dtype, check_maxsize(maxsize)
        ring = Ring.create(
            shape=(slot_bytes(item.frame_bytes, self._maxsize),),
            dtype="u1",
            variable_rows=True,
            slots=self._maxsize,
            spares=spares,
            consumers=_core.MAX_CONSUMERS,
            meta=[(f"axis{axis}", "i8") for axis in range(len(self._shape))] or None,
            attrs={"items": f"up to {brief(str, describe_array(self._shape, self._dtype))}"},
        )
        self._come(ring, creator=True)

    def _come(self, ring: Ring, *, creator: bool) -> None:
        """Join in the process that created the queue, or unpickled it."""
        self._part = Part(ring, creator)
        _core.handles.add(self)
        util.register_after_fork(self, RingQueue._finalize_again)
        try:
            self._part.join(self)
        except BaseException:
            self._part.leave()
            raise

    @classmethod
    def _unpickle(cls, ring: Ring, shape: tuple[int, ...], dtype: np.dtype[Any], maxsize: int) -> RingQueue:
        here = cls.__new__(cls)
        here._shape, here._dtype, here._maxsize = shape, dtype, maxsize
        here._come(ring, creator=False)
        return here

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by the ring's name and identity."""
        return RingQueue._unpickle, (self._part.ring, self._shape, self._dtype, self._maxsize)

    def _enter_child(self) -> None:
        """Take part in a child of a fork from its first call on; what the parent has stays the parent's."""
        self._part = Part(self._part.ring, False)

    def _finalize_again(self) -> None:
        """Have an end again: a child of a fork server unpickles the queue, then forgets all finalizers."""
        self._part.finalize_again(self)

    def _open_part(self) -> Part:
        part = self._part
        if part.closed:
            raise ValueError(f"{self!r} is closed in this process")
        part.join(self)
        return part

    def put(self, obj: npt.ArrayLike, block: bool = True, timeout: float | None = None) -> None:
        """Copy an array into the queue.

        Parameters
        ----------
        obj : array_like
            An array of the queue's dtype and number of axes, each axis at most as long as the queue's.
            Anything else than an array becomes one by ``numpy.asarray(obj)``. Nothing is cast.
        block : bool
            Whether to wait for space.
        timeout : float, optional
            The most seconds to wait; None waits forever.

        Raises
        ------
        queue.Full
            No space in time; the message names the processes that hold it up.
        ValueError
            Another dtype, more axes or a longer one, a masked array; or the queue is closed in this process.
        ProducerExists
            Another process puts into this queue.
        """
        part = self._open_part()
        if part.ended:
            raise ValueError(f"{self!r} takes no more items: this process has ended its stream")
        part.become_putter()  # first: getters learn of a putter that fails by its first item
        data, shape = self._packed(obj)
        part.put(data, shape or None, seconds_of(block, timeout))

    def put_nowait(self, obj: npt.ArrayLike) -> None:
        """Copy an array into the queue if there is space: ``put(obj, block=False)``."""
        self.put(obj, False)

    def get(
        self, block: bool = True, timeout: float | None = None, *, copy: bool = True
    ) -> np.ndarray[Any, Any]:
        """Take the next item.

        Parameters
        ----------
        block : bool
            Whether to wait for an item.
        timeout : float, optional
            The most seconds to wait; None waits forever.
        copy : bool
            True: an array of your own, to write to and to keep. False: a read-only view of the item in
            shared memory, which takes up a slot until the last view of it is gone. If this process is killed
            before that, another getter gets the item.

        Returns
        -------
        ndarray

        Raises
        ------
        queue.Empty
            No item in time.
        RingClosed
            The putter has closed the queue, or ended, and every item was taken. An ``EOFError``, too.
        ProducerFailed, ProducerDied
            The putter ended by an exception, or was killed, and every item was taken. From Python 3.13 on,
            multiprocessing does not pass on which exception ended a child: use ``with queue:`` there.
        SlotsHeld
            No item can come, because this thread keeps every slot (``copy=False``).
        ValueError
            The queue is closed in this process.
        """
        copy = _core.check_flag("copy", copy)
        part = self._open_part()
        seconds = seconds_of(block, timeout)
        getter = part.take_getter()
        try:
            frame = getter.get(seconds)
        except errors.RingEmpty as empty:
            raise queue.Empty(*empty.args) from None
        finally:
            part.getters.append(getter)
        if not copy:
            return self._unpacked(frame, frame.array)
        with frame:
            return self._unpacked(frame, frame.array.copy())

    def get_nowait(self) -> np.ndarray[Any, Any]:
        """Take the next item if there is one: ``get(block=False)``."""
        return self.get(False)

    def __iter__(self) -> Iterator[np.ndarray[Any, Any]]:
        """Get items until the putter has closed the queue and every item was taken."""
        while True:
            try:
                item = self.get()
            except errors.RingClosed:
                return
            yield item
            del item

    def qsize(self) -> int:
        """Return how many items wait. Another process may change that at any time."""
        return self._open_part().waiting()

    def empty(self) -> bool:
        """Return whether no item waits. Another process may change that at any time."""
        return self.qsize() == 0

    def full(self) -> bool:
        """Return whether `maxsize` items wait. Another process may change that at any time."""
        return self.qsize() >= self._maxsize

    def end(self) -> None:
        """End the stream: getters get what is left, and then RingClosed. May be called twice.

        For the process that puts, which can still get afterwards. A stream that ends before its first item
        needs it, since `close` ends a stream only in the process that has put.

        Raises
        ------
        ValueError
            The queue is closed in this process.
        ProducerExists
            Another process puts into this queue.
        """
        part = self._open_part()
        part.become_putter()
        part.end_stream(None)

    def close(self) -> None:
        """End this process's part in the queue. May be called twice.

        Closed by the process that puts, the stream ends as with `end`. Arrays that came from
        ``get(copy=False)`` stay valid.
        """
        self._close(None)

    def _close(self, failure: bytes | None) -> None:
        self._part.close(failure)

    def join_thread(self) -> None:
        """Return at once: no thread is behind `put`, which has stored the item when it returns."""

    def cancel_join_thread(self) -> None:
        """Do nothing, as `join_thread`."""

    def __enter__(self) -> RingQueue:
        """Return self."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close, as a putter that failed if an exception leaves the block."""
        self._close(failure_of_block(error))

    def __repr__(self) -> str:
        """Summarise the queue for an interactive prompt."""
        items = f"{self._maxsize} items of up to {describe_array(self._shape, self._dtype)}"
        closed = ", closed" if self._part.closed else ""
        return f"<shmring.queue.RingQueue {self.name!r}, at most {items}{closed}>"

    @property
    def name(self) -> str:
        """Name of the ring, for ``shmring info`` and ``shmring top``."""
        return self._part.ring.name

    @property
    def maxsize(self) -> int:
        """The most items that wait in it."""
        return self._maxsize

    @property
    def shape(self) -> tuple[int, ...]:
        """The largest shape of an item."""
        return self._shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of every item."""
        return self._dtype

    def _packed(self, obj: Any) -> tuple[np.ndarray[Any, Any], tuple[int, ...]]:
        """Return the bytes of an item and its shape."""
        if type(obj) is not np.ndarray:
            refuse_masked(obj)
        array = np.asarray(obj)
        if array.dtype != self._dtype or not self._has_space_for(array.shape):
            raise self._misfit(obj, array)
        if not array.flags.c_contiguous:
            given, array = array, np.zeros(array.shape, self._dtype)  # bytes between fields are not copied
            array[...] = given
        return array.reshape(-1).view(np.uint8), array.shape

    def _has_space_for(self, shape: tuple[int, ...]) -> bool:
        return shape == self._shape or (
            len(shape) == len(self._shape)
            and all(length <= most for length, most in zip(shape, self._shape, strict=True))
        )

    def _misfit(self, obj: object, array: np.ndarray[Any, Any]) -> ValueError:
        takes = f"this queue takes arrays of up to {describe_array(self._shape, self._dtype)}"
        if obj is None:
            return ValueError(
                f"None cannot be an item: {takes}. To end the stream, call end() or close(): each getter "
                f"gets what is left, then RingClosed, and a loop `for item in queue` ends"
            )
        if array.dtype != self._dtype:
            advice = "nothing is cast: convert it first, with numpy.asarray(item, queue.dtype)"
            kinds = {array.dtype.kind, self._dtype.kind}
            if len(kinds) == 2 and kinds & set("OSUV"):
                advice = f"{array.dtype} cannot become {self._dtype}"
        elif array.ndim != len(self._shape):
            advice = "nothing is reshaped: give it as many axes"
        else:
            advice = "create the queue with the largest shape that comes"
        return ValueError(f"the item has {describe_array(array.shape, array.dtype)}, {takes}; {advice}")

    def _unpacked(self, frame: _core.Frame, data: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return the item in a frame, as a view of its bytes."""
        shape = frame.meta.item() if self._shape else ()
        try:
            return np.ndarray(shape, self._dtype, data)
        except (TypeError, ValueError):
            raise errors.RingCorrupt(
                f"an item of ring {self.name!r} has {data.nbytes} bytes, which do not make an array of shape "
                f"{shape} dtype {self._dtype}: something other than a RingQueue put it there, or overwrote it"
            ) from None


class Part:
    """What one process has of a queue: the ring, a member for each thread that gets, perhaps the producer.

    One member at least, also where nobody gets: without any, the group of the getters would be gone, and the
    producer would not wait for those that come later.
    """

    def __init__(self, ring: Ring, creator: bool) -> None:
        self.ring = ring
        self.creator = creator
        self.closed = False
        self.getters: list[_core.Consumer] = []  # that no thread uses just now
        self._member: _core.Consumer | None = None  # one of them, in use or not, even if Ctrl-C loses it
        self._joined = False
        self._joining = threading.RLock()
        self._producer: _core.Producer | None = None
        self._putting = threading.RLock()  # which knows whether this thread has it, when Ctrl-C ends a call
        self._waits_for_space = False  # the thread that puts

    def join(self, owner: RingQueue) -> None:
        """Become a member, until the owner is gone or the process ends."""
        if self._joined:
            return

        def join() -> None:
            if not self._joined:
                if self._member is None:
                    self._member = self.ring.consumer(group=GROUP)
                    self.getters.append(self._member)
                self._finalize(owner)
                self._joined = True

        alone(self._joining, join)

    def finalize_again(self, owner: RingQueue) -> None:
        """Register the end of a member again."""
        if self._joined:
            self._finalize(owner)

    def _finalize(self, owner: RingQueue) -> None:
        util.Finalize(owner, self.end, exitpriority=BEFORE_CHILDREN)
        util.Finalize(owner, self.leave, exitpriority=AFTER_CHILDREN)

    def take_getter(self) -> _core.Consumer:
        """Return a member for this thread alone, to be put back among the getters."""
        try:
            return self.getters.pop()
        except IndexError:
            return self.ring.consumer(group=GROUP)

    def waiting(self) -> int:
        """Return how many items wait."""
        getter = self.take_getter()
        try:
            return getter.lag
        finally:
            self.getters.append(getter)

    def put(self, data: np.ndarray[Any, Any], shape: tuple[int, ...] | None, seconds: float | None) -> None:
        """Store an item, waiting so many seconds at most."""
        deadline = math.inf if seconds is None else time.monotonic() + seconds
        try:
            if not self._take_turn(seconds):
                raise queue.Full(
                    f"ring {self.ring.name!r} is full, and another thread of this process waits to put an "
                    f"item"
                )
            self._put_in_turn(data, shape, seconds, deadline)
        finally:
            # Not by suppress(): Ctrl-C could come at that call, before the release.
            try:  # noqa: SIM105
                self._putting.release()
            except RuntimeError:  # not taken
                pass

    def _put_in_turn(
        self,
        data: np.ndarray[Any, Any],
        shape: tuple[int, ...] | None,
        seconds: float | None,
        deadline: float,
    ) -> None:
        producer = self._producer
        assert producer is not None
        try:
            # Asked first: a producer that finds a full ring looks up who is in the way, which takes long.
            self._waits_for_space = self.waiting() >= self.ring.slots
            if self._waits_for_space and seconds == 0:
                raise queue.Full(_messages.Later(self._who_is_in_the_way))
            patience = _core.patience if self._waits_for_space else 0.0
            while True:
                left = max(deadline - time.monotonic(), 0.0)
                try:
                    producer.put(data, meta=shape, timeout=min(patience, left))
                    return
                except errors.RingFull as full:
                    if left <= patience:
                        raise queue.Full(*full.args) from None
                    if patience and seconds is None:
                        _messages.still_waiting("put", full)
                self._waits_for_space = True
                patience = max(2 * patience, _core.patience)
        finally:
            self._waits_for_space = False

    def _who_is_in_the_way(self) -> str:
        getters = [] if self.ring.closed else self.ring.stats().consumers
        who = "; ".join(_messages.process(one.pid, one.start_time, one.label) for one in getters)
        return (
            f"ring {self.ring.name!r} is full: {self.ring.slots} items wait for one of its getters to take "
            f"them: {who}"
        )

    def _take_turn(self, seconds: float | None) -> bool:
        """Wait until no other thread puts; False if the time is over, and that one waits for space itself."""
        if self._putting.acquire(timeout=-1 if seconds is None else min(seconds, threading.TIMEOUT_MAX)):
            return True
        while not self._waits_for_space:  # it copies its item
            if self._putting.acquire(timeout=COPYING):
                return True
        return False

    def become_putter(self) -> None:
        """Be the process that puts, unless it is already."""
        if self._producer is not None:
            return

        def become() -> None:
            if self._producer is None:
                self._producer = self._open_producer()

        alone(self._joining, become)

    def _open_producer(self) -> _core.Producer:
        try:
            return self.ring.producer()
        except errors.ProducerExists as error:
            raise errors.ProducerExists(
                f"another process puts into this queue ({error}). A RingQueue has one putter: close() it "
                f"there first, give each putter a queue of its own, or use multiprocessing.Queue"
            ) from None

    def close(self, failure: bytes | None) -> None:
        """End the stream, if this process put; stay a member where children may still have to join."""
        self.closed = True
        self.end_stream(failure)
        if not self.creator:
            self.ring.close()

    def end(self) -> None:
        """End the stream, if this process put: as one that failed if an exception ends the process."""
        failing = util.is_exiting()
        self.end_stream((failure_of_block(sys.exception()) or failure_of_program()) if failing else None)

    def end_stream(self, failure: bytes | None) -> None:
        """End the stream, if this process put."""
        if self._producer is not None:
            self._producer._end(failure)

    @property
    def ended(self) -> bool:
        """Whether this process put, and has ended the stream."""
        return self._producer is not None and self._producer.closed

    def leave(self) -> None:
        """Close everything, and remove the name if this process created it."""
        if self.creator:
            with contextlib.suppress(FileNotFoundError):
                self.ring.unlink()
        self.ring.close()


def check_maxsize(maxsize: int) -> int:
    """Return the depth of a queue; TypeError or ValueError if a ring cannot have it."""
    if isinstance(maxsize, int) and maxsize < 2:
        raise ValueError(
            f"maxsize must be at least 2, not {maxsize}: a ring has two slots or more, and a queue in shared "
            f"memory has a limit"
        )
    return check_int("maxsize", maxsize, 2, _core.MAX_SLOTS)


def seconds_of(block: bool, timeout: float | None) -> float | None:
    """Return how long to wait at most; as in multiprocessing, a time below zero is none."""
    if not _core.check_flag("block", block):
        return 0.0
    if isinstance(timeout, (int, float)) and timeout < 0:
        return 0.0
    _core.check_timeout(timeout)
    return timeout
