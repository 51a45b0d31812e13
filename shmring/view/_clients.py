"""One page that looks at one ring: what it wants, what it has on show, and whether it is ready for more."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from shmring.view._kinds import TABLE, Layout
from shmring.view._wants import Want

__all__ = ["Client", "Shot"]


@dataclass(eq=False, slots=True)
class Shot:
    """One frame, copied once for all pages. `array` is None once it had to make room for newer ones."""

    array: np.ndarray[Any, Any] | None
    seq: int
    timestamp_ns: int
    meta: Any
    epoch: int
    lost: int  # so far, by the reader of all pages
    ring: bytes = b""  # the generation of its ring
    layout: Layout = TABLE  # of its ring's frames
    pictures: dict[Want, tuple[dict[str, Any], Any]] = field(default_factory=dict)  # header and payload

    @property
    def nbytes(self) -> int:
        """What the copy takes."""
        return self.array.nbytes if self.array is not None else 0


class Client:
    """What the hub knows of a page. Guarded by the lock of its hub, but for `deliver`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, send: Callable[[str | bytes], None]) -> None:
        self.id = secrets.token_hex(8)
        self.want: Want | None = None  # until it says so
        self.paused = False
        self.steps = 0  # asked for while paused
        self.unacknowledged: int | None = None  # the seq that was sent
        self.answered_at = time.monotonic()  # when it last had nothing to acknowledge
        self.shown: Shot | None = None
        self.outdated = False  # it wants another view of what it shows
        self._not_before = 0.0
        self._loop, self._send = loop, send

    def deliver(self, message: str | bytes) -> None:
        """Send from another thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: its pages are gone
            self._loop.call_soon_threadsafe(self._send, message)

    @property
    def running(self) -> bool:
        """Whether it wants the frames that come."""
        return self.want is not None and (not self.paused or self.steps > 0)

    def next(self, newest: Shot | None) -> Shot | None:
        """Return what can be sent now: the newest frame, or another view of the one on show."""
        if self.unacknowledged is None and self.wait == 0:
            if self.running and newest is not self.shown:
                return newest
            if self.outdated:
                return self.shown
        return None

    def is_ready(self) -> bool:
        """Whether a frame that comes now could be sent."""
        return self.unacknowledged is None and self.running and self.wait == 0

    def sent(self, shot: Shot, want: Want, rate: float | None) -> None:
        """Remember what was sent, and that the next frame has time until then."""
        if shot is not self.shown:
            self.steps = max(0, self.steps - 1)
            self._not_before = time.monotonic() + 1 / rate if rate else 0.0
        self.unacknowledged, self.shown, self.outdated = shot.seq, shot, self.want != want

    def change(self, want: Want) -> None:
        """Want something else from now on."""
        self.want, self.outdated = want, True
        self._not_before = 0.0

    def pause(self, *, steps: int) -> None:
        """Want no more frames than that for now."""
        self.paused, self.steps = True, steps

    def resume(self) -> None:
        """Want the frames that come again."""
        self.paused = False

    def missed(self, shot: Shot) -> tuple[int, int]:
        """Return how many frames came between the one on show and this one; how many of them were lost."""
        before = self.shown
        if before is None or before.ring != shot.ring or shot.seq <= before.seq:
            return 0, 0
        gap = shot.seq - before.seq - 1
        return gap, min(gap, max(0, shot.lost - before.lost))

    def acknowledge(self, seq: Any) -> None:
        """Note that the page has drawn a frame."""
        if seq == self.unacknowledged:
            self.unacknowledged, self.answered_at = None, time.monotonic()

    @property
    def wait(self) -> float:
        """Seconds until its own limit of frames per second lets it take the next one."""
        return max(0.0, self._not_before - time.monotonic())
