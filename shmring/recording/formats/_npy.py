"""Recordings in .npy files: FILE.npy, and beside it FILE.index.npy and FILE.json."""

from __future__ import annotations

import contextlib
import os
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shmring.recording._errors import RecordingCorrupt
from shmring.recording._lock import is_being_written
from shmring.recording._replacing import holds_nothing
from shmring.recording.formats._description import Description, parse
from shmring.recording.formats._growing import (
    GrowingNpy,
    can_grow,
    counted_rows,
    open_file,
    read_rows,
    write_all,
)
from shmring.recording.formats._interface import Stored

HEADER_EVERY = 0.1  # seconds between two updates of the headers
WRITE_BACK = 8 << 20  # bytes after which, with `sync`, the kernel is asked to begin with the disk
JSON_ROOM = 4096  # bytes; what is left behind the text is for the totals, when the disk is full
TOTALS = 128  # bytes that these take at most


class NpyWriter:
    """Writes frames straight from the memory they are in.

    With `sync`, a header says only what was on the disk before it: so a power failure, too, leaves a file
    whose rows are all there.
    """

    def __init__(self, path: Path, description: Description, *, append: bool, sync: float | None) -> None:
        self.description = description
        data, index, json = files(path)
        self._syncer = None if sync is None else ThreadPoolExecutor(1, "shmring-sync")
        self._sync_every = sync or 0.0
        self._syncing: Future[int] | None = None
        self._committed_at = time.monotonic()
        self._json = json
        with contextlib.ExitStack() as undo:
            # The frames come first: of two recorders that begin at the same moment one fails at this file.
            frames = description.frame_format
            self._data = GrowingNpy(data, frames.dtype, frames.shape, append=append)
            undo.callback(self._give_up, self._data, delete=not append)
            if not append:
                index.unlink(missing_ok=True)  # of a recording that was deleted; see check_own
                json.unlink(missing_ok=True)
            self._index = GrowingNpy(index, description.index_dtype, (), append=append)
            undo.callback(self._give_up, self._index, delete=not append)
            if append:
                self._complete_index()
            write_json(json, description, sync=sync is not None)
            undo.pop_all()
        self._written_back = self._data.rows

    @staticmethod
    def _give_up(file: GrowingNpy, *, delete: bool) -> None:
        file.close()
        if delete:
            file.path.unlink()

    def _complete_index(self) -> None:
        """Give a row to each frame that has none, and forget rows whose frames are gone."""
        missing = self._data.rows - self._index.rows
        if missing > 0:
            known = read_rows(self._index.path, "index")
            self._index.append(guessed_rows(known, missing, self.description))
        else:
            self._index.truncate(self._data.rows)

    def _keep_pairs(self) -> None:
        """Forget frames without an index row, and index rows without a frame."""
        rows = min(self._data.rows, self._index.rows)
        self._data.truncate(rows)
        self._index.truncate(rows)

    @property
    def frames(self) -> int:
        """Whole frames in the file."""
        return self._index.rows

    def write(self, array: npt.NDArray[Any], index: npt.NDArray[Any]) -> None:
        """Append frames. After an OSError the file holds those that fitted."""
        try:
            self._data.append(array, index["rows"] if self.description.frame_format.variable_rows else None)
        except OSError:
            fitted = self._data.rows - self._index.rows
            self._index.append(index[:fitted])
            raise
        self._index.append(index)
        if self._syncer is not None:
            self._begin_write_back()
        if time.monotonic() - self._committed_at >= HEADER_EVERY:
            self.flush()

    def _begin_write_back(self) -> None:
        """Keep the disk busy between two syncs, so that the next one has little left to do."""
        if (self._data.rows - self._written_back) * self.description.frame_format.frame_bytes >= WRITE_BACK:
            self._data.write_back(self._written_back, self._data.rows)
            self._written_back = self._data.rows

    def wait(self, most: int) -> int:
        """Return that no frame is needed any more once it is written."""
        return 0

    def flush(self) -> None:
        """Let the headers say what is there (and, with `sync`, on the disk)."""
        if self._syncer is None:
            self._write_headers(self._index.rows)
            self._committed_at = time.monotonic()
            return
        if self._syncing is not None and self._syncing.done():
            self._write_headers(self._syncing.result())
            self._syncing = None
        if self._syncing is None and time.monotonic() - self._committed_at >= self._sync_every:
            self._syncing = self._syncer.submit(self._sync, self._index.rows)
            self._committed_at = time.monotonic()

    def _sync(self, rows: int) -> int:
        """In the other thread: a slow disk must not stop the reading of the ring."""
        self._data.sync()
        self._index.sync()
        return rows

    def _write_headers(self, rows: int) -> None:
        self._data.write_header(rows)
        self._index.write_header(rows)

    def close(self, ended: str, lost: int) -> None:
        """Write what is left to say, and close the files."""
        try:
            if self._syncer is not None:
                self._syncer.shutdown()
            self._keep_pairs()
            if self._syncer is not None:
                self._sync(self._index.rows)
            self._write_headers(self._index.rows)
            finished = self.description.finished(ended, self.frames, lost)
            write_json(self._json, finished, sync=self._syncer is not None)
            if self._syncer is not None:
                self._data.sync()
                self._index.sync()
        finally:
            self._data.close()
            self._index.close()


