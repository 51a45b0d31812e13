"""Frames as tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from shmring._arrays import Lent, check_tensor_dtype
from shmring._core import Batch, Frame, check_flag

__all__ = ["as_tensor", "check_dtype"]


def as_tensor(frame: Frame | Batch, copy: bool | None = None) -> torch.Tensor:
    """Return a frame or a batch as a tensor on the CPU.

    Parameters
    ----------
    frame : Frame or Batch
    copy : bool, optional
        None, the default: a tensor that you may change, and nobody else sees it (``frame.private()``): the
        memory is copied page by page, where you write. True: a copy, which does not hold the slot. False:
        the slot itself, without any copy. That is the cheapest, but torch has no read-only tensors: an
        operation in place (``tensor.sub_(1)``) ends the process with SIGSEGV.

    Returns
    -------
    torch.Tensor
        Of the shape and dtype of the frame. Unless it is a copy, it holds the slot until the last tensor,
        storage or array on its memory is gone.

    Raises
    ------
    TypeError
        torch has no such dtype: of another byte order, structured, text, times, long double. The message
        has a conversion that works.
    ValueError
        The frame was released.

    Examples
    --------
    >>> import numpy as np, shmring
    >>> from shmring.torch import as_tensor
    >>> with shmring.Ring.create(shape=(2,), dtype="f4", slots=4) as ring, ring.consumer() as frames:
    ...     with ring.producer() as out:
    ...         _ = out.put(np.ones(2, "f4"))
    ...     frame = frames.get()
    ...     as_tensor(frame).sub_(0.25), frame.array
    (tensor([0.7500, 0.7500]), array([1., 1.], dtype=float32))
    """
    if not isinstance(frame, (Frame, Batch)):
        raise TypeError(
            f"as_tensor takes a Frame or a Batch, not {type(frame).__name__}; for an array there is "
            f"torch.from_numpy"
        )
    check_dtype(frame.dtype)
    if copy is None:
        return torch.from_numpy(frame.private())
    tensor = torch.from_numpy(np.asarray(Lent(frame.array)))
    return tensor.clone() if check_flag("copy", copy) else tensor


def check_dtype(dtype: np.dtype[Any]) -> None:
    """Raise TypeError for a dtype that torch lacks."""
    check_tensor_dtype(dtype, "torch", "torch.from_numpy")
