"""Reads one ring for all its pages: as a lossy consumer, or as an observer where it cannot join."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from shmring import (
    Consumer,
    Frame,
    FrameCopy,
    Observer,
    ProducerDied,
    Ring,
    RingClosed,
    RingEmpty,
    TooManyConsumers,
)
from shmring.view._clients import Shot

__all__ = ["LABEL", "Reader", "last_frame"]

LABEL = "shmring view"
MOST_AT_ONCE = 256  # frames of a signal between two looks at what pages want
ENDED = ("closed", "failed", "died")


class Reader:
    """Takes frames of a ring, and holds none: what it returns is copied. Owns the ring's handle."""

    def __init__(self, ring: Ring) -> None:
        self.ring = ring
        self._handle = _join(ring)
        self._lost = 0

    def latest(self, timeout: float) -> Shot | None:
        """Copy the newest frame that was not read yet; None if there is none in time."""
        try:
            frame = self._handle.latest(timeout)
        except RingEmpty:
            self.ring._check_length()  # of a ring whose file was cut, none will ever come
            return None
        return self._copy(frame)

    def all(self, timeout: float) -> Iterator[Shot]:
        """Copy each frame that was not read yet: of a signal, every sample counts."""
        for number in range(MOST_AT_ONCE):
            try:
                frame = self._handle.get(timeout if number == 0 else 0)
            except RingEmpty:
                return
            yield self._copy(frame)

    def _copy(self, frame: Frame | FrameCopy) -> Shot:
        self._lost += frame.lost
        if isinstance(frame, FrameCopy):
            array = frame.array
        else:
            with frame, self.ring._uncut():
                array = np.array(frame.array)
        return Shot(
            array=array,
            seq=frame.seq,
            timestamp_ns=frame.timestamp_ns,
            meta=frame.meta,
            epoch=frame.epoch,
            lost=self._lost,
        )

    def has_ended(self) -> bool:
        """Whether no more frames will come than those that are there."""
        return self.ring._producer_state()[0] in ENDED

    def leave(self) -> None:
        """Give up the place in the ring; the ring's handle stays open."""
        self._handle.close()


def _join(ring: Ring) -> Consumer | Observer:
    if not ring.readonly:
        try:
            return ring.consumer(lossless=False, start="newest", label=LABEL)
        except TooManyConsumers:
            pass
    return ring.observer()


def last_frame(ring: Ring) -> Shot | None:
    """Copy the newest frame of a ring that has no stream to follow."""
    with ring.observer() as observer:
        try:
            copy = observer.latest(timeout=0)
        except (RingEmpty, RingClosed, ProducerDied):
            return None
    return Shot(copy.array, copy.seq, copy.timestamp_ns, copy.meta, copy.epoch, 0)
