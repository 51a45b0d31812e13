"""`shmring read`: from a ring to stdout."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import click

from shmring import Batch, Consumer, Ring, RingClosed
from shmring._cli import names, pipes, streams, types
from shmring._cli.advice import advice
from shmring._cli.app import Refusal

if TYPE_CHECKING:
    from shmring.recording._header import NpyHeader


@click.command()
@names.ring
@click.option(
    "--lossless/--lossy",
    default=True,
    help="Get every frame and hold the producer back (the default), or never hold it back.",
)
@click.option(
    "--start",
    metavar="oldest|newest|next",
    type=click.Choice(["oldest", "newest", "next"]),
    default="oldest",
    help="Begin with the oldest frame still there, the newest, or the next to come (default oldest).",
)
@click.option("--frames", metavar="N", type=types.COUNT, help="Stop after N frames.")
@click.option(
    "--format",
    "layout",
    metavar="raw|npy",
    type=click.Choice(["raw", "npy"]),
    default="raw",
    help="npy writes one array whose first axis counts the frames; into a pipe, it needs --frames "
    "(default raw).",
)
@click.option(
    "--label",
    metavar="TEXT",
    type=types.LABEL,
    default="shmring read",
    help='Name of this consumer (default "shmring read").',
)
@click.option(
    "--timeout",
    metavar="S",
    type=types.SECONDS,
    help="Seconds to wait for the ring, and for each frame (default: for ever).",
)
def read(
    name: str,
    lossless: bool,
    start: Literal["oldest", "newest", "next"],
    frames: int | None,
    layout: str,
    label: str,
    timeout: float | None,
) -> None:
    """Write the frames of the ring NAME to stdout, until its producer closes it.

    Waits for the ring to appear. The bytes are written straight from the ring, nothing in between. Lost
    frames are told on stderr. A producer that failed or died is an error (exit code 1), after its last frame.

    \b
    shmring read cam | ffplay -f rawvideo -pixel_format rgb24 -video_size 1280x720 -
    """  # noqa: D301  (\b keeps click from wrapping)
    fd = streams.stdout
    if os.isatty(fd):
        raise click.UsageError("stdout is a terminal: pipe it into a program, or redirect it to a file")
    appending = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_APPEND
    patchable = stat.S_ISREG(os.fstat(fd).st_mode) and not appending
    if layout == "npy" and not patchable and frames is None:
        raise click.UsageError("--format npy into a pipe (or with >>) needs --frames: the header comes first")
    pipes.widen(fd)
    with pipes.ended_by_signals(), _attach(name, timeout) as ring:
        header = _npy_header(ring) if layout == "npy" else None
        with ring.consumer(lossless=lossless, start=start, label=label) as consumer:
            if header is None:
                _pump(fd, ring, consumer, frames, timeout)
            elif patchable:
                _fill_npy(fd, header, ring, consumer, frames, timeout)
            else:
                pipes.write_bytes(fd, header.render(frames or 0))
                count = _pump(fd, ring, consumer, frames, timeout)
                if count < (frames or 0):
                    raise Refusal(
                        f"the ring was closed after {count} of the {frames} frames that the header promises"
                    )


def _attach(name: str, timeout: float | None) -> Ring:
    with advice(name):
        return Ring.attach(name, timeout=timeout)


def _npy_header(ring: Ring) -> NpyHeader:
    """Refuse frames that .npy cannot hold, before the ring is joined."""
    from shmring.recording._header import NpyHeader

    if ring.variable_rows:
        raise Refusal(f"the frames of ring {ring.name!r} differ in length, which .npy cannot hold: use raw")
    try:
        return NpyHeader(ring.dtype, ring.shape)
    except ValueError as error:
        raise Refusal(str(error)) from None


def _fill_npy(
    fd: int, header: NpyHeader, ring: Ring, consumer: Consumer, frames: int | None, timeout: float | None
) -> None:
    """Write a file whose header counts the frames in it at every moment, however this ends."""
    begin = os.lseek(fd, 0, os.SEEK_CUR)

    def count(rows: int) -> None:
        os.pwrite(fd, header.render_changes(rows), begin)

    pipes.write_bytes(fd, header.render(0))
    try:
        _pump(fd, ring, consumer, frames, timeout, count)
    finally:
        written = os.lseek(fd, 0, os.SEEK_CUR) - begin - header.nbytes
        count(max(0, written) // ring.frame_nbytes)


def _pump(
    fd: int,
    ring: Ring,
    consumer: Consumer,
    frames: int | None,
    timeout: float | None,
    written: Callable[[int], object] = lambda count: None,
) -> int:
    """Write until the stream ends; how many frames were written. `written` hears of each batch."""
    most = pipes.batch_frames(ring.frame_nbytes, ring.slots)
    count = 0
    try:
        while frames is None or count < frames:
            with consumer.batch(most if frames is None else min(most, frames - count), 1, timeout) as batch:
                with ring._uncut():
                    _write_batch(fd, batch)
                count += len(batch)
            written(count)
    except RingClosed:
        pass
    finally:
        if consumer.lost:
            streams.say(f"shmring read: {consumer.lost} frames lost")
    return count


def _write_batch(fd: int, batch: Batch) -> None:
    if batch.rows is None:
        pipes.write_all(fd, pipes.as_bytes(batch.array))
        return
    for array, rows in zip(batch.array, batch.rows, strict=True):
        pipes.write_all(fd, pipes.as_bytes(array[: int(rows)]))
