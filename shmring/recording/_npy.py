"""Recordings in .npy files: FILE.npy, and beside it FILE.index.npy and FILE.json."""

from __future__ import annotations

import os
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shmring.recording._description import Description, parse
from shmring.recording._errors import RecordingCorrupt
from shmring.recording._growing import GrowingNpy, header_rows, read_rows, write_all
from shmring.recording._stored import Stored

HEADER_EVERY = 0.1  # seconds between two updates of the headers
WRITE_BACK = 8 << 20  # bytes after which, with `sync`, the kernel is asked to begin with the disk
JSON_ROOM = 4096  # the totals are written in place, so that a full disk has room for them


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
        if not append:
            write_json(json, description, create=True)
        try:
            self._data = GrowingNpy(data, description.dtype, description.shape, append=append)
            try:
                self._index = GrowingNpy(index, description.index_dtype, (), append=append)
            except BaseException:
                self._data.close()
                if not append:
                    data.unlink()
                raise
        except BaseException:
            if not append:
                json.unlink()
            raise
        self._json = json
        self._written_back = self._data.rows
        if append:
            self._keep_pairs()
            write_json(json, description, create=False)

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
            self._data.append(array, index["rows"] if self.description.variable_rows else None)
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
        if (self._data.rows - self._written_back) * self.description.frame_nbytes >= WRITE_BACK:
            self._data.write_back(self._written_back, self._data.rows)
            self._written_back = self._data.rows

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
            write_json(self._json, self.description.finished(ended, self.frames, lost), create=False)
            if self._syncer is not None:
                self._data.sync()
                self._index.sync()
        finally:
            self._data.close()
            self._index.close()


def files(path: Path) -> tuple[Path, Path, Path]:
    """Frames, index and description of a recording."""
    return path, path.with_suffix(".index.npy"), path.with_suffix(".json")


def write_json(path: Path, description: Description, *, create: bool) -> None:
    """Write the description in place, with room for what will be added."""
    text = description.to_json().encode()
    room = (len(text) // JSON_ROOM + 1) * JSON_ROOM if create else os.stat(path).st_size
    flags = os.O_WRONLY | os.O_CLOEXEC | (os.O_CREAT | os.O_EXCL if create else 0)
    fd = os.open(path, flags, 0o666)
    try:
        write_all(fd, text.ljust(room - 1) + b"\n", 0)
    except BaseException:
        if create:
            os.unlink(path)
        raise
    finally:
        os.close(fd)


def read(path: Path) -> Stored:
    """Open a recording for reading, as far as it got."""
    data, index, json = files(path)
    description = read_description(path)
    try:
        frames, rows = read_rows(data, "frames"), read_rows(index, "index")
    except (ValueError, FileNotFoundError) as error:
        raise RecordingCorrupt(f"{path}: {error}") from None
    kinds = (frames.dtype, frames.shape[1:]) == (description.dtype, description.shape)
    if not kinds or rows.dtype != description.index_dtype:
        raise RecordingCorrupt(f"{path}, {index.name} and {json.name} do not belong together")
    count = min(len(frames), len(rows))
    return Stored(description, frames[:count], np.array(rows[:count]), lambda: None)


def read_description(path: Path) -> Description:
    """Read the description beside the frames."""
    json = files(path)[2]
    try:
        return parse(json.read_bytes(), str(json))
    except FileNotFoundError:
        raise RecordingCorrupt(
            f"{path} is no recording of shmring: there is no {json.name} beside it"
        ) from None


def repair(path: str | os.PathLike[str]) -> int:
    """Let the headers of a .npy recording say what is there, after its recorder was killed.

    Only for programs that read the files themselves: `open_recording` needs no repair. Do not repair a
    recording that is still going on.

    Parameters
    ----------
    path : path-like
        A ``.npy`` file that a recorder made.

    Returns
    -------
    int
        Frames that the headers did not count before.

    Raises
    ------
    RecordingCorrupt
        It is no recording, or parts of it are missing.
    """
    path = Path(path)
    description = read(path).description
    data, index, _ = files(path)
    before = min(header_rows(data), header_rows(index))
    writer = NpyWriter(path, description, append=True, sync=None)
    writer.close(description.ended or "killed", description.lost or 0)
    return writer.frames - before
