"""Headers of .npy files whose number of rows is written again and again in place."""

from __future__ import annotations

from typing import Any

import numpy as np

SIZES = (4096, 8192)  # bytes; page-aligned rows, and below the 10,000 that np.load reads of a header
DIGITS = 20  # of the number of rows
AROUND = 13  # bytes besides the literal: magic, version, length and the newline at the end


class NpyHeader:
    """The header for rows of one dtype and shape. Its size does not depend on how many rows there are."""

    def __init__(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        self._dtype, self._shape = dtype, shape
        needed = len(self._literal(0)) + DIGITS + AROUND
        if needed > SIZES[-1]:
            raise ValueError(
                f"the dtype of these frames takes {len(self._literal(0))} characters to describe, more than "
                f"numpy.load reads from the header of a .npy file. Record to .zarr or .h5 instead"
            )
        self.nbytes = next(size for size in SIZES if needed <= size)

    def render(self, rows: int) -> bytes:
        """Return the whole header."""
        literal = self._literal(rows)
        # Version 3 only says that the literal is UTF-8 rather than ASCII.
        start = b"\x93NUMPY\x01\x00" if literal.isascii() else b"\x93NUMPY\x03\x00"
        width = 2 if literal.isascii() else 4
        length = self.nbytes - len(start) - width
        padded = literal.ljust(length - 1) + b"\n"
        return start + length.to_bytes(width, "little") + padded

    def render_changes(self, rows: int) -> bytes:
        """Return the part that depends on the number of rows; what follows it is only blanks."""
        return self.render(rows)[: len(self._literal(rows)) + DIGITS + AROUND - 1]

    def _literal(self, rows: int) -> bytes:
        """Return the part of the header that says what the rows are."""
        described = np.lib.format.dtype_to_descr(self._dtype)
        shape = (rows, *self._shape)
        return f"{{'descr': {described!r}, 'fortran_order': False, 'shape': {shape!r}, }}".encode()
