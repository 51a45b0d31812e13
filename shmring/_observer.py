"""The observer: private copies of frames, without a place in the ring and without a trace."""

from __future__ import annotations

import os
import time
import weakref
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from shmring import _core, _messages, errors
from shmring._wait import Wait

if TYPE_CHECKING:
    from shmring._ring import Ring

__all__ = ["FrameCopy", "Observer"]

POLL = 0.001  # seconds; an observer may not write, so it cannot ask to be woken


class FrameCopy:
    """A frame of an Observer, copied.

    Attributes
    ----------
    array : ndarray
        Private and writable, of the ring's shape and dtype (first axis: `rows`).
    shape, dtype : tuple of int, dtype
        Those of the array. Libraries take the copy itself as an array, too.
    seq : int
        Counts the frames that the producer offered, from 0.
    timestamp_ns : int
        CLOCK_MONOTONIC at publish unless the producer gave its own.
    lost : int
        Frames that this observer did not see just before it.
    meta : numpy scalar or None
    rows : int or None
        Valid length of the first axis, in a ring with variable_rows.
    epoch : int
        Which producer of the ring published it, from 1.
    """

    def __init__(
        self,
        array: np.ndarray[Any, Any],
        *,
        seq: int,
        timestamp_ns: int,
        lost: int,
        meta: Any,
        rows: int | None,
        epoch: int,
        source: Any,
    ) -> None:
        self._source = source  # name and attrs of the ring, without keeping it open
        self.array = array
        self.shape: tuple[int, ...] = array.shape
        self.dtype: np.dtype[Any] = array.dtype
        self.seq = seq
        self.timestamp_ns = timestamp_ns
        self.lost = lost
        self.meta = meta
        self.rows = rows
        self.epoch = epoch

    def __getitem__(self, key: Any) -> Any:
        """Index `array`."""
        return self.array[key]

    def __array__(self, dtype: Any = None, *, copy: bool | None = None) -> np.ndarray[Any, Any]:
        """Let numpy and others take the copy as its array, as they take a Frame."""
        return np.array(self.array, dtype, copy=copy)

    def __repr__(self) -> str:
        """Summarise the copy, without its content."""
        lost = f", {self.lost} lost before it" if self.lost else ""
        array = self.array
        return f"<shmring.FrameCopy seq {self.seq}, shape {array.shape}, dtype {array.dtype}{lost}>"

    def _repr_html_(self) -> str | None:
        """Show the copy in a notebook, as a picture if it is one."""
        from shmring import _html

        return _html.frame(self, self._source)


