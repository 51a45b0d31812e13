"""The recorder: a consumer that writes what it takes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Literal

from shmring import (
    Batch,
    Consumer,
    ProducerDied,
    ProducerFailed,
    Ring,
    RingClosed,
    RingEmpty,
    RingNotFound,
    _shm,
)
from shmring.recording._description import describe
from shmring.recording._destination import check_destination, check_frames
from shmring.recording._failure import WriteRefused, failed
from shmring.recording._index import IndexMaker
from shmring.recording._roll import Roll
from shmring.recording._series import FileSeries, Mode
from shmring.recording._summary import Ended, Summary

__all__ = ["Recorder", "record"]

BATCH = 4 << 20  # bytes; a larger write costs no less per byte
STARTS = ("oldest", "newest", "next")
SLICE = 0.1  # seconds until a wait looks at the limits and at stop() again
IDENTITY_EVERY = 1.0  # seconds between two looks whether the ring still has its name


class Recorder:
    """Records a ring into a file. It joins the ring when it is made, and writes in `run`.

    Parameters
    ----------
    ring : Ring or str
        What to record. Of a name the ring is attached.
    path : path-like
        ``.npy``, ``.zarr``, ``.h5`` or ``.hdf5``: the suffix chooses the format.
    frames, seconds, nbytes : int, float, int, optional
        Stop after so much; `seconds` counts from the start of `run`.
    roll : Roll, optional
        Go on in a new file again and again: ``FILE-0001.npy``, ``FILE-0002.npy``, …
    mode : {"x", "w", "a"}
        A file that exists is an error, is overwritten, or appended to (with a Roll: its numbers go on).
    lossless : bool
        False: never hold the producer back; what a slow disk loses is counted.
    start : {"oldest", "newest", "next"}
        As in ``Ring.consumer``.
    wait_for_takeover : bool
        Go on with the next producer when this one dies.
    timeout : float, optional
        Seconds to wait for a ring of that name; None waits for ever.
    sync : float, optional
        For .npy: have everything on the disk every so many seconds, against power failures. Default: when
        the kernel likes.
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
        As they say.
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
        lossless: bool = True,
        start: Literal["oldest", "newest", "next"] = "oldest",
        wait_for_takeover: bool = False,
        timeout: float | None = 0,
        sync: float | None = None,
        progress: Callable[[Recorder], object] | None = None,
    ) -> None:
        for name, limit in (("frames", frames), ("seconds", seconds), ("nbytes", nbytes), ("sync", sync)):
            if limit is not None and not limit > 0:
                raise ValueError(f"{name} must be above 0, not {limit!r}")
        if start not in STARTS:
            raise ValueError(f'start must be "oldest", "newest" or "next", not {start!r}')
        file = check_destination(path, several=roll is not None, mode=mode, sync=sync)
        self._attached = not isinstance(ring, Ring)
        self._ring = ring if isinstance(ring, Ring) else Ring.attach(ring, timeout=timeout)
        self._consumer: Consumer | None = None
        try:
            description = describe(self._ring)
            check_frames(file, description)
            self._consumer = self._ring.consumer(
                lossless=lossless, start=start, wait_for_takeover=wait_for_takeover, label="shmring record"
            )
            self._files = FileSeries(file, description, roll, mode, sync)
        except BaseException:
            self._leave()
            raise
        self._index = IndexMaker(description.index_dtype)
        self._most = frames
        if nbytes is not None:
            fitting = max(1, nbytes // self._ring.frame_nbytes)
            self._most = fitting if frames is None else min(frames, fitting)
        self._seconds = seconds
        # Half of the slots at most: the producer goes on with the others while these are written.
        self._batch = max(1, min(BATCH // self._ring.frame_nbytes, self._ring.slots // 2))
        self._progress = progress
        self._stopped = False
        self._failure = ""  # of the producer
        self._taken = 0
        self._began_at = self._reported_at = self._identified_at = time.monotonic()
        self.summary = None

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
        return self._index.lost

    @property
    def lag(self) -> int:
        """Frames published but not yet recorded."""
        return self._consumer.lag if self._consumer is not None else 0

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
        KeyboardInterrupt
            After the file was finished.
        """
        if self._consumer is None:
            raise ValueError("this Recorder has ended; make another one")
        self._began_at = time.monotonic()
        ended: Ended = "interrupted"
        failure: WriteRefused | None = None
        try:
            ended = self._loop(self._consumer)
        except WriteRefused as error:
            failure, ended = error, "write failed"
        finally:
            try:
                self._index.lost = max(self._index.lost, self._consumer.lost)
                self._leave()
            finally:
                failure = self._finish(ended) or failure
        assert self.summary is not None
        if failure is not None:
            try:
                raise failed(failure, self._ring.name, self.summary) from failure
            finally:
                del failure  # a cycle: it knows this frame, which would keep the ring's memory
        if ended == "ring replaced":
            raise RingNotFound(
                f"ring {self._ring.name!r} has no producer any more, and another ring took its name; "
                f"{self.summary.frames} frames are in {self.path}. Record the new one into another file"
            )
        return self.summary

    def _loop(self, consumer: Consumer) -> Ended:
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
                with consumer.batch(most, timeout=wait) as batch:
                    self._write(batch)
            except RingEmpty:
                self._files.flush()
                if self._is_replaced():
                    return "ring replaced"
            except RingClosed:
                return "producer closed"
            except ProducerFailed as error:
                self._failure = error.failure
                return "producer failed"
            except ProducerDied:
                return "producer died"
            self._report()

    def _write(self, batch: Batch) -> None:
        with self._ring._uncut():
            self._files.write(batch.array, self._index.make(batch))
        self._taken += len(batch)

    def _report(self) -> None:
        if self._progress is not None and time.monotonic() - self._reported_at >= SLICE:
            self._reported_at = time.monotonic()
            self._progress(self)

    def _is_replaced(self) -> bool:
        """Whether nobody will ever produce into this ring: it is gone, and its name is another ring's."""
        if time.monotonic() - self._identified_at < IDENTITY_EVERY:
            return False
        self._identified_at = time.monotonic()
        return (
            os.path.exists(_shm.path_of(self._ring.name))
            and not _shm.same_file(self._ring._fd, self._ring.name)
            and self._ring.stats().producer.state != "live"
        )

    def _leave(self) -> None:
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None
        if self._attached:
            self._ring.close()

    def _finish(self, ended: Ended) -> WriteRefused | None:
        """Close the file and sum up; what went wrong with it."""
        failure = None
        try:
            self._files.close(ended, self._index.lost)
        except WriteRefused as error:
            failure = error
        frames = self._files.frames
        self.summary = Summary(
            paths=tuple(self._files.paths),
            frames=frames,
            nbytes=frames * self._ring.frame_nbytes,
            lost=self._index.lost,
            seconds=time.monotonic() - self._began_at,
            ended="write failed" if failure else ended,
            failure=self._failure,
        )
        return failure


def record(
    ring: Ring | str,
    path: str | os.PathLike[str],
    *,
    frames: int | None = None,
    seconds: float | None = None,
    nbytes: int | None = None,
    roll: Roll | None = None,
    mode: Mode = "x",
    lossless: bool = True,
    start: Literal["oldest", "newest", "next"] = "oldest",
    wait_for_takeover: bool = False,
    timeout: float | None = 0,
    sync: float | None = None,
    progress: Callable[[Recorder], object] | None = None,
) -> Summary:
    """Record a ring into a file, until a limit or the end of the stream.

    Parameters
    ----------
    ring, path, frames, seconds, nbytes, roll, mode, lossless, start, wait_for_takeover, timeout, sync
        As those of `Recorder`.
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
        lossless=lossless,
        start=start,
        wait_for_takeover=wait_for_takeover,
        timeout=timeout,
        sync=sync,
        progress=progress,
    )
    return recorder.run()
