"""How a producer ends: what the consumers learn about its error, and how to end at SIGTERM."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType
from typing import NoReturn

__all__ = ["close_on_sigterm", "failure_of", "failure_of_block", "failure_of_program"]


def failure_of(error: object) -> bytes:
    """Return what the ring reports about an error, which is a text or an exception."""
    if isinstance(error, str):
        text = error
    elif isinstance(error, BaseException):
        text = _describe(error)
    else:
        raise TypeError(f"error must be a text or an exception, not {type(error).__name__}")
    line = " ".join(text.replace("\0", " ").split())
    if not line:
        raise ValueError("error is empty: say what failed, or leave it out for the regular end of the stream")
    return line.encode("utf-8", "replace")


def _describe(error: BaseException) -> str:
    name = type(error).__name__
    try:
        return f"{name}: {error}".removesuffix(": ")
    except Exception:  # a __str__ of its own that fails: the end of the stream must not depend on it
        return name


def failure_of_block(error: BaseException | None) -> bytes | None:
    """Describe the exception that leaves a ``with`` block; None if it is not a failure.

    KeyboardInterrupt, a cancelled task, a generator that is closed, ``sys.exit()`` and a signal's exit code
    were asked for: they end the stream as the block's last line does.
    """
    if isinstance(error, SystemExit):
        code = error.code
        if code is None or (isinstance(code, int) and (code == 0 or code > 128)):
            return None
        return failure_of(f"SystemExit: {code}")
    return failure_of(error) if isinstance(error, Exception) else None


def failure_of_program() -> bytes | None:
    """Describe the exception that ends the program, if any; to be called at its exit.

    At a prompt the last exception was shown, and did not end anything.
    """
    if hasattr(sys, "ps1"):
        return None
    return failure_of_block(getattr(sys, "last_value", None))


def close_on_sigterm() -> None:
    """Let SIGTERM end this program as Ctrl-C does, so that it leaves no ring behind.

    SIGTERM is what systemd, ``docker stop`` and ``kill`` send. By default it ends a process at once: no
    ``with`` block is left, consumers find a dead producer, and the name of the ring stays. After this call it
    raises ``SystemExit(143)`` in the main thread: every ``with`` block ends, a wait for frames or space
    within 100 ms, the producer closes its stream, and a ring that this process created loses its name.

    Call it once, in the main thread, before the first ring.

    Raises
    ------
    RuntimeError
        SIGTERM already has another handler, or is ignored; or this is not the main thread.

    Examples
    --------
    >>> import shmring
    >>> shmring.close_on_sigterm()
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError(
            "close_on_sigterm() must be called in the main thread: handlers of signals run there"
        )
    found = signal.getsignal(signal.SIGTERM)
    if found is signal.SIG_IGN:
        raise RuntimeError(
            "this process ignores SIGTERM: call signal.signal(signal.SIGTERM, signal.SIG_DFL) first"
        )
    if found not in (signal.SIG_DFL, _exit):
        raise RuntimeError(
            f"SIGTERM already has a handler ({found!r}): let it raise SystemExit(143), or remove it before "
            f"close_on_sigterm()"
        )
    signal.signal(signal.SIGTERM, _exit)


def _exit(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)
