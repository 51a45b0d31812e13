"""shmring: stream ndarray frames between processes through shared memory, without a copy."""

import os as _os
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

try:
    import shmring._core  # noqa: F401
except ModuleNotFoundError as _error:
    if _error.name != "shmring._core":
        raise
    raise ImportError(
        f"shmring was imported from {_os.path.dirname(__file__)}, where its core is not compiled. In a "
        f"source tree run `pip install -e .` first; to use an installed shmring, start Python in another "
        f"directory."
    ) from None

from shmring._core import Batch, Buffers, Consumer, Frame, Producer, Slot, survive_truncation, wait
from shmring._observer import FrameCopy, Observer
from shmring._ring import Ring
from shmring.errors import (
    ForkedHandle,
    HandleBusy,
    NoSpace,
    ProducerDied,
    ProducerExists,
    ProducerFailed,
    RingAccessDenied,
    RingClosed,
    RingCorrupt,
    RingEmpty,
    RingExists,
    RingFull,
    RingIncompatible,
    RingNotFound,
    RingNotReady,
    ShmringError,
    SlotsHeld,
    TooFewConsumers,
    TooManyConsumers,
)

if _TYPE_CHECKING:
    from shmring import attrs as attrs
    from shmring import recording as recording
    from shmring._align import Aligner, align
    from shmring._ending import close_on_sigterm
    from shmring._follow import Follower, follow
    from shmring._log import RingReporter, report_to_log
    from shmring._rings import RingInfo, rings, unlink
    from shmring._stats import ConsumerStats, GroupStats, ProducerStats, RingStats

    __version__: str

__all__ = [
    # handles
    "Ring", "Producer", "Consumer", "Observer",
    # one ring after another
    "follow", "Follower",
    # several rings at once
    "wait", "align", "Aligner",
    # frames
    "Frame", "FrameCopy", "Batch", "Slot", "Buffers",
    # statistics
    "RingStats", "ProducerStats", "ConsumerStats", "GroupStats",
    # the rings of this machine
    "RingInfo", "rings", "unlink",
    # reports
    "RingReporter", "report_to_log",
    # errors
    "ForkedHandle", "HandleBusy", "NoSpace", "ProducerDied", "ProducerExists", "ProducerFailed",
    "RingAccessDenied", "RingClosed", "RingCorrupt", "RingEmpty", "RingExists", "RingFull",
    "RingIncompatible", "RingNotFound", "RingNotReady", "ShmringError", "SlotsHeld",
    "TooFewConsumers", "TooManyConsumers",
    # for the whole process
    "close_on_sigterm", "survive_truncation",
    # for C and C++
    "get_include",
]  # fmt: skip


def __getattr__(name: str) -> _Any:
    # What takes longer to import than it is often used.
    if name in ("Aligner", "align"):
        from shmring import _align

        return getattr(_align, name)
    if name in ("Follower", "follow"):
        from shmring import _follow

        return getattr(_follow, name)
    if name in ("RingReporter", "report_to_log"):
        from shmring import _log

        return getattr(_log, name)
    if name == "close_on_sigterm":
        from shmring import _ending

        return _ending.close_on_sigterm
    if name in ("ConsumerStats", "GroupStats", "ProducerStats", "RingStats"):
        from shmring import _stats

        return getattr(_stats, name)
    if name in ("RingInfo", "rings", "unlink"):
        from shmring import _rings

        return getattr(_rings, name)
    if name in ("attrs", "recording"):
        from importlib import import_module

        return import_module(f"shmring.{name}")
    if name == "__version__":
        return _version()
    hint = f"; did you mean shmring.Ring.{name}?" if name in ("attach", "create") else ""
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}{hint}")


def __dir__() -> list[str]:
    special = (name for name in globals() if name.startswith("__"))
    return sorted({*special, *__all__, "attrs", "errors", "recording", "__version__"})


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("shmring")
    except PackageNotFoundError:  # a copied tree
        return "0+unknown"


def get_include() -> str:
    """Return the directory to compile C and C++ programs with: ``cc -I$(...)``.

    Returns
    -------
    str
        Directory that holds ``shmring/shmring.h``.
    """
    return _os.path.join(_os.path.dirname(__file__), "include")
