"""Turn a user's meta into the bytes of the ring's meta dtype, without changing a value."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Set
from typing import Any

import numpy as np

from shmring import _words

__all__ = ["Packer", "refuse_masked"]

PLAIN = frozenset({bool, int, float})
LETTERS = {  # of the struct module, by the kind and size of numpy's dtypes
    "b1": "?", "i1": "b", "i2": "h", "i4": "i", "i8": "q", "u1": "B", "u2": "H", "u4": "I", "u8": "Q",
    "f2": "e", "f4": "f", "f8": "d",
}  # fmt: skip


class Packer:
    """Turns metas into bytes of a dtype, quickly where they are plain numbers."""

    def __init__(self, dtype: np.dtype[Any]):
        self._dtype = dtype
        self._names = dtype.names
        self._layout = layout_of(dtype)

    def one(self, value: Any) -> bytes:
        """Return the bytes of the meta of one frame."""
        if self._layout is not None:
            packed = pack_plain(self._layout, self._names, value)
            if packed is not None:
                return packed
        cell = np.zeros((), self._dtype)
        if is_exact(value, self._dtype, ()):
            cell[()] = value
        else:
            with np.errstate(all="ignore"):
                store(cell, value, "meta")
        return cell.tobytes()

    def many(self, values: Any, count: int) -> bytes:
        """Return the bytes of the metas of `count` frames, in order."""
        if self._layout is not None and type(values) is list and len(values) == count:
            packed = [pack_plain(self._layout, self._names, value) for value in values]
            if None not in packed:
                return b"".join(packed)  # type: ignore[arg-type]
        return pack_many(values, self._dtype, count)


def pack_plain(layout: struct.Struct, names: tuple[str, ...] | None, value: Any) -> bytes | None:
    """Return the bytes of plain numbers; None if something might change, so that `store` must look."""
    kind = type(value)
    try:
        if names is None:
            given = (value,)
        elif kind is tuple:
            given = value
        elif kind is dict and len(value) == len(names):
            given = tuple([value[name] for name in names])
        else:
            return None
        if not PLAIN.issuperset(map(type, given)):
            return None
        packed = layout.pack(*given)
        kept = layout.unpack(packed)
    except (KeyError, struct.error, OverflowError):
        return None
    return packed if given == kept or all(map(same_number, given, kept)) else None


def layout_of(dtype: np.dtype[Any]) -> struct.Struct | None:
    """Return how the standard library packs a dtype of plain numbers; None for any other.

    Fields of a ring are in the order of their offsets, and do not overlap.
    """
    fields = [(dtype, 0)] if dtype.names is None else [dtype.fields[name][:2] for name in dtype.names]  # type: ignore[index]
    orders = {one.str[0] for one, _ in fields} - {"|"}
    letters, end = "", 0
    for one, offset in fields:
        letter = LETTERS.get(one.str[1:])
        if letter is None or len(orders) > 1:
            return None
        letters += "x" * (offset - end) + letter
        end = offset + one.itemsize
    order = orders.pop() if orders else "="
    return struct.Struct(order + letters + "x" * (dtype.itemsize - end))


def pack_many(values: Any, dtype: np.dtype[Any], count: int) -> bytes:
    """Return the bytes of the metas of `count` frames, in order."""
    if isinstance(values, (str, bytes, Mapping, Set)) or not hasattr(values, "__len__"):
        raise TypeError(f"metas must be a sequence with a value for each frame, not {type(values).__name__}")
    if hasattr(values, "__array__"):
        refuse_masked(values)
        values = np.asarray(values)
        if values.ndim == 0:
            raise TypeError("metas must be a sequence with a value for each frame, not a single value")
    if len(values) != count:
        raise ValueError(f"{_words.count(len(values), 'meta')} given for {_words.count(count, 'frame')}")
    cells = np.zeros(count, dtype)
    if is_exact(values, dtype, (count,)):
        cells[...] = values
        return cells.tobytes()
    with np.errstate(all="ignore"):
        store(cells, values, "metas")
    return cells.tobytes()


def is_exact(value: Any, dtype: np.dtype[Any], shape: tuple[int, ...]) -> bool:
    """Whether a value is numpy's own, of that dtype and shape, so that nothing can change."""
    own = type(value) is np.ndarray or isinstance(value, np.generic)
    return own and value.dtype == dtype and value.shape == shape


def refuse_masked(array: Any) -> None:
    """Raise for a masked array, or a list of some: the mask has no place in the ring."""
    some = array if isinstance(array, (list, tuple)) else (array,)
    if any(isinstance(one, np.ma.MaskedArray) for one in some):
        raise ValueError(
            "a masked array has a mask, which the ring cannot carry: pass array.filled(value), or array.data"
        )


def store(target: np.ndarray[Any, Any], value: Any, where: str) -> None:
    """Store a value, or nested sequences of values, of exactly the target's shape."""
    refuse_masked(value)
    if target.dtype.names is None:
        store_leaf(target, value, where)
        return
    if isinstance(value, (np.ndarray, np.void)) and value.dtype.names is not None:
        check_shape(target, value.shape, where)
        check_names(target.dtype, value.dtype.names, where)
        columns = {name: value[name] for name in target.dtype.names}
    else:
        rows = [by_name(row, target.dtype, where) for row in flatten(value, target.shape, where)]
        columns = {name: regroup([row[name] for row in rows], target.shape) for name in target.dtype.names}
    for name, column in columns.items():
        store(target[name], column, f"{where} field {name!r}")


