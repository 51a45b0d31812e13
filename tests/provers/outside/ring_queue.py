"""The interface of `queue.Queue` on a ring of pickled items, for threads of one process.

Where a ring cannot do what `queue` promises: the depth is fixed and at least 2, "unbounded" means a deep
ring, and an item is a copy of at most a slot's size.
"""

from __future__ import annotations

import pickle
import queue
import threading
import time
import weakref
from queue import Empty, Full

import numpy as np

import shmring

ShutDown = getattr(queue, "ShutDown", shmring.RingClosed)  # Python 3.13 brought it

PAGE = 4096  # bytes of an item: with whole pages a ring gets exactly the slots that were asked for
SMALL, DEEP = 128, 1 << 15  # bytes of an item and slots where no depth is asked for
SLICE = 0.02  # seconds that a call keeps the handle while it waits


class Queue:
    """What one thread puts, any one thread gets: the producer and one lossless consumer of one ring."""

    def __init__(self, maxsize: int = 0):
        slots, item_bytes = (maxsize, PAGE) if maxsize > 0 else (DEEP, SMALL)
        self._ring = shmring.Ring.create(shape=(item_bytes,), dtype="u1", slots=slots, variable_rows=True)
        self._ring.unlink()  # nobody else attaches: nothing is left behind, however the process ends
        weakref.finalize(self, self._ring.close)  # queues are not closed, only dropped
        self._producer, self._consumer = self._ring.producer(), self._ring.consumer()
        self._putting, self._getting = threading.Lock(), threading.Lock()  # a handle serves one thread
        self._done = 0
        self._all_done = threading.Condition()
        self._discarded = False
        self.is_shutdown = False

    @property
    def maxsize(self) -> int:
        return self._ring.slots

    @property
    def unfinished_tasks(self) -> int:
        return self._producer.published - self._done

    def qsize(self) -> int:
        return self._consumer.lag

    def empty(self) -> bool:
        return self.qsize() == 0

    def full(self) -> bool:
        return self.qsize() >= self.maxsize

    def put(self, item, block: bool = True, timeout: float | None = None) -> None:
        data = np.frombuffer(pickle.dumps(item), "u1")

        def attempt(seconds: float) -> None:
            if self.is_shutdown:
                raise ShutDown
            self._producer.put(data, timeout=seconds)

        self._until(attempt, self._putting, shmring.RingFull, Full, block, timeout)

    def get(self, block: bool = True, timeout: float | None = None):
        def attempt(seconds: float) -> bytes:
            if self._discarded:
                raise ShutDown
            try:
                with self._consumer.get(timeout=seconds) as frame:
                    return bytes(frame.array)
            except shmring.RingClosed:
                raise ShutDown from None

        return pickle.loads(self._until(attempt, self._getting, shmring.RingEmpty, Empty, block, timeout))

    def put_nowait(self, item) -> None:
        self.put(item, block=False)

    def get_nowait(self):
        return self.get(block=False)

    def task_done(self) -> None:
        with self._all_done:
            if self.unfinished_tasks <= 0:
                raise ValueError("task_done() called too many times")
            self._done += 1
            self._all_done.notify_all()

    def join(self) -> None:
        with self._all_done:
            self._all_done.wait_for(lambda: self.unfinished_tasks <= 0)

    def shutdown(self, immediate: bool = False) -> None:
        """End of the stream; what is in the ring can still be had, or not if `immediate`."""
        self.is_shutdown = True
        with self._putting:
            self._producer.close()
        if immediate:
            with self._getting, self._all_done:
                self._discarded = True
                while self._consumer.lag:
                    self._consumer.get(timeout=0).release()
                    self._done += 1
                self._all_done.notify_all()

    @staticmethod
    def _until(attempt, lock, failure, timed_out, block: bool, timeout: float | None):
        """Repeat short attempts until one succeeds or the time is over: other threads want the handle too."""
        if block and timeout is not None and timeout < 0:
            raise ValueError("'timeout' must be a non-negative number")
        limit = timeout if block else 0.0
        deadline = None if limit is None else time.monotonic() + limit
        while True:
            left = SLICE if deadline is None else min(SLICE, max(deadline - time.monotonic(), 0.0))
            try:
                with lock:
                    return attempt(left)
            except failure:
                if deadline is not None and time.monotonic() >= deadline:
                    raise timed_out from None
