"""Shards of a Zarr array: files of many compressed chunks, each with an index of them in front.

Zarr itself writes a shard as a whole, again and again while it grows. Here a chunk is added at the end, and
then the index, which fits into one page, says where it is: a kill in between costs that chunk alone.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shmring._alone import alone
from shmring.recording.formats._codec import Scratch
from shmring.recording.formats._description import Codec
from shmring.recording.formats._growing import write_all

SHARD = 128 << 20  # bytes of frames in a shard
MOST = 255  # chunks, whose index and checksum fit into one page
MISSING = 2**64 - 1
OVERHEAD = 16  # bytes that a Blosc buffer has more than what cannot be compressed
PLAIN, BITSHUFFLE = 0, 2  # as Blosc numbers its filters


def chunks_per_shard(chunk_bytes: int) -> int:
    """Return how many chunks are in a file."""
    return max(1, min(MOST, SHARD // chunk_bytes))


def level(codec: Codec) -> int:
    """Return how hard a codec tries. A higher level of zstd costs much more time than it saves space."""
    return {"lz4": 5, "zstd": 1}[codec]


def compressor(codec: Codec) -> Any:
    """Return what Zarr is given to create an array with this codec."""
    from zarr.codecs import BloscCodec

    return BloscCodec(cname=codec, clevel=level(codec), shuffle="bitshuffle")


@functools.cache
def _blosc() -> Any:
    """Return the function of c-blosc in numcodecs that compresses from memory to memory; None if it hides it.

    numcodecs' own ``Blosc.encode`` takes new memory for each chunk, and copies the result once more.
    """
    library = importlib.import_module("numcodecs.blosc").__file__  # which has no types
    try:
        compress = ctypes.CDLL(library).blosc_compress_ctx
    except AttributeError:
        return None
    pointer, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    compress.restype = number
    compress.argtypes = [
        number,  # level
        number,  # filter
        size,  # bytes of an item
        size,  # bytes of the chunk
        pointer,  # the chunk
        pointer,  # the buffer
        size,  # bytes of the buffer
        ctypes.c_char_p,  # codec
        size,  # bytes of a block, 0: Blosc chooses
        number,  # threads
    ]
    return compress


@dataclass
class _Shard:
    """A shard that is open."""

    fd: int
    index: npt.NDArray[Any]  # offset and bytes of each of its chunks
    end: int


class ShardWriter:
    """The chunks of a sharded Zarr array, each a Blosc buffer, compressed or not."""

    def __init__(self, dataset: Any, folder: Path, codec: Codec) -> None:
        self._compress, self._codec, self._level = _blosc(), codec.encode(), level(codec)
        self._scratch = Scratch()
        self._folder, self._rest = folder, ["0"] * (dataset.ndim - 1)
        self._most = dataset.shards[0] // dataset.chunks[0]
        self._shards: dict[int, _Shard] = {}
        self._lock = threading.RLock()

    def encode(self, chunk: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        """Compress a whole chunk."""
        return self._as_blosc(chunk, self._level, BITSHUFFLE)

    def _as_blosc(self, chunk: npt.NDArray[Any], level: int, shuffle: int) -> npt.NDArray[np.uint8]:
        if self._compress is None:
            from numcodecs import Blosc

            return np.frombuffer(Blosc(self._codec.decode(), level, shuffle).encode(chunk), "u1")
        into = self._scratch.take(chunk.nbytes + OVERHEAD)
        made = self._compress(
            level, shuffle, chunk.itemsize, chunk.nbytes, chunk.ctypes.data, into.ctypes.data, len(into),
            self._codec, 0, 1,
        )  # fmt: skip
        if made <= 0:
            raise OSError(f"Blosc could not compress a chunk: its error {made}")
        return into[:made]

    def make_room(self, rows: int) -> None:
        """Chunks need none: the array gets longer when their frames are counted."""

    def put(self, number: int, encoded: npt.NDArray[np.uint8]) -> None:
        """Write a compressed chunk."""
        shard, offset = alone(self._lock, lambda: self._room(number // self._most, len(encoded)))
        self._write(shard, number % self._most, encoded, offset)

    def _room(self, number: int, size: int) -> tuple[_Shard, int]:
        """Make room at the end of a shard; return where."""
        shard = self._opened(number)
        offset = shard.end
        shard.end += size
        return shard, offset

    def put_part(self, number: int, chunk: npt.NDArray[Any]) -> None:
        """Write a chunk of which only the first frames are there yet."""
        encoded = self._as_blosc(chunk, 0, PLAIN)
        shard = alone(self._lock, lambda: self._opened(number // self._most))
        offset, size = shard.index[number % self._most].tolist()
        if size == len(encoded):
            self._write(shard, number % self._most, encoded, offset)
        else:
            self.put(number, encoded)

    def _write(self, shard: _Shard, place: int, encoded: npt.NDArray[np.uint8], offset: int) -> None:
        write_all(shard.fd, encoded, offset)

        def enter() -> None:
            shard.index[place] = offset, len(encoded)

        alone(self._lock, enter)

    def flush(self, chunks: int) -> None:
        """Let the indexes name the first so many chunks."""
        alone(self._lock, lambda: self._flush(chunks))

    def _flush(self, chunks: int) -> None:
        for number, shard in tuple(self._shards.items()):
            write_all(shard.fd, _rendered(shard.index), 0)
            if chunks >= (number + 1) * self._most:
                os.close(self._shards.pop(number).fd)

    def _opened(self, number: int) -> _Shard:
        if number not in self._shards:
            path = self._folder.joinpath(str(number), *self._rest)
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                partial = path.with_name(path.name + ".partial")
                partial.write_bytes(_rendered(np.full((self._most, 2), MISSING, "<u8")))
                partial.rename(path)
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            index = np.frombuffer(os.pread(fd, 16 * self._most, 0), "<u8").reshape(-1, 2).copy()
            self._shards[number] = _Shard(fd, index, os.fstat(fd).st_size)
        return self._shards[number]

    def close(self) -> None:
        """Close the shards."""
        while self._shards:
            os.close(self._shards.popitem()[1].fd)


def _rendered(index: npt.NDArray[Any]) -> bytes:
    """Return the index as it is in the file, with its checksum."""
    import google_crc32c

    data = index.tobytes()
    return data + int(google_crc32c.value(data)).to_bytes(4, "little")
