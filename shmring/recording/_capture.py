"""Pre-trigger capture: the last frames before a moment, and some after it."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from shmring import Batch, Consumer, Frame, ProducerDied, Ring, RingClosed, RingEmpty, SlotsHeld
from shmring._schema import check_int
from shmring.recording._destination import check_destination, check_frames
from shmring.recording._index import IndexMaker
from shmring.recording._roll import free_piece, is_own_piece, number_of, piece
from shmring.recording._series import FileSeries, Mode, existing_files, failed
from shmring.recording._summary import Ended, Summary, ended_by
from shmring.recording.formats._description import Codec, describe

__all__ = ["Capture", "capture"]

BATCH = 4 << 20  # bytes that are written, and given back to the producer, at once
SLICE = 0.1  # seconds until a wait looks at stop() and at the producer again


@dataclass(frozen=True, slots=True)
class _Part:
    """Frames that are held: those of a batch that are wanted, and the position of the first of them."""

    batch: Batch
    some: slice
    position: int


class Capture:
    """Saves the last frames before a trigger: a signal, a key, a condition.

    It joins the ring as a lossy consumer that never holds the producer back, and leaves the frames where
    they are: the ring itself remembers what came before. Only when the trigger comes are the frames held,
    written and released. Until then this costs nothing, but `before` cannot be more than half of the ring's
    slots: the producer needs the other half while this process wakes up.

    Parameters
    ----------
    ring : Ring or str
        What to capture from. Of a name the ring is attached.
    path : path-like
        ``.npy``, ``.zarr``, ``.h5`` or ``.hdf5``. For several captures: ``FILE-0001.npy``, …
    before : int
        Frames up to the trigger, the one that was newest at that moment (or met the condition) included.
    after : int
        Frames after the trigger. What one capture has saved, the next one does not save again.
    when : callable, optional
        Called with each new `Frame` until it returns true; that triggers. A condition that takes
        longer than the producer needs for a frame does not see every frame.
    captures : int, optional
        End after this many; None: continue until `stop` or the end of the stream.
    mode : {"x", "w", "a"}
        As in `Recorder`, where ``"a"`` is for several captures only, and continues their numbers.
    codec : {"lz4", "zstd"}, optional
        As in `Recorder`.
    timeout : float, optional
        Seconds to wait for a ring of that name; None waits forever.
    on_capture : callable, optional
        Called with the Summary of each capture.

    Raises
    ------
    ValueError
        `before` is more than half of the slots.
    FileExistsError, RingNotFound, TooManyConsumers, OSError
        The message says why.
    """

    def __init__(
        self,
        ring: Ring | str,
        path: str | os.PathLike[str],
        *,
        before: int,
        after: int = 0,
        when: Callable[[Frame], object] | None = None,
        captures: int | None = 1,
        mode: Mode = "x",
        codec: Codec | None = None,
        timeout: float | None = 0,
        on_capture: Callable[[Summary], object] | None = None,
    ) -> None:
        before = check_int("before", before, 1)
        after = check_int("after", after, 0)
        if captures is not None:
            captures = check_int("captures", captures, 1)
        if mode == "a" and captures == 1:
            raise ValueError('mode "a" is for several captures: one capture is one file')
        self._several = captures != 1
        self._path = check_destination(
            path, several=self._several, mode=mode, codec=codec, appendable=self._several
        )
        self._mode = mode
        self._codec: Codec | None = codec
        existing = existing_files(self._path, several=self._several, mode=mode)
        self._number = number_of(existing[-1]) + 1 if existing and mode == "a" else 1
        self._before, self._after, self._left = before, after, captures
        self._when, self._on_capture = when, on_capture
        self._attached = not isinstance(ring, Ring)
        self._ring = ring if isinstance(ring, Ring) else Ring.attach(ring, timeout=timeout)
        self._history: Consumer | None = None
        self._watcher: Consumer | None = None
        self._trigger_at: int | None = None
        self._saved_to: int | None = None  # position behind the last capture
        self._written = self._written_to = 0  # frames of this capture, and the position behind them
        self._stopped = False
        self._failure = ""  # of the producer
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        try:
            self._join()
        except BaseException:
            self._leave()
            raise
        self._batch = max(1, min(BATCH // self._ring.frame_nbytes, before))

    def _join(self) -> None:
        if self._before > self._ring.slots // 2:
            raise ValueError(
                f"before={self._before} is more than half of the {self._ring.slots} slots of ring "
                f"{self._ring.name!r}, which keep what was before: create it with {2 * self._before} slots"
            )
        self._description = describe(
            self._ring, piece_of=self._path.name if self._several else None, codec=self._codec
        )
        check_frames(self._path, self._description)
        self._history = self._ring.consumer(
            lossless=False, label="shmring capture", max_held=max(self._before, 1)
        )
        if self._when is not None:
            self._watcher = self._ring.consumer(lossless=False, start="next", label="shmring condition")

    def trigger(self) -> None:
        """Capture now: from another thread or a signal handler. During a capture this does nothing."""
        if self._trigger_at is None and not self._stopped:
            self._trigger_at = self._ring._published
            os.eventfd_write(self._bell, 1)

    def stop(self) -> None:
        """End `run`; a capture that has begun ends with the frames it has."""
        if not self._stopped:
            self._stopped = True
            os.eventfd_write(self._bell, 1)

    def run(self) -> list[Summary]:
        """Wait for triggers and save what was around them. May be called once.

        Returns
        -------
        list of Summary
            One for each capture. Empty if the stream ended, or `stop` was called, before a trigger.

        Raises
        ------
        RecordingFailed
            The disk is full, or refused a write; what was saved before is readable.
        """
        if self._history is None:
            raise ValueError("this Capture has ended; make another one")
        captured: list[Summary] = []
        try:
            while self._left is None or len(captured) < self._left:
                position = self._wait()
                if position is None:
                    break
                captured.append(self._save(self._history, position))
                self._trigger_at = None
                if self._on_capture is not None:
                    self._on_capture(captured[-1])
        finally:
            self._stopped = True
            self._leave()
        return captured

    # ---- waiting for a trigger

    def _wait(self) -> int | None:
        """Return the position behind the trigger; None if none will come."""
        while not self._stopped:
            if self._trigger_at is not None:
                return self._trigger_at
            if self._watcher is not None and self._when is not None:
                try:
                    with self._watcher.get(timeout=SLICE) as frame:
                        if self._when(frame):
                            return self._watcher._position
                except RingEmpty:
                    pass
                except (RingClosed, ProducerDied):
                    return None
            elif self._ring._producer_state()[0] in ("closed", "failed", "died"):
                # It may have come with the last frames.
                return self._trigger_at
            elif select.select([self._bell], [], [], SLICE)[0]:
                os.eventfd_read(self._bell)
        return None

    # ---- saving

    def _save(self, history: Consumer, position: int) -> Summary:
        """Save the frames around a trigger."""
        began_at = time.monotonic()
        begin, end = position - self._before, position + self._after
        if self._saved_to is not None:  # what an earlier capture has saved is not saved again
            begin = max(begin, self._saved_to)
        self._saved_to = end
        self._written, self._written_to = 0, max(begin, 0)
        first = self._written_to
        held = self._hold(history, first, position, end)
        index = IndexMaker(self._description.index_dtype)
        path = self._next_file()
        ended: Ended = "interrupted"
        failure: OSError | None = None
        with ExitStack() as stack:
            for part in held:
                stack.callback(part.batch.release)
            files = FileSeries(path, self._description, None, "w" if self._mode == "w" else "x", None)
            try:
                for part in held:
                    self._write(files, index, part, first)
                    part.batch.release()  # what comes after finds room among what may be held
                ended = self._save_after(files, index, history, first, end)
                index.lost += self._count_overwritten(end, ended)
                if ended == "limit" and self._written < end - begin:
                    ended = "incomplete"
            except OSError as error:
                failure, ended = error, "write failed"
            finally:
                try:
                    files.close(ended, index.lost)
                except OSError as error:
                    failure = failure or error
        summary = Summary(
            paths=(path,),
            frames=files.frames,
            nbytes=files.frames * self._ring.frame_nbytes,
            lost=index.lost,
            seconds=time.monotonic() - began_at,
            ended=ended,
            failure=self._failure,
        )
        if failure is not None:
            raise failed(failure, self._ring.name, summary) from failure
        return summary

    def _next_file(self) -> Path:
        if not self._several:
            return self._path
        file = piece(self._path, self._number)
        if self._mode != "w" or not is_own_piece(file, self._path.name):
            file = free_piece(self._path, self._number)
        self._number = number_of(file) + 1
        return file

    def _hold(self, history: Consumer, first: int, position: int, end: int) -> list[_Part]:
        """Hold the wanted frames up to the trigger that are still there."""
        held: list[_Part] = []
        while history._position < position:
            try:
                part = self._take(history, first, end, timeout=0)
            except (RingEmpty, RingClosed, ProducerDied, SlotsHeld):  # held: these are written first
                break
            if part is not None:
                held.append(part)
        return held

    def _take(self, history: Consumer, first: int, end: int, timeout: float) -> _Part | None:
        """Take frames, of which at least one is wanted; None if none is."""
        until = first if history._position < first else end  # no batch holds what is not wanted, too
        batch = history.batch(min(until - history._position, self._batch), timeout=timeout)
        start = history._position - len(batch)  # lapped, it is further on than before
        wanted = slice(max(0, first - start), min(len(batch), end - start))
        if wanted.start < wanted.stop:
            return _Part(batch, wanted, start + wanted.start)
        batch.release()
        return None

    def _save_after(
        self, files: FileSeries, index: IndexMaker, history: Consumer, first: int, end: int
    ) -> Ended:
        while history._position < end:
            if self._stopped:
                return "stopped"
            try:
                part = self._take(history, first, end, timeout=SLICE)
            except RingEmpty:
                files.flush()
            except (RingClosed, ProducerDied) as error:
                ended, self._failure = ended_by(error)
                return ended
            else:
                if part is not None:
                    self._write(files, index, part, first)
        return "limit"

    def _write(self, files: FileSeries, index: IndexMaker, part: _Part, first: int) -> None:
        index.first_lost = part.position - first  # only the first one of a capture counts
        with part.batch as batch, self._ring._uncut():
            try:
                files.write(batch.array[part.some], index.make(batch, part.some))
            finally:
                files.wait()
        count = part.some.stop - part.some.start
        self._written, self._written_to = self._written + count, part.position + count

    def _count_overwritten(self, end: int, ended: Ended) -> int:
        """Return how many frames came behind the last one that was written, and were gone too soon."""
        if ended == "stopped":
            return 0
        return max(0, min(end, self._ring._published) - self._written_to)

    def _leave(self) -> None:
        for consumer in (self._history, self._watcher):
            if consumer is not None:
                consumer.close()
        self._history = self._watcher = None
        if self._attached:
            self._ring.close()
        os.close(self._bell)


def capture(
    ring: Ring | str,
    path: str | os.PathLike[str],
    *,
    before: int,
    when: Callable[[Frame], object],
    after: int = 0,
    captures: int | None = 1,
    mode: Mode = "x",
    codec: Codec | None = None,
    timeout: float | None = 0,
    on_capture: Callable[[Summary], object] | None = None,
) -> list[Summary]:
    """Save the last frames before a condition becomes true, and some after it.

    Parameters
    ----------
    ring, path, before, when, after, captures, mode, codec, timeout, on_capture
        As those of `Capture`, which also takes triggers from elsewhere.

    Returns
    -------
    list of Summary
        One for each capture.

    Raises
    ------
    RecordingFailed
        As ``Capture.run``.
    ValueError, FileExistsError, RingNotFound, TooManyConsumers, OSError
        As `Capture`.
    """
    return Capture(
        ring,
        path,
        before=before,
        after=after,
        when=when,
        captures=captures,
        mode=mode,
        codec=codec,
        timeout=timeout,
        on_capture=on_capture,
    ).run()
