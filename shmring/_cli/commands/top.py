"""`shmring top`: rings live, full screen."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading

import click

from shmring._cli.support import names, types
from shmring._cli.support.refusal import Refusal
from shmring._inventory import look


@click.command()
@names.optional_ring
@click.option(
    "--interval",
    metavar="S",
    type=types.POSITIVE,
    default=1.0,
    help="Seconds between two looks (default 1).",
)
def top(name: str | None, interval: float) -> int:
    """Watch all rings, or the ring NAME: rates, fill, lag and losses of each consumer.

    FILL is the part of the ring that one consumer or group keeps from the producer: what it holds and, if it
    is lossless, what it has not read. A full ring makes the producer wait. LOST counts what consumers and
    groups lost and what the producer dropped. POLICY names the group of a member, whose lag is the group's.
    Words in the column RATE name what is no longer running: stopped, dead, closed, stale. PAST RATE and PAST
    LAG end with the last look.

    \b
    up, down     choose the ring whose consumers are shown; scroll them
    tab          go to the consumers, and back
    s, r         sort by the next column; reverse
    /            show the rings whose name has what you type; Escape: all
    x            hide stale rings; show them again
    p, space     pause; continue
    ?, h, F1     this help; back to the rings
    q            quit
    """  # noqa: D301  (\b keeps click from wrapping)
    if not all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)):
        raise click.UsageError("top needs a terminal; without one use shmring ls or shmring metrics")
    if name is not None and (found := look(name)).ring is None:
        raise Refusal(found.problem)
    for stream in (sys.__stdout__, sys.__stderr__):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8")  # the screen is drawn with it, whatever LC_ALL=C says
    from shmring._cli.support.top_screen import Top

    # Without a terminal the screen would wait forever, busy, for a reader of its output.
    signal.signal(signal.SIGHUP, lambda number, frame: os._exit(128 + number))
    threading.excepthook = _end_without_terminal
    return Top(name, interval, top.help or "").run() or 0


def _end_without_terminal(failed: threading.ExceptHookArgs) -> None:
    """End at once if the thread that writes to the terminal no longer can."""
    if isinstance(failed.exc_value, OSError):
        os._exit(128 + signal.SIGHUP)
    threading.__excepthook__(failed)
