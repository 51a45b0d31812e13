"""The recorder: a consumer that writes what it takes."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from typing import Literal

from shmring import (
    Batch,
    Consumer,
    ProducerDied,
    Ring,
    RingClosed,
    RingCorrupt,
    RingEmpty,
    RingNotFound,
    ShmringError,
    SlotsHeld,
    _names,
)
from shmring._core import check_flag
from shmring._follow import Rejoiner, Start, Succession
from shmring._schema import check_above_zero
from shmring._words import count
from shmring.recording._destination import check_destination, check_frames
from shmring.recording._errors import WriteRefused, refusals
from shmring.recording._index import IndexMaker
from shmring.recording._roll import Roll
from shmring.recording._series import FileSeries, Mode, failed
from shmring.recording._summary import Ended, Summary, ended_by
from shmring.recording.formats._codec import batch_bytes
from shmring.recording.formats._description import Codec, describe

__all__ = ["Recorder", "record"]

BATCH = 4 << 20  # bytes; a larger write costs no less per byte
SLICE = 0.1  # seconds until a wait looks at the limits and at stop() again
IDENTITY_EVERY = 1.0  # seconds between two looks whether the ring still has its name


class Recorder:
    """Records a ring into a file. It joins the ring when it is made, and writes in `run`.

    Parameters
    ----------
    ring : Ring or str
        What to record. If it is a name, that ring is attached.
    path : path-like
        ``.npy``, ``.zarr``, ``.h5``, ``.hdf5``, ``.ome.zarr``, ``.ome.tiff``: the suffix chooses the format.
    frames, seconds, nbytes : int, float, int, optional
        Stop after this much; `seconds` counts from the start of `run`.
    roll : Roll, optional
        Continue in a new file again and again: ``FILE-0001.npy``, ``FILE-0002.npy``, …
    mode : {"x", "w", "a"}
        A file that exists is an error, is replaced, or is appended to (with a Roll, its numbers continue).
    codec : {"lz4", "zstd"}, optional
        For .zarr, .h5 and .hdf5: compress the frames, on all cores of this process. ``"lz4"`` is the faster
        one, ``"zstd"`` makes smaller files. A file that is appended to keeps its own.
    lossless : bool
        False: never hold the producer back; what a slow disk loses is counted.
    start : {"oldest", "newest", "next"}
        As in ``Ring.consumer``.
    wait_for_takeover : bool
        Continue with the next producer when this one dies.
    follow : bool
        When the producer closes or dies, wait for the next ring of that name (or for the next producer of
        this one), and record it into the same file, as one more of ``Recording.parts``. Needs the ring's
        name. `start` is for the first ring.
    timeout : float, optional
        Seconds to wait for a ring of that name; None waits forever.
    sync : float, optional
        For .npy: flush everything to the disk at this interval in seconds, against power failures. Default:
        when the kernel does.
    progress : callable, optional
        Called with this Recorder about ten times a second.

    Raises
    ------
    FileExistsError
        The file is there, and `mode` is ``"x"``; or what is there was not made by a recorder.
    RecordingBusy
        Another recorder writes it at this moment.
    RingIncompatible
        The file that is appended to holds other frames.
    RingNotFound, TooManyConsumers, OSError, ValueError
        The message says why.
    """

    summary: Summary | None
    """What was recorded, as soon as `run` has ended, with an exception too."""

    def __init__(
        self,
        ring: Ring | str,
        path: str | os.PathLike[str],
        *,
        frames: int | None = None,
        seconds: float | None = None,
        nbytes: int | None = None,
        roll: Roll | None = None,
        mode: Mode = "x",
        codec: Codec | None = None,
        lossless: bool = True,
        start: Start = "oldest",
        wait_for_takeover: bool = False,
        follow: bool = False,
        timeout: float | None = 0,
        sync: float | None = None,
        progress: Callable[[Recorder], object] | None = None,
    ) -> None:
        _check_limits(frames=frames, seconds=seconds, nbytes=nbytes, sync=sync)
        if check_flag("follow", follow) and (isinstance(ring, Ring) or wait_for_takeover):
            raise ValueError(
                "follow=True lets go of a ring when its producer ends, so that the next one can be created: "
                "give the ring's name, and not wait_for_takeover=True"
            )
        self._joined = Rejoiner(
            lossless=lossless, start=start, label="shmring record", wait_for_takeover=wait_for_takeover
        )
        self._file = check_destination(path, several=roll is not None, mode=mode, sync=sync, codec=codec)
        self._roll, self._sync = roll, sync
        self._codec: Codec | None = codec
        self._most_frames, self._most_nbytes, self._seconds = frames, nbytes, seconds
        self._progress = progress
        self._stopped = False
        self._held: deque[Batch] = deque()  # that are being written
        self._failure = ""  # of the producer
        self._taken = 0
        self._earlier_frames = self._earlier_nbytes = self._earlier_lost = 0  # of rings that have ended
        self._other_frames: ValueError | None = None  # than those so far, in the next ring
        self._attached = not isinstance(ring, Ring)
        self._rings = Succession(ring) if follow and isinstance(ring, str) else None
        self._is_open = False  # its file
        self._ring = ring if isinstance(ring, Ring) else self._attach(ring, timeout)
        self._begin(mode)
        self._began_at = self._shown_at = self._identified_at = time.monotonic()
        self.summary = None

    def _attach(self, name: str, timeout: float | None) -> Ring:
        return Ring.attach(name, timeout=timeout) if self._rings is None else self._rings.wait(timeout)

    def _begin(self, mode: Mode) -> Consumer:
        """Join the ring and open the file for it."""
        try:
            description = describe(self._ring, codec=self._codec)
            check_frames(self._file, description)
            consumer = self._joined.join(self._ring)
            self._files = FileSeries(self._file, description, self._roll, mode, self._sync)
        except BaseException:
            self._leave()
            raise
        self._is_open = True
        self._index = IndexMaker(description.index_dtype, self._joined.next_seq)
        self._most = self._most_frames
        if self._most_nbytes is not None:
            fitting = max(1, self._most_nbytes // self._ring.frame_nbytes)
            self._most = fitting if self._most is None else min(self._most, fitting)
        # Half of the slots at most: the producer continues with the others while these are written.
        is_plain = self._files.codec is None
        most = BATCH if is_plain else batch_bytes(self._ring.frame_nbytes)
        share = 2 if is_plain else 4  # more batches follow while the first ones are compressed
        self._batch = max(1, min(most // self._ring.frame_nbytes, self._ring.slots // share))
        self._most_held = 0 if is_plain else max(0, self._ring.slots // 2 - self._batch)
        return consumer

    # ---- what it is doing; from any thread

    @property
    def ring(self) -> Ring:
        """The ring that is recorded."""
        return self._ring

    @property
    def path(self) -> os.PathLike[str]:
        """The file that is written, or was written last."""
        return self._files.paths[-1]

    @property
    def frames(self) -> int:
        """Frames taken from the ring so far."""
        return self._taken

    @property
    def written(self) -> int:
        """Frames of them that others can read from the file already."""
        return self._earlier_frames + (self._files.frames if self._is_open else 0)

    @property
    def nbytes(self) -> int:
        """Bytes of these frames."""
        return self._taken * self._ring.frame_nbytes

    @property
    def seconds(self) -> float:
        """Seconds since `run` began."""
        return time.monotonic() - self._began_at

    @property
    def lost(self) -> int:
        """Frames that the recorder did not get."""
        return self._earlier_lost + (self._index.lost if self._is_open else 0)

    @property
    def lag(self) -> int:
        """Frames published but not yet recorded."""
        consumer = self._joined.consumer
        return consumer.lag if consumer is not None else 0

    def stop(self) -> None:
        """End `run` after the frames that it is writing: from another thread or a signal handler."""
        self._stopped = True

    # ---- the recording

    def run(self) -> Summary:
        """Record until a limit, `stop` or the end of the stream. May be called once.

        Returns
        -------
        Summary

        Raises
        ------
        RecordingFailed
            The disk is full, or refused a write; the message says what is readable.
        RingNotFound
            The ring's producer is gone and another ring took its name.
        RingIncompatible
            With `follow`: the next ring has other frames than the file. With a `Roll` they get the next file.
        KeyboardInterrupt
            After the file was finished.
        """
        if self._joined.consumer is None:
            raise ValueError("this Recorder has ended; make another one")
        self._began_at = time.monotonic()
        ended: Ended = "interrupted"
        failure: WriteRefused | None = None
        try:
            ended = self._record(self._joined.consumer)
        except WriteRefused as error:
            failure, ended = error, "write failed"
        finally:
            try:
                failure = self._end_part(ended) or failure
            finally:
                self._sum_up("write failed" if failure else ended)
        assert self.summary is not None
        if failure is not None:
            try:
                raise failed(failure, self._ring.name, self.summary) from failure
            finally:
                del failure  # a cycle: it knows this frame, which would keep the ring's memory
        if self._other_frames is not None:
            # Without its traceback, which would keep files and the ring's memory.
            raise self._other_frames.with_traceback(None)
        if ended == "ring replaced":
            raise RingNotFound(
                f"ring {self._ring.name!r} no longer has a producer, and another ring took its name; "
                f"{count(self.summary.frames, 'frame')} recorded into {self.path}. Record the new one into "
                f"another file"
            )
        return self.summary

    def _record(self, consumer: Consumer) -> Ended:
        """Record the ring, and those that follow it."""
        ended = self._loop(consumer)
        while self._rings is not None and ended in ("producer closed", "producer died"):
            failure = self._end_part(ended)
            if failure is not None:
                raise failure
            ring = self._await_next(self._rings)
            if isinstance(ring, str):
                return ring
            next_consumer = self._begin_next(ring)
            if next_consumer is None:
                return "ring replaced"
            ended = self._loop(next_consumer)
        return ended

    def _begin_next(self, ring: Ring) -> Consumer | None:
        """Continue with another ring; None if its frames do not belong into the file."""
        self._ring = ring
        try:
            return self._begin("a")
        except ValueError as error:
            self._other_frames = error
            return None
        except ShmringError:
            raise
        except OSError:
            with refusals():
                raise

    def _await_next(self, rings: Succession) -> Ring | Literal["stopped", "limit"]:
        """Wait for the next ring, or return why the wait is over."""
        while True:
            if self._stopped:
                return "stopped"
            if self._seconds is not None and self.seconds >= self._seconds:
                return "limit"
            ring = rings.find()
            if ring is not None:
                return ring
            self._show_progress()
            time.sleep(_names.RETRY)

    def _loop(self, consumer: Consumer) -> Ended:
        try:
            return self._take_all(consumer)
        finally:
            self._give_back(0)

    def _take_all(self, consumer: Consumer) -> Ended:
        while True:
            most = self._batch if self._most is None else min(self._batch, self._most - self._taken)
            if most == 0:
                return "limit"
            wait = SLICE
            if self._seconds is not None:
                wait = min(SLICE, self._began_at + self._seconds - time.monotonic())
                if wait <= 0:
                    return "limit"
            if self._stopped:
                return "stopped"
            try:
                self._held.append(consumer.batch(most, timeout=wait))
                self._write(self._held[-1])
                self._give_back(self._most_held)
            except SlotsHeld:  # a lossy consumer may hold only so many
                if not self._held:
                    raise
                self._give_back(0)
            except RingEmpty:
                self._give_back(0)
                self._files.flush()
                if self._is_replaced():
                    return "ring replaced"
            except (RingClosed, ProducerDied) as error:
                ended, self._failure = ended_by(error)
                return ended
            self._show_progress()

    def _write(self, batch: Batch) -> None:
        # What was there before the ring was taken over is recorded already.
        new = self._joined.new(batch)
        if new.start == new.stop:
            return
        with self._ring._uncut():
            self._files.write(batch.array[new], self._index.make(batch, new))
        self._taken += new.stop - new.start

    def _give_back(self, most: int) -> None:
        """Release the batches that are written, and all but so many frames of the others."""
        try:
            with self._ring._uncut():
                needed = self._files.wait(most)
        except RingCorrupt:  # its file was cut: there is nothing left to write
            self._release_all_but(0)
            raise
        self._release_all_but(needed)

    def _release_all_but(self, needed: int) -> None:
        held = sum(len(batch.seqs) for batch in self._held)
        while self._held and held - len(self._held[0].seqs) >= needed:
            batch = self._held.popleft()
            held -= len(batch.seqs)
            batch.release()

    def _show_progress(self) -> None:
        if self._progress is not None and time.monotonic() - self._shown_at >= SLICE:
            self._shown_at = time.monotonic()
            self._progress(self)

    def _is_replaced(self) -> bool:
        """Whether this ring can have no other producer: it is gone, and its name is another ring's."""
        if time.monotonic() - self._identified_at < IDENTITY_EVERY:
            return False
        self._identified_at = time.monotonic()
        return (
            os.path.exists(_names.path_of(self._ring.name))
            and not self._ring._has_name()
            and self._ring.stats().producer.state != "live"
        )

    def _leave(self) -> None:
        self._joined.leave()
        if self._rings is not None and not self._ring.closed:
            self._rings.pass_by(self._ring)
        if self._attached:
            self._ring.close()

    def _end_part(self, ended: Ended) -> WriteRefused | None:
        """Leave the ring and close its file; what went wrong with that."""
        if not self._is_open:
            return None
        try:
            if self._joined.consumer is not None:
                self._index.lost = max(self._index.lost, self._joined.consumer.lost)
            self._leave()
        finally:
            self._is_open = False
            self._earlier_lost += self._index.lost
            failure = None
            try:
                self._files.close(ended, self._index.lost)
            except WriteRefused as error:
                failure = error
            finally:
                while self._held:  # a wait for them was interrupted: their slots are not needed any more
                    self._held.pop().release()
                self._earlier_frames += self._files.frames
                self._earlier_nbytes += self._files.frames * self._ring.frame_nbytes
        return failure

    def _sum_up(self, ended: Ended) -> None:
        self.summary = Summary(
            paths=tuple(self._files.paths),
            frames=self._earlier_frames,
            nbytes=self._earlier_nbytes,
            lost=self._earlier_lost,
            seconds=self.seconds,
            ended=ended,
            failure=self._failure if ended == "producer failed" else "",
        )


