"""The ring of a mirror on another node: made or taken over, filled, ended as its source ended."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import numpy as np

from shmring import Producer, Ring, RingFull, RingIncompatible, RingNotFound, _blocks, _janitor
from shmring._schema import choose_geometry
from shmring.ray._frames import as_bytes
from shmring.ray._nodes import this_node

if TYPE_CHECKING:
    from shmring._format import FrameFormat
    from shmring.ray._frames import Bytes, Columns, Frames

__all__ = ["Count", "End", "Like", "Lost", "Stopped", "Target"]

SLICE = 0.1  # seconds to wait for space before a look at what else there is
End: TypeAlias = Literal["closed", "failed", "died"]


class Stopped(Exception):
    """The stream was ended here while frames waited for space."""


class Lost(Exception):
    """The other end is not there now; another try may succeed."""


class Count(NamedTuple):
    """What this life of a sink has done."""

    next_seq: int
    """Below it, the ring has every frame or has lost it."""
    published: int
    lost: int


class Like(NamedTuple):
    """What a ring must be like to take the frames of another one."""

    frame_format: FrameFormat
    slots: int
    spares: int
    consumers: int
    attrs: dict[str, Any]
    mode: int
    stream: bytes
    """The first half of the generation of every ring that has these frames."""


class Target:
    """The mirrored ring and its producer. Its calls may come from several threads."""

    def __init__(self, name: str, like: Like, first_seq: int) -> None:
        self.name, self.frame_format = name, like.frame_format
        self.taken_over = False
        self.lost = 0
        """Frames of the source that this producer skipped."""
        self.ended: End | None = None
        self._ending = threading.Event()
        self._lock = threading.Lock()
        self._ring, self._out = self._open(like, first_seq)
        self._janitor = _janitor.start(name, self._ring._generation)

    def _open(self, like: Like, first_seq: int) -> tuple[Ring, Producer]:
        """Create the ring, or take over the one of that name that consumers still use."""
        made: list[Producer] = []

        def create() -> Ring:
            ring, out = create_from(self.name, like, first_seq)
            made.append(out)
            return ring

        ring = Ring._create_or_attach(self.name, create)
        if made:
            return ring, made[0]
        self.taken_over = True
        try:
            ring._check_frames(like.frame_format)
            self._check_stream(ring, like)
            return ring, ring.producer()
        except BaseException:
            ring.close()
            raise

    def _check_stream(self, ring: Ring, like: Like) -> None:
        """Refuse a ring with frames of another source: their seqs could not continue."""
        if not ring._generation.startswith(like.stream):
            raise RingIncompatible(
                f"ring {self.name!r} has frames of another source than this mirror, and is in use: end its "
                f"users on node {this_node()} (shmring info {self.name}), or give the mirror another name"
            )

    @property
    def identity(self) -> tuple[bytes, int]:
        """Distinguishes this producer of this ring from those of other lives of the sink."""
        return self._ring._generation, self._out.epoch

    @property
    def next_seq(self) -> int:
        """Seq of the next frame: below it, consumers have got every frame, or know of its loss."""
        return self._out.next_seq

    def count(self) -> Count:
        """Return what this producer has done."""
        return Count(self._out.next_seq, self._out.published, self.lost)

    def publish(self, frames: Frames, wait: Callable[[], None]) -> None:
        """Publish frames that are not there yet, with the gaps between them; `wait` is called without space.

        Raises
        ------
        Stopped
            The stream was ended in between.
        """
        for lost, run in frames.columns.runs(self.next_seq):
            self._drop(lost)
            done = run.start
            while done < run.stop:
                with self._lock:
                    self.check()
                    done += self._put(frames, slice(done, run.stop))
                if done < run.stop:
                    wait()

    def _put(self, frames: Frames, some: slice) -> int:
        """Publish as many as there is space for soon."""
        metas = None if frames.columns.metas is None else frames.columns.metas[some]
        times = frames.columns.timestamps_ns[some]
        arrays = frames.arrays[some]
        try:
            if not isinstance(arrays, list):
                return self._out.put_many(arrays, timestamps_ns=times, metas=metas, timeout=SLICE)
            meta = None if metas is None else metas[0]
            return self._out.put(arrays[0], timestamp_ns=int(times[0]), meta=meta, timeout=SLICE)
        except RingFull:
            return 0

    def receive(self, columns: Columns, fill: Callable[[Bytes], None], wait: Callable[[], None]) -> None:
        """Publish frames that come in now, each one received by `fill` into its slot, else as `publish`.

        `fill` raises what `check` does, should it wait.
        """
        for place, seq in enumerate(columns.seqs.tolist()):
            lost = seq - self.next_seq
            if lost < 0:
                fill(np.empty(self._nbytes(columns, place), "u1"))  # it is there already
                continue
            self._drop(lost)
            while not self._fill_slot(columns, place, fill):
                wait()

    def _nbytes(self, columns: Columns, place: int) -> int:
        if columns.rows is None:
            return self.frame_format.frame_bytes
        return int(columns.rows[place]) * self.frame_format.row_bytes

    def _fill_slot(self, columns: Columns, place: int, fill: Callable[[Bytes], None]) -> bool:
        """Publish one frame if there is space for it soon."""
        with self._lock:
            self.check()
            try:
                slot = self._out.claim(timeout=SLICE)
            except RingFull:
                return False
            with slot:
                fill(as_bytes(slot.array)[: self._nbytes(columns, place)])
                slot.timestamp_ns = int(columns.timestamps_ns[place])
                if columns.metas is not None:
                    slot.meta = columns.metas[place]
                if columns.rows is not None:
                    slot.rows = int(columns.rows[place])
        return True

    def _drop(self, lost: int) -> None:
        if lost:
            with self._lock:
                self.check()
                self._out.drop(lost)
                self.lost += lost

    def check(self) -> None:
        """Raise Stopped if the stream has ended, or is about to."""
        if self._ending.is_set():
            raise Stopped

    def end(self, how: End, failure: str, next_seq: int = 0) -> None:
        """End the stream for the consumers here; the first end counts.

        Frames below `next_seq` that have not come are lost.
        """
        self._ending.set()
        with self._lock:
            if self.ended is not None:
                return
            if (lost := next_seq - self._out.next_seq) > 0:
                self._out.drop(lost)
                self.lost += lost
            self.ended = how
            if how == "died":
                self._out.abandon()
            else:
                self._out.close(error=failure if how == "failed" else None)

    def close(self) -> None:
        """Remove the ring's name; consumers keep the ring and read what is left in it."""
        self.end("died", "")
        with contextlib.suppress(RingNotFound):
            self._ring.unlink()
        self._ring.close()
        self._janitor.close()


def create_from(name: str, like: Like, first_seq: int) -> tuple[Ring, Producer]:
    """Create a ring whose first frame has this seq: no consumer, however early, counts those before it."""
    geometry = choose_geometry(like.frame_format, like.slots, like.spares, like.consumers, like.attrs)
    generation = like.stream + os.urandom(8)
    _blocks.free_name(name, geometry.block_bytes)
    nameless = _blocks.create_nameless(name, like.mode, geometry, None, generation)
    ring = Ring._adopt(name, *nameless)._register()
    try:
        out = ring.producer()
        if first_seq:
            out.drop(first_seq)
        _blocks.give_name(ring._fd, name)
    except BaseException:
        ring.close()
        raise
    return ring, out