def files(path: Path) -> tuple[Path, Path, Path]:
    """Frames, index and description of a recording."""
    return path, path.with_suffix(".index.npy"), path.with_suffix(".json")


def write_json(path: Path, description: Description, *, sync: bool) -> None:
    """Write the description: a new file takes the place of the old one, so that one of them is always whole.

    Where that is refused, by a full disk above all, the old one has room for the totals.
    """
    text = description.to_json().encode()
    room = ((len(text) + TOTALS) // JSON_ROOM + 1) * JSON_ROOM
    try:
        _replace_file(path, text.ljust(room - 1) + b"\n", sync=sync)
    except OSError:
        room = path.stat().st_size if path.exists() else 0
        if room <= len(text):
            raise
        _write_file(path, text.ljust(room - 1) + b"\n", 0, sync=sync)
    if sync:
        _sync_folder(path.parent)


def _replace_file(path: Path, text: bytes, *, sync: bool) -> None:
    new = path.with_name(f".{path.name}.shmring")
    new.unlink(missing_ok=True)  # of a recorder that was killed
    try:
        _write_file(new, text, os.O_CREAT | os.O_EXCL, sync=sync)
        os.replace(new, path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def _write_file(path: Path, text: bytes, flags: int, *, sync: bool) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | flags, 0o666)
    try:
        write_all(fd, text, 0)
        if sync:
            os.fsync(fd)
    finally:
        os.close(fd)


def _sync_folder(path: Path) -> None:
    """Have the names of the files on the disk, too."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def read(path: Path, *, alone: bool | None = None) -> Stored:
    """Open a recording for reading, as far as it got.

    Frames without an index row get one that continues the count, unless a recorder may be about to write it:
    `alone` says that there is no recorder.
    """
    data, index, json = files(path)
    description = read_description(path)
    if alone is None:
        alone = not is_being_written(data)
    try:
        rows, frames = read_rows(index, "index"), read_rows(data, "frames")
    except (ValueError, FileNotFoundError) as error:
        raise RecordingCorrupt(f"{path}: {error}") from None
    _check_kinds(path, description, frames)
    if rows.dtype != description.index_dtype:
        raise RecordingCorrupt(f"{path}, {index.name} and {json.name} do not belong together")
    count = min(len(frames), len(rows))
    found = np.array(rows[:count])
    if alone and count < len(frames):
        found = np.concatenate([found, guessed_rows(found, len(frames) - count, description)])
        description = replace(description, unknown=(*description.unknown, (count, len(frames))))
    return Stored(description, frames[: len(found)], found, lambda: None)


def _check_kinds(path: Path, description: Description, frames: npt.NDArray[Any]) -> None:
    wanted = description.frame_format
    if (frames.dtype, frames.shape[1:]) != (wanted.dtype, wanted.shape):
        raise RecordingCorrupt(f"{path} and {files(path)[2].name} do not belong together")


def guessed_rows(known: npt.NDArray[Any], count: int, description: Description) -> npt.NDArray[Any]:
    """Make index rows for frames whose own were lost: seqs count on, the time stays as it was."""
    rows = np.zeros(count, description.index_dtype)
    rows["seq"] = np.arange(count)
    if len(known):
        rows["seq"] += known["seq"][-1] + np.uint64(1)
        rows["timestamp_ns"] = known["timestamp_ns"][-1]
    if description.frame_format.variable_rows:
        rows["rows"] = description.frame_format.shape[0]
    return rows


def read_description(path: Path) -> Description:
    """Read the description beside the frames."""
    json = files(path)[2]
    try:
        return _read_json(json)
    except FileNotFoundError:
        raise RecordingCorrupt(
            f"{path} is not a recording of shmring: there is no {json.name} beside it"
        ) from None


def _read_json(path: Path) -> Description:
    with open(path, "rb", opener=open_file) as file:
        return parse(file.read(), str(path))


def check_own(path: Path) -> None:
    """Refuse what was not made by a recorder, with RecordingCorrupt. Empty files may be replaced."""
    data, index, json = files(path)
    try:
        description = None if holds_nothing(json) else _read_json(json)
        rows = None if holds_nothing(index) else read_rows(index, "index")
        if rows is not None and (rows.dtype.names or ())[:3] != ("seq", "timestamp_ns", "lost"):
            raise RecordingCorrupt(f"{index} is not the index of a recording of shmring")
        if holds_nothing(data):
            return
        frames = read_rows(data, "frames")
        if not can_grow(data):
            raise RecordingCorrupt(f"{data} is not a recording of shmring: its header is another program's")
    except ValueError as error:
        raise RecordingCorrupt(str(error)) from None
    if description is not None:
        _check_kinds(path, description, frames)
    elif rows is None and len(frames):
        raise RecordingCorrupt(f"{data} is not a recording of shmring: there is no {json.name} beside it")


def repair(path: Path) -> int:
    """Complete the index and let both headers say what is there; how many frames they did not count.

    The caller holds the lock of the recording.
    """
    stored = read(path, alone=True)
    description, (data, index, _) = stored.description, files(path)
    before = min(counted_rows(data), counted_rows(index))
    writer = NpyWriter(path, description, append=True, sync=None)
    writer.close(description.ended or "killed", description.lost or 0)
    return max(0, writer.frames - before)
