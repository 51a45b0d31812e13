"""What the frames of a ring look like: checked when asked for, written into the block, read back."""

from __future__ import annotations

import ast
import json
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from shmring import _core, errors

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Layout", "read_schema"]

LONGEST_QUOTE = 200  # characters of what somebody else wrote, in a message


class Layout:
    """What `create` was asked for, checked, in the units of the block."""

    def __init__(
        self,
        shape: Any,
        dtype: npt.DTypeLike,
        slots: int,
        consumers: int,
        meta: npt.DTypeLike | None,
        attrs: Mapping[str, Any] | None,
        variable_rows: bool,
    ) -> None:
        try:
            lengths = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
        except TypeError:
            raise TypeError(f"shape must be a tuple of ints, not {shape!r}") from None
        for length in lengths:
            if isinstance(length, bool) or not isinstance(length, (int, np.integer)):
                raise TypeError(f"shape must be a tuple of ints, not {shape!r}")
            if length < 1:
                raise ValueError(f"every axis of shape must be at least 1, not {shape!r}: no frame is empty")
        self.dtype, inner = plain_dtype(dtype, "dtype")
        self.shape = (*(int(length) for length in lengths), *inner)
        self.meta_dtype = None
        if meta is not None:
            self.meta_dtype, inner = plain_dtype(meta, "meta")
            if inner:
                raise ValueError("meta is one value of a dtype; wrap a sub-array in a structured dtype")
        if variable_rows and not self.shape:
            raise ValueError("variable_rows needs a first axis; the shape is ()")
        self.variable_rows = bool(variable_rows)
        self.slots = checked_int("slots", slots, 2, _core.MAX_SLOTS)
        self.consumers = checked_int("consumers", consumers, 1, _core.MAX_CONSUMERS)
        self.schema = write_schema(self.shape, self.dtype, self.meta_dtype, attrs)
        self.frame_bytes = self.dtype.itemsize * int(np.prod(self.shape, dtype=object))
        self.meta_bytes = 0 if self.meta_dtype is None else self.meta_dtype.itemsize
        self.row_bytes = self.frame_bytes // self.shape[0] if variable_rows else 0
        chosen = None
        if self.frame_bytes < 1 << 40 and self.meta_bytes < 1 << 20:
            chosen = _core.choose_geometry(
                self.slots,
                self.frame_bytes,
                self.meta_bytes,
                self.row_bytes,
                self.consumers,
                len(self.schema),
            )
        if chosen is None:
            raise ValueError(
                f"{slots} slots of {self.frame_bytes} bytes (meta of {self.meta_bytes} bytes each) make no "
                f"block: the limits are 1 TiB for a block and 1 MiB for one meta"
            )
        self.nbytes: int = chosen[1]

    @property
    def geometry(self) -> tuple[int, int, int, int, int]:
        """The numbers that `format_block` takes."""
        return self.slots, self.frame_bytes, self.meta_bytes, self.row_bytes, self.consumers


def checked_int(what: str, value: Any, least: int, most: int) -> int:
    """Return the int, or say what is wrong with it."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{what} must be an int, not {type(value).__name__}")
    if not least <= value <= most:
        raise ValueError(f"{what} must be {least} to {most}, not {value}")
    return int(value)


def plain_dtype(dtype: npt.DTypeLike, what: str) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Return a dtype that can live in shared memory, and the axes of a sub-array dtype."""
    if dtype is None:
        raise TypeError(f"{what} must be a numpy dtype, not None")
    try:
        found = np.dtype(dtype)
    except TypeError as error:
        raise TypeError(f"{what} must be a numpy dtype, not {dtype!r}: {error}") from None
    if found.hasobject:
        raise ValueError(f"{what} {found} holds Python objects, which another process cannot read")
    if found.itemsize == 0:
        raise ValueError(f"{what} {found} has no size; give its length ('S16', 'V8')")
    if found.subdtype is not None:
        return found.subdtype[0], found.subdtype[1]
    return found, ()


def describe_dtype(dtype: np.dtype[Any], what: str) -> str:
    """Write a dtype as the header of a .npy file does."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # numpy warns where the description loses something
            described = repr(np.lib.format.dtype_to_descr(dtype))
            if np.lib.format.descr_to_dtype(ast.literal_eval(described)) == dtype:
                return described
    except (ValueError, UserWarning, SyntaxError, RecursionError, MemoryError):  # those of ast.literal_eval
        pass
    raise ValueError(
        f"{what} {str(dtype)[:LONGEST_QUOTE]} cannot be described as in a .npy file; order its fields, "
        f"without overlaps, and nest them less deeply"
    )


def write_schema(
    shape: tuple[int, ...], dtype: np.dtype[Any], meta: np.dtype[Any] | None, attrs: Mapping[str, Any] | None
) -> bytes:
    """Describe frames as JSON; dtypes as in the header of a .npy file."""
    described = {
        "dtype": describe_dtype(dtype, "dtype"),
        "shape": shape,
        "meta": None if meta is None else describe_dtype(meta, "meta"),
    }
    try:
        text = json.dumps({**described, "attrs": dict(attrs or {})}, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise type(error)(f"attrs must be a mapping of str to what JSON can hold: {error}") from None
    schema = text.encode()
    if len(schema) > _core.MAX_SCHEMA:
        raise ValueError(
            f"dtype and attrs take {len(schema)} bytes, at most {_core.MAX_SCHEMA} fit in a ring"
        )
    return schema


def read_schema(block: _core.Block) -> tuple[_core.Schema, dict[str, Any]]:
    """Read what `write_schema` wrote; RingCorrupt if it does not fit the block's geometry."""
    try:
        found = json.loads(block.schema)
        attrs = dict(found["attrs"])
        json.dumps(attrs, allow_nan=False)
        dtype = np.lib.format.descr_to_dtype(ast.literal_eval(found["dtype"]))
        meta = found["meta"]
        meta_dtype = None if meta is None else np.lib.format.descr_to_dtype(ast.literal_eval(meta))
        shape: tuple[int, ...] = tuple(found["shape"])
        variable_rows = block.row_bytes != 0
        if len(shape) > 31 or not all(type(length) is int and 0 < length <= 1 << 40 for length in shape):
            raise ValueError("shape")
        if dtype.hasobject or dtype.subdtype is not None:
            raise ValueError("dtype")
        frame_bytes = dtype.itemsize * int(np.prod(shape, dtype=object))
        if frame_bytes != block.frame_bytes or (meta_dtype.itemsize if meta_dtype else 0) != block.meta_bytes:
            raise ValueError("frame size")
        if meta_dtype is not None and meta_dtype.hasobject:
            raise ValueError("meta dtype")
        if variable_rows and (not shape or block.row_bytes * shape[0] != frame_bytes):
            raise ValueError("row size")
        return _core.Schema(dtype, shape, meta_dtype, variable_rows), attrs
    except Exception as error:  # what json, ast and numpy raise for bytes that anybody may have written
        raise errors.RingCorrupt(
            f"the schema of ring {block.name!r} does not fit its header ({str(error)[:LONGEST_QUOTE]}): "
            f"something overwrote it. Create the ring anew"
        ) from None
