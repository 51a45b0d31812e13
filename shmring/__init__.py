"""shmring: stream ndarray frames between processes through shared memory, without a copy."""

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as _version
from pathlib import Path as _Path

try:
    import shmring._core  # noqa: F401
except ModuleNotFoundError as _error:
    if _error.name != "shmring._core":
        raise
    raise ImportError(
        f"shmring was imported from {_Path(__file__).parent}, where its core is not compiled. In a source "
        f"tree run `pip install -e .` first; to use an installed shmring, start Python in another directory."
    ) from None

from shmring._core import Batch, Consumer, Frame, Producer, Slot
from shmring._observer import FrameCopy, Observer
from shmring._ring import Ring
from shmring._stats import ConsumerStats, ProducerStats, RingStats
from shmring.errors import (
    ForkedHandle,
    HandleBusy,
    NoSpace,
    ProducerDied,
    ProducerExists,
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

__all__ = [
    # handles
    "Ring", "Producer", "Consumer", "Observer",
    # frames
    "Frame", "FrameCopy", "Batch", "Slot",
    # statistics
    "RingStats", "ProducerStats", "ConsumerStats",
    # errors
    "ForkedHandle", "HandleBusy", "NoSpace", "ProducerDied", "ProducerExists", "RingAccessDenied",
    "RingClosed", "RingCorrupt", "RingEmpty", "RingExists", "RingFull", "RingIncompatible",
    "RingNotFound", "RingNotReady", "ShmringError", "SlotsHeld", "TooFewConsumers",
    "TooManyConsumers",
    # for C and C++
    "get_include",
]  # fmt: skip

try:
    __version__ = _version("shmring")
except PackageNotFoundError:  # a copied tree
    __version__ = "0+unknown"


def get_include() -> str:
    """Return the directory to compile C and C++ programs with: ``cc -I$(...)``.

    Returns
    -------
    str
        Directory that holds ``shmring/shmring.h``.
    """
    return str(_Path(__file__).parent / "include")
