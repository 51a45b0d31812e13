"""Shards of a Zarr array: files of many compressed chunks, each with an index of them in front.

Zarr itself writes a shard as a whole, again and again while it grows. Here a chunk is added at the end, and
then the index, which fits into one page, says where it is: a kill in between costs that chunk alone.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shmring._alone import alone
from shmring.recording.formats._description import Codec
from shmring.recording.formats._growing import write_all

SHARD = 128 << 20  # bytes of frames in a shard
MOST = 255  # chunks, whose index and checksum fit into one page
MISSING = 2**64 - 1


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


@dataclass
class _Shard:
    """A shard that is open."""

    fd: int
    index: npt.NDArray[Any]  # offset and bytes of each of its chunks
    end: int


class ShardWriter:
    """The chunks of a sharded Zarr array, each a Blosc buffer, compressed or not."""

    def __init__(self, dataset: Any, folder: Path, codec: Codec) -> None:
        from numcodecs import Blosc

        self._compressor = Blosc(codec, level(codec), Blosc.BITSHUFFLE)
        self._copier = Blosc(codec, 0, Blosc.NOSHUFFLE)
        self._folder, self._rest = folder, ["0"] * (dataset.ndim - 1)
        self._most = dataset.shards[0] // dataset.chunks[0]
        self._shards: dict[int, _Shard] = {}
        self._lock = threading.RLock()

    def encode(self, chunk: npt.NDArray[Any]) -> bytes:
        """Compress a whole chunk."""
        encoded: bytes = self._compressor.encode(np.ascontiguousarray(chunk))
        return encoded

    def make_room(self, rows: int) -> None:
        """Chunks need none: the array gets longer when their frames are counted."""

    def put(self, number: int, encoded: bytes) -> None:
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
        encoded = self._copier.encode(chunk)
        shard = alone(self._lock, lambda: self._opened(number // self._most))
        offset, size = shard.index[number % self._most].tolist()
        if size == len(encoded):
            self._write(shard, number % self._most, encoded, offset)
        else:
            self.put(number, encoded)

    def _write(self, shard: _Shard, place: int, encoded: bytes, offset: int) -> None:
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
