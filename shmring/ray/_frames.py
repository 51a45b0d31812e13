"""Frames on their way to another machine: columns in one piece of bytes, and the frames themselves."""

from __future__ import annotations

import itertools
import math
import struct
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from shmring import Batch
    from shmring._format import FrameFormat

__all__ = ["SMALL", "Bytes", "Columns", "Frames", "as_bytes", "pack", "unpack", "unpack_columns"]

COUNT = struct.Struct("<Q")
SMALL = 1 << 16  # bytes of a frame below which a copy costs less than a piece of its own
Bytes = np.ndarray[Any, np.dtype[np.uint8]]


class Columns(NamedTuple):
    """What belongs to consecutive frames of the source."""

    seqs: npt.NDArray[np.uint64]
    timestamps_ns: npt.NDArray[np.int64]
    rows: npt.NDArray[np.uint64] | None
    metas: npt.NDArray[Any] | None

    def runs(self, next_seq: int) -> Iterator[tuple[int, slice]]:
        """Iterate over what is new to a ring whose next seq is this: frames lost before, and frames."""
        first = int(np.searchsorted(self.seqs, next_seq))
        gaps = np.flatnonzero(np.diff(self.seqs[first:]) != 1) + first + 1
        edges = [first, *gaps.tolist(), len(self.seqs)]
        for begin, end in itertools.pairwise(edges):
            if begin < end:
                yield int(self.seqs[begin]) - next_seq, slice(begin, end)
                next_seq = int(self.seqs[end - 1]) + 1


class Frames(NamedTuple):
    """Consecutive frames of the source, as the other machine publishes them."""

    columns: Columns
    arrays: npt.NDArray[Any] | list[npt.NDArray[Any]]
    """One for each frame: an array whose first axis counts them, or a list where rows vary."""


def pack(batch: Batch) -> tuple[bytes, list[Bytes]]:
    """Return the columns of a batch, copied, and its frames: all in one piece, or a piece for each."""
    columns = [COUNT.pack(len(batch)), batch.seqs.tobytes(), batch.timestamps_ns.tobytes()]
    if batch.rows is not None:
        columns.append(batch.rows.tobytes())
    if batch.metas is not None:
        columns.append(batch.metas.tobytes())
    frames = batch.array
    small = frames[0].nbytes < SMALL
    if batch.rows is not None:
        pieces = [as_bytes(frame[:rows]) for frame, rows in zip(frames, batch.rows.tolist(), strict=True)]
        if small:
            pieces = [np.concatenate(pieces)]
    elif small or frames.flags.c_contiguous:
        pieces = [as_bytes(frames)]
    else:  # there are gaps between slots
        pieces = [as_bytes(frame) for frame in frames]
    return b"".join(columns), pieces


def unpack_columns(columns: Any, frame_format: FrameFormat) -> Columns:
    """Return the columns that `pack` put together; views of the bytes given."""
    (count,) = COUNT.unpack_from(columns)
    offset = COUNT.size

    def column(dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        nonlocal offset
        found = np.frombuffer(columns, dtype, count, offset)
        offset += found.nbytes
        return found

    seqs, times = column(np.dtype("u8")), column(np.dtype("i8"))
    rows = column(np.dtype("u8")) if frame_format.variable_rows else None
    metas = None if frame_format.meta_dtype is None else column(frame_format.meta_dtype)
    return Columns(seqs, times, rows, metas)


def unpack(columns: Any, payload: Sequence[Any], frame_format: FrameFormat) -> Frames:
    """Return the frames that `pack` took apart; views of the bytes given."""
    found = unpack_columns(columns, frame_format)
    count = len(found.seqs)
    if found.rows is None and len(payload) == 1:
        return Frames(found, as_array(payload[0], frame_format, (count, *frame_format.shape)))
    counts = [None] * count if found.rows is None else found.rows.tolist()
    shapes = [frame_format.shape if rows is None else (rows, *frame_format.shape[1:]) for rows in counts]
    pieces = payload if len(payload) == count else split(payload[0], shapes, frame_format.dtype.itemsize)
    both = zip(pieces, shapes, strict=True)
    return Frames(found, [as_array(piece, frame_format, shape) for piece, shape in both])


def split(memory: Any, shapes: list[tuple[int, ...]], itemsize: int) -> list[memoryview]:
    """Return the frames that one piece of bytes contains."""
    ends = list(itertools.accumulate(math.prod(shape) * itemsize for shape in shapes))
    return [memoryview(memory)[begin:end] for begin, end in zip([0, *ends[:-1]], ends, strict=True)]


def as_bytes(array: npt.NDArray[Any]) -> Bytes:
    """Return memory as plain bytes, which every transport takes as they are; a copy only of what has gaps."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def as_array(memory: Any, frame_format: FrameFormat, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Return a view of plain bytes as frames."""
    return np.frombuffer(memory, np.uint8).view(frame_format.dtype).reshape(shape)
