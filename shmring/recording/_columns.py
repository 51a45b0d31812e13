"""Zarr and HDF5 alike: a dataset of frames and one for each column of the index, all growing."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shmring.recording._description import Description
from shmring.recording._errors import RecordingCorrupt
from shmring.recording._stored import Stored

CHUNK = 4 << 20  # bytes of frames in a chunk
INDEX_CHUNK = 4096  # rows
FLUSH_EVERY = 1.0  # seconds; a chunk that is not full is written again later
NOT_WRITTEN = 2**64 - 1  # the fill value of seq: a row that was made room for, and no more
SPARE = 1 << 20  # bytes that must stay free: what the libraries write besides, at the end too

Create = Callable[[str, tuple[int, ...], tuple[int, ...], np.dtype[Any], int], Any]


class ColumnWriter:
    """Collects frames to whole chunks and writes them.

    The column `seq` is the last to be written, so a row with a seq is whole.
    """

    def __init__(
        self, path: Path, description: Description, datasets: dict[str, Any], flush: Callable[[str], None]
    ) -> None:
        self.path, self.description = path, description
        self._datasets, self._flush_dataset = datasets, flush
        self._stored = written_rows(datasets["seq"])  # in the file, those of a part of a chunk included
        for dataset in datasets.values():
            dataset.resize((self._stored, *dataset.shape[1:]))
        self._chunk = chunk_frames(description)
        self._array = np.zeros((self._chunk, *description.shape), description.dtype)
        self._index = np.zeros(self._chunk, description.index_dtype)
        self._first = self._stored  # row of the first frame that is being collected
        self._count = 0
        self._flushed_at = time.monotonic()

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
            if count == self._chunk and not self.description.variable_rows:
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
        self._array[into], self._index[into] = array, index
        if self.description.variable_rows:
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
        """Write frames from row `_first` on; the seqs last."""
        self._check_space(array.nbytes + index.nbytes)
        rows = slice(self._first, self._first + len(array))
        columns = [("frames", array), *((column_name(name), index[name]) for name in index.dtype.names or ())]
        for name, values in sorted(columns, key=lambda column: column[0] == "seq"):
            dataset = self._datasets[name]
            if dataset.shape[0] < rows.stop:
                dataset.resize((rows.stop, *dataset.shape[1:]))
            dataset[rows] = as_stored(values, dataset)
            self._flush_dataset(name)
        self._stored = rows.stop

    def _check_space(self, needed: int) -> None:
        """Stop before the disk is full: these libraries cannot undo half a write."""
        if shutil.disk_usage(self.path).free < needed + SPARE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))


def chunk_frames(description: Description) -> int:
    """Frames in a chunk."""
    return max(1, CHUNK // description.frame_nbytes)


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
        ("frames", description.dtype, description.shape, chunk_frames(description))
    ]
    for name in description.index_dtype.names or ():
        dtype = description.index_dtype[name]
        columns.append((column_name(name), dtype, (), INDEX_CHUNK))
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
        return values
    if dataset.ndim == values.ndim:
        return values.astype(dataset.dtype)
    return np.ascontiguousarray(values)[..., np.newaxis].view("u1")


def as_recorded(values: Any, dtype: np.dtype[Any], raw: bool) -> npt.NDArray[Any]:
    """Return the values in the form that they were recorded in."""
    array = np.asarray(values)
    if raw:
        return np.ascontiguousarray(array).view(dtype)[..., 0]
    return array.astype(dtype, copy=False)


def written_rows(seqs: Any) -> int:
    """Rows up to the last one that has a seq."""
    end = int(seqs.shape[0])
    while end > 0:
        begin = max(0, end - INDEX_CHUNK)
        written = np.flatnonzero(np.asarray(seqs[begin:end]) != NOT_WRITTEN)
        if len(written):
            return begin + int(written[-1]) + 1
        end = begin
    return 0


class LazyFrames:
    """Reads frames from a dataset when it is indexed, as the dtype that they were recorded with."""

    def __init__(self, path: Path, dataset: Any, description: Description, count: int) -> None:
        self._path = path
        self._dataset = dataset
        self._raw = dataset.ndim > 1 + len(description.shape)
        self.dtype = description.dtype
        self.shape = (count, *description.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Any:
        key = key if isinstance(key, tuple) else (key,)
        if len(key) > len(self.shape):
            raise IndexError(f"{len(key)} indices for an array of {len(self.shape)} axes")
        first, *others = key
        # Both relative to the frames that count: behind them the dataset may have room for more.
        first = slice(*first.indices(len(self))) if isinstance(first, slice) else range(len(self))[first]
        return as_recorded(self._read((first, *others)), self.dtype, self._raw)[()]

    def _read(self, key: tuple[Any, ...]) -> Any:
        try:
            return self._dataset[key]
        except (OSError, RuntimeError, ValueError) as error:
            if hasattr(self._dataset, "id") and not self._dataset.id.valid:
                raise ValueError(f"the recording {self._path} was closed") from None
            raise RecordingCorrupt(f"frames of {self._path} are damaged: {error}") from None

    def __array__(self, dtype: Any = None, *, copy: bool | None = None) -> npt.NDArray[Any]:
        if copy is False:
            raise ValueError("these frames are in a file: an array of them is a copy")
        return np.asarray(self[:], dtype)


def read_columns(path: Path, description: Description, datasets: Any, close: Callable[[], None]) -> Stored:
    """Read what a ColumnWriter wrote, as far as it got."""
    count = written_rows(datasets["seq"])
    index = np.zeros(count, description.index_dtype)
    for name in index.dtype.names or ():
        dataset, dtype = datasets[column_name(name)], index.dtype[name]
        index[name] = as_recorded(dataset[:count], dtype, raw=dataset.ndim > 1)
    return Stored(description, LazyFrames(path, datasets["frames"], description, count), index, close)
