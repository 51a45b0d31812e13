"""asyncio: one helper thread for an event loop, asleep in the kernel on the rings' data events."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
import weakref

from shmring import _core, errors
from shmring._alone import alone
from shmring._others import HELPER
from shmring._wait import Wait

__all__ = ["following", "get"]

SLICE = 0.1  # seconds between two looks at whether the producers live
IDLE = 5.0  # seconds without a waiter after which the thread ends

_helpers: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Helper] = weakref.WeakKeyDictionary()
os.register_at_fork(after_in_child=_helpers.clear)  # their threads stay in the parent


class Helper:
    """Sleeps for all waiters of one event loop and calls them back."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = weakref.ref(loop)
        self._bell = _core.Doorbell()
        self._lock = threading.RLock()  # of which Ctrl-C in the thread of the loop leaves nothing locked
        self._waiters: dict[asyncio.Future[None], _core.Awaited] = {}
        self._thread: threading.Thread | None = None

    def add(self, waiter: asyncio.Future[None], awaited: _core.Awaited) -> None:
        """Complete `waiter` when `awaited` comes true, or after a slice."""

        def enter() -> None:
            self._waiters[waiter] = awaited
            if self._thread is None:
                self._thread = self._start()

        alone(self._lock, enter)
        self._bell.ring()

    def _start(self) -> threading.Thread:
        thread = threading.Thread(target=self._run, name=HELPER, daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            raise RuntimeError(
                f"cannot start the thread that waits for frames of rings in asyncio ({error}): end some "
                f"threads or processes, or raise the limit (ulimit -u, the cgroup's pids.max), then retry"
            ) from error
        return thread

    def remove(self, waiter: asyncio.Future[None]) -> None:
        """Forget a waiter."""
        alone(self._lock, lambda: self._waiters.pop(waiter, None))

    def _run(self) -> None:
        try:
            self._serve()
        except BaseException:
            with self._lock:
                self._thread, waiters = None, list(self._waiters)
            self._complete(waiters)  # each looks again, and starts another thread
            raise

    def _serve(self) -> None:
        idle_since = time.monotonic()
        while True:
            token = self._bell.prepare()
            with self._lock:
                waiters = dict(self._waiters)
                if waiters:
                    idle_since = time.monotonic()
                if not self._loop_is_open() or time.monotonic() - idle_since > IDLE:
                    self._thread = None
                    return
            started = time.monotonic()
            _core.wait_any(self._bell, token, list(waiters.values()), SLICE)
            late = time.monotonic() - started >= SLICE
            ready = [waiter for waiter, awaited in waiters.items() if late or awaited.came_true()]
            if ready:
                self._complete(ready)
            del waiters, ready  # they would keep the loop alive

    def _loop_is_open(self) -> bool:
        loop = self._loop()
        return loop is not None and not loop.is_closed()

    def _complete(self, ready: list[asyncio.Future[None]]) -> None:
        loop = self._loop()
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop was closed in between
                loop.call_soon_threadsafe(complete, ready)
        with self._lock:
            for waiter in ready:
                self._waiters.pop(waiter, None)


def complete(waiters: list[asyncio.Future[None]]) -> None:
    """Let coroutines look again."""
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None)


async def get(consumer: _core.Consumer, timeout: float | None, *, latest: bool = False) -> _core.Frame:
    """Take the next or newest frame; the body of ``Consumer.get_async`` and ``latest_async``."""
    loop = asyncio.get_running_loop()
    wait = Wait(timeout, loop.time)
    frame = consumer._try_in_task(latest)
    if frame is not None:
        return frame
    helper = _helpers.get(loop)
    if helper is None:
        helper = _helpers[loop] = Helper(loop)
    while True:
        if wait.left <= 0:
            consumer._empty(timeout)
        waiter: asyncio.Future[None] = loop.create_future()
        helper.add(waiter, consumer._awaited())
        timer = None if timeout is None else loop.call_at(wait.deadline, complete, [waiter])
        try:
            await waiter
        finally:
            helper.remove(waiter)
            if timer is not None:
                timer.cancel()
        frame = consumer._try_in_task(
            latest
        )  # nothing is awaited from here on: a cancelled call took no frame
        if frame is not None:
            return frame
        if wait.notice_is_due():
            consumer._still_waiting(wait.waited)


async def following(consumer: _core.Consumer, timeout: float | None) -> _core.Frame:
    """Take the next frame of an ``async for``."""
    try:
        return await get(consumer, timeout)
    except errors.RingClosed:
        raise StopAsyncIteration from None
