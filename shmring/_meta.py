"""Turn a user's meta into the bytes of the ring's meta dtype, without changing a value."""

from __future__ import annotations

import math
from collections.abc import Mapping, Set
from typing import Any

import numpy as np

__all__ = ["pack_many", "pack_one"]

PLAIN = frozenset({bool, int, float})


def pack_one(value: Any, dtype: np.dtype[Any]) -> bytes:
    """Return the bytes of the meta of one frame."""
    cell = np.zeros((), dtype)
    if is_exact(value, cell):
        cell[()] = value
        return cell.tobytes()
    with np.errstate(all="ignore"):
        if not store_plain(cell, value):
            store(cell, value, "meta")
    return cell.tobytes()


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
        raise ValueError(f"{len(values)} metas given for {count} frame(s)")
    cells = np.zeros(count, dtype)
    if is_exact(values, cells):
        cells[...] = values
        return cells.tobytes()
    with np.errstate(all="ignore"):
        store(cells, values, "metas")
    return cells.tobytes()


def is_exact(value: Any, target: np.ndarray[Any, Any]) -> bool:
    """Whether a value is numpy's own, of the target's dtype and shape, so that nothing can change."""
    own = type(value) is np.ndarray or isinstance(value, np.generic)
    return own and value.dtype == target.dtype and value.shape == target.shape


def refuse_masked(array: Any) -> None:
    """Raise for a masked array, or a list of some: the mask has no place in the ring."""
    some = array if isinstance(array, (list, tuple)) else (array,)
    if any(isinstance(one, np.ma.MaskedArray) for one in some):
        raise ValueError(
            "a masked array has a mask, which the ring cannot carry: pass array.filled(value), or array.data"
        )


def store_plain(cell: np.ndarray[Any, Any], value: Any) -> bool:
    """Store plain numbers quickly; False if something may have changed, so that `store` must check."""
    structured = cell.dtype.names is not None
    given = value if type(value) is tuple else (value,)
    if structured != (given is value) or not PLAIN.issuperset(map(type, given)):
        return False
    try:
        cell[()] = value
    except (TypeError, ValueError, OverflowError):
        return False
    kept = cell.item() if structured else (cell.item(),)
    return PLAIN.issuperset(map(type, kept)) and (given == kept or all(map(same_number, given, kept)))


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
        raise ValueError(f"{where}: {value!r:.100} given, expected {shape[0]} values")
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
        raise ValueError(f"{where} has {len(names)} fields ({', '.join(names)}), but {len(row)} values given")
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
