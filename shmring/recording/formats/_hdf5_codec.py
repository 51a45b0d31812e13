"""Compressed chunks in HDF5: bitshuffle with LZ4 or zstd, as hdf5plugin has it.

HDF5 compresses in one thread, under one lock. So its own filter is called here, from several threads, and
HDF5 gets the chunks as they are to be in the file. It is called as HDF5 calls it: the plugin is loaded
once more, and asked for its filter by the interface that every HDF5 plugin has.
"""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

NOT_COMPRESSED = 1  # the mask of a chunk that leaves out the first filter
_FILTER = ctypes.CFUNCTYPE(
    ctypes.c_size_t,  # bytes of the result, 0: failed
    ctypes.c_uint,  # flags
    ctypes.c_size_t,  # number of settings
    ctypes.POINTER(ctypes.c_uint),  # settings
    ctypes.c_size_t,  # bytes of the chunk
    ctypes.POINTER(ctypes.c_size_t),  # size of the buffer
    ctypes.POINTER(ctypes.c_void_p),  # the buffer, which the filter replaces
)


class _FilterClass(ctypes.Structure):
    """H5Z_class2_t."""

    _fields_ = (
        ("version", ctypes.c_int),
        ("id", ctypes.c_int),
        ("encoder_present", ctypes.c_uint),
        ("decoder_present", ctypes.c_uint),
        ("name", ctypes.c_char_p),
        ("can_apply", ctypes.c_void_p),
        ("set_local", ctypes.c_void_p),
        ("filter", _FILTER),
    )


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
def _library() -> tuple[Any, Any]:
    """Return the plugin's filter, and the C library."""
    plugin = ctypes.CDLL(str(Path(load().PLUGIN_PATH) / "libh5bshuf.so"))
    plugin.H5PLget_plugin_info.restype = ctypes.POINTER(_FilterClass)
    system = ctypes.CDLL(None)
    system.malloc.restype, system.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    system.free.argtypes = [ctypes.c_void_p]
    return plugin.H5PLget_plugin_info().contents.filter, system


class ChunkWriter:
    """The chunks of an HDF5 dataset, past HDF5's own compression; each notes whether it is compressed."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        settings = dataset.id.get_create_plist().get_filter(0)[2]
        self._count, self._settings = len(settings), (ctypes.c_uint * len(settings))(*settings)
        self._filter, self._system = _library()

    def encode(self, chunk: npt.NDArray[Any]) -> bytes:
        """Compress a whole chunk."""
        chunk = np.ascontiguousarray(chunk)
        buffer, size = ctypes.c_void_p(self._system.malloc(chunk.nbytes)), ctypes.c_size_t(chunk.nbytes)
        if buffer.value is None:
            raise MemoryError
        try:
            ctypes.memmove(buffer, chunk.ctypes.data, chunk.nbytes)
            made = self._filter(
                0, self._count, self._settings, chunk.nbytes, ctypes.byref(size), ctypes.byref(buffer)
            )
            if made == 0:
                raise OSError("bitshuffle could not compress a chunk")
            return ctypes.string_at(buffer, made)
        finally:
            self._system.free(buffer)

    def make_room(self, rows: int) -> None:
        """Let the dataset have so many rows."""
        if self._dataset.shape[0] < rows:
            self._dataset.resize((rows, *self._dataset.shape[1:]))

    def put(self, number: int, encoded: bytes) -> None:
        """Write a compressed chunk."""
        self._write(number, encoded, 0)

    def put_part(self, number: int, chunk: npt.NDArray[Any]) -> None:
        """Write a chunk of which only the first frames are there yet."""
        self._write(number, chunk.tobytes(), NOT_COMPRESSED)

    def _write(self, number: int, data: bytes, mask: int) -> None:
        start = (number * self._dataset.chunks[0], *(0 for _ in self._dataset.shape[1:]))
        self._dataset.id.write_direct_chunk(start, data, mask)

    def flush(self, chunks: int) -> None:
        """Let readers find what was put."""
        self._dataset.flush()

    def close(self) -> None:
        """Nothing is open but the dataset."""
