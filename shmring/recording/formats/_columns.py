"""Zarr and HDF5 alike: a dataset of frames and one for each column of the index, all growing."""

from __future__ import annotations

import errno
import math
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shmring import _words
from shmring.recording._errors import RecordingCorrupt
from shmring.recording.formats import _codec
from shmring.recording.formats._codec import ChunkStore, CompressedFrames
from shmring.recording.formats._description import Description
from shmring.recording.formats._frames import Folder, LazyFrames, as_items, as_recorded, as_stored
from shmring.recording.formats._interface import Stored

CHUNK = 4 << 20  # bytes of frames and their metas in a chunk
INDEX_CHUNK = 4096  # rows; fewer where metas are large
FLUSH_EVERY = 1.0  # seconds; a chunk that is not full is written again later
NOT_WRITTEN = 2**64 - 1  # the fill value of seq: a row that has room but no frame
INDEX_EVERY = 0.5  # seconds: compressed chunks come often, and small, and each column is a write of its own
SPARE = 1 << 20  # bytes that must stay free: what the libraries write besides, at the end too

Create = Callable[[str, tuple[int, ...], tuple[int, ...], np.dtype[Any], int], Any]


class ColumnWriter:
    """Collects frames to whole chunks and writes them.

    The column `seq` is the last to be written, and in order, so the rows up to the first one without a seq
    are whole.
    """

    def __init__(
        self,
        path: Path,
        description: Description,
        datasets: dict[str, Any],
        flush: Callable[[str], None],
        store: Callable[[Any], ChunkStore],
    ) -> None:
        self.path, self.description = path, description
        self._datasets, self._flush_dataset = open_columns(path, datasets, description), flush
        seqs = read_seqs(self._datasets)
        self._stored = written_rows(seqs)  # in the file, those of a part of a chunk included
        if behind := int(np.count_nonzero(seqs[self._stored :] != NOT_WRITTEN)):
            raise RecordingCorrupt(
                f"{path} is damaged: row {self._stored} has no seq, unlike {_words.count(behind, 'row')} "
                f"behind it, which would be lost. Leave it as it is, open_recording reads the rows before; "
                f"record to another file"
            )
        self.forget_unfinished()
        self._flushed_at = self._indexed_at = time.monotonic()
        self._compressed: CompressedFrames | None = None
        self._waiting: list[npt.NDArray[Any]] = []  # index rows of frames that are being compressed
        if description.codec is not None:
            frames = self._datasets["frames"]
            self._compressed = CompressedFrames(description.frame_format, frames, store(frames), self._stored)
            return
        self._chunk = chunk_frames(description)
        self._array = np.zeros((self._chunk, *description.frame_format.shape), description.frame_format.dtype)
        self._index = np.zeros(self._chunk, description.index_dtype)
        self._first = self._stored  # row of the first frame that is being collected
        self._count = 0

    def forget_unfinished(self) -> None:
        """Cut the rows that were made room for, but are not whole."""
        for name, dataset in self._datasets.items():
            if name != "seq":
                _resize(dataset, self._stored)
        # A cut leaves the old values in the file's last chunk, where they come back as soon as it grows: so
        # they are written over first. Until it has its length, readers stop at the shortest column.
        seqs = self._datasets["seq"]
        room = -(-self._stored // seqs.chunks[0]) * seqs.chunks[0]
        _resize(seqs, room)
        seqs[self._stored : room] = NOT_WRITTEN
        _resize(seqs, self._stored)

    @property
    def frames(self) -> int:
        """Whole frames in the file."""
        return self._stored

    def write(self, array: npt.NDArray[Any], index: npt.NDArray[Any]) -> None:
        """Append frames."""
        if self._compressed is None:
            self._write_raw(array, index)
        else:
            self._write_compressed(self._compressed, array, index)
        if time.monotonic() - self._flushed_at >= FLUSH_EVERY:
            self.flush()

    def _write_raw(self, array: npt.NDArray[Any], index: npt.NDArray[Any]) -> None:
        done = 0
        while done < len(array):
            # Up to the end of a chunk of the file, which need not begin where this collection does.
            room = self._chunk - self._first % self._chunk - self._count
            some = slice(done, done + min(room, len(array) - done))
            count = some.stop - some.start
            if count == self._chunk and not self.description.frame_format.variable_rows:
                self._store(array[some], index[some])
                self._first = self._stored
            else:
                self._collect(array[some], index[some])
                if count == room:
                    self._store_collected()
                    self._first, self._count = self._stored, 0
            done += count

    def _write_compressed(
        self, frames: CompressedFrames, array: npt.NDArray[Any], index: npt.NDArray[Any]
    ) -> None:
        lengths = index["rows"] if self.description.frame_format.variable_rows else None
        self._waiting.append(index)
        self._check_space(array.nbytes + _codec.CHUNK)  # more than they take, in the end
        frames.begin(array, lengths)
        self._store_compressed(frames)

    def wait(self, most: int) -> int:
        """Wait until at most so many of the frames that were given must stay as they are; how many."""
        return 0 if self._compressed is None else self._compressed.wait(most)

    def _collect(self, array: npt.NDArray[Any], index: npt.NDArray[Any]) -> None:
        into = slice(self._count, self._count + len(array))
        as_items(self._array)[into], as_items(self._index)[into] = as_items(array), as_items(index)
        if self.description.frame_format.variable_rows:
            for frame, rows in zip(self._array[into], index["rows"].tolist(), strict=True):
                frame[rows:] = np.zeros((), frame.dtype)
        self._count += len(array)

    def flush(self, *, last: bool = False) -> None:
        """Write the part of a chunk that is there; of a compressed one, once a second."""
        if self._compressed is None:
            if self._first + self._count > self._stored:
                self._store_collected()
        elif last or time.monotonic() - self._flushed_at >= FLUSH_EVERY:
            self._store_compressed(self._compressed, part=True, last=last)
        else:
            self._store_compressed(self._compressed, at_once=True)
            return
        self._flushed_at = time.monotonic()

    def _store_compressed(
        self, frames: CompressedFrames, *, at_once: bool = False, part: bool = False, last: bool = False
    ) -> None:
        """Write index rows of what is written, from time to time; and, if asked for, what is not full yet."""
        if part:
            frames.finish()
        rows = frames.written()
        if part and frames.rows > self._stored:
            self._check_space(_codec.CHUNK)
            frames.write_part(last=last)
            rows = frames.rows
        now = time.monotonic()
        if rows > self._stored and (part or at_once or now - self._indexed_at >= INDEX_EVERY):
            index = [dataset for name, dataset in self._datasets.items() if name != "frames"]
            new = slice(self._stored, rows)
            self._check_space(sum(_chunk_bytes(dataset, new) for dataset in index))
            self._store_waiting(frames, new)
            self._indexed_at = now

    def keep_written(self) -> None:
        """After an error, write the index rows of compressed frames that are whole: space was kept."""
        if self._compressed is not None:
            rows = self._compressed.written_before_error()
            if rows > self._stored:
                self._store_waiting(self._compressed, slice(self._stored, rows))

    def _store_waiting(self, frames: CompressedFrames, rows: slice) -> None:
        """Write index rows of frames that have been written."""
        frames.flush(rows.stop)
        # As bytes: numpy would turn byte orders, and leave out what is between fields.
        waiting = np.concatenate([as_items(one) for one in self._waiting]).view(self.description.index_dtype)
        count = rows.stop - rows.start
        self._make_room(rows.stop)
        self._store_index(rows, waiting[:count])
        self._waiting = [waiting[count:]]

    def _store_collected(self) -> None:
        self._store(self._array[: self._count], self._index[: self._count])

    def _store(self, array: npt.NDArray[Any], index: npt.NDArray[Any]) -> None:
        """Write frames, starting at row `_first`; the seqs last."""
        rows = slice(self._first, self._first + len(array))
        self._check_space(sum(_chunk_bytes(dataset, rows) for dataset in self._datasets.values()))
        self._make_room(rows.stop)
        self._store_column("frames", rows, array)
        self._store_index(rows, index)

    def _make_room(self, rows: int) -> None:
        for dataset in self._datasets.values():
            _resize(dataset, max(rows, dataset.shape[0]))

    def _store_index(self, rows: slice, index: npt.NDArray[Any]) -> None:
        """Write index rows, whose frames are written already; the seqs last."""
        for name in index.dtype.names or ():
            if name != "seq":
                self._store_column(column_name(name), rows, index[name])
        self._store_seqs(rows, index["seq"])
        self._stored = rows.stop

    def _store_column(self, name: str, rows: slice, values: npt.NDArray[Any]) -> None:
        dataset = self._datasets[name]
        dataset[rows] = as_stored(values, dataset)
        self._flush_dataset(name)

    def _store_seqs(self, rows: slice, seqs: npt.NDArray[Any]) -> None:
        """Write them chunk by chunk: the libraries promise no order within one write."""
        dataset = self._datasets["seq"]
        first = rows.start
        while first < rows.stop:
            end = min(rows.stop, first - first % dataset.chunks[0] + dataset.chunks[0])
            dataset[first:end] = seqs[first - rows.start : end - rows.start]
            self._flush_dataset("seq")
            first = end

    def end_threads(self) -> None:
        """End those that compress, if there are any."""
        if self._compressed is not None:
            self._compressed.close()

    def _check_space(self, needed: int) -> None:
        """Stop before the disk is full: these libraries cannot undo half a write."""
        if shutil.disk_usage(self.path).free < needed + SPARE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))