def _check_limits(**limits: float | None) -> None:
    for name, limit in limits.items():
        if limit is not None:
            check_above_zero(name, limit)


def record(
    ring: Ring | str,
    path: str | os.PathLike[str],
    *,
    frames: int | None = None,
    seconds: float | None = None,
    nbytes: int | None = None,
    roll: Roll | None = None,
    mode: Mode = "x",
    codec: Codec | None = None,
    lossless: bool = True,
    start: Start = "oldest",
    wait_for_takeover: bool = False,
    follow: bool = False,
    timeout: float | None = 0,
    sync: float | None = None,
    progress: Callable[[Recorder], object] | None = None,
) -> Summary:
    """Record a ring into a file, until a limit or the end of the stream.

    Parameters
    ----------
    ring, path, frames, seconds, nbytes, roll, mode, codec, lossless, start
        As those of `Recorder`.
    wait_for_takeover, follow, timeout, sync
        Likewise.
    progress : callable, optional
        Likewise.

    Returns
    -------
    Summary

    Raises
    ------
    RecordingFailed, RingNotFound, KeyboardInterrupt
        As ``Recorder.run``.
    FileExistsError, RingIncompatible, TooManyConsumers, OSError, ValueError
        As `Recorder`.
    """
    recorder = Recorder(
        ring,
        path,
        frames=frames,
        seconds=seconds,
        nbytes=nbytes,
        roll=roll,
        mode=mode,
        codec=codec,
        lossless=lossless,
        start=start,
        wait_for_takeover=wait_for_takeover,
        follow=follow,
        timeout=timeout,
        sync=sync,
        progress=progress,
    )
    return recorder.run()
