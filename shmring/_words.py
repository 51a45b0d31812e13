"""Words of messages: numbers with their nouns, and what other processes wrote, safe to print and to type."""

from __future__ import annotations

import os
import shlex

__all__ = ["clean", "count", "plural", "quoted"]


def plural(number: int, noun: str) -> str:
    """Return the noun as it is after that number: 1 frame, 2 frames."""
    return noun if number == 1 else f"{noun}s"


def count(number: int, noun: str, thousands: str = "") -> str:
    """Write how many of something there are, with `thousands` between groups of digits."""
    return f"{number:{thousands}} {plural(number, noun)}"


def clean(text: str) -> str:
    """Make what another process wrote (name, label, command) safe for a terminal and one line of a log."""
    return "".join(
        sign if sign.isprintable() else sign.encode("unicode_escape", "backslashreplace").decode()
        for sign in text
    )


def quoted(text: str) -> str:
    """Write a word so that it can be typed into a shell, and printed."""
    if text.isprintable():
        return shlex.quote(text)
    return "$'" + "".join(map(_escaped, os.fsencode(text))) + "'"


def _escaped(byte: int) -> str:
    sign = chr(byte)
    return sign if sign.isascii() and sign.isprintable() and sign not in "'\\" else f"\\x{byte:02x}"
