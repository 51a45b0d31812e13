"""What the tests of recordings share."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import shmring
from shmring import recording
from shmring.recording.formats import _columns
from support.waiting import PATIENCE

LIBRARIES = {".zarr": "zarr", ".h5": "h5py"}


@contextlib.contextmanager
def copied_before_each(calls: list[tuple[object, str]], folder: Path, copies: Path) -> Iterator[list[Path]]:
    """`folder` before each of these calls, as kill -9 there would leave it: a copy for each."""
    made: list[Path] = []
    busy = False

    def copying(call):
        def copied(*arguments, **options):
            nonlocal busy
            if not busy:
                busy = True
                made.append(shutil.copytree(folder, copies / str(len(made))))
                busy = False
            return call(*arguments, **options)

        return copied

    with pytest.MonkeyPatch.context() as patch:
        for where, name in calls:
            patch.setattr(where, name, copying(getattr(where, name)))
        yield made


def need(suffix: str) -> str:
    """Skip the test if the library for files with this suffix is not there."""
    if suffix in LIBRARIES:
        pytest.importorskip(LIBRARIES[suffix])
    return suffix


def feed_seqs(out: shmring.Producer, ring: shmring.Ring, count: int) -> None:
    """Frames whose every item says their seq."""
    for _ in range(count):
        out.put(np.full(ring.shape, out.next_seq & 0xFF, ring.dtype), timeout=PATIENCE)


# ---- for Peer: `here` is the name space of the other process


def flush_each_frame(here) -> None:
    """What a recorder has is in the file."""
    _columns.FLUSH_EVERY = 0


def record(here, name: str, path: str, roll_at: int | None = None) -> int:
    """Record to the end of the stream, into pieces of `roll_at` frames; how many it were."""
    roll = recording.Roll(frames=roll_at) if roll_at else None
    return recording.record(name, path, roll=roll).frames
