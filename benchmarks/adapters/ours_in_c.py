"""shmring used from C, through its public headers."""

import shmring
from benchmarks import limits
from benchmarks.harness.isolation import unique_name


def c_pair(nbytes: int, slots: int, batch: int, seconds: float) -> dict[str, float]:
    """Frames per second from one C process to another."""
    frames = max(1, int(seconds * (2e7 if batch > 1 else 5e6)) // batch) * batch
    with shmring.Ring.create(unique_name(), shape=(nbytes // 8,), dtype="u8", slots=slots) as ring:
        return {"frames": float(limits.run("shmring_pair", ring.name, frames, batch))}
