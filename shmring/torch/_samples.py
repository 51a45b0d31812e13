"""What a dataset makes of a frame unless the user says it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from shmring._arrays import TENSOR_DTYPES
from shmring._core import Frame
from shmring.torch._tensor import as_tensor

__all__ = ["sample_of"]


def sample_of(frame: Frame) -> Any:
    """Return a copy of a frame as a tensor; with its meta, if the ring has some."""
    tensor = as_tensor(frame, copy=True)
    return tensor if frame.meta is None else (tensor, plain(frame.meta))


def plain(meta: Any) -> Any:
    """Return a meta in the types that DataLoader puts into batches: a dict of its fields, tensors, text."""
    if meta.dtype.names is not None:
        return {name: plain(meta[name]) for name in meta.dtype.names}
    array = np.array(meta, meta.dtype.newbyteorder("="))
    if array.dtype.kind in "mM":
        array = array.astype("i8")  # in its own unit
    return torch.from_numpy(array) if array.dtype in TENSOR_DTYPES else meta.tolist()
