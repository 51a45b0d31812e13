"""Ctrl-C at every moment at which Python lets it come, one after the other."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator


def interrupted(function: Callable[[], object]) -> Iterator[int]:
    """Call a function again and again: KeyboardInterrupt ends the nth call at its nth moment.

    The interpreter looks for signals as a function begins and as a call in C returns. Yields the number of
    the moment after each interrupted call; ends with the first call that is not.
    """
    for moment in range(1, 100_000):
        left = moment

        def interrupt(_frame: object, event: str, _arg: object) -> None:
            nonlocal left
            left -= event in ("call", "c_return")
            if left == 0:
                sys.setprofile(None)
                raise KeyboardInterrupt

        before = sys.getprofile()
        sys.setprofile(interrupt)
        try:
            function()
            return
        except KeyboardInterrupt:
            pass  # with all that its traceback keeps
        finally:
            sys.setprofile(before)
        yield moment
