"""Following a name: frames of the ring that has it now, then of the next one, and so on."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Literal, TypeAlias

import numpy as np

from shmring import _core, _messages, _names, _presence, errors
from shmring._format import FrameFormat
from shmring._ring import Ring, check_group
from shmring._wait import Wait

__all__ = ["ENDS", "Follower", "Rejoiner", "Start", "Succession", "follow"]

Start: TypeAlias = Literal["oldest", "newest", "next"]
ENDS = (errors.RingClosed, errors.ProducerDied)  # what a consumer raises when a stream is over
STARTS = ("oldest", "newest", "next")


class Succession:
    """The streams of one name: each producer of each ring that has it, one after another."""

    def __init__(self, name: str) -> None:
        self.name = _names.check_name(name)
        self._passed: tuple[bytes, int] | None = None  # generation of the ring, epoch of the producer

    def find(self, *, readonly: bool = False) -> Ring | None:
        """Attach to the ring of that name if a producer has come that was not followed yet.

        Until then the ring is only looked at: an attached follower would keep `create` from replacing it.
        """
        if self._look() in (None, self._passed):
            return None
        try:
            return Ring.attach(self.name, readonly=readonly)
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
        """Leave a ring whose stream has ended, and never return to that stream."""
        try:
            state, status = ring._producer_state()
            overtaken = state == "live"  # by the next producer already
            self._passed = ring._generation, status["epoch"] - overtaken
        finally:
            ring.close()

    def _look(self) -> tuple[bytes, int] | None:
        """Return the stream of the ring that has the name, if the ring is in use."""
        try:
            fd = _names.open_block(self.name, _core.OBSERVE)
        except FileNotFoundError:
            return None
        try:
            identity = _core.read_identity(fd)
            result = identity.result
            used = _presence.in_use(fd) and not _presence.is_kept_out(fd)
            if result == _core.FOREIGN or (used and result not in (0, _core.NOT_READY)):
                raise _messages.cannot_map(result, self.name, fd, 0)
            if result != 0 or not used:
                return None
            state, status = _core.Block(fd, _core.OBSERVE, self.name).producer_state(fd)
            return None if state == "none" else (identity.generation, status["epoch"])
        finally:
            os.close(fd)


class Rejoiner:
    """Joins one ring after another as the same consumer, and knows which frames it has taken."""

    def __init__(
        self,
        *,
        lossless: bool,
        start: Start,
        label: str,
        wait_for_takeover: bool = False,
        group: str | None = None,
        at_most_once: bool = False,
    ) -> None:
        _core.check_word("start", start, STARTS)
        check_group(group, lossless, at_most_once)
        self._lossless, self._label = lossless, label
        self._group, self._at_most_once = group, at_most_once
        self._done = 0  # below this position, the group has taken every frame of the ring
        self._start: Start = start
        self._wait_for_takeover = wait_for_takeover
        self._generation = b""
        self.consumer: _core.Consumer | None = None
        self.next_seq: int | None = None
        """Below it, every frame of the ring was taken; None: any frame of it may be the first."""

    def join(self, ring: Ring) -> _core.Consumer:
        """Become a consumer of a ring; after the first one, from its oldest frame."""
        self.consumer = ring.consumer(
            lossless=self._lossless,
            start=self._start,
            wait_for_takeover=self._wait_for_takeover,
            label=self._label,
            group=self._group,
            at_most_once=self._at_most_once,
        )
        if ring._generation != self._generation:
            self.next_seq = 0 if self._generation else None
            self._generation = ring._generation
            self._done = 0
        self._start = "oldest"
        return self.consumer

    def leave(self) -> int:
        """Leave the ring; the frames that were lost in it."""
        lost = 0
        if self.consumer is not None:
            lost = self.consumer.lost
            self._done = self.consumer._position
            self.consumer.close()
            self.consumer = None
        return lost

    def is_new(self, frame: _core.Frame) -> bool:
        """Whether this frame, just taken, was not taken before its ring was taken over; it is, now."""
        if self._group is not None:
            return not self._done_by_group(frame, 1)
        seq = frame.seq
        if self.next_seq is not None and seq < self.next_seq:
            return False
        self.next_seq = seq + 1
        return True

    def new(self, batch: _core.Batch) -> slice:
        """Return which of these frames, just taken, were not taken before; they are, now."""
        if self._group is not None:
            return slice(self._done_by_group(batch, len(batch)), len(batch))
        seqs = batch.seqs
        new = slice(int(np.searchsorted(seqs, self.next_seq or 0)), len(seqs))
        if new.start < new.stop:
            self.next_seq = int(seqs[-1]) + 1
        return new

    def _done_by_group(self, held: _core.Held, count: int) -> int:
        """How many of these frames, just taken, the group had taken before its ring was taken over."""
        if held.redelivered or self.consumer is None:
            return 0
        first = self.consumer._position - count
        return min(count, max(0, self._done - first))


class RingWait(Wait):
    """A wait for the next ring: it ends in time, and logs now and then what it is waiting for."""

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
        start: Start,
        label: str,
        group: str | None,
        at_most_once: bool,
    ) -> None:
        _core.check_timeout(timeout)
        self._rings = Succession(name)
        self._timeout = timeout
        self._joined = Rejoiner(
            lossless=_core.check_flag("lossless", lossless),
            start=start,
            label=label,
            group=group,
            at_most_once=at_most_once,
        )
        self._frame_format: FrameFormat | None = None  # of the frames so far
        self._ring: Ring | None = None
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
        """Leave the ring without a warning: what only a `for` statement held cannot be closed."""
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
            if self._joined.is_new(frame):
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
            if self._joined.is_new(frame):
                return frame
        raise StopAsyncIteration

    def _left(self, began: float) -> float | None:
        if self._timeout is None:
            return None
        return max(0.0, began + self._timeout - time.monotonic())

    def _join(self) -> _core.Consumer | None:
        """Return the consumer of the ring that is followed, joining the next one; None until there is one."""
        if self._joined.consumer is None and (ring := self._rings.find()) is not None:
            try:
                self._check_frames(ring)
                self._joined.join(ring)
            except BaseException:
                ring.close()
                raise
            self._ring = ring
        return self._joined.consumer

    def _check_frames(self, ring: Ring) -> None:
        """Refuse, once, frames that differ from those so far."""
        before, self._frame_format = self._frame_format, ring._frame_format
        if before is not None and (difference := ring._frame_format.difference(before)):
            raise errors.RingIncompatible(
                f"the next ring {ring.name!r} has other frames than those so far: {difference}. Ask for the "
                f"next frame to continue with these"
            )

    def _pass_by(self) -> None:
        if self._ring is not None:
            self._rings.pass_by(self._ring)
        self._leave()

    def _leave(self) -> None:
        self._joined.leave()
        if self._ring is not None:
            self._ring.close()
        self._ring = None


def follow(
    name: str,
    *,
    timeout: float | None = None,
    lossless: bool = True,
    start: Literal["oldest", "newest", "next"] = "oldest",
    label: str = "",
    group: str | None = None,
    at_most_once: bool = False,
) -> Follower:
    """Iterate over the frames of a name: of the ring that has it, then of the next one, and so on.

    Parameters
    ----------
    name : str
    timeout : float, optional
        Seconds to wait for each frame, whether its ring is there or not; None waits forever.
    lossless, label, group, at_most_once
        As in ``Ring.consumer``.
    start : {"oldest", "newest", "next"}
        The first frame, of the first ring. Of later ones you get every frame, from the oldest.

    Returns
    -------
    Follower
        For ``for`` and ``async for``. It joins a ring when its producer has come, and leaves it when that
        one closes or dies, so that it is not in the way of the next `create` of that name.

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
    return Follower(name, timeout, lossless, start, label, group, at_most_once)