def flatten(value: Any, shape: tuple[int, ...], where: str) -> list[Any]:
    """Return the values in nested sequences of that shape, in order."""
    if not shape:
        return [value]
    if not isinstance(value, (list, tuple, np.ndarray)) or len(value) != shape[0]:
        raise ValueError(f"{where}: {value!r:.100} given, expected {_words.count(shape[0], 'value')}")
    return [leaf for part in value for leaf in flatten(part, shape[1:], where)]


def regroup(values: list[Any], shape: tuple[int, ...]) -> Any:
    """Undo `flatten`."""
    if not shape:
        return values[0]
    step = math.prod(shape[1:])
    return [regroup(values[at : at + step], shape[1:]) for at in range(0, len(values), step)]


def by_name(row: Any, dtype: np.dtype[Any], where: str) -> Mapping[str, Any]:
    """Return the fields of one structured value."""
    names = dtype.names or ()
    if isinstance(row, np.ndarray) and row.ndim == 0:
        row = row[()]
    if isinstance(row, np.void) and row.dtype.names is not None:
        check_names(dtype, row.dtype.names, where)
        return {name: row[name] for name in names}
    if isinstance(row, Mapping):
        check_names(dtype, tuple(row), where)
        return row
    if not isinstance(row, (tuple, list)):
        raise ValueError(
            f"{where} has the fields {', '.join(names)}: give a tuple or a dict of them, not {row!r:.100}"
        )
    if len(row) != len(names):
        fields, values = _words.count(len(names), "field"), _words.count(len(row), "value")
        raise ValueError(f"{where} has {fields} ({', '.join(names)}), but {values} given")
    return dict(zip(names, row, strict=True))


def check_names(dtype: np.dtype[Any], given: tuple[Any, ...], where: str) -> None:
    """Raise unless exactly the fields of the dtype are given, in any order."""
    names = dtype.names or ()
    missing = [name for name in names if name not in given]
    unknown = [str(name) for name in given if name not in names]
    if missing or unknown:
        said = [
            f"{what}: {', '.join(some)}"
            for what, some in (("missing", missing), ("unknown", unknown))
            if some
        ]
        raise ValueError(f"{where} has the fields {', '.join(names)}; {'; '.join(said)}")


def check_shape(target: np.ndarray[Any, Any], shape: tuple[int, ...], where: str) -> None:
    """Raise where numpy would broadcast."""
    if shape != target.shape:
        raise ValueError(f"{where} has shape {target.shape}, but a value of shape {shape} was given")


def store_leaf(target: np.ndarray[Any, Any], value: Any, where: str) -> None:
    """Store values without fields."""
    dtype = target.dtype
    try:
        given = as_times(value, dtype) if dtype.kind in "mM" else np.asarray(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{where}: {value!r:.100} does not fit {dtype} ({error})") from None
    check_shape(target, given.shape, where)
    if given.dtype.kind in "cmM" and given.dtype.kind != dtype.kind:
        raise ValueError(f"{where}: {value!r:.100} does not fit {dtype}")
    try:
        target[...] = given
        kept = unchanged(target, given, value)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{where}: {value!r:.100} does not fit {dtype} ({error})") from None
    if not kept:
        raise ValueError(
            f"{where}: {value!r:.100} does not fit {dtype}, it would become {target.tolist()!r:.100}. "
            f"Convert it yourself if that is what you want"
        )


def as_times(value: Any, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """Return dates or durations in the unit in which they were given; an integer counts the meta's units."""
    given = np.asarray(value)
    if given.dtype.kind in "OSU":
        return np.asarray(value, f"{dtype.kind}8")
    return given.astype(dtype) if given.dtype.kind in "iu" else given


def unchanged(target: np.ndarray[Any, Any], given: np.ndarray[Any, Any], value: Any) -> bool:
    """Whether what was stored is what was given; floats may be rounded to the precision of the target."""
    kind = target.dtype.kind
    if kind in "mM":
        if given.dtype.kind != kind:
            return False
        back = target.astype(given.dtype)
        return bool(((back == given) | (np.isnat(back) & np.isnat(given))).all())
    if kind == "V":
        return given.dtype.kind in "SV" and given.dtype.itemsize <= target.dtype.itemsize
    same = same_text if kind in "SU" else same_number
    originals = np.asarray(value, object).ravel().tolist()
    return all(same(one, kept) for one, kept in zip(originals, target.ravel().tolist(), strict=True))


def same_number(given: Any, stored: Any) -> bool:
    """Whether a number came through; only floats in float fields may lose digits."""
    if isinstance(given, (str, bytes)):
        return False
    if isinstance(given, (float, np.floating)) and isinstance(stored, (float, np.floating)):
        return math.isfinite(given) == math.isfinite(stored)
    if isinstance(given, (complex, np.complexfloating)) and isinstance(stored, complex):
        return bool(np.isfinite(given) == np.isfinite(stored))
    return bool(given == stored)


def same_text(given: Any, stored: str | bytes) -> bool:
    """Whether a text came through; numpy drops NULs at its end."""
    if isinstance(given, str) and isinstance(stored, bytes):
        given = given.encode("ascii")
    elif isinstance(given, bytes) and isinstance(stored, str):
        given = given.decode("ascii")
    if not isinstance(given, (str, bytes)):
        return False
    return given.rstrip("\0" if isinstance(given, str) else b"\0") == stored  # type: ignore[arg-type]
