"""Rings on several machines: Ray places and supervises, and each machine has a ring of the same frames."""

try:
    import ray.util as _util  # noqa: F401
except ModuleNotFoundError as _error:
    if _error.name not in ("ray", "ray.util"):  # the latter where a folder ray is, such as Ray's own in /tmp
        raise
    raise ModuleNotFoundError('shmring.ray needs Ray: pip install "shmring[ray]"', name="ray") from None

from typing import Any as _Any

from shmring.ray._errors import SourceDied
from shmring.ray._mirror import Mirror, mirror, mirror_each
from shmring.ray._report import MirrorStats, SinkStats

__all__ = ["Mirror", "MirrorStats", "SinkStats", "SourceDied", "mirror", "mirror_each", "read_recording"]


def __getattr__(name: str) -> _Any:
    if name == "read_recording":  # Ray Data takes seconds to import, and needs pyarrow
        from shmring.ray._data import read_recording

        return read_recording
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
