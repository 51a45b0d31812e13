"""`shmring read`: from a ring to stdout."""

from __future__ import annotations

import fcntl
import os
import stat
import sys
from typing import Literal

import click

from shmring import Batch, Consumer, Ring, RingClosed
from shmring._cli import names, pipes, types
from shmring._cli.advice import advice
from shmring._cli.app import Refusal

STDOUT = 1


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
    "--label", metavar="TEXT", default="shmring read", help='Name of this consumer (default "shmring read").'
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
    frames are told on stderr.

    \b
    shmring read cam | ffplay -f rawvideo -pixel_format rgb24 -video_size 1280x720 -
    """  # noqa: D301  (\b keeps click from wrapping)
    if os.isatty(STDOUT):
        raise click.UsageError("stdout is a terminal: pipe it into a program, or redirect it to a file")
    appending = fcntl.fcntl(STDOUT, fcntl.F_GETFL) & os.O_APPEND
    patchable = stat.S_ISREG(os.fstat(STDOUT).st_mode) and not appending
    if layout == "npy" and not patchable and frames is None:
        raise click.UsageError("--format npy into a pipe (or with >>) needs --frames: the header comes first")
    pipes.widen(STDOUT)
    with (
        pipes.ended_by_signals(),
        _attach(name, timeout) as ring,
        ring.consumer(lossless=lossless, start=start, label=label) as consumer,
    ):
        if layout == "raw":
            _pump(ring, consumer, frames, timeout)
            return
        if ring.variable_rows:
            raise Refusal(f"the frames of ring {name!r} differ in length, which .npy cannot hold: use raw")
        header = pipes.npy_header(ring.dtype, (0 if patchable else frames or 0, *ring.shape))
        _write(header)
        begin = os.lseek(STDOUT, 0, os.SEEK_CUR) if patchable else 0
        try:
            count = _pump(ring, consumer, frames, timeout)
        finally:
            if patchable:  # whatever ended it, the header counts the whole frames that were written
                whole = (os.lseek(STDOUT, 0, os.SEEK_CUR) - begin) // ring.frame_nbytes
                os.pwrite(STDOUT, pipes.npy_header(ring.dtype, (whole, *ring.shape)), begin - len(header))
        if frames is not None and count < frames and not patchable:
            raise Refusal(
                f"the ring was closed after {count} of the {frames} frames that the header promises"
            )


def _attach(name: str, timeout: float | None) -> Ring:
    with advice(name):
        return Ring.attach(name, timeout=timeout)


def _pump(ring: Ring, consumer: Consumer, frames: int | None, timeout: float | None) -> int:
    """Write until the stream ends; how many frames were written."""
    most = pipes.batch_frames(ring.frame_nbytes, ring.slots)
    count = 0
    try:
        while frames is None or count < frames:
            with consumer.batch(most if frames is None else min(most, frames - count), 1, timeout) as batch:
                with ring._uncut():
                    _write_batch(batch)
                count += len(batch)
    except RingClosed:
        pass
    finally:
        if consumer.lost:
            print(f"shmring read: {consumer.lost} frames lost", file=sys.stderr)
    return count


def _write_batch(batch: Batch) -> None:
    if batch.rows is None:
        pipes.write_all(STDOUT, pipes.as_bytes(batch.array))
        return
    for array, rows in zip(batch.array, batch.rows, strict=True):
        pipes.write_all(STDOUT, pipes.as_bytes(array[: int(rows)]))


def _write(data: bytes) -> None:
    while data:
        data = data[os.write(STDOUT, data) :]
