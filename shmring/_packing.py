"""Python objects as bytes in a slot: a pickle, and beside it the memory of arrays, which is not pickled.

Pickle protocol 5 with out-of-band buffers (PEP 574). In memory: how many buffers there are, the length of
the pickle and of each buffer (8 bytes each), the pickle, then each buffer on a boundary of `ALIGNMENT`.
"""

from __future__ import annotations

import io
import pickle
import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ALIGNMENT", "Packed", "unpack"]

ALIGNMENT = 64  # what torch, jax and vector instructions like best
WORD = struct.Struct("=Q")


class Packed:
    """An object taken apart, ready to be written; it must not change until that is done."""

    def __init__(self, value: object, pickler: type[pickle.Pickler] = pickle.Pickler) -> None:
        buffers: list[pickle.PickleBuffer] = []
        file = io.BytesIO()
        pickler(file, 5, buffer_callback=buffers.append).dump(value)
        raw = [buffer.raw() for buffer in buffers]
        pickled = file.getbuffer()
        lengths = struct.pack(f"={len(raw) + 2}Q", len(raw), len(pickled), *(len(view) for view in raw))
        self._pieces: list[tuple[int, memoryview]] = [(0, memoryview(lengths)), (len(lengths), pickled)]
        end = len(lengths) + len(pickled)
        for view in raw:
            begin = aligned(end)
            self._pieces.append((begin, view))
            end = begin + len(view)
        self.nbytes = end
        """Bytes that `write` needs."""

    def pieces(self) -> Iterator[tuple[int, memoryview]]:
        """Iterate over (offset, bytes), in order; the bytes between two pieces do not matter."""
        return iter(self._pieces)

    def write(self, target: memoryview) -> None:
        """Copy everything into `target`, flat bytes, at least `nbytes` of them."""
        for offset, view in self._pieces:
            target[offset : offset + len(view)] = view


def unpack(source: memoryview, unpickler: type[pickle.Unpickler] = pickle.Unpickler) -> Any:
    """Return the object in `source`, flat bytes; its arrays are views of `source` and read-only if that is.

    Runs what the pickle says: only for bytes from a writer that you trust.
    """
    count, length = struct.unpack_from("=2Q", source)
    lengths = struct.unpack_from(f"={count}Q", source, 2 * WORD.size)
    begin = (count + 2) * WORD.size
    end = begin + length
    pickled = source[begin:end]
    buffers = []
    for nbytes in lengths:
        begin = aligned(end)
        end = begin + nbytes
        buffers.append(source[begin:end])
    return unpickler(io.BytesIO(pickled), buffers=buffers).load()


def aligned(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT
