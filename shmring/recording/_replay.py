"""Replay: a recording published into a ring again."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from shmring import Producer, Ring
from shmring._core import check_timeout, check_word
from shmring._format import format_of
from shmring._ring import create_or_take_over
from shmring._schema import check_above_zero, check_int
from shmring.errors import RingIncompatible
from shmring.recording._recording import Recording, open_recording
from shmring.recording._roll import pieces
from shmring.recording.formats import as_path

__all__ = ["replay"]

BATCH = 4 << 20  # bytes that are published at once where nothing is to be waited for
SLOTS = 16
PROGRESS_EVERY = 0.1  # seconds
LONGEST_SLEEP = 1e9  # seconds; damaged timestamps can ask for more than the system can count
FOREVER_NS = 1e300  # a pace near 0 would make the next frame due at infinity, which is not a time
RING_BYTES = 8 << 20  # small frames get more slots, up to this size


def replay(
    path: str | os.PathLike[str],
    ring: Ring | str,
    *,
    pace: float | None = 1.0,
    loops: int | None = 1,
    timestamps: Literal["recorded", "now"] = "recorded",
    wait_for: int = 0,
    timeout: float | None = None,
    slots: int | None = None,
    spares: int = 0,
    on_full: Literal["wait", "drop"] = "wait",
    progress: Callable[[int, float | None], object] | None = None,
) -> int:
    """Publish the frames of a recording, with their metas, at the pace at which they came.

    Parameters
    ----------
    path : path-like
        A recording; or the name that a rolling one was given: its files are played one after another.
    ring : Ring or str
        The ring to publish into. If it is a name, the ring is created with the recorded attrs, and removed at
        the end; but one that is in use, has the same frames and no living producer is taken over.
    pace : float, optional
        Follow the recorded timestamps, 2.0: twice as fast. None: as fast as the ring takes them.
    loops : int, optional
        How often to play it; None: until interrupted.
    timestamps : {"recorded", "now"}
        The frames carry the timestamps that they had, or the time at which they are replayed.
    wait_for : int
        Begin when this many consumers have joined.
    timeout : float, optional
        Seconds to wait for them; None waits forever.
    slots : int, optional
        Of the ring that is created; default: 16, more for small frames.
    spares : int
        Spare slots of the ring that is created.
    on_full : {"wait", "drop"}
        As in ``Ring.producer``.
    progress : callable, optional
        Called after frames were published, at most ten times a second: with their number so far, and with the
        share of all that is done, 0 to 1, or None if it plays until interrupted.

    Returns
    -------
    int
        Frames published.

    Raises
    ------
    FileNotFoundError, RecordingCorrupt
        As `open_recording`.
    RingExists, NoSpace
        The ring cannot be created, or has a living producer.
    RingIncompatible
        The ring, or a later file, has frames of another shape, dtype or meta.
    TooFewConsumers
        Fewer consumers than that joined in time.

    Notes
    -----
    Seqs start at the ring's next one and keep the recorded gaps: where the recorder lost frames, consumers of
    the replay lose as many, and the time that passed there passes again. Where timestamps go back, because a
    clock was set, the replay does not wait.
    """
    if pace is not None:
        check_above_zero("pace", pace, ", or None for as fast as possible")
    if loops is not None:
        check_int("loops", loops, 1)
    check_word("timestamps", timestamps, ("recorded", "now"))
    check_timeout(timeout)
    with ExitStack() as stack:
        recordings = [stack.enter_context(open_recording(file)) for file in _files(as_path(path))]
        if isinstance(ring, str):
            attrs = dict(recordings[0].attrs)
            if timestamps == "now":
                attrs.pop("clock", None)  # of the recorded ones
            ring = stack.enter_context(_create(ring, recordings[0], attrs, slots, spares))
        for recording in recordings:
            _check_same(recording, ring)
        with ring.producer(on_full=on_full) as out:
            if wait_for:
                out.wait_for_consumers(wait_for, timeout)
            shown = _Progress(progress, out, None if loops is None else loops * sum(map(len, recordings)))
            played = 0
            while any(map(len, recordings)) and (loops is None or played < loops):
                _play(out, ring, recordings, pace, shown, keep=timestamps == "recorded")
                played += 1
            return out.published


class _Progress:
    """Calls a function now and then with how far the replay is."""

    def __init__(
        self, progress: Callable[[int, float | None], object] | None, out: Producer, frames: int | None
    ) -> None:
        self._progress, self._out, self._frames = progress, out, frames
        self._done = 0
        self._called_at = -math.inf

    def count(self, frames: int) -> None:
        """Add frames that were played; those that a full ring dropped count, too."""
        self._done += frames
        if self._progress is not None and time.monotonic() - self._called_at >= PROGRESS_EVERY:
            self._called_at = time.monotonic()
            self._progress(self._out.published, None if self._frames is None else self._done / self._frames)


def _files(path: Path) -> list[Path]:
    return [path] if path.exists() else pieces(path) or [path]


def _create(name: str, recording: Recording, attrs: dict[str, Any], slots: int | None, spares: int) -> Ring:
    nbytes = format_of(recording).frame_bytes
    return create_or_take_over(
        name,
        shape=recording.shape,
        dtype=recording.dtype,
        slots=slots or max(SLOTS, min(RING_BYTES // nbytes, 1024)),
        spares=spares,
        meta=recording.meta_dtype,
        attrs=attrs,
        variable_rows=recording.variable_rows,
    )


def _check_same(recording: Recording, ring: Ring) -> None:
    difference = format_of(recording).difference(format_of(ring))
    if difference is not None:
        raise RingIncompatible(
            f"the recording of ring {recording.ring!r} has other frames than ring {ring.name!r}: {difference}"
        )


def _play(
    out: Producer,
    ring: Ring,
    recordings: list[Recording],
    pace: float | None,
    shown: _Progress,
    *,
    keep: bool,
) -> None:
    """Publish everything once."""
    most = max(1, min(BATCH // ring.frame_nbytes, ring.slots // 2))
    starts = [int(recording.timestamps_ns[0]) for recording in recordings if len(recording)]
    clock = None if pace is None or not starts else _Clock(starts[0], pace)
    for recording in recordings:
        done = 0
        while done < len(recording):
            some = slice(done, min(done + most, len(recording)))
            if clock is not None:
                some = slice(done, done + clock.wait(recording.timestamps_ns[some]))
            _publish(out, recording, some, keep=keep)
            shown.count(some.stop - done)
            done = some.stop


class _Clock:
    """Says when the frames of a recording are due."""

    def __init__(self, first_ns: int, pace: float) -> None:
        self._last_ns, self._pace = first_ns, pace
        self._due_ns = time.monotonic_ns()

    def wait(self, timestamps_ns: npt.NDArray[np.int64]) -> int:
        """Wait until the first frame is due; how many are by then."""
        stamps = timestamps_ns.tolist()
        self._go_on(stamps[0])
        while (wait_ns := self._due_ns - time.monotonic_ns()) > 0:
            time.sleep(min(wait_ns / 1e9, LONGEST_SLEEP))
        now_ns = time.monotonic_ns()
        count = 1
        while count < len(stamps) and self._due_at(stamps[count]) <= now_ns:
            self._go_on(stamps[count])
            count += 1
        return count

    def _due_at(self, timestamp_ns: int) -> int:
        """Where the recorded time goes back (a clock was set), the frame is due with the one before it."""
        wait_ns = max(0, timestamp_ns - self._last_ns) / self._pace
        return self._due_ns + round(min(wait_ns, FOREVER_NS))

    def _go_on(self, timestamp_ns: int) -> None:
        self._due_ns, self._last_ns = self._due_at(timestamp_ns), timestamp_ns


def _publish(out: Producer, recording: Recording, some: slice, *, keep: bool) -> None:
    """Publish frames, with a gap in seq wherever the recording has one."""
    gaps = some.start + np.flatnonzero(recording.lost_before[some])
    for first, last in pairwise([some.start, *gaps.tolist(), some.stop]):
        if first < last:
            if lost := int(recording.lost_before[first]):
                out.drop(lost)
            _publish_run(out, recording, slice(first, last), keep=keep)


def _publish_run(out: Producer, recording: Recording, some: slice, *, keep: bool) -> None:
    array = np.asarray(recording.array[some])
    times = recording.timestamps_ns[some] if keep else None
    metas = None if recording.metas is None else recording.metas[some]
    if recording.rows is None:
        out.put_many(array, timestamps_ns=times, metas=metas)
        return
    for i, rows in enumerate(recording.rows[some].tolist()):
        out.put(
            array[i, :rows],
            timestamp_ns=None if times is None else int(times[i]),
            meta=None if metas is None else metas[i],
        )
