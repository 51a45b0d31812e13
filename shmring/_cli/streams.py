"""Standard streams that this process was started without, as with `>&-`."""

from __future__ import annotations

import os
import sys


def stand_in() -> None:
    """Take the numbers of closed streams, or the next file that is opened (a ring, say) would be one.

    Reading from a closed stdin fails, writing to a closed stdout too; what is said on stderr is lost.
    """
    for number, flags in enumerate((os.O_WRONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, flags)
            if opened == number:
                os.set_inheritable(number, True)
            else:
                os.dup2(opened, number)
                os.close(opened)
    sys.stdin = sys.stdin or os.fdopen(0, closefd=False)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def give_up_stdout() -> None:
    """Forget what could not be written: the flush at exit must not complain again."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
