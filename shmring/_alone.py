"""Work that one thread does at a time, and that Ctrl-C may end at any moment."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

__all__ = ["alone"]

Result = TypeVar("Result")


def alone(lock: threading.RLock | threading.Condition, work: Callable[[], Result]) -> Result:
    """Do work while no other thread has the lock, which this thread must not have yet.

    After ``with lock:``, Ctrl-C can come when the lock is taken and the block has not begun: it stays locked.
    """
    try:
        lock.acquire()
        return work()
    finally:
        # Not by suppress(): Ctrl-C could come at that call, before the release.
        try:  # noqa: SIM105
            lock.release()
        except RuntimeError:  # not taken
            pass
