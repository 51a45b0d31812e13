"""What the loader uses of torch beyond its documented interface, all of it: the same from 2.4 to 2.13."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch._utils import ExceptionWrapper
from torch.utils.data import _utils
from torch.utils.data.dataloader import _BaseDataLoaderIter as LoaderIterator
from torch.utils.data.dataloader import _DatasetKind

__all__ = [
    "MAP",
    "ExceptionWrapper",
    "LoaderIterator",
    "become_worker",
    "collate_tensors",
    "make_fetcher",
    "pin_memory",
    "profiler_is_on",
    "replace_stack",
]

collate_tensors = _utils.collate.collate_tensor_fn
profiler_is_on = torch._C._autograd._profiler_enabled
pin_memory = _utils.pin_memory.pin_memory
make_fetcher = _DatasetKind.create_fetcher
MAP = _DatasetKind.Map


def become_worker(worker_id: int, num_workers: int, base_seed: int, dataset: Any) -> None:
    """Seed what a worker of a DataLoader seeds, and make `get_worker_info` answer."""
    torch.set_num_threads(1)
    seed = base_seed + worker_id
    random.seed(seed)
    torch.manual_seed(seed)
    np.random.seed(_utils.worker._generate_state(base_seed, worker_id))  # noqa: NPY002
    _utils.worker._worker_info = _utils.worker.WorkerInfo(
        id=worker_id, num_workers=num_workers, seed=seed, dataset=dataset
    )


def replace_stack(stack: Callable[..., Any]) -> None:
    """Let `default_collate` make batches of tensors with `stack`, unless the user has replaced that too."""
    functions = _utils.collate.default_collate_fn_map
    if functions.get(torch.Tensor) is collate_tensors:
        functions[torch.Tensor] = stack
