"""One process's part of a dataset: a member of its group, and the frames that are on their way from it."""

from __future__ import annotations

import math
import os
import time
from collections import deque

from shmring import _messages, errors
from shmring._core import Consumer, Frame
from shmring._ring import Ring

__all__ = ["Member"]

SLICE = 0.1  # seconds between two looks at the producer and at the process that this one works for


class Member:
    """Takes frames for a dataset, and keeps the last ones: they may not have reached the training yet.

    A frame is done once `keep` later ones were asked for. If this process is killed before, another member
    of the group gets it.
    """

    def __init__(
        self, ring: Ring, consumer: Consumer, keep: int, waits_for_takeover: bool, parent: int | None
    ) -> None:
        self._ring, self._consumer = ring, consumer
        self._keep = keep
        self._waits_for_takeover = waits_for_takeover
        self._parent = parent  # of a worker, whose work is pointless without it
        self._given: deque[Frame] = deque()  # oldest first
        self._repeated: deque[Frame] = deque()
        self.ended = False  # came to the end of the stream

    def take(self, timeout: float | None) -> Frame | None:
        """Return the next frame; None at the end of the stream."""
        self._finish_all_but(self._keep - 1)
        if self._repeated:
            return self._repeated.popleft()
        try:
            return self._wait(timeout)
        except errors.RingClosed:
            self.ended = True
            return None

    def give(self, frame: Frame) -> None:
        """Note that a frame is on its way from here."""
        self._given.append(frame)
        self._finish_all_but(self._keep)

    def repeat(self) -> None:
        """Begin again with the frames of an iteration that ended early: they may not have arrived."""
        self._repeated = self._given + self._repeated
        self._given = deque()

    def close(self) -> None:
        """Leave the group; every frame that was taken is done. May be called twice."""
        self._finish_all_but(0)
        self._consumer.close()

    def leave(self) -> None:
        """At the end of a worker: what an iteration that ended early had on its way is for other members."""
        if self.ended:
            self.close()
        else:
            self._consumer._abandon()

    def _finish_all_but(self, most: int) -> None:
        while len(self._given) > max(0, most):
            self._given.popleft().release()

    def _wait(self, timeout: float | None) -> Frame | None:
        """Wait for a frame as ``Consumer.get`` does, but end as soon as every frame was taken by a member.

        `get` waits at the end until the other members are done. Here they never are before the training
        takes their batches, and it may wait for ours. None: the process that wanted the frame is gone.
        """
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        while self._is_wanted():
            frame = self._consumer.try_get()
            if frame is None and (end := self._end()):
                # The first look finds members that have died, the second one what they had.
                frame = self._consumer.try_get() or self._consumer.try_get()
                if frame is None:
                    raise _messages.ENDS[end](self._ring._block, self._ring._fd)
            if frame is not None:
                return frame
            left = max(0.0, deadline - time.monotonic())
            try:
                return self._consumer.get(min(left, SLICE))
            except errors.RingEmpty:
                if left <= SLICE:
                    self._consumer._empty(timeout)  # raises
        return None

    def _end(self) -> str | None:
        """How the stream has ended, if it has, and every frame was taken by some member."""
        state = self._ring._producer_state()[0]
        may_continue = state != "closed" and self._waits_for_takeover
        return None if state not in _messages.ENDS or may_continue or self._consumer.lag else state

    def _is_wanted(self) -> bool:
        """Whether the process that this worker works for is still there."""
        return self._parent is None or os.getppid() == self._parent
