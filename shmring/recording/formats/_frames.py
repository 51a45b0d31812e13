"""Frames in a Zarr array or an HDF5 dataset, read when they are indexed, as numpy indexes an array."""

from __future__ import annotations

import math
import os
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shmring.recording._errors import RecordingCorrupt

ALL = slice(None)
TRIES = 3  # to read what may be written to at this moment, such as the index of a shard
PAUSE = 0.002  # seconds between two of them


class Folder:
    """A recording that is a folder. Once it is gone, Zarr reads zeros where its files were."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)  # no other folder gets its number
        self.close = weakref.finalize(self, os.close, self._fd)

    def check(self) -> None:
        """Raise unless it is there, as it was all the time."""
        try:
            is_there = os.path.samestat(os.fstat(self._fd), os.stat(self._path))
        except OSError:
            is_there = False
        if not is_there and self.close.alive:  # not closed by another thread
            raise RecordingCorrupt(
                f"{self._path} was deleted, moved or replaced while it was read. A rolling recording keeps "
                f"only its last pieces: read them before their turn comes, or let it keep more"
            )


class LazyFrames:
    """The frames of a recording, with the indices, shape and dtype of an ndarray.

    What an index selects is read chunk by chunk, so memory holds the result and one chunk. Only where a list,
    a mask or an array picks frames together with other axes are the picked frames read whole first. The last
    chunk stays in memory, so that frame after frame each chunk is read once.
    """

    def __init__(
        self, path: Path, dataset: Any, dtype: np.dtype[Any], shape: tuple[int, ...], folder: Folder | None
    ) -> None:
        self._path, self._dataset, self._folder = path, dataset, folder
        self._raw = dataset.ndim > len(shape)
        self._chunk = int(dataset.chunks[0])
        # One object, replaced as a whole: threads that read at the same time never see half of it.
        self._last: tuple[int, npt.NDArray[Any]] | None = None
        self.dtype, self.shape = dtype, shape

    @property
    def ndim(self) -> int:
        """Number of axes, that of the frames included."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of items."""
        return math.prod(self.shape)

    @property
    def itemsize(self) -> int:
        """Bytes of one item."""
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all frames."""
        return self.size * self.itemsize

    def __repr__(self) -> str:
        """Say what it is, without reading it."""
        return f"<frames of {self._path}, shape {self.shape}, dtype {self.dtype}>"

    def __len__(self) -> int:
        """Return the number of frames."""
        return self.shape[0]

    def __iter__(self) -> Iterator[Any]:
        """Read frame after frame."""
        return (self[number] for number in range(len(self)))

    def __array__(self, dtype: Any = None, *, copy: bool | None = None) -> npt.NDArray[Any]:
        """Read all frames."""
        if copy is False:
            raise ValueError("these frames are in a file: an array of them is a copy")
        return np.asarray(self[:], dtype)

    def __getitem__(self, key: Any) -> Any:
        """Read what the key selects; what it may be and what comes out is as for an ndarray."""
        self._open_dataset()  # says so if it was closed, whatever the key is
        names_fields = isinstance(key, str) or (isinstance(key, list) and key and isinstance(key[0], str))
        # Of an array of this shape without memory numpy says what is wrong with the key, and what comes out.
        like = np.broadcast_to(np.zeros((), self.dtype if names_fields else bool), self.shape)[key]
        if names_fields:
            return self._read_fields(np.zeros(like.shape, like.dtype), key)
        return self._as_dtype(self._select(key, like.shape))

    def _select(self, key: Any, shape: tuple[int, ...]) -> Any:
        indices, at = _split(key, self.ndim)
        first, others = indices[at], indices[:at] + indices[at + 1 :]
        if isinstance(first, slice) and all(_takes_all(other) for other in others) and at == 0:
            return self._read_slice(first)
        if isinstance(first, int) and not any(isinstance(other, np.ndarray) for other in others):
            chunk, number = divmod(first % len(self), self._chunk)
            return self._read_chunk(chunk)[_with(indices, at, number)].copy()
        if isinstance(first, slice):
            rows = np.arange(len(self))[first]
        elif isinstance(first, np.ndarray) and first.ndim == 1 and not any(map(_picks, others)):
            rows = first % max(1, len(self))
        else:
            return self._read_together(indices, at)
        axis = _axis_of_frames(_with(indices, at, ALL), self.shape)
        return self._fill(self._empty(shape), rows, axis, _with(indices, at, ALL))

    def _read_fields(self, out: npt.NDArray[Any], key: Any) -> npt.NDArray[Any]:
        """Read one field of all frames, or some of them."""
        for first in range(0, len(self), self._chunk):
            block = self._read_chunk(first // self._chunk)
            out[first : first + len(block)] = block.view(self.dtype)[key]
        return out

    def _read_slice(self, frames: slice) -> npt.NDArray[Any]:
        """Read whole frames, large selections in one go."""
        rows = range(len(self))[frames]
        if len(rows) <= self._chunk or abs(rows.step) > 1:
            return self._fill(self._empty((len(rows), *self.shape[1:])), np.array(rows, np.intp), 0, (ALL,))
        some = self._read(min(rows[0], rows[-1]), max(rows[0], rows[-1]) + 1)
        return some if rows.step > 0 else some[::-1]

    def _fill(
        self, out: npt.NDArray[Any], rows: npt.NDArray[np.intp], axis: int, key: Any
    ) -> npt.NDArray[Any]:
        """Fill `out`, whose frames are along `axis`, with what `key` selects of these frames."""
        if not len(rows):
            return out
        into = np.moveaxis(out, axis, 0)
        order = np.argsort(rows, kind="stable")
        chunks, starts = np.unique(rows[order] // self._chunk, return_index=True)
        for chunk, places in zip(chunks.tolist(), np.split(order, starts[1:]), strict=True):
            block = self._read_chunk(chunk)[rows[places] - chunk * self._chunk]
            into[places] = np.moveaxis(block[key], axis, 0)
        return out

    def _read_together(self, indices: tuple[Any, ...], at: int) -> Any:
        """Read the frames that an array (or an int beside arrays) picks, then let numpy index them."""
        rows, places = np.unique(np.asarray(indices[at]) % max(1, len(self)), return_inverse=True)
        block = self._empty((len(rows), *self.shape[1:]))
        self._fill(block, rows, 0, (ALL,))
        return block[_with(indices, at, places.reshape(np.shape(indices[at])))]

    def _read_chunk(self, number: int) -> npt.NDArray[Any]:
        last = self._last
        if last is None or last[0] != number:
            first = number * self._chunk
            last = self._last = number, self._read(first, min(first + self._chunk, len(self)))
        return last[1]

    def _read(self, first: int, end: int) -> npt.NDArray[Any]:
        tries = TRIES
        while True:
            dataset = self._open_dataset()  # another thread may have closed it
            try:
                read = as_items(as_recorded(dataset[first:end], self.dtype, self._raw))
                break
            except (OSError, RuntimeError, ValueError, KeyError) as error:
                tries -= 1
                if tries == 0:
                    raise RecordingCorrupt(
                        f"frames {first} to {end - 1} of {self._path} are damaged: {error}"
                    ) from None
            time.sleep(PAUSE)
        if self._folder is not None:
            self._folder.check()
        return read

    def _empty(self, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        return as_items(np.empty(shape, self.dtype))

    def _as_dtype(self, items: Any) -> Any:
        """Undo `as_items`; also for one item."""
        if not self.dtype.names:
            return items
        return (
            items.view(self.dtype) if isinstance(items, np.ndarray) else np.array(items).view(self.dtype)[()]
        )

    def _open_dataset(self) -> Any:
        if self._dataset is None:
            raise ValueError(f"the recording {self._path} was closed; open it again to read it")
        return self._dataset

    def close(self) -> None:
        """Stop reading."""
        self._dataset = self._last = None


def as_items(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """View structured items as bytes: numpy copies only fields, and leaves anything between them."""
    return array.view(f"V{array.itemsize}") if array.dtype.names else array


def as_recorded(values: Any, dtype: np.dtype[Any], raw: bool) -> npt.NDArray[Any]:
    """Return the values in the form that they were recorded in."""
    array = np.asarray(values)
    if raw:
        return np.ascontiguousarray(array).view(dtype)[..., 0]
    return array.astype(dtype, copy=False)


def as_stored(values: npt.NDArray[Any], dataset: Any) -> npt.NDArray[Any]:
    """Return the values in the form that the dataset has."""
    if values.dtype == dataset.dtype:
        # The libraries' own copies leave what lies between fields as their memory was.
        return np.ascontiguousarray(as_items(values)).view(values.dtype)
    if dataset.ndim == values.ndim:
        return values.astype(dataset.dtype)
    return np.ascontiguousarray(as_items(values))[..., np.newaxis].view("u1")


def _split(key: Any, ndim: int) -> tuple[tuple[Any, ...], int]:
    """Return the indices of a valid key, and which of them is for the first axis."""
    indices: list[Any] = []
    for index in key if isinstance(key, tuple) else (key,):
        indices += _as_arrays(index)
    free = ndim - sum(map(_axes, indices))
    for at, index in enumerate(indices):
        if index is Ellipsis and free > 0:
            return (*indices[:at], ALL, *indices[at:]), at
        if _axes(index):
            return tuple(indices), at
    return (*indices, ALL), len(indices)


def _as_arrays(index: Any) -> list[Any]:
    """Return an index as numpy understands it; a mask as the arrays that it is short for."""
    if index is None or index is Ellipsis or isinstance(index, slice):
        return [index]
    array = np.asarray(index)
    if array.dtype == bool:
        return list(array.nonzero()) if array.ndim else [array]
    if array.ndim == 0 and not isinstance(index, np.ndarray):
        return [int(array)]
    return [array.astype(np.intp)]  # an empty list is an array of floats, otherwise


def _axes(index: Any) -> int:
    """Count the axes that an index is for."""
    return int(not (index is None or index is Ellipsis or _is_truth(index)))


def _is_truth(index: Any) -> bool:
    return isinstance(index, np.ndarray) and index.dtype == bool


def _picks(index: Any) -> bool:
    """Whether numpy combines this index with an array beside it."""
    return isinstance(index, int | np.ndarray)


def _takes_all(index: Any) -> bool:
    return index is Ellipsis or (isinstance(index, slice) and index == ALL)


def _with(indices: tuple[Any, ...], at: int, index: Any) -> tuple[Any, ...]:
    return (*indices[:at], index, *indices[at + 1 :])


def _axis_of_frames(indices: tuple[Any, ...], shape: tuple[int, ...]) -> int:
    """Find where numpy puts the axis of frames: the one whose length changes with theirs."""
    none, one = (np.broadcast_to(np.False_, (count, *shape[1:]))[indices].shape for count in (0, 1))
    return next(axis for axis in range(len(one)) if none[axis] != one[axis])


def plain(value: Any) -> Any:
    """Return a value of a meta as JSON has it; as text, if it has no such thing."""
    item = value.item() if isinstance(value, np.generic) else value.tolist()
    return item if isinstance(item, int | float) and item - item == 0 else str(item)
