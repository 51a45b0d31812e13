"""A .npy file that grows: valid after each step, whenever its writer is killed."""

from __future__ import annotations

import ast
import errno
import os
import stat
import struct
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from shmring.recording._errors import RecordingCorrupt
from shmring.recording.formats._npy_header import SIZES, NpyHeader

GATHER = 4096  # rows below this size are copied together: a system call for each would cost more
VECTOR = 512  # rows for one system call where they are not adjacent; below IOV_MAX


class GrowingNpy:
    """Appends rows of one dtype and shape.

    The order makes it safe to be killed at any moment: first the rows, then the number of rows in the
    header, which is one short write that changes nothing else.
    """

    def __init__(self, path: Path, dtype: np.dtype[Any], shape: tuple[int, ...], *, append: bool) -> None:
        self.path = path
        self._dtype, self._shape = dtype, shape
        self._row_nbytes = dtype.itemsize * int(np.prod(shape, dtype=object))
        self._header = NpyHeader(dtype, shape)
        self._header_nbytes = self._header.nbytes
        self.rows = 0
        flags = os.O_RDWR | os.O_CLOEXEC | (0 if append else os.O_CREAT | os.O_EXCL)
        self.fd = os.open(path, flags, 0o666)
        try:
            if append:
                if data_offset(self.fd) != self._header_nbytes:
                    raise RecordingCorrupt(
                        f"{path} cannot be appended to: its header is another program's, and has no room for "
                        f"more rows"
                    )
                nbytes = os.fstat(self.fd).st_size - self._header_nbytes
                if nbytes < 0:
                    write_all(self.fd, self._header.render(0), 0)
                self.truncate(max(0, nbytes // self._row_nbytes))
            else:
                write_all(self.fd, self._header.render(0), 0)
        except BaseException:
            os.close(self.fd)
            if not append:
                os.unlink(path)
            raise

    def append(self, rows: npt.NDArray[Any], valid: npt.NDArray[np.uint64] | None = None) -> None:
        """Write rows behind the last one; of each only its `valid` first items, then zeros.

        After an OSError the rows that fitted are there, and `rows` says how many there are in all.
        """
        offset = self._offset(self.rows)
        try:
            if valid is not None and self._row_nbytes >= GATHER:
                self._append_parts(rows, valid, offset)
            elif rows.flags.c_contiguous and valid is None:
                write_all(self.fd, _bytes_of(rows), offset)
            elif self._row_nbytes < GATHER:
                write_all(self.fd, _bytes_of(_gathered(rows, valid)), offset)
            else:
                for first in range(0, len(rows), VECTOR):
                    some = [_bytes_of(rows[i : i + 1]) for i in range(first, min(first + VECTOR, len(rows)))]
                    write_vector(self.fd, some, offset + first * self._row_nbytes)
        except OSError:
            whole = (os.fstat(self.fd).st_size - self._header_nbytes) // self._row_nbytes
            self.rows = max(self.rows, min(whole, self.rows + len(rows)))
            self.truncate(self.rows)
            raise
        self.rows += len(rows)

    def _append_parts(self, rows: npt.NDArray[Any], valid: npt.NDArray[np.uint64], offset: int) -> None:
        """Leave holes for what is not valid: they read as zeros and take no space."""
        for i, count in enumerate(valid.tolist()):
            write_all(self.fd, _bytes_of(rows[i, :count]), offset + i * self._row_nbytes)
        os.ftruncate(self.fd, offset + len(rows) * self._row_nbytes)

    def _offset(self, rows: int) -> int:
        return self._header_nbytes + rows * self._row_nbytes

    def truncate(self, rows: int) -> None:
        """Forget the rows behind these, a part of one included."""
        self.rows = rows
        os.ftruncate(self.fd, self._offset(rows))

    def write_header(self, rows: int) -> None:
        """Say in the header how many rows there are."""
        if os.fstat(self.fd).st_nlink == 0:
            raise OSError(errno.ENOENT, f"{self.path} was deleted while it was recorded")
        write_all(self.fd, self._header.render_changes(rows), 0)

    def write_back(self, first: int, last: int) -> None:
        """Ask the kernel to begin writing these rows to the disk, without waiting for it."""
        os.posix_fadvise(
            self.fd, self._offset(first), (last - first) * self._row_nbytes, os.POSIX_FADV_DONTNEED
        )

    def sync(self) -> None:
        """Wait until all is on the disk."""
        os.fdatasync(self.fd)

    def close(self) -> None:
        """Close the file."""
        os.close(self.fd)


def open_file(path: str | Path, flags: int) -> int:
    """Open what a recorder may have made, as the opener of `open`: at a FIFO that would wait for a writer."""
    fd = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    raise RecordingCorrupt(f"{path} is not a recording of shmring: it is not a regular file")


def read_rows(path: Path, kind: Literal["frames", "index"]) -> npt.NDArray[Any]:
    """Map a growing .npy file: every whole row that is in it, whatever the header says."""
    with open(path, "rb", opener=open_file) as file:
        try:
            offset = data_offset(file.fileno())
            dtype, shape = _read_header(file.fileno(), offset)
        except (ValueError, SyntaxError, KeyError, TypeError, struct.error) as error:
            raise ValueError(f"{path} is not a .npy file of {kind}: {error}") from None
        nbytes = dtype.itemsize * int(np.prod(shape[1:], dtype=object))
        rows = max(0, (os.fstat(file.fileno()).st_size - offset) // nbytes)
        if rows == 0:
            return np.empty((0, *shape[1:]), dtype)
        return np.memmap(file, dtype, "r", offset, (rows, *shape[1:]))


def counted_rows(path: Path) -> int:
    """Return how many of the rows that are there the header counts."""
    with open(path, "rb", opener=open_file) as file:
        counted = int(_read_header(file.fileno(), data_offset(file.fileno()))[1][0])
    return min(counted, len(read_rows(path, "frames")))


def can_grow(path: Path) -> bool:
    """Whether the header has room for every number of rows, as those that are made here."""
    with open(path, "rb", opener=open_file) as file:
        return data_offset(file.fileno()) in SIZES


def data_offset(fd: int) -> int:
    start = os.pread(fd, 12, 0)
    if start[:6] != b"\x93NUMPY":
        raise ValueError("it does not begin like one")
    if start[6] == 1:
        return 10 + int(struct.unpack_from("<H", start, 8)[0])
    return 12 + int(struct.unpack_from("<I", start, 8)[0])


def _read_header(fd: int, offset: int) -> tuple[np.dtype[Any], tuple[int, ...]]:
    literal = os.pread(fd, offset, 0)[10:].lstrip(b"\0")
    said = ast.literal_eval(literal.decode().strip())
    if said["fortran_order"]:
        raise ValueError("its rows are in Fortran order")
    return np.lib.format.descr_to_dtype(said["descr"]), said["shape"]


def _bytes_of(rows: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Return the memory of contiguous rows; the buffer protocol does not know every dtype."""
    return rows.reshape(-1).view(np.uint8)


def _gathered(rows: npt.NDArray[Any], valid: npt.NDArray[np.uint64] | None) -> npt.NDArray[Any]:
    # As bytes: of a structured dtype numpy copies the fields and leaves out what is between them.
    octets = np.dtype((np.void, rows.dtype.itemsize))
    copy = np.array(rows.view(octets), order="C")
    if valid is not None:
        copy[np.arange(rows.shape[1]) >= valid[:, np.newaxis]] = np.zeros((), octets)
    return copy


def write_all(fd: int, data: bytes | npt.NDArray[np.uint8], offset: int) -> None:
    """Write all of it, or raise the OSError that stopped it."""
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written


def write_vector(fd: int, parts: list[npt.NDArray[np.uint8]], offset: int) -> None:
    """Write all parts, one behind the other."""
    written = os.pwritev(fd, parts, offset)
    for part in parts:
        done = min(written, part.nbytes)
        if done < part.nbytes:
            write_all(fd, part[done:], offset + done)
        written, offset = written - done, offset + part.nbytes
