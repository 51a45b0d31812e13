"""What the frames of a ring look like: checked when asked for, written into the block, read back."""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from shmring import _core, errors

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Layout", "read_schema"]

MAX_AXES = 31  # numpy before 2.0 has 32, and a batch takes one
MAX_LEVELS = 100  # of attrs: whoever attaches deep in a stack of calls must be able to read them, too
MAX_META = _core.MAX_META
MAX_BLOCK = _core.MAX_BLOCK
FIRST_FOREIGN = 24  # numpy's own types have the numbers below
BRIEF = 200  # characters of a dtype in a message


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
        if len(self.shape) > MAX_AXES:
            where = f", {len(inner)} of them in the sub-array dtype" if inner else ""
            raise ValueError(f"a frame has at most {MAX_AXES} axes, not {len(self.shape)}{where}")
        self.meta_dtype = None
        if meta is not None:
            self.meta_dtype, inner = plain_dtype(meta, "meta")
            if inner:
                raise ValueError("meta is one value of a dtype; wrap a sub-array in a structured dtype")
        self.variable_rows = _core.check_flag("variable_rows", variable_rows)
        if variable_rows and not self.shape:
            raise ValueError("variable_rows needs a first axis; the shape is ()")
        self.slots = checked_int("slots", slots, 2, _core.MAX_SLOTS)
        self.consumers = checked_int("consumers", consumers, 1, _core.MAX_CONSUMERS)
        self.schema = write_schema(self.shape, self.dtype, self.meta_dtype, attrs)
        self.frame_bytes = self.dtype.itemsize * math.prod(self.shape)
        self.meta_bytes = 0 if self.meta_dtype is None else self.meta_dtype.itemsize
        self.row_bytes = self.frame_bytes // self.shape[0] if variable_rows else 0
        if self.meta_bytes > MAX_META:
            raise ValueError(f"one meta may have {MAX_META} bytes (1 MiB), not {self.meta_bytes}")
        chosen = None
        if self.frame_bytes < MAX_BLOCK:
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
    except (TypeError, ValueError, SyntaxError, OverflowError, RecursionError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{what} must be a numpy dtype, not {brief(repr, dtype)}: {error}") from None
    axes: tuple[int, ...] = ()
    while found.subdtype is not None:
        axes += found.subdtype[1]
        found = found.subdtype[0]
    try:
        check_parts(found, what)
        found = without_metadata(found)
    except RecursionError:
        raise too_deep(what) from None
    if 0 in axes:
        raise ValueError(f"{what} {np.dtype(dtype)} is a sub-array with an axis of 0: no frame is empty")
    if found.itemsize == 0:
        raise ValueError(f"{what} {found} has no size; give its length ('S16', 'V8')")
    return found, axes


def brief(write: Callable[[Any], str], value: Any) -> str:
    """Write a value for a message, however long or deep it is."""
    try:
        text = write(value)
    except RecursionError:
        return f"a deeply nested {type(value).__name__}"
    return text if len(text) <= BRIEF else f"{text[:BRIEF]}..."


def too_deep(what: str) -> ValueError:
    """Say that a dtype is nested too deeply."""
    return ValueError(f"{what} is nested too deeply to be described (about 100 levels can be): flatten it")


def check_parts(dtype: np.dtype[Any], what: str) -> None:
    """Refuse a dtype with a part that another process cannot read, or cannot know by its name."""
    if dtype.fields is not None:
        for name in dtype.names or ():
            check_parts(dtype[name], what)
    elif dtype.subdtype is not None:
        check_parts(dtype.subdtype[0], what)
    elif dtype.kind == "T":
        raise ValueError(
            f"{what} has strings of variable width, which lie outside of the array, where another process "
            f"cannot read them; give them a width ('U16', 'S16')"
        )
    elif dtype.hasobject:
        raise ValueError(f"{what} has Python objects in it ({dtype}), which another process cannot read")
    elif not 0 <= dtype.num < FIRST_FOREIGN:
        plain = f"u{dtype.itemsize}" if dtype.itemsize in (1, 2, 4, 8) else f"V{dtype.itemsize}"
        module, kind = dtype.type.__module__, dtype.type.__name__
        raise ValueError(
            f"{what} has a part of type {kind}, which {module.partition('.')[0]} adds to numpy: a ring "
            f'describes numpy\'s own types only. Give that part the dtype "{plain}", write into it with '
            f'array.view("{plain}"), and read it with frame.array.view({module}.{kind})'
        )


def without_metadata(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype without what somebody noted on it, as h5py does for enums and text."""
    fields: Any = dtype.fields  # numpy's stubs take literal names alone
    if fields is not None:
        entries = [fields[name] for name in dtype.names or ()]
        parts = [without_metadata(entry[0]) for entry in entries]
        same = all(part is entry[0] for part, entry in zip(parts, entries, strict=True))
        if same and dtype.metadata is None:
            return dtype
        layout = {
            "names": list(dtype.names or ()),
            "formats": parts,
            "offsets": [entry[1] for entry in entries],
            "titles": [entry[2] if len(entry) > 2 else None for entry in entries],
            "itemsize": dtype.itemsize,
        }
        return np.dtype(layout, align=dtype.isalignedstruct)  # type: ignore[call-overload, no-any-return]
    if dtype.subdtype is not None:
        part = without_metadata(dtype.subdtype[0])
        return dtype if part is dtype.subdtype[0] else np.dtype((part, dtype.subdtype[1]))
    return dtype if dtype.metadata is None else np.dtype(dtype.str)


def describe_dtype(dtype: np.dtype[Any], what: str) -> str:
    """Write a dtype as the header of a .npy file does."""
    try:
        described = repr(np.lib.format.dtype_to_descr(dtype))
        if np.lib.format.descr_to_dtype(ast.literal_eval(described)) == dtype:
            return described
    except (SyntaxError, RecursionError, MemoryError):
        raise too_deep(what) from None
    except ValueError:
        pass
    raise ValueError(
        f"{what} {brief(str, dtype)} cannot be described as in a .npy file; order its fields, without "
        f"overlaps"
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
        too_many_levels = levels_of(attrs or {}) > MAX_LEVELS
    except RecursionError:
        text, too_many_levels = "", True
    except (TypeError, ValueError) as error:
        raise type(error)(f"attrs must be a mapping of str to what JSON can hold: {error}") from None
    if too_many_levels:
        raise ValueError(f"attrs are nested too deeply: at most {MAX_LEVELS} levels, so flatten them")
    schema = text.encode()
    if len(schema) > _core.MAX_SCHEMA:
        raise ValueError(
            f"dtype, meta and attrs take {len(schema)} bytes to describe, at most {_core.MAX_SCHEMA} fit in "
            f"a ring: shorten the names of the fields, or the attrs"
        )
    return schema


def levels_of(value: Any) -> int:
    """Return how deep mappings and lists are nested."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if not isinstance(value, (list, tuple)):
        return 0
    return 1 + max(map(levels_of, value), default=0)


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
        if len(shape) > MAX_AXES or not all(
            type(length) is int and 0 < length <= 1 << 40 for length in shape
        ):
            raise ValueError("shape")
        if dtype.hasobject or dtype.subdtype is not None:
            raise ValueError("dtype")
        frame_bytes = dtype.itemsize * math.prod(shape)
        if frame_bytes != block.frame_bytes or (meta_dtype.itemsize if meta_dtype else 0) != block.meta_bytes:
            raise ValueError("frame size")
        if meta_dtype is not None and meta_dtype.hasobject:
            raise ValueError("meta dtype")
        if variable_rows and (not shape or block.row_bytes * shape[0] != frame_bytes):
            raise ValueError("row size")
        return _core.Schema(dtype, shape, meta_dtype, variable_rows), attrs
    except Exception as error:  # what json, ast and numpy raise for bytes that anybody may have written
        raise errors.RingCorrupt(
            f"the schema of ring {block.name!r} does not fit its header ({brief(str, error)}): "
            f"something overwrote it. Recreate the ring"
        ) from None
