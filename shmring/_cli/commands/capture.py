"""`shmring capture`: the frames before a signal, a key or a condition."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import termios
import threading
import tty
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from shmring._cli.support import names, options, output, plain, recordings, streams, types
from shmring._cli.support.advice import advice
from shmring._cli.support.refusal import Refusal
from shmring._cli.support.signals import handled, stopped_by_signals

if TYPE_CHECKING:
    from types import CodeType

    from shmring import Frame
    from shmring.recording import Capture
    from shmring.recording.formats._description import Codec


def _compiled(text: str) -> CodeType:
    try:
        return compile(text, "--when", "eval")
    except SyntaxError as error:
        raise ValueError(f"{text!r} is not a Python expression: {error.msg}") from None
    except (MemoryError, RecursionError, OverflowError):
        raise ValueError(f"{text[:40]!r}... is too deeply nested for Python") from None


@click.command(options_metavar="--before N [OPTIONS]")
@names.ring
@recordings.file
@click.option(
    "--before",
    metavar="N",
    type=types.COUNT,
    required=True,
    help="Save the last N frames up to the trigger; at most half of the ring's slots.",
)
@click.option(
    "--after",
    metavar="M",
    type=types.whole("count", 0, "a number of frames"),
    default=0,
    help="Save M frames after it, too (default 0).",
)
@click.option(
    "--when",
    metavar="EXPRESSION",
    type=types.Parsed("expression", _compiled),
    help="Trigger at the first frame for which this Python expression is true. It knows array, seq, "
    "timestamp_ns, meta, lost and np: 'array.max() > 200'.",
)
@click.option("--captures", metavar="N", type=types.COUNT, help="End after N captures (default 1).")
@click.option("--forever", is_flag=True, help="Capture again and again, until Ctrl-C.")
@click.option(
    "--append", is_flag=True, help="With several captures: continue the numbers of files that exist."
)
@click.option("--overwrite", is_flag=True, help="Replace files that exist.")
@options.codec
@options.ring_timeout
@click.option("--json", "as_json", is_flag=True, help="Print what was saved as a JSON list.")
def capture(
    name: str,
    file: str,
    before: int,
    after: int,
    when: CodeType | None,
    captures: int | None,
    forever: bool,
    append: bool,
    overwrite: bool,
    codec: Codec | None,
    timeout: float | None,
    as_json: bool,
) -> int:
    """When a trigger comes, save the last frames of the ring NAME in FILE, and some after it.

    A trigger is the signal SIGUSR1, any key in the terminal (but q, which ends), or the condition --when.
    Until then nothing is copied: the ring itself keeps the frames, and the producer is never held back.
    Several captures go into FILE-0001, FILE-0002, and so on. The formats are those of shmring record.

    Exit codes: 0 everything was captured, 1 the stream ended (or q was pressed) before, or the disk is full,
    130 Ctrl-C, 143 SIGTERM.
    """
    from shmring.recording import Capture

    options.at_most_one(captures=captures, forever=forever)
    mode = options.mode_of(append=append, overwrite=overwrite)
    most = None if forever else captures or 1
    if append and most == 1:
        raise click.UsageError("--append needs --captures or --forever: one capture is one file")
    recordings.check_order(file, name)
    recordings.check_file(file, several=most != 1, mode=mode, codec=codec, appendable=most != 1)
    with stopped_by_signals() as signals:
        with advice(name):
            one = Capture(
                name,
                file,
                before=before,
                after=after,
                when=None if when is None else lambda frame: _is_true(when, frame),
                captures=most,
                mode=mode,
                codec=codec,
                timeout=timeout,
                on_capture=None if as_json else partial(recordings.show_summary, "capture"),
            )
        signals.stop = one.stop
        with handled(lambda number, frame: one.trigger(), signal.SIGUSR1), _triggered_by_keys(one):
            # Programs that send the signal wait for this line.
            streams.say(f"shmring capture: armed, pid {os.getpid()}: {_how(when is not None)}")
            captured = one.run()
    if as_json:
        output.show_json([plain.recording(summary) for summary in captured])
    return signals.code or (0 if most is None or len(captured) == most else 1)


def _how(condition: bool) -> str:
    """Describe what triggers a capture, and what ends the command."""
    triggers, ends = [f"at kill -USR1 {os.getpid()}"], "Ctrl-C ends"
    if sys.stdin.isatty():
        triggers, ends = ["at any key", *triggers], "q or Ctrl-C ends"
    if condition:
        triggers = ["when the condition is true", *triggers]
    *others, last = triggers
    listed = f"{', '.join(others)} or {last}" if others else last
    return f"captures {listed}; {ends}"


def _is_true(condition: CodeType, frame: Frame) -> bool:
    known: dict[str, Any] = {
        "array": frame.array,
        "seq": frame.seq,
        "timestamp_ns": frame.timestamp_ns,
        "meta": frame.meta,
        "lost": frame.lost,
        "np": np,
    }
    try:
        return bool(eval(condition, known))
    except Exception as error:
        raise Refusal(f"--when failed at frame {frame.seq}: {error!r}") from None


@contextlib.contextmanager
def _triggered_by_keys(capture: Capture) -> Iterator[None]:
    """Listen to the terminal, if there is one, in a thread."""
    if not sys.stdin.isatty():
        yield
        return
    keyboard = sys.stdin.fileno()
    ended = os.eventfd(0, os.EFD_CLOEXEC)

    def listen() -> None:
        while ended not in select.select([keyboard, ended], [], [])[0]:
            try:
                key = os.read(keyboard, 1)
            except BlockingIOError:  # another program on this terminal was quicker
                continue
            if key in (b"q", b""):
                capture.stop()
                return
            capture.trigger()

    before = termios.tcgetattr(keyboard)
    listener = threading.Thread(target=listen, name="shmring-keys")
    try:
        tty.setcbreak(keyboard)
        listener.start()
        yield
    finally:
        os.eventfd_write(ended, 1)
        listener.join()
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)
        os.close(ended)
