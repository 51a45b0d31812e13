"""The first bytes of an HDF5 file, which say whether a program writes it, and where it ends."""

from __future__ import annotations

import os

SIGNATURE = b"\x89HDF\r\n\x1a\n"
VERSION = 3  # the one that knows writers
SIZE = 48
VERSION_AT, FLAGS_AT, CHECKSUM_AT = 8, 11, 44
END = slice(28, 36)  # of what is used: what lies behind cannot be read
MASK = 0xFFFFFFFF


def is_known(start: bytes) -> bool:
    """Whether an HDF5 file that can have flags begins like this."""
    return len(start) == SIZE and start.startswith(SIGNATURE) and start[VERSION_AT] == VERSION


def is_flagged(start: bytes) -> bool:
    """Whether a writer has the file open, or ended without closing it."""
    return is_known(start) and start[FLAGS_AT] != 0


def closed(start: bytes, end: int) -> bytes:
    """Return these bytes as they are after a close: no program writes, and the file ends at `end`."""
    made = bytearray(start)
    made[FLAGS_AT] = 0
    made[END] = end.to_bytes(8, "little")
    made[CHECKSUM_AT:] = _checksum(bytes(made[:CHECKSUM_AT])).to_bytes(4, "little")
    return bytes(made)


def close(fd: int) -> bool:
    """Close a file in the place of a writer that is dead; whether there was need."""
    start = os.pread(fd, SIZE, 0)
    if is_flagged(start):
        os.pwrite(fd, closed(start, os.fstat(fd).st_size), 0)  # in one page: all of it, or nothing
    return is_flagged(start)


def cut_spare(fd: int) -> None:
    """Give back the space behind the end, unless another handle keeps the file open."""
    start = os.pread(fd, SIZE, 0)
    end = int.from_bytes(start[END], "little")
    if is_known(start) and not is_flagged(start) and end < os.fstat(fd).st_size:
        os.ftruncate(fd, end)


def _checksum(data: bytes) -> int:
    """Return Bob Jenkins's lookup3 of the bytes, as HDF5 has it."""
    a = b = c = (0xDEADBEEF + len(data)) & MASK
    while True:
        a, b, c = (
            (word + int.from_bytes(data[at : at + 4], "little")) & MASK
            for word, at in ((a, 0), (b, 4), (c, 8))
        )
        if len(data) <= 12:
            break
        data = data[12:]
        a = (a - c & MASK) ^ _rotated(c, 4)
        c = c + b & MASK
        b = (b - a & MASK) ^ _rotated(a, 6)
        a = a + c & MASK
        c = (c - b & MASK) ^ _rotated(b, 8)
        b = b + a & MASK
        a = (a - c & MASK) ^ _rotated(c, 16)
        c = c + b & MASK
        b = (b - a & MASK) ^ _rotated(a, 19)
        a = a + c & MASK
        c = (c - b & MASK) ^ _rotated(b, 4)
        b = b + a & MASK
    c = (c ^ b) - _rotated(b, 14) & MASK
    a = (a ^ c) - _rotated(c, 11) & MASK
    b = (b ^ a) - _rotated(a, 25) & MASK
    c = (c ^ b) - _rotated(b, 16) & MASK
    a = (a ^ c) - _rotated(c, 4) & MASK
    b = (b ^ a) - _rotated(a, 14) & MASK
    return (c ^ b) - _rotated(b, 24) & MASK


def _rotated(word: int, bits: int) -> int:
    return (word << bits | word >> 32 - bits) & MASK
