"""`shmring write`: from stdin into a ring."""

from __future__ import annotations

import math
import os
import time
from typing import Any, Literal

import click
import numpy as np

from shmring import Producer, Ring, RingIncompatible
from shmring._cli.app import Refusal
from shmring._cli.support import names, output, pipes, streams, types
from shmring._cli.support.advice import advice, refuse_in_use
from shmring._ring import create_or_take_over

RING_BYTES = 8_000_000


@click.command()
@names.ring
@click.option("--shape", metavar="N,N,...", type=types.SHAPE, help="Shape of one frame: 720,1280,3.")
@click.option("--dtype", metavar="DTYPE", type=types.DTYPE, help="Dtype of numpy: u1, <i2, f4.")
@click.option(
    "--format",
    "layout",
    metavar="raw|npy",
    type=click.Choice(["raw", "npy"]),
    default="raw",
    help="npy takes shape and dtype from the input's header (default raw).",
)
@click.option(
    "--slots",
    metavar="N",
    type=types.SLOTS,
    help="Slots of the ring (default 16; for small frames up to 1024, in 8 MB).",
)
@click.option("--frames", metavar="N", type=types.COUNT, help="Stop after N frames.")
@click.option("--wait-for", metavar="N", type=types.CONSUMERS, help="Start when N consumers have joined.")
@click.option(
    "--on-full",
    metavar="wait|drop",
    type=click.Choice(["wait", "drop"]),
    default="wait",
    help="With a full ring, hold the input back, or drop new frames (default wait).",
)
@click.option(
    "--timeout",
    metavar="S",
    type=types.SECONDS,
    help="Seconds to wait for consumers, and for space (default: for ever).",
)
def write(
    name: str,
    shape: tuple[int, ...] | None,
    dtype: np.dtype[Any] | None,
    layout: str,
    slots: int | None,
    frames: int | None,
    wait_for: int | None,
    on_full: Literal["wait", "drop"],
    timeout: float | None,
) -> int:
    """Create the ring NAME and publish what comes in on stdin, frame after frame.

    The bytes are read straight into the ring. At the end of the input the ring is closed: consumers get what
    is left, and its name is removed. A frame that the input ends within is not published (exit code 1), and
    consumers learn of that, as of every error, after the last whole frame.

    A ring of the same frames that consumers still use, but whose producer is gone, is taken over: those that
    wait for the next producer continue.

    \b
    ffmpeg -v error -i film.mp4 -f rawvideo -pix_fmt rgb24 - |
        shmring write cam --shape 720,1280,3 --dtype u1 --wait-for 1
    """  # noqa: D301  (\b keeps click from wrapping)
    if os.isatty(streams.stdin):
        raise click.UsageError("stdin is a terminal: pipe frames into it, or redirect it from a file")
    if (layout == "raw") != (shape is not None and dtype is not None):
        raise click.UsageError("give --shape and --dtype, or --format npy and neither")
    if layout == "npy":
        if shape is not None or dtype is not None:
            raise click.UsageError(
                "--format npy has shape and dtype in the input: leave --shape and --dtype out"
            )
        refuse_in_use(name)
        try:
            (length, *rest), dtype = pipes.read_npy_header(streams.stdin)
        except ValueError as error:
            raise Refusal(f"stdin is no .npy file that this can read: {error}") from None
        shape, frames = tuple(rest), min(length, frames or length)
    frame_nbytes = np.dtype(dtype).itemsize * math.prod(shape or ())
    slots = slots or max(16, min(RING_BYTES // max(frame_nbytes, 1), 1024))
    pipes.widen(streams.stdin)
    with pipes.ended_by_signals():
        with advice(name):
            try:
                ring = create_or_take_over(name, shape=shape, dtype=np.dtype(dtype), slots=slots)
            except RingIncompatible:
                raise
            except ValueError as error:
                if layout == "raw":
                    raise
                raise Refusal(f"the frames on stdin make no ring: {error}") from None
        with ring, ring.producer(on_full=on_full) as out:
            if wait_for is not None:
                out.wait_for_consumers(wait_for, timeout)
            try:
                return _pump(ring, out, frames, timeout)
            except Refusal as refusal:
                out.close(error=str(refusal))
                raise


def _pump(ring: Ring, out: Producer, frames: int | None, timeout: float | None) -> int:
    """Publish until the input ends; the exit code."""
    most = pipes.batch_frames(ring.frame_nbytes, ring.slots)
    began = time.monotonic()
    first, dropped = out.next_seq, out.dropped  # not 0 in a ring that was taken over
    rest = 0
    while frames is None or out.next_seq - first < frames:
        count = most if frames is None else min(most, frames - (out.next_seq - first))
        with out.claim(count, timeout) as slot:
            array = slot.array if count > 1 else slot.array[np.newaxis]
            whole, rest = divmod(pipes.read_into(streams.stdin, pipes.as_bytes(array)), ring.frame_nbytes)
            if whole:
                slot.publish(whole)
            else:
                slot.abort()
                break
        if rest:
            break
    seconds = time.monotonic() - began
    nbytes = out.published * ring.frame_nbytes
    streams.say(
        f"shmring write: {out.published} frames, {output.size(nbytes)} in {seconds:.1f} s "
        f"({output.size(nbytes / max(seconds, 1e-9))}/s), {out.dropped - dropped} dropped"
    )
    if rest:
        raise Refusal(
            f"the input ended within a frame: {rest} of {ring.frame_nbytes} bytes were not published; check "
            f"--shape and --dtype"
        )
    if frames is not None and out.next_seq - first < frames:
        raise Refusal(f"the input ended after {out.next_seq - first} of {frames} frames")
    return 0
