"""What frames look like: one value for rings, recordings and the messages about them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from shmring import _core
from shmring._dtypes import describe_dtype, parse_dtype, plain_dtype

if TYPE_CHECKING:  # a Protocol takes as long to make as a module to import
    from typing import Protocol

    import numpy.typing as npt

    class HasFrames(Protocol):
        """A ring, or a recording."""

        @property
        def shape(self) -> tuple[int, ...]: ...
        @property
        def dtype(self) -> np.dtype[Any]: ...
        @property
        def meta_dtype(self) -> np.dtype[Any] | None: ...
        @property
        def variable_rows(self) -> bool: ...


__all__ = ["FrameFormat", "check_format", "format_of", "parse_format"]

MAX_AXES = 31  # a batch has one more, and numpy before 2.0 allowed 32
MAX_LENGTH = 1 << 40  # of an axis
SLOT_ALIGNMENT = 64


class FrameFormat:
    """Shape and dtype of frames, and what comes with each: a value that never changes.

    Its parts cannot be compared as they are: to numpy, the dtype f8 equals None.
    """

    __slots__ = ("dtype", "meta_dtype", "shape", "variable_rows")

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        meta_dtype: np.dtype[Any] | None = None,
        variable_rows: bool = False,
    ) -> None:
        self.shape: Final = shape
        self.dtype: Final = dtype
        self.meta_dtype: Final = meta_dtype
        self.variable_rows: Final = variable_rows

    @property
    def frame_bytes(self) -> int:
        """Bytes of one frame."""
        return self.dtype.itemsize * math.prod(self.shape)

    @property
    def row_bytes(self) -> int:
        """Bytes of one step of the first axis if frames may be shorter, else 0."""
        return self.frame_bytes // self.shape[0] if self.variable_rows else 0

    @property
    def meta_bytes(self) -> int:
        """Bytes of the meta of one frame."""
        return 0 if self.meta_dtype is None else self.meta_dtype.itemsize

    def difference(self, other: FrameFormat) -> str | None:
        """Say in what these frames differ from others; None if every byte means the same in both."""
        pairs = {
            "shape": (self.shape, other.shape),
            "dtype": (self.dtype, other.dtype),
            "meta": (self.meta_dtype, other.meta_dtype),
            "variable_rows": (self.variable_rows, other.variable_rows),
        }
        differ = [
            f"{what} {mine}, not {theirs}"
            for what, (mine, theirs) in pairs.items()
            if (mine is None) != (theirs is None) or mine != theirs
        ]
        return "; ".join(differ) or None

    def __eq__(self, other: object) -> bool:
        """Whether the frames are the same."""
        return isinstance(other, FrameFormat) and self.difference(other) is None

    def __str__(self) -> str:
        """Describe the frames for a message."""
        meta = "" if self.meta_dtype is None else f" meta {self.meta_dtype}"
        rows = " variable_rows" if self.variable_rows else ""
        return f"{describe_array(self.shape, self.dtype)}{meta}{rows}"

    def described(self) -> dict[str, Any]:
        """Return what `parse_format` reads, as JSON can hold it: all but `variable_rows`."""
        meta = None if self.meta_dtype is None else describe_dtype(self.meta_dtype, "meta")
        return {"dtype": describe_dtype(self.dtype, "dtype"), "shape": self.shape, "meta": meta}


def format_of(frames: HasFrames) -> FrameFormat:
    """Return the format of the frames of a ring or a recording."""
    return FrameFormat(frames.shape, frames.dtype, frames.meta_dtype, frames.variable_rows)


def describe_array(shape: tuple[object, ...], dtype: np.dtype[Any]) -> str:
    """Write a shape and a dtype the same way everywhere."""
    return f"shape {shape} dtype {dtype}"


def check_format(
    shape: Any, dtype: npt.DTypeLike, meta: npt.DTypeLike | None, variable_rows: object
) -> FrameFormat:
    """Return the format that was asked for; TypeError or ValueError if no ring can have it."""
    lengths = _check_shape(shape)
    plain, inner = plain_dtype(dtype, "dtype")
    if len(lengths) + len(inner) > MAX_AXES:
        where = f", {len(inner)} of them in the sub-array dtype" if inner else ""
        raise ValueError(f"a frame has at most {MAX_AXES} axes, not {len(lengths) + len(inner)}{where}")
    meta_dtype = None if meta is None else _check_meta(meta)
    rows_vary = _core.check_flag("variable_rows", variable_rows)
    if rows_vary and not lengths + inner:
        raise ValueError("variable_rows needs a first axis; the shape is ()")
    return FrameFormat(lengths + inner, plain, meta_dtype, rows_vary)


def _check_shape(shape: Any) -> tuple[int, ...]:
    try:
        lengths = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
    except TypeError:
        raise TypeError(f"shape must be a tuple of ints, not {shape!r}") from None
    for length in lengths:
        if isinstance(length, bool) or not isinstance(length, (int, np.integer)):
            raise TypeError(f"shape must be a tuple of ints, not {shape!r}")
        if length < 1:
            raise ValueError(
                f"every axis of shape must be at least 1, not {shape!r}: empty frames are not supported"
            )
    return tuple(int(length) for length in lengths)


def _check_meta(meta: npt.DTypeLike) -> np.dtype[Any]:
    dtype, inner = plain_dtype(meta, "meta")
    if inner:
        raise ValueError("meta is one value of a dtype; wrap a sub-array in a structured dtype")
    if dtype.itemsize > _core.MAX_META:
        raise ValueError(
            f"the meta of one frame has at most {_core.MAX_META} bytes (1 MiB), not {dtype.itemsize}"
        )
    return dtype


def parse_format(described: Mapping[str, Any], variable_rows: bool) -> FrameFormat:
    """Read what `FrameFormat.described` returned; ValueError and others if no ring can have such frames."""
    shape = tuple(described["shape"])
    if len(shape) > MAX_AXES or not all(type(one) is int and 0 < one <= MAX_LENGTH for one in shape):
        raise ValueError("impossible shape")
    if variable_rows and not shape:
        raise ValueError("variable_rows without a first axis")
    meta = described["meta"]
    meta_dtype = None if meta is None else parse_dtype(meta)
    return FrameFormat(shape, parse_dtype(described["dtype"]), meta_dtype, variable_rows)


def slot_bytes(nbytes: int, slots: int) -> int:
    """Return the bytes of a slot that holds so many, so that exactly `slots` of them are whole pages."""
    import mmap

    unit = max(SLOT_ALIGNMENT, mmap.PAGESIZE // math.gcd(slots, mmap.PAGESIZE))
    return -(-nbytes // unit) * unit
