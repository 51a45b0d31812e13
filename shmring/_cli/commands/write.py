"""`shmring write`: from stdin into a ring."""

from __future__ import annotations

import math
import os
import time
from typing import Any, Literal

import click
import numpy as np

from shmring import Producer, Ring, RingIncompatible
from shmring._cli.support import names, options, output, pipes, streams, types
from shmring._cli.support.advice import advice, refuse_in_use
from shmring._cli.support.refusal import Refusal
from shmring._cli.support.signals import ended_by_signals
from shmring._ring import create_or_take_over
from shmring.video import PixelLayout

RING_BYTES = 8_000_000


@click.command()
@names.ring
@click.option("--shape", metavar="N,N,...", type=types.SHAPE, help="Shape of one frame: 720,1280,3.")
@click.option("--dtype", metavar="DTYPE", type=types.DTYPE, help="Dtype of numpy: u1, <i2, f4.")
@click.option(
    "--pix-fmt",
    metavar="FORMAT",
    type=types.PIX_FMT,
    help="Instead of shape and dtype: pixels as ffmpeg names them, yuv420p, nv12, gray10le, rgb48le.",
)
@click.option("--size", metavar="WxH", type=types.PICTURE, help="Width and height for --pix-fmt: 1280x720.")
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
    help="Slots of the ring (default 16; up to 1024 for small frames, in 8 MB).",
)
@click.option(
    "--spares",
    metavar="N",
    type=types.SPARES,
    default=0,
    help="Slots beyond those, for frames that consumers hold (default 0).",
)
@options.frames
@options.wait_for
@click.option(
    "--on-full",
    metavar="wait|drop",
    type=click.Choice(["wait", "drop"]),
    default="wait",
    help="When the ring is full, hold the input back, or drop new frames (default wait).",
)
@click.option(
    "--timeout",
    metavar="S",
    type=types.SECONDS,
    help="Seconds to wait for consumers, and for space (default: forever).",
)
def write(
    name: str,
    shape: tuple[int, ...] | None,
    dtype: np.dtype[Any] | None,
    pix_fmt: str | None,
    size: tuple[int, int] | None,
    layout: str,
    slots: int | None,
    spares: int,
    frames: int | None,
    wait_for: int | None,
    on_full: Literal["wait", "drop"],
    timeout: float | None,
) -> int:
    """Create the ring NAME and publish the frames that come in on stdin.

    The bytes are read straight into the ring. At the end of the input the ring is closed: consumers get what
    is left, and the name is removed. If the input ends in the middle of a frame, that frame is not published
    (exit code 1); consumers get this error, like any other, after the last whole frame.

    If consumers still use a ring of that name and the same frames whose producer is gone, it is taken over:
    consumers that wait for the next producer continue.

    \b
    ffmpeg -v error -i film.mp4 -f rawvideo -pix_fmt yuv420p - |
        shmring write cam --pix-fmt yuv420p --size 1280x720 --wait-for 1
    """  # noqa: D301  (\b keeps click from wrapping)
    if os.isatty(streams.stdin):
        raise click.UsageError("stdin is a terminal: pipe frames into it, or redirect it from a file")
    described = _described(shape, dtype, pix_fmt, size, layout)
    if described is None:
        shape, dtype, frames = _read_header(name, frames)
        described = shape, dtype, {}
    pipes.widen(streams.stdin)
    with ended_by_signals():
        ring = _create(name, *described, slots, spares, from_input=layout == "npy")
        with ring, ring.producer(on_full=on_full) as out:
            if wait_for is not None:
                out.wait_for_consumers(wait_for, timeout)
            try:
                return _pump(ring, out, frames, timeout)
            except Refusal as refusal:
                out.close(error=str(refusal))
                raise


def _described(
    shape: tuple[int, ...] | None,
    dtype: np.dtype[Any] | None,
    pix_fmt: str | None,
    size: tuple[int, int] | None,
    layout: str,
) -> tuple[tuple[int, ...], np.dtype[Any], dict[str, Any]] | None:
    """Return shape, dtype and attrs of the frames as the options say; None if the input's header does."""
    by_shape = shape is not None or dtype is not None
    by_pixels = pix_fmt is not None or size is not None
    if layout == "npy":
        if by_shape or by_pixels:
            these = "--shape and --dtype" if by_shape else "--pix-fmt and --size"
            raise click.UsageError(f"--format npy has shape and dtype in the input: leave out {these}")
        return None
    if by_shape and by_pixels:
        raise click.UsageError("--pix-fmt and --size say shape and dtype: leave out --shape and --dtype")
    if shape is not None and dtype is not None:
        return shape, dtype, {}
    if pix_fmt is not None and size is not None:
        pixels = PixelLayout(pix_fmt, *size)
        return pixels.shape, pixels.dtype, pixels.attrs
    if by_pixels:
        raise click.UsageError("give both --pix-fmt and --size")
    raise click.UsageError(
        "give --shape and --dtype, or --pix-fmt and --size, or --format npy and none of these"
    )


def _read_header(name: str, frames: int | None) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Return what the .npy header on stdin says of the frames, and how many of them are wanted."""
    refuse_in_use(name)
    try:
        (length, *rest), dtype = pipes.read_npy_header(streams.stdin)
    except ValueError as error:
        raise Refusal(f"stdin is not a .npy file that this can read: {error}") from None
    return tuple(rest), dtype, min(length, frames or length)


def _create(
    name: str,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    attrs: dict[str, Any],
    slots: int | None,
    spares: int,
    *,
    from_input: bool,
) -> Ring:
    """Create the ring, or refuse its frames: wrong usage, unless the input's header describes them."""
    nbytes = dtype.itemsize * math.prod(shape)
    slots = slots or max(16, min(RING_BYTES // max(nbytes, 1), 1024))
    with advice(name):
        try:
            return create_or_take_over(
                name, shape=shape, dtype=dtype, attrs=attrs, slots=slots, spares=spares
            )
        except RingIncompatible:
            raise
        except ValueError as error:
            if not from_input:
                raise
            raise Refusal(f"the frames on stdin make no ring: {error}") from None


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
        f"shmring write: {output.count(out.published, 'frame')}, {output.size(nbytes)} in {seconds:.1f} s "
        f"({output.bandwidth(nbytes, seconds)}), {out.dropped - dropped} dropped"
    )
    if rest:
        raise Refusal(
            f"the input ended within a frame: {rest} of its {ring.frame_nbytes} bytes came; check "
            f"{'--pix-fmt and --size' if 'pix_fmt' in ring.attrs else '--shape and --dtype'}"
        )
    if frames is not None and out.next_seq - first < frames:
        raise Refusal(f"the input ended after {out.next_seq - first} of {output.count(frames, 'frame')}")
    return 0
