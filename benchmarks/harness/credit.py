"""A credit window at application level, which makes a lossy transport lossless."""

import mmap
import os
from collections.abc import Callable
from typing import Any

import numpy as np


class Credit:
    """How many messages each consumer has finished, in shared memory. Create it before the fork."""

    def __init__(self, consumers: int, window: int):
        self._memory = mmap.mmap(-1, consumers * 128)
        self._done = np.frombuffer(self._memory, np.uint64)[::16]
        self.window = max(1, window)
        self.every = max(1, window // 4)

    def sending(self, send: Callable[[Any], Any]) -> Callable[[Any], None]:
        """Wrap `send`: it waits until no consumer lags by more than the window."""
        done, window = self._done, self.window
        sent = room = 0

        def credited(payload: Any) -> None:
            nonlocal sent, room
            while sent >= room:
                room = int(done.min()) + window
                if sent >= room:
                    os.sched_yield()
            send(payload)
            sent += 1

        return credited

    def receiving(self, recv: Callable[[], Any], index: int) -> Callable[[], Any]:
        """Wrap `recv`: it reports progress now and then. Asking for a message finishes the one before."""
        done, every = self._done, self.every
        count = 0

        def counted() -> Any:
            nonlocal count
            if count % every == 0:
                done[index] = count
            message = recv()
            count += 1
            return message

        return counted