class Observer:
    """Reads private copies of frames: from ``Ring.observer()``.

    Needs read permission only, takes no place, holds nobody up and is never noticed. While waiting, it checks
    for new frames every millisecond. It may miss frames; `FrameCopy.lost` says how many.
    """

    _closed = True  # until it is open

    def __init__(self, *_args: Any, **_options: Any) -> None:
        raise TypeError("an Observer comes from Ring.observer()")

    @classmethod
    def _open(cls, ring: Ring, lock_fd: int) -> Observer:
        """Begin to observe; owns lock_fd from now on."""
        observer = cls.__new__(cls)
        observer._begin(ring, lock_fd)
        return observer

    def _begin(self, ring: Ring, lock_fd: int) -> None:
        self._ring = ring
        self._block = ring._block
        self._source = SimpleNamespace(name=ring.name, attrs=ring.attrs, shape=ring.shape, dtype=ring.dtype)
        self._schema = ring._schema
        self._lock_fd = lock_fd  # its own, never locked: it works in the child of a fork, too
        self._finalizer = weakref.finalize(self, os.close, lock_fd)
        self._finalizer.atexit = False  # else handlers of atexit that run later would find it closed
        self._next = max(0, self._block.status(lock_fd)["head"] - 1)
        self._expected_seq: int | None = None
        self._closed, self._process = False, os.getpid()
        self._calls: dict[object, None] = {}  # that have not returned; the first of them has its turn
        _core.handles.add(self)

    def _enter_child(self) -> None:
        """In the child of a fork no other thread is inside a call."""
        self._calls = {}

    def __del__(self) -> None:
        """Warn if nobody closed it."""
        if not self._closed and self._process == os.getpid():
            _core.warn_unclosed("Observer", self.name)

    @property
    def ring(self) -> Ring:
        """The Ring that this observer was opened from; it stays open for as long as the observer exists."""
        return self._ring

    @property
    def name(self) -> str:
        """Name of the ring."""
        return self._block.name

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one frame."""
        return self._schema.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of one frame."""
        return self._schema.dtype

    @property
    def closed(self) -> bool:
        """Whether this handle is closed."""
        return self._closed

    def __enter__(self) -> Observer:
        """Return self."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """Close."""
        self.close()

    def __repr__(self) -> str:
        """Name the ring."""
        return f"<shmring.Observer of {self._block.name!r}, {'closed' if self._closed else 'open'}>"

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled or copied."""
        raise _messages.not_pickled("Observer")

    def close(self) -> None:
        """End the use of this observer. May be called twice, and while another thread waits in it."""
        self._closed = True
        call = object()
        try:
            if self._has_turn(call):  # else the thread that is inside does it
                self._finalizer()
        finally:
            self._calls.pop(call, None)

    def get(self, timeout: float | None = None) -> FrameCopy:
        """Copy the frame after the last one seen (the first time: the newest one).

        Parameters
        ----------
        timeout : float, optional
            Seconds; None waits forever, 0 never waits.

        Returns
        -------
        FrameCopy

        Raises
        ------
        RingEmpty
            No frame in time.
        RingClosed, ProducerFailed, ProducerDied
            No frame is left, and no more will come.
        HandleBusy
            Another thread is inside a call on this observer.
        """
        return self._wait(timeout, newest=False)

    def latest(self, timeout: float | None = None) -> FrameCopy:
        """Copy the newest frame not seen yet.

        Parameters
        ----------
        timeout : float, optional
            Seconds; None waits forever, 0 never waits.

        Returns
        -------
        FrameCopy

        Raises
        ------
        RingEmpty, RingClosed, ProducerFailed, ProducerDied
            As `get`.
        """
        return self._wait(timeout, newest=True)

    def _wait(self, timeout: float | None, *, newest: bool) -> FrameCopy:
        wait, call = Wait(timeout), object()
        try:
            if not self._has_turn(call):
                raise errors.HandleBusy(
                    f"another thread is inside a call on this Observer of ring {self._block.name!r}: use it "
                    f"from one thread at a time, or open one for each thread"
                )
            try:
                return self._wait_alone(wait, timeout, newest=newest)
            finally:
                if self._closed:
                    self._finalizer()
        finally:
            self._calls.pop(call, None)  # whether or not Ctrl-C let it come that far

    def _has_turn(self, call: object) -> bool:
        self._calls[call] = None
        return next(iter(self._calls.copy())) is call

    def _wait_alone(self, wait: Wait, timeout: float | None, *, newest: bool) -> FrameCopy:
        while True:
            if self._closed:
                raise ValueError(f"this Observer of ring {self._block.name!r} is closed")
            found = self._look(newest=newest)
            if found is not None:
                return found
            state, _ = self._block.producer_state(self._lock_fd)
            found = self._look(newest=newest)  # once more: the end comes after the last frame
            if found is not None:
                return found
            if state in _messages.ENDS:
                raise _messages.ENDS[state](self._block, self._lock_fd)
            if wait.left <= 0:
                raise _messages.no_frame(self._block, 1, timeout or 0.0, self._lock_fd)
            if wait.notice_is_due():
                _messages.still_waiting("get", _messages.no_frame(self._block, 1, wait.waited, self._lock_fd))
            time.sleep(POLL)

    def _look(self, *, newest: bool) -> FrameCopy | None:
        """Copy a frame if one is there; in a few tries, since it may be overwritten in between."""
        array = np.empty(self._schema.shape, self._schema.dtype)
        meta = None if self._schema.meta_dtype is None else np.zeros((), self._schema.meta_dtype)
        head = self._block.status(self._lock_fd)["head"]
        if head <= self._next:
            return None
        first = max(self._next, head - self._block.slots)
        for position in range(head - 1, head) if newest else range(first, head):
            found = self._block.copy_frame(self._lock_fd, position, array, meta)
            if found is None:
                continue
            seq, timestamp_ns, rows, epoch = found
            lost = 0 if self._expected_seq is None else max(0, seq - self._expected_seq)
            self._next, self._expected_seq = position + 1, seq + 1
            if self._schema.variable_rows:
                array = array[:rows]
            return FrameCopy(
                array,
                seq=seq,
                timestamp_ns=timestamp_ns,
                lost=lost,
                meta=None if meta is None else meta[()],
                rows=rows if self._schema.variable_rows else None,
                epoch=epoch,
                source=self._source,
            )
        return None
