"""What the tests of recordings share."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

import shmring
from support.waiting import PATIENCE

LIBRARIES = {".zarr": "zarr", ".h5": "h5py"}


@pytest.fixture(scope="module", autouse=True)
def zarr_thread() -> None:
    """Zarr starts a thread that never ends: before the tests look what is left behind."""
    with contextlib.suppress(ModuleNotFoundError):
        import zarr

        zarr.create_group({})


def need(suffix: str) -> str:
    """Skip the test if the library for files with this suffix is not there."""
    if suffix in LIBRARIES:
        pytest.importorskip(LIBRARIES[suffix])
    return suffix


def feed_seqs(out: shmring.Producer, ring: shmring.Ring, count: int) -> None:
    """Frames whose every item says their seq."""
    for _ in range(count):
        out.put(np.full(ring.shape, out.next_seq & 0xFF, ring.dtype), timeout=PATIENCE)
