"""Waiting for child processes, with a limit: one that hangs is a finding, and must not hang the check."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

PATIENCE = 60.0  # seconds; on a loaded machine, too, it is more than anything here takes


def wait_for_end(pid: int, who: str, limit: float = PATIENCE) -> int:
    """How a child ended: its exit code, or minus the signal."""
    return os.waitstatus_to_exitcode(_wait(pid, f"{who} does not end", 0, limit))


def wait_for_stop(pid: int, who: str, limit: float = PATIENCE) -> int | None:
    """Return once a child is stopped; if it ended instead, how it ended."""
    status = _wait(pid, f"{who} does not stop", os.WUNTRACED, limit)
    return None if os.WIFSTOPPED(status) else os.waitstatus_to_exitcode(status)


def _wait(pid: int, problem: str, options: int, limit: float) -> int:
    deadline = time.monotonic() + limit
    while True:
        found, status = os.waitpid(pid, os.WNOHANG | options)
        if found:
            return status
        if time.monotonic() > deadline:
            place = where(pid)
            os.kill(pid, signal.SIGKILL)
            raise TimeoutError(f"{problem} within {limit:g} s (pid {pid}, {place})")
        time.sleep(0.0002)


def where(pid: int) -> str:
    """What a process does, as far as the kernel says."""
    process = Path(f"/proc/{pid}")
    try:
        state = (process / "stat").read_text().rpartition(")")[2].split()[0]
        return f"state {state}, in {(process / 'wchan').read_text() or '?'}"
    except OSError as error:
        return f"nothing is known: {error.strerror}"
