"""Arrays from elsewhere, and frames for elsewhere: numpy's and DLPack's rules for both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = [
    "Lent",
    "as_array",
    "as_dlpack",
    "check_tensor_dtype",
    "survives_buffers",
    "timestamps_of",
]

Array = np.ndarray[Any, np.dtype[Any]]

MOST_BUFFER_FIELDS = 1000  # numpy reads the description of n fields in n * n steps


def timestamps_of(value: npt.ArrayLike, count: int) -> npt.NDArray[np.int64]:
    """Return one timestamp for each of `count` frames, as int64 in one piece."""
    given = np.asarray(value)
    if given.dtype.kind not in "iu":
        raise TypeError(f"timestamps are whole numbers of nanoseconds in 64 bits, not {given.dtype}")
    if given.shape != (count,):
        raise ValueError(f"timestamps have shape {given.shape}, expected ({count},): one for each frame")
    if given.dtype.kind == "u" and given.size and given.max() > np.iinfo(np.int64).max:
        raise OverflowError(
            f"timestamps must fit into 64 bits with a sign, up to 2**63 - 1, not {given.max()}"
        )
    return np.ascontiguousarray(given, np.int64)


def as_array(frame: Array, dtype: npt.DTypeLike | None, copy: bool | None) -> Array:
    """Return what ``__array__`` of a frame does."""
    if dtype is not None and np.dtype(dtype) != frame.dtype:
        if copy is False:
            raise ValueError(
                f"a frame of dtype {frame.dtype} cannot be seen as {np.dtype(dtype)} without a copy"
            )
        return frame.astype(dtype)
    return frame.copy() if copy else frame


def as_dlpack(
    frame: Array, kind: str, max_version: tuple[int, int] | None, copy: bool | None, options: dict[str, Any]
) -> Any:
    """Return what ``__dlpack__`` of a frame does: the frame's memory if the caller knows of read-only memory.

    Any other caller gets a copy, which the protocol allows unless copy is False.
    """
    if max_version is not None and max_version[0] >= 1:
        return frame.__dlpack__(max_version=max_version, copy=copy, **options)
    if copy is False:
        raise BufferError(
            f"a {kind} is read-only, which DLPack before 1.0 cannot express: "
            "allow a copy (copy=None), or ask for max_version=(1, 0)"
        )
    return frame.copy().__dlpack__(**options)


# What torch and JAX have as well.
TENSOR_DTYPES = {
    np.dtype(code)
    for code in ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"]
}


def check_tensor_dtype(dtype: np.dtype[Any], library: str, call: str) -> None:
    """Raise TypeError for a dtype that a library of tensors lacks, with a call that takes a conversion."""
    if dtype not in TENSOR_DTYPES:
        raise TypeError(f"{library} has no dtype for {dtype}; convert it: {call}({converted(dtype)})")


def converted(dtype: np.dtype[Any]) -> str:
    """Write the expression that makes of a frame an array for tensors."""
    if dtype.names is not None:
        return f"frame.array[{dtype.names[0]!r}].copy()"
    if dtype.kind in "SUV":
        return "frame.array.view('u1').copy()"
    if dtype.kind in "mM":
        return "frame.array.astype('i8')"
    if dtype.newbyteorder("=") in TENSOR_DTYPES:
        return "frame.array.astype(frame.dtype.newbyteorder('='))"
    return f"frame.array.astype('{'c16' if dtype.kind == 'c' else 'f8'}')"


class Lent:
    """A read-only array, lent to a library that has no read-only ones: nobody writes, that is agreed.

    ``numpy.asarray`` of it looks writable, and keeps it.
    """

    def __init__(self, array: Array) -> None:
        interface = array.__array_interface__
        self.__array_interface__ = {**interface, "data": (interface["data"][0], False)}
        self.array = array


def survives_buffers(dtype: np.dtype[Any]) -> bool:
    """Return whether a dtype comes back out of the buffer protocol (PEP 3118) as it went in, and soon."""
    if count_fields(dtype) > MOST_BUFFER_FIELDS:
        return False
    try:
        return np.asarray(memoryview(np.empty(1, dtype))).dtype == dtype
    except (ValueError, RuntimeError, NotImplementedError, BufferError):
        return False


def count_fields(dtype: np.dtype[Any]) -> int:
    """Return how many fields a dtype has, those of its fields included; 1 if it has none."""
    base = dtype.base
    if base.names is None:
        return 1
    return sum(count_fields(base[index]) for index in range(len(base.names)))
