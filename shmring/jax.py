"""For JAX: frames as arrays."""

from __future__ import annotations

import numpy as np

try:
    import jax
except ModuleNotFoundError as _error:
    if _error.name != "jax":
        raise
    raise ModuleNotFoundError('shmring.jax needs JAX: pip install "shmring[jax]"', name="jax") from None

from shmring._arrays import Lent, check_tensor_dtype
from shmring._core import Batch, Frame, check_flag

__all__ = ["asarray"]


def asarray(frame: Frame | Batch, copy: bool | None = None) -> jax.Array:
    """Return a frame or a batch as an array of JAX on the CPU.

    JAX's arrays are immutable, so the slot itself can be one: nothing is copied, unless JAX changes the
    dtype or needs another alignment, or the frames of a batch have gaps between them.
    ``jax.device_put(array, device)`` moves the array to another device.

    Parameters
    ----------
    frame : Frame or Batch
    copy : bool, optional
        None, the default: only if need be. True: always, and the slot is not held. False: never; ValueError
        if it would be needed.

    Returns
    -------
    jax.Array
        Of the shape of the frame. Its dtype is what JAX makes of the frame's: 64-bit numbers become 32-bit
        ones unless ``jax_enable_x64`` is set. Unless it is a copy, it holds the slot until the last array on
        its memory is gone, and what JAX computes from it in the background is done.

    Raises
    ------
    TypeError
        JAX has no such dtype: of another byte order, structured, text, times, long double. The message has
        a conversion that works.
    ValueError
        The frame was released; or `copy` is False and JAX would copy.

    Examples
    --------
    >>> import numpy as np, shmring
    >>> import shmring.jax
    >>> with shmring.Ring.create(shape=(2,), dtype="f4", slots=4) as ring, ring.consumer() as frames:
    ...     with ring.producer() as out:
    ...         _ = out.put(np.ones(2, "f4"))
    ...     shmring.jax.asarray(frames.get())
    Array([1., 1.], dtype=float32)
    """
    if not isinstance(frame, (Frame, Batch)):
        raise TypeError(
            f"asarray takes a Frame or a Batch, not {type(frame).__name__}; for an array there is "
            f"jax.numpy.asarray"
        )
    check_tensor_dtype(frame.dtype, "JAX", "jax.numpy.asarray")
    wanted = copy is not None and check_flag("copy", copy)
    if copy is False:
        check_kept(frame)
    if wanted or not frame.array.flags.c_contiguous:
        return jax.numpy.from_dlpack(frame.array.copy())
    # By DLPack: device_put would keep the slot until the next call into JAX, even after the array is gone.
    return jax.numpy.from_dlpack(np.asarray(Lent(frame.array)), copy=copy)


def check_kept(frame: Frame | Batch) -> None:
    """Raise ValueError for what JAX copies."""
    becomes = jax.dtypes.canonicalize_dtype(frame.dtype)
    if becomes != frame.dtype:
        raise ValueError(
            f"JAX makes {becomes} of {frame.dtype}, which takes a copy: allow it (copy=None), or set "
            f"jax.config.update('jax_enable_x64', True)"
        )
    array = frame.array
    if not array.flags.c_contiguous:
        raise ValueError(
            f"a frame has {array[0].nbytes} bytes and its slot {array.strides[0]}, and JAX has no arrays "
            f"with gaps, so this batch takes a copy: allow it (copy=None), or take single frames"
        )
