"""Ctrl-C, a kill and a closed terminal: how commands end in good order."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker
from types import FrameType

IGNORABLE = (signal.SIGTERM, signal.SIGHUP)
ENDS = (signal.SIGINT, *IGNORABLE)
TOGETHER = 1.0  # seconds in which signals are one


def name(number: int) -> str:
    """Return what people call a signal."""
    return "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name


@contextlib.contextmanager
def handled(handler: Callable[[int, FrameType | None], object], *numbers: int) -> Iterator[None]:
    """Call a function at these signals; SIGTERM and SIGHUP stay ignored where they are, as under nohup."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {
        number: signal.signal(number, handler)
        for number in numbers
        if number not in IGNORABLE or signal.getsignal(number) not in (signal.SIG_IGN, None)
    }
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """End by SystemExit at SIGTERM and SIGHUP, so that no ring outlives the program that made it."""
    with handled(end_at_once, *IGNORABLE):
        yield


def end_at_once(number: int, frame: FrameType | None = None) -> None:
    """End the program as the signal would, but let it clean up."""
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)


@contextlib.contextmanager
def kept_from_children(*numbers: int) -> Iterator[None]:
    """Start processes that these signals do not reach: their parent ends them."""
    resource_tracker.ensure_running()  # its start would unblock SIGINT
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Stopper:
    """Calls `stop` at the first signal, and ends the program at the second one."""

    def __init__(self) -> None:
        self.stop: Callable[[], object] | None = None
        self._received = 0
        self._received_at = 0.0

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        now = time.monotonic()
        if self._received and now - self._received_at < TOGETHER:
            return
        if self.stop is None or self._received:
            end_at_once(number)
        else:
            self._received, self._received_at = number, now
            self.stop()

    @property
    def code(self) -> int:
        """The exit code that says which signal came; 0 if none did."""
        return 128 + self._received if self._received else 0


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[Stopper]:
    """Let SIGINT, SIGTERM and SIGHUP stop a recording in good order, and a second one end it at once.

    Signals that come together are one: a terminal sends them, and `timeout` or a parent passes them on.
    """
    stopper = Stopper()
    with handled(stopper.receive, *ENDS):
        yield stopper
