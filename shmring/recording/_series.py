"""The file that is being written, or one after another with a Roll."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy.typing as npt

from shmring._core import check_word
from shmring._words import count
from shmring.recording import formats
from shmring.recording._errors import RecordingFailed, refusals, wording
from shmring.recording._lock import WriterLock, busy, is_being_written
from shmring.recording._replacing import bring_back, discard, put_aside, recover
from shmring.recording._roll import Roll, free_piece, is_own_piece, number_of, own_pieces, pieces, unfinished
from shmring.recording._summary import Summary
from shmring.recording.formats._description import Codec, Description
from shmring.recording.formats._interface import Writer

Mode = Literal["x", "w", "a"]


def existing_files(path: Path, *, several: bool, mode: Mode, appendable: bool = True) -> list[Path]:
    """Return the files that are there already; FileExistsError if there may be none, or not these."""
    check_word("mode", mode, ("x", "w", "a"))
    if several:
        existing = pieces(path)
    else:
        existing = [path] if os.path.lexists(path) else []
        if mode == "w" or not existing:
            formats.check_own(path)
    if existing and is_being_written(existing[-1]):
        raise busy(existing[-1])
    if existing and mode == "x":
        append = 'append to it (mode="a") or ' if appendable else "or "
        raise FileExistsError(f'{existing[0]} exists: choose another name, {append}replace it (mode="w")')
    return existing


class FileSeries:
    """Writes frames, each into the file where it belongs."""

    def __init__(
        self, path: Path, description: Description, roll: Roll | None, mode: Mode, sync: float | None
    ) -> None:
        if roll is not None:
            description = replace(description, piece_of=path.name)
        self._path, self._description, self._roll, self._sync = path, description, roll, sync
        self._lock: WriterLock | None = None
        self._writer: Writer | None = None
        self._closed_frames = 0  # in files that were closed
        self.paths: list[Path] = []
        for file in [path] if roll is None else unfinished(path):
            recover(formats.files(file))
        existing = existing_files(path, several=roll is not None, mode=mode)
        # At once, so that mistakes show at once.
        if existing and mode == "w":
            self._replace(existing if roll is None else own_pieces(path))
        elif roll is None:
            self._open(path, append=bool(existing))
        else:
            self.paths = existing
            if existing:
                self._lock = WriterLock(existing[-1])
            self._open_next()

    def _replace(self, old: list[Path]) -> None:
        """Begin where other files are, which are deleted only when the first new one is there."""
        first = self._path if self._roll is None else free_piece(self._path, 1, old)
        with contextlib.ExitStack() as stack:
            if old:
                stack.enter_context(WriterLock(old[-1]))
            if first in old:
                put_aside(formats.files(first))
            try:
                self._open(first)
            except BaseException:
                if first in old:
                    bring_back(formats.files(first))
                raise
            if first in old:
                discard(formats.files(first))
        for file in old:
            if file != first:
                formats.delete(file)

    def _open_next(self) -> Writer:
        """Begin the next piece."""
        number = number_of(self.paths[-1]) + 1 if self.paths else 1
        return self._open(free_piece(self._path, number))

    def _open(self, path: Path, *, append: bool = False) -> Writer:
        writer, lock = formats.open_writer(path, self._description, append=append, sync=self._sync)
        if self._lock is not None:
            self._lock.close()  # not before: so that no other recorder continues the series between two files
        self._lock = lock
        self._found_frames = writer.frames  # with append, those from before
        self._given_frames = 0
        self._opened_at = time.monotonic()
        self.paths.append(path)
        self._writer = writer
        while self._roll is not None and self._roll.keep is not None and len(self.paths) > self._roll.keep:
            oldest = self.paths.pop(0)
            if is_own_piece(oldest, self._path.name):
                formats.delete(oldest)
        return writer

    @property
    def codec(self) -> Codec | None:
        """What compresses the frames of the present file: its own, if it is appended to."""
        return None if self._writer is None else self._writer.description.codec

    @property
    def frames(self) -> int:
        """Whole frames in the files, since this recording began."""
        if self._writer is None:
            return self._closed_frames
        return self._closed_frames + self._writer.frames - self._found_frames

    def write(self, array: npt.NDArray[Any], index: npt.NDArray[Any]) -> None:
        """Append frames, in a new file where the Roll says so; WriteRefused if they do not fit.

        `wait` before they change.
        """
        with refusals():
            self._check_exists()
            done = 0
            while done < len(array):
                writer = self._writer or self._open_next()
                some = slice(done, min(len(array), done + self._room()))
                writer.write(array[some], index[some])
                self._given_frames += some.stop - some.start
                done = some.stop
                if self._roll is not None and (self._room() == 0 or self._is_old(self._roll)):
                    # What was lost between its frames is in the file: no total is needed.
                    self._close_file("rolled", 0)

    def _room(self) -> int:
        """Frames that still fit in the present file."""
        room = 1 << 62
        if self._roll is not None and self._roll.frames is not None:
            room = self._roll.frames
        if self._roll is not None and self._roll.nbytes is not None:
            room = min(room, max(1, self._roll.nbytes // self._description.frame_format.frame_bytes))
        return room - self._given_frames

    def _is_old(self, roll: Roll) -> bool:
        return roll.seconds is not None and time.monotonic() - self._opened_at >= roll.seconds

    def wait(self, most: int = 0) -> int:
        """Wait until at most so many of the frames that were given must stay as they are; how many."""
        return 0 if self._writer is None else self._writer.wait(most)

    def flush(self) -> None:
        """Let readers see what is there."""
        with refusals():
            self._check_exists()
            if self._writer is not None:
                self._writer.flush()

    def close(self, ended: str, lost: int) -> None:
        """Finish the present file, and let others write."""
        if self._lock is not None and self._lock.is_forgotten:
            return  # this is a forked child, and the files are the parent's
        try:
            with refusals():
                try:
                    if self._writer is not None:
                        self._close_file(ended, lost)
                finally:  # also because this explains most of what a library says then
                    if self._lock is not None:
                        self._lock.check_in_place()
        finally:
            if self._lock is not None:
                self._lock.close()
                self._lock = None

    def _close_file(self, ended: str, lost: int) -> None:
        assert self._writer is not None
        try:
            self._writer.close(ended, lost)
        finally:
            self._closed_frames = self.frames
            self._writer = None

    def _check_exists(self) -> None:
        if self._lock is not None:
            self._lock.check_exists()


def failed(failure: OSError, ring: str, summary: Summary) -> RecordingFailed:
    """Make the error that ends a recording."""
    why = "the disk is full" if failure.errno == errno.ENOSPC else failure.strerror or str(failure)
    return RecordingFailed(
        f"{why}: recording ring {ring!r} ended after {count(summary.frames, 'frame')} "
        f"({count(summary.nbytes, 'byte')}), {_readable(summary)}",
        summary,
    )


def _readable(summary: Summary) -> str:
    """Say what can be read, which is looked up: what failed may have damaged the file."""
    first, last = summary.paths[0], summary.paths[-1]
    if formats.is_ome(last):
        return f"in {last}"
    try:
        stored = formats.read(last)
        kept = len(stored.index)
        stored.close()
    except Exception as error:
        return f"but {last} cannot be read: {wording(error)}"
    if first != last:
        return f"readable in {first} to {last}"
    if kept < summary.frames:
        return f"{kept} of them readable in {last}"
    return f"readable in {last}"
