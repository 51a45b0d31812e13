"""Dtypes that can live in shared memory: checked when asked for, written as text, read back."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["brief", "describe_dtype", "parse_dtype", "plain_dtype"]

FIRST_FOREIGN = 24  # numpy's own types have the numbers below
BRIEF = 200  # characters of a dtype in a message


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
        raise ValueError(
            f"{what} {np.dtype(dtype)} is a sub-array with an axis of 0: empty frames are not supported"
        )
    if found.itemsize == 0:
        raise ValueError(f"{what} {found} has no size; give its length ('S16', 'V8')")
    return found, axes


def check_parts(dtype: np.dtype[Any], what: str) -> None:
    """Refuse a dtype with a part that another process cannot read, or cannot recreate from its name."""
    if dtype.fields is not None:
        for name in dtype.names or ():
            check_parts(dtype[name], what)
    elif dtype.subdtype is not None:
        check_parts(dtype.subdtype[0], what)
    elif dtype.kind == "T":
        raise ValueError(
            f"{what} has strings of variable width, which are stored outside the array, where another "
            f"process cannot read them; give them a width ('U16', 'S16')"
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
    """Return the dtype without its metadata, in which h5py notes enums and text."""
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
        f"{what} {brief(str, dtype)} cannot be described as in a .npy file; order its fields by their "
        f"offsets, without overlaps"
    )


def parse_dtype(described: str) -> np.dtype[Any]:
    """Read what `describe_dtype` wrote; ValueError if no ring can have that dtype."""
    plain = described[1:-1]
    if f"'{plain}'" == described and "'" not in plain and "\\" not in plain:  # as most are
        dtype: np.dtype[Any] = np.dtype(plain)
    else:
        dtype = np.lib.format.descr_to_dtype(ast.literal_eval(described))
    if dtype.hasobject or dtype.subdtype is not None:
        raise ValueError("impossible dtype")
    return dtype


def brief(write: Callable[[Any], str], value: Any) -> str:
    """Write a value for a message, however long or deep it is."""
    try:
        text = write(value)
    except RecursionError:
        return f"a deeply nested {type(value).__name__}"
    return text if len(text) <= BRIEF else f"{text[:BRIEF]}..."


def too_deep(what: str) -> ValueError:
    """Explain that a dtype is nested too deeply."""
    return ValueError(f"{what} is nested too deeply to be described (at most about 100 levels): flatten it")
