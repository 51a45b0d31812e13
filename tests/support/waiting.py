"""Waiting with a deadline: for a condition, for a process that sleeps, for dropped objects."""

from __future__ import annotations

import contextlib
import gc
import time
from pathlib import Path

import pytest

PATIENCE = 20.0  # seconds until a test gives up on something that must happen


def wait_until(condition, what: str = "a condition", timeout: float = PATIENCE):
    """Poll until `condition()` is true; its value. Fails the test after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"still not so after {timeout} s: {what}")
        time.sleep(0.002)


def task_state(pid: int, tid: int | None = None) -> str:
    """The kernel's one-letter state of a process or of one of its threads."""
    path = Path(f"/proc/{pid}/stat" if tid is None else f"/proc/{pid}/task/{tid}/stat")
    return path.read_text().rpartition(")")[2].split()[0]


def wait_asleep(pid: int, tid: int | None = None) -> None:
    """Return once the process (or thread) was seen asleep several times running."""
    run = 0

    def asleep() -> bool:
        nonlocal run
        run = run + 1 if task_state(pid, tid) == "S" else 0
        return run >= 5

    wait_until(asleep, f"process {pid} thread {tid} is asleep")


def settle() -> None:
    """Let dropped objects go."""
    for _ in range(2):
        gc.collect()


@contextlib.contextmanager
def unclosed(kind: str):
    """The last reference to a handle that nobody closed goes in here, and that is a warning."""
    with pytest.warns(ResourceWarning, match=f"unclosed {kind} "):  # noqa: PT031
        yield
        settle()
