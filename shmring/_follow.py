"""Following a name: frames of the ring that has it now, then of the next one, and so on."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Literal

from shmring import _core, _messages, _names, errors
from shmring._participants import producer_state
from shmring._ring import Ring
from shmring._wait import Wait

__all__ = ["ENDS", "Follower", "Succession", "follow"]

ENDS = (errors.RingClosed, errors.ProducerDied)  # what a consumer raises when a stream is over
STARTS = ("oldest", "newest", "next")


class Succession:
    """The streams of one name: each producer of each ring that has it, one after another."""

    def __init__(self, name: str) -> None:
        self.name = _names.check_name(name)
        self._passed: tuple[bytes, int] | None = None  # generation of the ring, epoch of the producer

    def find(self) -> Ring | None:
        """Attach to the ring of that name if a producer has come that was not followed yet.

        Until then it is only looked at: an attached follower would be in the way of a `create`.
        """
        if self._look() in (None, self._passed):
            return None
        try:
            return Ring.attach(self.name)
        except (errors.RingNotFound, errors.RingNotReady):
            return None

    def wait(self, timeout: float | None) -> Ring:
        """Attach to the next ring, waiting for it up to `timeout` seconds."""
        wait = RingWait(self.name, timeout)
        while (ring := self.find()) is None:
            wait.check()
            time.sleep(_names.RETRY)
        return ring

    def pass_by(self, ring: Ring) -> None:
        """Leave a ring whose stream is over, and never come back to that stream."""
        try:
            state, report = producer_state(ring._block, ring._fd)
            overtaken = state == "live"  # by the next producer already
            self._passed = ring._block.generation, report["epoch"] - overtaken
        finally:
            ring.close()

    def _look(self) -> tuple[bytes, int] | None:
        """Return the stream that the ring of that name has, if anybody uses it."""
        try:
            fd = _names.open_block(self.name, _core.OBSERVE)
        except FileNotFoundError:
            return None
        try:
            result, generation = _core.read_identity(fd)
            used = _names.in_use(fd) and not _names.is_kept_out(fd)
            if result == _core.FOREIGN or (used and result not in (0, _core.NOT_READY)):
                raise _messages.cannot_map(result, self.name, fd, 0)
            if result != 0 or not used:
                return None
            state, report = producer_state(_core.Block(fd, _core.OBSERVE, self.name), fd)
            return None if state == "none" else (generation, report["epoch"])
        finally:
            os.close(fd)


class RingWait(Wait):
    """A wait for the next ring: ends in time, and says now and then what it waits for."""

    def __init__(self, name: str, timeout: float | None) -> None:
        super().__init__(timeout)
        self._name, self._timeout = name, timeout

    def check(self) -> None:
        """Raise RingNotFound when the time is over."""
        if self.left <= 0:
            raise _messages.no_stream(self._name, self._timeout)
        if self.notice_is_due():
            _messages.still_waiting("follow", _messages.no_stream(self._name, self._timeout))


class Follower:
    """Frames of one ring after another, as long as rings of that name come: from `follow`."""

    def __init__(
        self,
        name: str,
        timeout: float | None,
        lossless: bool,
        start: Literal["oldest", "newest", "next"],
        label: str,
    ) -> None:
        _core.check_timeout(timeout)
        if start not in STARTS:
            raise ValueError(f'start must be "oldest", "newest" or "next", not {start!r}')
        self._rings = Succession(name)
        self._timeout = timeout
        self._lossless = _core.check_flag("lossless", lossless)
        self._start: Literal["oldest", "newest", "next"] = start
        self._label = label
        self._kind: str | None = None  # of frames
        self._ring: Ring | None = None
        self._consumer: _core.Consumer | None = None
        self._generation, self._next_seq = b"", 0
        self._closed = False

    @property
    def ring(self) -> Ring | None:
        """The ring that is read now, None between two: for its attrs, say."""
        return self._ring

    def close(self) -> None:
        """Leave the ring. May be called twice; iteration ends."""
        self._closed = True
        self._leave()

    def __del__(self) -> None:
        """Leave the ring without a word: nobody can close what only a `for` statement held."""
        if getattr(self, "_ring", None) is not None:
            self._leave()

    def __enter__(self) -> Follower:
        """Return self."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """Close."""
        self.close()

    def __repr__(self) -> str:
        """Say what it follows, and where it is."""
        where = "closed" if self._closed else "waiting" if self._ring is None else "attached"
        return f"<shmring.Follower of {self._rings.name!r}, {where}>"

    def __iter__(self) -> Follower:
        """Return self."""
        return self

    def __next__(self) -> _core.Frame:
        """Wait for the next frame, of whichever ring."""
        began = time.monotonic()
        wait = RingWait(self._rings.name, self._timeout)
        while not self._closed:
            consumer = self._join()
            if consumer is None:
                wait.check()
                time.sleep(_names.RETRY)
                continue
            try:
                frame = consumer.get(self._left(began))
            except ENDS:
                self._pass_by()
                continue
            if self._is_new(frame):
                return frame
        raise StopIteration

    def __aiter__(self) -> Follower:
        """Return self."""
        return self

    async def __anext__(self) -> _core.Frame:
        """Wait for the next frame, of whichever ring, and let other tasks run."""
        began = time.monotonic()
        wait = RingWait(self._rings.name, self._timeout)
        while not self._closed:
            consumer = self._join()
            if consumer is None:
                wait.check()
                await asyncio.sleep(_names.RETRY)
                continue
            try:
                frame = await consumer.get_async(self._left(began))
            except ENDS:
                self._pass_by()
                continue
            if self._is_new(frame):
                return frame
        raise StopAsyncIteration

    def _left(self, began: float) -> float | None:
        if self._timeout is None:
            return None
        return max(0.0, began + self._timeout - time.monotonic())

    def _join(self) -> _core.Consumer | None:
        """Join the next ring if we are in none; None if there is none."""
        if self._consumer is None and (ring := self._rings.find()) is not None:
            try:
                self._check_kind(ring)
                self._consumer = ring.consumer(lossless=self._lossless, start=self._start, label=self._label)
            except BaseException:
                ring.close()
                raise
            self._ring, self._start = ring, "oldest"
            if ring._block.generation != self._generation:
                self._generation, self._next_seq = ring._block.generation, 0
        return self._consumer

    def _check_kind(self, ring: Ring) -> None:
        """Refuse, once, frames that are not like those before."""
        before, self._kind = self._kind, _messages.describe_frames(ring._schema)
        if before not in (None, self._kind):
            raise errors.RingIncompatible(
                f"the next ring {ring.name!r} has frames of {self._kind}; those so far were of {before}. Ask "
                f"for the next frame to continue with these"
            )

    def _is_new(self, frame: _core.Frame) -> bool:
        """Whether it was not seen before its ring was taken over."""
        if frame.seq < self._next_seq:
            return False
        self._next_seq = frame.seq + 1
        return True

    def _pass_by(self) -> None:
        if self._ring is not None:
            self._rings.pass_by(self._ring)
        self._leave()

    def _leave(self) -> None:
        if self._ring is not None:
            self._ring.close()
        self._ring = self._consumer = None


def follow(
    name: str,
    *,
    timeout: float | None = None,
    lossless: bool = True,
    start: Literal["oldest", "newest", "next"] = "oldest",
    label: str = "",
) -> Follower:
    """Iterate over the frames of a name: of the ring that has it, then of the next one, and so on.

    Parameters
    ----------
    name : str
    timeout : float, optional
        Seconds to wait for each frame, be its ring there or not; None waits for ever.
    lossless, label
        As in ``Ring.consumer``.
    start : {"oldest", "newest", "next"}
        The first frame, of the first ring. Of later ones you get every frame from the oldest on.

    Returns
    -------
    Follower
        For ``for`` and ``async for``. It joins a ring when its producer has come, and leaves it when that
        one closes or dies, so that the next `create` of that name finds nobody in its way.

    Raises
    ------
    RingEmpty, RingNotFound
        From the iteration: no frame, or no ring with a producer, in time.
    RingIncompatible
        From the iteration: the next ring has frames of another shape, dtype or meta. If you iterate again,
        you get them.

    Notes
    -----
    Seqs begin at 0 with each ring, and continue where the next producer takes over the same one. You never
    get a frame twice.

    Examples
    --------
    >>> import numpy as np, shmring
    >>> frames = shmring.follow("thermometer", timeout=5)
    >>> for run in 1, 2:
    ...     with shmring.Ring.create("thermometer", shape=(), dtype="f8", slots=8) as ring:
    ...         with ring.producer() as out:
    ...             _ = out.put(20.0 + run)
    ...             float(next(frames).array)
    21.0
    22.0
    >>> frames.close()
    """
    return Follower(name, timeout, lossless, start, label)
