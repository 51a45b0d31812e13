"""Frames through file descriptors: straight into slots and straight out of them."""

from __future__ import annotations

import ast
import contextlib
import fcntl
import math
import operator
import os
import select
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

PIPE_BYTES = 1 << 20  # what an unprivileged process may ask for; Linux's default is 64 KiB
BATCH_BYTES = 1 << 20  # more in one system call saves nothing
BATCH_FRAMES = 256
MOST_HEADER = 10_000  # bytes; numpy takes no longer ones either

Bytes = npt.NDArray[np.uint8]


def batch_frames(frame_nbytes: int, slots: int) -> int:
    """Return how many frames are worth one system call: small ones many, and half a ring at most."""
    return max(1, min(BATCH_BYTES // frame_nbytes, BATCH_FRAMES, slots // 2))


def widen(fd: int) -> None:
    """Make a pipe hold more, so that both ends sleep less."""
    with contextlib.suppress(OSError):  # a file, or the user's quota of pipe pages is used up
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


def as_bytes(frames: npt.NDArray[Any]) -> Bytes:
    """View frames (first axis) as rows of bytes; the rows may lie apart in memory."""
    return frames.reshape(len(frames), math.prod(frames.shape[1:])).view(np.uint8)


def _rest(rows: Bytes, done: int) -> list[memoryview]:
    """Return what is left of the rows after the first `done` bytes."""
    if rows.flags.c_contiguous:
        return [memoryview(rows.reshape(-1))[done:]]
    first, inside = divmod(done, rows.shape[1])
    return [memoryview(rows[first])[inside:], *(memoryview(row) for row in rows[first + 1 :])]


def read_into(fd: int, rows: Bytes) -> int:
    """Read until at least one row is full and none is half full, or the input ends; the bytes read."""
    nbytes, done = rows.shape[1], 0
    while done < rows.size and (done == 0 or done % nbytes):
        count = _read(fd, _rest(rows, done))
        if count == 0:
            break
        done += count
    return done


def write_all(fd: int, rows: Bytes) -> None:
    """Write all rows."""
    done = 0
    while done < rows.size:
        try:
            done += os.writev(fd, _rest(rows, done))
        except BlockingIOError:
            _sleep_until(fd, select.POLLOUT)


def write_bytes(fd: int, data: bytes) -> None:
    """Write all of it."""
    write_all(fd, np.frombuffer(data, np.uint8)[np.newaxis])


def _read(fd: int, into: list[memoryview]) -> int:
    """Read something; 0 at the end of the input."""
    while True:
        try:
            return os.readv(fd, into)
        except BlockingIOError:
            _sleep_until(fd, select.POLLIN)


def _sleep_until(fd: int, event: int) -> None:
    """Wait for a descriptor that another program, at the other end of it or beside us, made non-blocking."""
    poll = select.poll()
    poll.register(fd, event)
    poll.poll()


def read_npy_header(fd: int) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Read the header of a .npy stream: the shape with the number of frames first, the dtype."""
    stream: Any = _Stream(fd)
    try:
        version = np.lib.format.read_magic(stream)
    except ValueError:
        if not stream.taken:
            raise ValueError("it is empty") from None
        raise
    readers: dict[tuple[int, int], Callable[[Any], Any]] = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
        (3, 0): _read_array_header_3_0,
    }
    if version not in readers:
        raise ValueError(f"it has version {version} of the .npy format, this reads 1.0 to 3.0")
    shape, fortran_order, dtype = readers[version](stream)
    if not shape or (fortran_order and len(shape) > 1):
        raise ValueError("it is not an array of frames: its first axis must count them, in C order")
    if min(shape) < 0:
        raise ValueError(f"its shape is {shape}")
    return shape, dtype


def _read_array_header_3_0(stream: _Stream) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """As numpy's functions for the other versions; this one is not public there."""
    length = int.from_bytes(stream.read(4), "little")
    if length > MOST_HEADER:
        raise ValueError(f"its header is too long: {length} bytes")
    try:
        said = ast.literal_eval(stream.read(length).decode())
        lengths = tuple(operator.index(one) for one in said["shape"])
        return lengths, bool(said["fortran_order"]), np.lib.format.descr_to_dtype(said["descr"])
    except (ValueError, SyntaxError, TypeError, KeyError) as error:
        raise ValueError(f"its header makes no sense: {error}") from None


class _Stream:
    """What numpy reads headers from: a descriptor of which nothing is read ahead."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.taken = 0  # bytes

    def read(self, count: int) -> bytes:
        """Read `count` bytes, fewer only at the end of the input."""
        data = bytearray(count)
        rest = memoryview(data)
        while rest and (done := _read(self._fd, [rest])):
            rest = rest[done:]
        self.taken += count - len(rest)
        return bytes(data[: count - len(rest)])
