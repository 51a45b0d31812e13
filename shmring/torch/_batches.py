"""Batches in slots: the memory of tensors and arrays lies there as it is, and the rest is pickled.

From the beginning of the slot: memory, each piece on a boundary of `ALIGNMENT`; a table with the number of
out-of-band buffers, and offset and length of each; the pickle (protocol 5), in which tensors are persistent
ids that say where they lie.
"""

from __future__ import annotations

import io
import math
import pickle
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    Bytes = np.ndarray[Any, np.dtype[np.uint8]]

__all__ = ["Assembly", "NoRoom", "pack", "size_of", "unpack"]

ALIGNMENT = 64
WORD = 8
# Both sides have the same torch, so a dtype is a number; as a pickled global it takes much longer.
DTYPES = sorted({value for value in vars(torch).values() if type(value) is torch.dtype}, key=str)
CODES = {dtype: code for code, dtype in enumerate(DTYPES)}


class NoRoom(Exception):
    """The slot is too small for the batch."""


class Assembly:
    """Memory of a slot, handed out piece by piece from its beginning; or of no slot, to find the size."""

    def __init__(self, memory: Bytes | None = None) -> None:
        self._memory = memory
        self._bytes = None if memory is None else memoryview(memory)
        self._begin = 0 if memory is None else torch.from_numpy(memory).data_ptr()
        self._size = 1 << 62 if memory is None else len(memory)
        self.used = 0

    def tensor(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor | None:
        """Return a tensor on memory of its own, not initialised; None if it is empty or does not fit."""
        count = math.prod(shape)
        try:
            begin = self.take(count * dtype.itemsize)
        except NoRoom:
            return None
        if count == 0 or self._memory is None:
            return None
        return tensor_at(self._memory, begin, dtype, shape)

    def place(self, tensor: torch.Tensor) -> int:
        """Return where a contiguous tensor lies; copy it, unless it is in here already."""
        begin: int = tensor.data_ptr() - self._begin
        if self._memory is None or not 0 <= begin < self._size:
            begin = self.take(tensor.numel() * tensor.itemsize)
            if self._memory is not None:
                tensor_at(self._memory, begin, tensor.dtype, tuple(tensor.shape)).copy_(tensor)
        return begin

    def put(self, source: bytes | memoryview) -> int:
        """Copy bytes; return where they are."""
        begin = self.take(len(source))
        if self._bytes is not None:
            self._bytes[begin : begin + len(source)] = source
        return begin

    def take(self, nbytes: int) -> int:
        """Return where that many bytes begin that nobody else gets; NoRoom if there are not as many left."""
        begin = aligned(self.used)
        if begin + nbytes > self._size:
            raise NoRoom
        self.used = begin + nbytes
        return begin


class Packer(pickle.Pickler):
    """Pickles tensors as the places that they get; unusual ones as torch does it, whole."""

    def __init__(self, file: io.BytesIO, assembly: Assembly) -> None:
        self.table: list[int] = []
        self._assembly = assembly
        super().__init__(file, 5, buffer_callback=self._put_buffer)

    def _put_buffer(self, buffer: pickle.PickleBuffer) -> None:
        raw = buffer.raw()
        self.table += self._assembly.put(raw), len(raw)

    def persistent_id(self, value: Any) -> tuple[Any, ...] | None:
        if type(value) is not torch.Tensor or not is_plain(value):
            return None
        if value.is_contiguous():
            return self._assembly.place(value), CODES[value.dtype], tuple(value.shape)
        strides = dense_strides(value)
        if strides is None:
            return self._assembly.place(value.contiguous()), CODES[value.dtype], tuple(value.shape)
        flat = value.as_strided((value.numel(),), (1,))
        return self._assembly.place(flat), CODES[value.dtype], tuple(value.shape), strides


def is_plain(tensor: torch.Tensor) -> bool:
    """Whether it is nothing but numbers in memory."""
    return (
        tensor.layout is torch.strided
        and tensor.is_cpu
        and tensor.numel() > 0
        and not tensor.requires_grad
        and not tensor.is_nested
        and not tensor.is_quantized
        and not tensor.is_conj()
        and not tensor.is_neg()
    )


def dense_strides(tensor: torch.Tensor) -> tuple[int, ...] | None:
    """Return the strides of memory without gaps, in another order than the axes (channels last)."""
    strides = tensor.stride()
    order = sorted(range(tensor.dim()), key=lambda axis: strides[axis], reverse=True)
    return strides if tensor.permute(order).is_contiguous() else None


def pack(batch: object, assembly: Assembly) -> tuple[int, int]:
    """Write into a slot what is not there yet; return where the table begins and the pickle ends."""
    file = io.BytesIO()
    packer = Packer(file, assembly)
    packer.dump(batch)
    table = packer.table
    begin = assembly.put(struct.pack(f"={1 + len(table)}Q", len(table) // 2, *table))
    assembly.put(file.getbuffer())
    return begin, assembly.used


def size_of(batch: object) -> int:
    """Return the bytes of a slot that is large enough for a batch."""
    assembly = Assembly()
    pack(batch, assembly)
    return assembly.used


class Unpacker(pickle.Unpickler):
    """Makes the tensors of a batch as views of its slot."""

    def __init__(self, file: io.BytesIO, memory: Bytes, table: tuple[int, ...]) -> None:
        view = memoryview(memory)
        places = zip(table[::2], table[1::2], strict=True)
        super().__init__(file, buffers=(view[begin : begin + nbytes] for begin, nbytes in places))
        self._memory = memory

    def persistent_load(self, place: tuple[Any, ...]) -> torch.Tensor:
        begin, code, shape = place[:3]
        tensor = tensor_at(self._memory, begin, DTYPES[code], shape)
        return tensor if len(place) == 3 else tensor.as_strided(shape, place[3])


def unpack(memory: Bytes, begin: int, end: int) -> Any:
    """Return the batch that `pack` left there; its tensors and arrays are views of the memory."""
    (count,) = struct.unpack_from("=Q", memory, begin)
    table = struct.unpack_from(f"={2 * count}Q", memory, begin + WORD)
    pickled = memory[aligned(begin + WORD * (1 + 2 * count)) : end].tobytes()
    return Unpacker(io.BytesIO(pickled), memory, table).load()


def tensor_at(memory: Bytes, begin: int, dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
    return torch.frombuffer(memory, dtype=dtype, count=math.prod(shape), offset=begin).view(shape)


def aligned(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT
