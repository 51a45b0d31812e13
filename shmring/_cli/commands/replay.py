"""`shmring replay`: from a file into a ring."""

from __future__ import annotations

import time
from typing import Literal

import click

from shmring._cli.support import names, options, output, recordings, streams, types
from shmring._cli.support.advice import advice
from shmring._cli.support.progress import ProgressLine
from shmring._cli.support.signals import ended_by_signals


@click.command()
@recordings.file
@names.ring
@click.option(
    "--pace",
    metavar="FACTOR",
    type=types.POSITIVE,
    help="A multiple of the recorded pace: 2 is twice as fast (default 1).",
)
@click.option("--flat-out", is_flag=True, help="Play as fast as the ring takes the frames.")
@click.option("--loops", metavar="N", type=types.COUNT, help="Play it N times (default 1).")
@click.option("--forever", is_flag=True, help="Play it again and again, until Ctrl-C.")
@click.option(
    "--timestamps",
    metavar="recorded|now",
    type=click.Choice(["recorded", "now"]),
    default="recorded",
    help="Publish the timestamps that were recorded, or the time of the replay (default recorded).",
)
@options.wait_for
@click.option(
    "--timeout", metavar="S", type=types.SECONDS, help="Seconds to wait for them (default: forever)."
)
@click.option(
    "--slots", metavar="N", type=types.SLOTS, help="Slots of the ring (default 16, more for small frames)."
)
@click.option(
    "--spares",
    metavar="N",
    type=types.SPARES,
    default=0,
    help="Slots beyond those, for frames that consumers hold (default 0).",
)
@click.option(
    "--on-full",
    metavar="wait|drop",
    type=click.Choice(["wait", "drop"]),
    default="wait",
    help="When the ring is full, play slower, or drop frames (default wait).",
)
@options.quiet
def replay(
    file: str,
    name: str,
    pace: float | None,
    flat_out: bool,
    loops: int | None,
    forever: bool,
    timestamps: Literal["recorded", "now"],
    wait_for: int | None,
    timeout: float | None,
    slots: int | None,
    spares: int,
    on_full: Literal["wait", "drop"],
    quiet: bool,
) -> None:
    """Create the ring NAME and publish the frames of the recording FILE, at the pace at which they came.

    To play all of a rolling recording (FILE-0001.npy, ...), give FILE.npy. The frames carry their metas and,
    by default, their recorded timestamps; their seqs begin at 0, with the recorded gaps. At the end the ring
    is closed: consumers get what is left, and the name is removed.

    If consumers still use a ring of that name and the same frames whose producer is gone, it is taken over:
    consumers that wait for the next producer continue.
    """
    from shmring.recording import replay as play

    recordings.check_order(file, name)
    options.at_most_one(flat_out=flat_out, pace=pace)
    options.at_most_one(forever=forever, loops=loops)
    with advice(name), ended_by_signals(), Progress(quiet, wait_for) as line:
        published = play(
            file,
            name,
            pace=None if flat_out else pace or 1.0,
            loops=None if forever else loops or 1,
            timestamps=timestamps,
            wait_for=wait_for or 0,
            timeout=timeout,
            slots=slots,
            spares=spares,
            on_full=on_full,
            progress=line.show,
        )
    streams.say(f"shmring replay: {output.count(published, 'frame')}")


class Progress(ProgressLine):
    """Shows how much was published, and how fast."""

    def __init__(self, quiet: bool, wait_for: int | None) -> None:
        super().__init__(quiet, "waiting for consumers" if wait_for else "starting")
        self._began: tuple[float, int] | None = None

    def show(self, published: int, share: float | None) -> None:
        """Draw it again."""
        now = time.monotonic()
        if self._began is None:
            self._began = now, published  # the time before consumers joined does not count
        seconds, frames = now - self._began[0], published - self._began[1]
        rate = output.rate(frames / seconds if seconds > 0 else None)
        self.draw(f"{output.count(published, 'frame')}  {rate}  {output.age(seconds)}", share)
