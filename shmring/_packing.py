"""Python objects as bytes in a slot: a pickle, and beside it the memory of arrays, which is not pickled.

Pickle protocol 5 with out-of-band buffers (PEP 574). In memory: how many buffers there are, the length of
the pickle and of each buffer (8 bytes each), the pickle, then each buffer on a boundary of `ALIGNMENT`.
"""

from __future__ import annotations

import bisect
import io
import pickle
import struct
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["ALIGNMENT", "Arrival", "Packed", "unpack"]

ALIGNMENT = 64  # what torch, jax and vector instructions like best
WORD = struct.Struct("=Q")
COUNT_AND_LENGTH = struct.Struct("=2Q")
BIG_COPY = 1 << 16  # bytes from which numpy copies, because it gives the GIL away meanwhile


class Packed:
    """An object taken apart, ready to be written; it must not change until that is done."""

    def __init__(self, value: object, pickler: type[pickle.Pickler] = pickle.Pickler) -> None:
        buffers: list[pickle.PickleBuffer] = []
        pickled = dump(value, pickler, buffers.append)
        raw = [buffer.raw() for buffer in buffers]
        if raw:
            lengths = struct.pack(f"={len(raw) + 2}Q", len(raw), len(pickled), *map(len, raw))
        else:
            lengths = COUNT_AND_LENGTH.pack(0, len(pickled))
        end = len(lengths) + len(pickled)
        self._begins = [0, len(lengths)]
        self._pieces = [memoryview(lengths), pickled]
        for view in raw:
            begin = aligned(end)
            self._begins.append(begin)
            self._pieces.append(view)
            end = begin + len(view)
        self.nbytes = end
        """Bytes that `write` needs."""

    def pieces(self) -> Iterator[tuple[int, memoryview]]:
        """Iterate over (offset, bytes), in order; the bytes between two pieces do not matter."""
        return zip(self._begins, self._pieces, strict=True)

    def write(self, target: memoryview, begin: int = 0) -> None:
        """Copy the bytes from `begin` into `target`, flat bytes: as many as it has room for."""
        first = bisect.bisect_right(self._begins, begin) - 1
        last = bisect.bisect_left(self._begins, begin + len(target), first)
        for offset, piece in zip(self._begins[first:last], self._pieces[first:last], strict=True):
            if offset < begin:
                offset, piece = begin, piece[begin - offset :]
            copy(target, offset - begin, piece)


class Arrival:
    """An object that arrives in parts, one after the other, and gets memory of its own."""

    def __init__(self) -> None:
        self._pickled: memoryview
        self._buffers: list[Any] = []
        self._places = self._allocate()
        self._place = next(self._places)

    def _allocate(self) -> Iterator[memoryview]:
        """Yield the memory for what comes next; between two of them the one before was filled."""
        head = memoryview(bytearray(COUNT_AND_LENGTH.size))
        yield head
        count, length = COUNT_AND_LENGTH.unpack(head)
        lengths = memoryview(bytearray(count * WORD.size))
        yield lengths
        self._pickled = memoryview(bytearray(length))
        yield self._pickled
        end = len(head) + len(lengths) + length
        for nbytes in lengths.cast("Q"):
            begin = aligned(end)
            yield memoryview(bytearray(begin - end))
            buffer = memoryview(np.empty(nbytes, np.uint8))
            self._buffers.append(buffer)
            yield buffer
            end = begin + nbytes

    def add(self, part: memoryview) -> None:
        """Copy the next part."""
        while part:
            while not self._place:
                self._place = next(self._places)
            count = copy(self._place, 0, part)
            part, self._place = part[count:], self._place[count:]

    def unpack(self, unpickler: type[pickle.Unpickler] = pickle.Unpickler, *, writable: bool = True) -> Any:
        """Return the object, once every part was added."""
        for place in self._places:  # those of no bytes, behind the last part
            assert not place
        buffers = self._buffers if writable else [buffer.toreadonly() for buffer in self._buffers]
        return load(self._pickled, unpickler, buffers)


def unpack(
    source: memoryview, unpickler: type[pickle.Unpickler] = pickle.Unpickler, *, copies: bool = False
) -> Any:
    """Return the object in `source`, flat bytes.

    Its arrays are views of `source`, and read-only if that is; with `copies` they have memory of their own.
    Runs what the pickle says: only for bytes from a writer that you trust.
    """
    count, length = COUNT_AND_LENGTH.unpack_from(source)
    begin = (count + 2) * WORD.size
    end = begin + length
    buffers = []
    with source[begin:end] as pickled:
        for nbytes in struct.unpack_from(f"={count}Q", source, COUNT_AND_LENGTH.size) if count else ():
            begin = aligned(end)
            end = begin + nbytes
            buffers.append(copied(source[begin:end]) if copies else source[begin:end])
        try:
            return load(pickled, unpickler, buffers)
        finally:
            buffers.clear()  # the traceback of an error would keep them


def dump(
    value: object, pickler: type[pickle.Pickler], callback: Callable[[pickle.PickleBuffer], object]
) -> memoryview:
    """Pickle, with `callback` for the memory of arrays."""
    if pickler is pickle.Pickler:
        return memoryview(pickle.dumps(value, 5, buffer_callback=callback))  # a third of the time of the rest
    file = io.BytesIO()
    pickler(file, 5, buffer_callback=callback).dump(value)
    return file.getbuffer()


def load(pickled: memoryview, unpickler: type[pickle.Unpickler], buffers: Sequence[Any]) -> Any:
    """Unpickle."""
    if unpickler is pickle.Unpickler:
        return pickle.loads(pickled, buffers=buffers)
    return unpickler(io.BytesIO(pickled), buffers=buffers).load()


def copied(view: memoryview) -> Any:
    """Return a writable copy of flat bytes."""
    return bytearray(view) if len(view) < BIG_COPY else np.frombuffer(view, np.uint8).copy()


def copy(target: memoryview, offset: int, source: memoryview) -> int:
    """Copy as much of `source` as fits into `target` from `offset` on, both flat bytes; how much that is."""
    count = min(len(target) - offset, len(source))
    if count < BIG_COPY:
        target[offset : offset + count] = source if count == len(source) else source[:count]
    else:
        np.copyto(np.frombuffer(target, np.uint8, count, offset), np.frombuffer(source, np.uint8, count))
    return count


def aligned(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT
