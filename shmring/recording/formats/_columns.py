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
from shmring.recording.formats._description import Description
from shmring.recording.formats._frames import LazyFrames, as_items, as_recorded
from shmring.recording.formats._interface import Stored

CHUNK = 4 << 20  # bytes of frames and their metas in a chunk
INDEX_CHUNK = 4096  # rows; fewer where metas are large
FLUSH_EVERY = 1.0  # seconds; a chunk that is not full is written again later
NOT_WRITTEN = 2**64 - 1  # the fill value of seq: a row that has room but no frame
SPARE = 1 << 20  # bytes that must stay free: what the libraries write besides, at the end too

Create = Callable[[str, tuple[int, ...], tuple[int, ...], np.dtype[Any], int], Any]


class ColumnWriter:
    """Collects frames to whole chunks and writes them.

    The column `seq` is the last to be written, and in order, so the rows up to the first one without a seq
    are whole.
    """

    def __init__(
        self, path: Path, description: Description, datasets: dict[str, Any], flush: Callable[[str], None]
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
        self._chunk = chunk_frames(description)
        self._array = np.zeros((self._chunk, *description.frame_format.shape), description.frame_format.dtype)
        self._index = np.zeros(self._chunk, description.index_dtype)
        self._first = self._stored  # row of the first frame that is being collected
        self._count = 0
        self._flushed_at = time.monotonic()

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
        if time.monotonic() - self._flushed_at >= FLUSH_EVERY:
            self.flush()

    def _collect(self, array: npt.NDArray[Any], index: npt.NDArray[Any]) -> None:
        into = slice(self._count, self._count + len(array))
        as_items(self._array)[into], as_items(self._index)[into] = as_items(array), as_items(index)
        if self.description.frame_format.variable_rows:
            for frame, rows in zip(self._array[into], index["rows"].tolist(), strict=True):
                frame[rows:] = np.zeros((), frame.dtype)
        self._count += len(array)

    def flush(self) -> None:
        """Write the part of a chunk that is there."""
        if self._first + self._count > self._stored:
            self._store_collected()
        self._flushed_at = time.monotonic()

    def _store_collected(self) -> None:
        self._store(self._array[: self._count], self._index[: self._count])

    def _store(self, array: npt.NDArray[Any], index: npt.NDArray[Any]) -> None:
        """Write frames, starting at row `_first`; the seqs last."""
        rows = slice(self._first, self._first + len(array))
        columns = {"frames": array, **{column_name(name): index[name] for name in index.dtype.names or ()}}
        seqs = columns.pop("seq")
        self._check_space(sum(_chunk_bytes(dataset, rows) for dataset in self._datasets.values()))
        for dataset in self._datasets.values():
            _resize(dataset, max(rows.stop, dataset.shape[0]))
        for name, values in columns.items():
            dataset = self._datasets[name]
            dataset[rows] = as_stored(values, dataset)
            self._flush_dataset(name)
        self._store_seqs(rows, seqs)
        self._stored = rows.stop

    def _store_seqs(self, rows: slice, seqs: npt.NDArray[Any]) -> None:
        """Write them chunk by chunk: the libraries promise no order within one write."""
        dataset = self._datasets["seq"]
        first = rows.start
        while first < rows.stop:
            end = min(rows.stop, first - first % dataset.chunks[0] + dataset.chunks[0])
            dataset[first:end] = seqs[first - rows.start : end - rows.start]
            self._flush_dataset("seq")
            first = end

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


def as_stored(values: npt.NDArray[Any], dataset: Any) -> npt.NDArray[Any]:
    """Return the values in the form that the dataset has."""
    if values.dtype == dataset.dtype:
        # The libraries' own copies leave what lies between fields as their memory was.
        return np.ascontiguousarray(as_items(values)).view(values.dtype)
    if dataset.ndim == values.ndim:
        return values.astype(dataset.dtype)
    return np.ascontiguousarray(as_items(values))[..., np.newaxis].view("u1")


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


def read_columns(path: Path, description: Description, datasets: Any, close: Callable[[], None]) -> Stored:
    """Read what a ColumnWriter wrote, as far as it got."""
    columns = open_columns(path, datasets, description)
    count = written_rows(read_seqs(columns))
    index = np.zeros(count, description.index_dtype)
    for name in index.dtype.names or ():
        dataset, dtype = columns[column_name(name)], index.dtype[name]
        values = as_recorded(dataset[:count], dtype, raw=dataset.ndim > 1)
        as_items(index[name])[...] = as_items(values)
    frames = LazyFrames(
        path, columns["frames"], description.frame_format.dtype, (count, *description.frame_format.shape)
    )

    def close_all() -> None:
        frames.close()
        close()

    return Stored(description, frames, index, close_all)
