"""Rings, as mypy and pyright see them; never run."""

from multiprocessing.shared_memory import SharedMemory
from typing import assert_type

import numpy as np

import shmring

with shmring.Ring.create(shape=(480, 640), dtype="u1", slots=8) as ring:
    assert_type(ring, shmring.Ring)
    assert_type(ring.name, str)
    assert_type(ring.shape, tuple[int, ...])
    assert_type(ring.slots, int)
    assert_type(ring.variable_rows, bool)
    assert_type(ring.stats(), shmring.RingStats)
    assert_type(ring.stats().consumers, tuple[shmring.ConsumerStats, ...])
    assert_type(ring.stats().producer.epoch, int)
    ring.attrs["unit"] = "V"  # type: ignore[index]

size = shmring.Ring.required_size(shape=(3,), dtype=np.float32, slots=2)
assert_type(size, int)
block = SharedMemory(create=True, size=size)
shmring.Ring.create("digitiser", shape=3, dtype=np.dtype("f4"), slots=2, block=block, attrs={"unit": "V"})
shmring.Ring.create("meta", shape=(3,), dtype="f4", slots=2, meta=[("gain", "f8")], variable_rows=True)
shmring.Ring.attach("digitiser", timeout=None, readonly=True)

shmring.Ring.create("no shape", dtype="u1", slots=8)  # type: ignore[call-arg]
shmring.Ring.attach("late", timeout="soon")  # type: ignore[arg-type]

assert_type(shmring.rings(), list[shmring.RingInfo])
shmring.unlink("digitiser", force=True)
assert_type(shmring.recording.open_recording("take.npy"), shmring.recording.Recording)

assert_type(shmring.get_include(), str)
assert_type(shmring.__version__, str)
