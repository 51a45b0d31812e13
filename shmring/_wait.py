"""Waits in Python: whether the time is over, and when a long wait logs what it is for."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from shmring import _core

__all__ = ["Wait"]


class Wait:
    """A wait that begins now: of at most `timeout` seconds, or without an end (None)."""

    def __init__(self, timeout: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        _core.check_timeout(timeout)
        self._clock, self._started, self._notices = clock, clock(), 0
        self.deadline = math.inf if timeout is None else self._started + float(timeout)

    @property
    def waited(self) -> float:
        """Seconds since it began."""
        return self._clock() - self._started

    @property
    def left(self) -> float:
        """Seconds until it ends; 0 or less once its time is over."""
        return self.deadline - self._clock()

    def notice_is_due(self) -> bool:
        """Whether to log now what this wait is for; do so each time that this is True."""
        due = self.deadline == math.inf and _core.notice_is_due(self.waited, self._notices)
        self._notices += due
        return due
