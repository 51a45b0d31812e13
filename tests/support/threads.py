"""Threads whose outcome is kept."""

from __future__ import annotations

import os
import sys
import threading

import shmring
from support.waiting import PATIENCE, wait_asleep

GIL = getattr(sys, "_is_gil_enabled", lambda: True)()


class Running(threading.Thread):
    """A thread whose outcome is kept."""

    def __init__(self, work):
        super().__init__(daemon=True)
        self.work, self.value, self.error = work, None, None
        self.start()

    def run(self):
        try:
            self.value = self.work()
        except BaseException as error:
            self.error = error.with_traceback(None)

    def end(self):
        self.join(PATIENCE)
        assert not self.is_alive(), "the thread hangs"
        return self

    def asleep(self):
        wait_asleep(os.getpid(), self.native_id)
        return self


def patiently(call):
    """Do it again as long as the handle is busy with another thread."""
    while True:
        try:
            return call()
        except shmring.HandleBusy:
            continue
