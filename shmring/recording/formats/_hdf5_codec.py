"""Compressed chunks in HDF5: bitshuffle with LZ4 or zstd, as hdf5plugin has it.

HDF5 compresses in one thread, under one lock, and copies each chunk first. So its filter's work is done here:
by the plugin's own functions, in several threads, straight from the ring's memory. HDF5 gets the chunks as
they are to be in the file.
"""

from __future__ import annotations

import ctypes
import functools
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shmring._alone import alone
from shmring.recording.formats._codec import Scratch

NOT_COMPRESSED = 1  # the mask of a chunk that leaves out the first filter
# Of a chunk: its bytes, and those of the blocks that are compressed by themselves.
HEADER = struct.Struct(">QI")
ZSTD = 3  # the filter's number for it


def load() -> Any:
    """Import the library with the filters, which lets HDF5 read what they wrote."""
    try:
        import hdf5plugin
    except ImportError as error:
        raise type(error)(
            f'compressed HDF5 files need hdf5plugin: pip install "shmring[codecs]" ({error})',
            name="hdf5plugin",
        ) from None
    return hdf5plugin


def filter_of(codec: str | None) -> dict[str, Any]:
    """Return what h5py is given to create a dataset with this codec."""
    if codec is None:
        return {}
    options = {"cname": "zstd", "clevel": 1} if codec == "zstd" else {"cname": "lz4"}
    return dict(load().Bitshuffle(**options))


@functools.cache
def bitshuffle() -> Any:
    """Return the plugin, with the functions of bitshuffle.h; an error if hdf5plugin does not show them."""
    hdf5plugin = load()
    try:
        return _with_signatures(ctypes.CDLL(str(Path(hdf5plugin.PLUGIN_PATH) / "libh5bshuf.so")))
    except (OSError, AttributeError) as error:
        raise ImportError(
            f"hdf5plugin {hdf5plugin.version} does not show bitshuffle's functions, which compressed HDF5 "
            f"recordings need: install another version of it, or record to .zarr ({error})",
            name="hdf5plugin",
        ) from None


def _with_signatures(plugin: Any) -> Any:
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    plugin.bshuf_default_block_size.restype, plugin.bshuf_default_block_size.argtypes = size, [size]
    for bound in (plugin.bshuf_compress_lz4_bound, plugin.bshuf_compress_zstd_bound):
        bound.restype, bound.argtypes = size, [size, size, size]
    # The chunk and the result; items, bytes of one, items of a block.
    places: list[Any] = [pointer, pointer, size, size, size]
    lz4, zstd = plugin.bshuf_compress_lz4, plugin.bshuf_compress_zstd
    for compress, level in ((lz4, []), (zstd, [ctypes.c_int])):
        compress.restype, compress.argtypes = ctypes.c_int64, [*places, *level]
    return plugin


class ChunkWriter:
    """The chunks of an HDF5 dataset, past HDF5's own compression; each notes whether it is compressed."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        # The version of bitshuffle (two numbers), bytes of an item, items of a block, codec, level of zstd.
        _, _, self._item, block, codec, *self._level = dataset.id.get_create_plist().get_filter(0)[2]
        plugin = bitshuffle()
        self._block = block or plugin.bshuf_default_block_size(self._item)
        name = "zstd" if codec == ZSTD else "lz4"
        self._bound = getattr(plugin, f"bshuf_compress_{name}_bound")
        self._compress = getattr(plugin, f"bshuf_compress_{name}")
        self._scratch = Scratch()

    def encode(self, chunk: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        """Compress a whole chunk."""
        items = chunk.nbytes // self._item
        into = self._scratch.take(HEADER.size + self._bound(items, self._item, self._block))
        HEADER.pack_into(into, 0, chunk.nbytes, self._block * self._item)
        made = self._compress(
            chunk.ctypes.data, into.ctypes.data + HEADER.size, items, self._item, self._block, *self._level
        )
        if made < 0:
            raise OSError(f"bitshuffle could not compress a chunk: its error {made}")
        return into[: HEADER.size + made]

    def make_room(self, rows: int) -> None:
        """Let the dataset have so many rows."""
        if self._dataset.shape[0] < rows:
            self._dataset.resize((rows, *self._dataset.shape[1:]))

    def put(self, number: int, encoded: npt.NDArray[np.uint8]) -> None:
        """Write a compressed chunk."""
        self._write(number, encoded, 0)

    def put_part(self, number: int, chunk: npt.NDArray[Any]) -> None:
        """Write a chunk of which only the first frames are there yet."""
        self._write(number, chunk.tobytes(), NOT_COMPRESSED)

    def _write(self, number: int, data: Any, mask: int) -> None:
        from h5py._objects import phil

        start = (number * self._dataset.chunks[0], *(0 for _ in self._dataset.shape[1:]))
        # h5py before 3.16 does not take its lock for this, and HDF5 in two threads at once ends in SIGSEGV.
        alone(phil, lambda: self._dataset.id.write_direct_chunk(start, data, mask))

    def flush(self, chunks: int) -> None:
        """Let readers find what was put."""
        self._dataset.flush()

    def close(self) -> None:
        """Nothing is open but the dataset."""