def _resize(dataset: Any, rows: int) -> None:
    if dataset.shape[0] != rows:
        dataset.resize((rows, *dataset.shape[1:]))


def _chunk_bytes(dataset: Any, rows: slice) -> int:
    """Count the bytes of the chunks that hold these rows: each is written as a whole."""
    chunks = (rows.stop - 1) // dataset.chunks[0] - rows.start // dataset.chunks[0] + 1
    return int(chunks * math.prod(dataset.chunks) * dataset.dtype.itemsize)


def chunk_frames(description: Description) -> int:
    """Frames in a chunk: as many are collected in memory, with their metas."""
    frames = description.frame_format
    if description.codec is not None:
        return _codec.chunk_frames(frames.frame_bytes)
    return max(1, CHUNK // (frames.frame_bytes + frames.meta_bytes))


def column_name(field: str) -> str:
    """As the attributes of a Recording are called."""
    return {"seq": "seq", "timestamp_ns": "timestamp_ns", "lost": "lost_before"}.get(field, field)


def create_datasets(description: Description, create: Create) -> dict[str, Any]:
    """Make the dataset of frames and those of the index.

    `create` gets name, shape of one row, chunk of rows, dtype and fill value, and raises a TypeError or a
    ValueError for a dtype that the format does not know. Those are stored as bytes along a last axis.
    """
    datasets = {}
    columns: list[tuple[str, np.dtype[Any], tuple[int, ...], int]] = [
        ("frames", description.frame_format.dtype, description.frame_format.shape, chunk_frames(description))
    ]
    for name in description.index_dtype.names or ():
        dtype = description.index_dtype[name]
        columns.append((column_name(name), dtype, (), max(1, min(INDEX_CHUNK, CHUNK // dtype.itemsize))))
    for name, dtype, shape, chunk in columns:
        fill = NOT_WRITTEN if name == "seq" else 0
        for stored in (dtype, dtype.newbyteorder("=")):
            if (found := _try_create(create, name, shape, chunk, stored, fill)) is not None:
                datasets[name] = found
                break
        else:
            inner = (*shape, dtype.itemsize)
            datasets[name] = create(name, inner, (chunk, *inner), np.dtype("u1"), 0)
    return datasets


def _try_create(
    create: Create, name: str, shape: tuple[int, ...], chunk: int, dtype: np.dtype[Any], fill: int
) -> Any:
    try:
        return create(name, shape, (chunk, *shape), dtype, fill)
    except (TypeError, ValueError):
        return None


def open_columns(path: Path, datasets: Any, description: Description) -> dict[str, Any]:
    """Open the frames and the columns of the index; `seq` first, so that the others are at least as long."""
    names = [column_name(name) for name in description.index_dtype.names or ()]
    try:
        return {name: datasets[name] for name in (*names, "frames")}
    except KeyError as error:
        raise RecordingCorrupt(f"{path} is damaged: a part of it is missing: {error}") from None


def read_seqs(datasets: dict[str, Any]) -> npt.NDArray[np.uint64]:
    """Read the seqs, as far as every column goes."""
    return np.asarray(datasets["seq"][: min(dataset.shape[0] for dataset in datasets.values())])


def written_rows(seqs: npt.ArrayLike) -> int:
    """Count the rows up to the first one without a seq."""
    missing = np.asarray(seqs) == NOT_WRITTEN
    return int(missing.argmax()) if missing.any() else len(missing)


def read_columns(
    path: Path,
    description: Description,
    datasets: Any,
    close: Callable[[], None],
    folder: Folder | None = None,
) -> Stored:
    """Read what a ColumnWriter wrote, as far as it got; `folder` is that of a recording that is one."""
    columns = open_columns(path, datasets, description)
    count = written_rows(read_seqs(columns))
    index = np.zeros(count, description.index_dtype)
    for name in index.dtype.names or ():
        dataset, dtype = columns[column_name(name)], index.dtype[name]
        values = as_recorded(dataset[:count], dtype, raw=dataset.ndim > 1)
        as_items(index[name])[...] = as_items(values)
    if folder is not None:
        folder.check()
    form = description.frame_format
    frames = LazyFrames(path, columns["frames"], form.dtype, (count, *form.shape), folder)

    def close_all() -> None:
        frames.close()
        close()
        if folder is not None:
            folder.close()

    return Stored(description, frames, index, close_all)
