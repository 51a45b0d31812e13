"""Arrays from elsewhere, and frames for elsewhere: numpy's and DLPack's rules for both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["as_array", "as_dlpack", "survives_buffers", "timestamps_of"]

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


# Before, an ndarray exports DLPack 0.8, and takes neither max_version nor copy.
NUMPY_HAS_DLPACK_1 = np.lib.NumpyVersion(np.__version__) >= "2.1.0"


def as_dlpack(
    frame: Array, kind: str, max_version: tuple[int, int] | None, copy: bool | None, options: dict[str, Any]
) -> Any:
    """Return what ``__dlpack__`` of a frame does."""
    if not copy and (max_version is None or max_version[0] < 1):
        raise BufferError(
            f"a {kind} is read-only, which DLPack before 1.0 cannot express; copy it "
            "(.array.copy()), or ask for max_version=(1, 0)"
        )
    if NUMPY_HAS_DLPACK_1:
        return frame.__dlpack__(max_version=max_version, copy=copy, **options)
    if not copy:
        raise BufferError(
            f"a {kind} is read-only, and numpy {np.__version__} cannot express that in DLPack: install numpy "
            f"2.1 or newer, or copy it (.array.copy())"
        )
    return frame.copy().__dlpack__()


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
