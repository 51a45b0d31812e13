"""Datasets for the tests of loaders: in a module of their own, so that spawned workers find them."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, IterableDataset, get_worker_info

Pair = namedtuple("Pair", "image label")


class Arrays(Dataset):
    """`count` arrays, each full of its index."""

    def __init__(self, count: int, shape: tuple[int, ...] = (3, 4), dtype: Any = "f4") -> None:
        self.count, self.shape, self.dtype = count, shape, dtype

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        return np.full(self.shape, index, self.dtype)


class Everything(Arrays):
    """Samples with all that default_collate takes."""

    def __getitem__(self, index: int) -> Any:
        return {
            "array": np.full((2, 3), index, "u2"),
            "tensor": torch.full((5,), index, dtype=torch.bfloat16),
            "number": index,
            "real": index / 7,
            "scalar": np.float32(index),
            "flag": torch.tensor(index % 2 == 0),
            "complex": torch.tensor([1j * index]),
            "text": f"sample {index}",
            "bytes": b"\0" * index,
            "empty": np.empty((0, 4)),
            "pair": Pair(torch.full((2, 2), index), (index, [float(index), np.int8(index)])),
            "list": [torch.ones(3) * index, "x"],
        }


class Dice(Arrays):
    """Random numbers, from every generator that a loader seeds, and who drew them."""

    def __getitem__(self, index: int) -> Any:
        info = get_worker_info()
        seed = torch.initial_seed() if info is None else info.seed
        assert seed == torch.initial_seed()
        return torch.rand(2), np.random.rand(2), random.random(), seed, -1 if info is None else info.id  # noqa: NPY002


class Sizes(Arrays):
    """Arrays that become larger, and smaller again."""

    def __getitem__(self, index: int) -> Any:
        return np.full(((index * 7919) % 50_000,), index, "i4")


class Many(Arrays):
    """Loads all samples of a batch at once."""

    def __getitems__(self, indices: list[int]) -> list[Any]:
        return [sum(indices), len(indices)]


class Counting(IterableDataset):
    """Counts; each worker has its share."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __iter__(self) -> Any:
        info = get_worker_info()
        first, step = (0, 1) if info is None else (info.id, info.num_workers)
        return (np.full((3,), number) for number in range(first, self.count, step))


class Uneven(Counting):
    """The first worker has nearly everything."""

    def __iter__(self) -> Any:
        info = get_worker_info()
        if info is None:
            return iter(range(self.count))
        return iter(range(self.count - 2)) if info.id == 0 else iter([1000 + info.id])


class Failing(Arrays):
    """One sample raises an error."""

    def __init__(self, count: int, bad: int, error: Any) -> None:
        super().__init__(count)
        self.bad, self.error = bad, error

    def __getitem__(self, index: int) -> Any:
        if index == self.bad:
            raise self.error(f"sample {index} is broken")
        return super().__getitem__(index)


class Unpicklable(Arrays):
    def __getitem__(self, index: int) -> Any:
        return {"index": index, "function": lambda: index}


class Deadly(Arrays):
    """One sample ends its process, as often as there are files in a folder to remove."""

    def __init__(self, count: int, bad: int, folder: Path, end: Any = signal.SIGKILL) -> None:
        super().__init__(count)
        self.bad, self.folder, self.end = bad, folder, end

    def __getitem__(self, index: int) -> Any:
        if index == self.bad:
            for file in sorted(self.folder.iterdir()):
                file.unlink()
                if isinstance(self.end, signal.Signals):
                    os.kill(os.getpid(), self.end)
                raise SystemExit(self.end)
        return super().__getitem__(index)


class Stuck(Arrays):
    """Samples that never come; each says in a pipe who waits."""

    def __init__(self, pipe: int) -> None:
        super().__init__(8)
        self.pipe = pipe

    def __getitem__(self, index: int) -> Any:
        os.write(self.pipe, f"{os.getpid()}\n".encode())
        threading.Event().wait()


def collate_list(samples: list[Any]) -> Any:
    """A collate_fn that leaves numpy arrays and other things in the batch."""
    return {"arrays": [np.asarray(sample) for sample in samples], "count": len(samples), "none": None}


class Remember:
    """A collate_fn that keeps its batches, and checks that they stay as they were."""

    def __init__(self) -> None:
        self.kept: list[Any] = []

    def __call__(self, samples: list[Any]) -> Any:
        for first, batch in self.kept:
            assert (batch == first).all(), (batch, first)
        batch = torch.utils.data.default_collate(samples)
        self.kept.append((float(samples[0].flat[0]), batch))
        return batch


def collate_channels_last(samples: list[Any]) -> Any:
    return torch.stack([torch.as_tensor(sample) for sample in samples]).contiguous(
        memory_format=torch.channels_last
    )


def odd_tensors(samples: list[Any]) -> Any:
    """Tensors that are more than numbers in memory."""
    plain = torch.arange(12.0).view(3, 4) + float(samples[0].flat[0])
    return {
        "transposed": plain.T,
        "strided": plain[:, ::2],
        "expanded": plain[0].expand(5, 4),
        "parameter": torch.nn.Parameter(plain.clone()),
        "gradient": plain.clone().requires_grad_(),
        "sparse": plain.to_sparse(),
        "zero": torch.tensor(1.5),
        "empty": torch.empty(0, 3),
        "fortran": np.asfortranarray(plain.numpy()),
        "records": np.zeros(3, [("a", "u1"), ("b", "f8")]),
        "objects": np.array([None, "x"], object),
        "dates": np.array(["2026-11-30"], "M8[D]"),
    }


def lazy_tensors(samples: list[Any]) -> Any:
    """Tensors with a bit that says that their memory is to be read otherwise."""
    number = torch.complex(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])) + float(samples[0].flat[0])
    return {"conjugate": number.conj(), "negative": number.conj().imag}


def seed_init(worker_id: int) -> None:
    """A worker_init_fn that needs get_worker_info."""
    info = get_worker_info()
    assert info is not None
    assert info.id == worker_id
    info.dataset.count_of_inits = getattr(info.dataset, "count_of_inits", 0) + 1


def bad_init(worker_id: int) -> None:
    raise ValueError(f"no camera for worker {worker_id}")
