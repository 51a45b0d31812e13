"""Standard streams that this process was started without, as with `>&-`."""

from __future__ import annotations

import os
import sys
from typing import TextIO

# The descriptors of the standard streams: these, unless a library has opened a file of its own under the
# number of a stream that was closed (libffi does, which numpy loads).
stdin, stdout, stderr = 0, 1, 2


def stand_in() -> None:
    """Take the numbers of closed streams, or the next file that is opened (a ring, say) would be one.

    Reading from a closed stdin fails, and so does writing to a closed stdout; lines on stderr are lost. Only
    Python's own streams know which ones were closed: the numbers may belong to other files by now.
    """
    global stdin, stdout, stderr
    if sys.stdin is None:
        stdin = _open(0, os.O_WRONLY)
        sys.stdin = os.fdopen(stdin, closefd=False)
    if sys.stdout is None:
        stdout = _open(1, os.O_RDONLY)
        sys.stdout = os.fdopen(stdout, "w", closefd=False)
    if sys.stderr is None:
        stderr = _open(2, os.O_WRONLY)
        sys.stderr = os.fdopen(stderr, "w", closefd=False)


def _open(number: int, flags: int) -> int:
    """Open nothing, under this number if it is free."""
    opened = os.open(os.devnull, flags)
    if opened == number:
        os.set_inheritable(number, True)
    elif not _is_open(number):
        os.dup2(opened, number)
        os.close(opened)
        return number
    return opened


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def give_up_stdout() -> None:
    """Forget what could not be written: the flush at exit must not complain again."""
    _give_up(sys.stdout, stdout)


def say(line: str) -> None:
    """Print a line on stderr. That it cannot be written is not a reason to fail."""
    try:
        print(line, file=sys.stderr, flush=True)
    except (OSError, ValueError):
        _give_up(sys.stderr, stderr)


def _give_up(stream: TextIO, number: int) -> None:
    try:
        stream.flush()
    except (OSError, ValueError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, number)
        os.close(nothing)
