"""`shmring read`: from a ring to stdout."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from shmring import Batch, Consumer, ProducerDied, Ring, RingClosed
from shmring._attrs import other_pixels
from shmring._cli.support import names, options, output, pipes, streams, types
from shmring._cli.support.advice import advice
from shmring._cli.support.refusal import Refusal
from shmring._cli.support.signals import ended_by_signals
from shmring._follow import Rejoiner, Start, Succession
from shmring._format import format_of

if TYPE_CHECKING:
    from shmring.recording.formats._npy_header import NpyHeader


@click.command()
@names.ring
@options.lossless
@options.start
@options.frames
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
    "--group",
    metavar="TEXT",
    type=types.GROUP,
    help="Share the frames with the other readers of this group: each frame goes to the next that is free.",
)
@click.option(
    "--follow",
    is_flag=True,
    help="When the producer ends or dies, wait for the next ring of that name and continue with it.",
)
@click.option(
    "--timeout",
    metavar="S",
    type=types.SECONDS,
    help="Seconds to wait for the ring, and for each frame (default: forever).",
)
def read(
    name: str,
    lossless: bool,
    start: Start,
    frames: int | None,
    layout: str,
    label: str,
    group: str | None,
    follow: bool,
    timeout: float | None,
) -> None:
    """Write the frames of the ring NAME to stdout, until its producer closes it.

    Waits for a ring with a living producer; --timeout 0 reads what an earlier one left behind. The bytes are
    written straight from the ring. Lost frames are counted on stderr. If the producer failed or died, the
    exit code is 1, after its last frame.

    \b
    shmring read cam | ffplay -f rawvideo -pixel_format yuv420p -video_size 1280x720 -
    """  # noqa: D301  (\b keeps click from wrapping)
    options.at_most_one(group=group, lossy=not lossless)
    fd = streams.stdout
    if os.isatty(fd):
        raise click.UsageError("stdout is a terminal: pipe it into a program, or redirect it to a file")
    appending = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_APPEND
    patchable = stat.S_ISREG(os.fstat(fd).st_mode) and not appending
    if layout == "npy" and not patchable and frames is None:
        raise click.UsageError("--format npy into a pipe (or with >>) needs --frames: the header comes first")
    pipes.widen(fd)
    with (
        ended_by_signals(),
        contextlib.closing(_Source(name, lossless, start, label, group, follow, timeout)) as source,
    ):
        header = _npy_header(source.ring) if layout == "npy" else None
        source.joined.join(source.ring)
        if header is None:
            _pump(fd, source, frames)
        elif patchable:
            _fill_npy(fd, header, source, frames)
        else:
            pipes.write_bytes(fd, header.render(frames or 0))
            count = _pump(fd, source, frames)
            if count < (frames or 0):
                raise Refusal(
                    f"the ring was closed after {count} of the {output.count(frames or 0, 'frame')} that the "
                    f"header promises"
                )


class _Source:
    """Batches of the ring of a name; with --follow, of the next rings, too."""

    def __init__(
        self,
        name: str,
        lossless: bool,
        start: Start,
        label: str,
        group: str | None,
        follow: bool,
        timeout: float | None,
    ) -> None:
        self._rings = Succession(name) if follow else None
        self.joined = Rejoiner(lossless=lossless, start=start, label=label, group=group)
        self._shares = group is not None
        self._timeout = timeout
        self._lost = 0
        with advice(name):
            self.ring = self._rings.wait(timeout) if self._rings else Ring.attach(name, timeout=timeout)
        self._frame_format, self._attrs = format_of(self.ring), self.ring.attrs

    def take(self, most: int) -> Batch | None:
        """Take the next frames; None when the stream is over, and none is followed.

        A member of a group takes one at a time, so that the others work while it waits for its pipe.
        """
        most = 1 if self._shares else most
        consumer = self.joined.consumer or self.joined.join(self.ring)
        while True:
            try:
                return consumer.batch(most, 1, self._timeout)
            except RingClosed:
                if self._rings is None:
                    return None
            except ProducerDied:
                if self._rings is None:
                    raise
            consumer = self._join_next(self._rings)

    def _join_next(self, rings: Succession) -> Consumer:
        self._lost += self.joined.leave()
        rings.pass_by(self.ring)
        self.ring = rings.wait(self._timeout)
        difference = format_of(self.ring).difference(self._frame_format)
        difference = difference or other_pixels(self.ring.attrs, self._attrs)
        if difference:
            raise Refusal(f"the next ring {rings.name!r} has other frames than those so far: {difference}")
        return self.joined.join(self.ring)

    def close(self) -> None:
        """Leave, and count what was lost."""
        self._lost += self.joined.leave()
        self.ring.close()
        if self._lost:
            streams.say(f"shmring read: {output.count(self._lost, 'frame')} lost")


def _npy_header(ring: Ring) -> NpyHeader:
    """Refuse frames that .npy cannot hold, before the ring is joined."""
    from shmring.recording.formats._npy_header import NpyHeader

    if ring.variable_rows:
        raise Refusal(f"the frames of ring {ring.name!r} differ in length, which .npy cannot hold: use raw")
    try:
        return NpyHeader(ring.dtype, ring.shape)
    except ValueError as error:
        raise Refusal(str(error)) from None


def _fill_npy(fd: int, header: NpyHeader, source: _Source, frames: int | None) -> None:
    """Write a file whose header counts the frames in it at every moment, however this ends."""
    begin = os.lseek(fd, 0, os.SEEK_CUR)

    def count(rows: int) -> None:
        os.pwrite(fd, header.render_changes(rows), begin)

    pipes.write_bytes(fd, header.render(0))
    frame_nbytes = source.ring.frame_nbytes
    try:
        _pump(fd, source, frames, count)
    finally:
        written = os.lseek(fd, 0, os.SEEK_CUR) - begin - header.nbytes
        count(max(0, written) // frame_nbytes)


def _pump(
    fd: int, source: _Source, frames: int | None, written: Callable[[int], object] = lambda count: None
) -> int:
    """Write until the stream ends; how many frames were written. `written` hears of each batch."""
    count = 0
    while frames is None or count < frames:
        most = pipes.batch_frames(source.ring.frame_nbytes, source.ring.slots)
        batch = source.take(most if frames is None else min(most, frames - count))
        if batch is None:
            break
        new = source.joined.new(batch)  # not taken before the ring was taken over
        with batch, source.ring._uncut():
            if new.start < new.stop:
                _write_batch(fd, batch, new)
        count += new.stop - new.start
        written(count)
    return count


def _write_batch(fd: int, batch: Batch, new: slice) -> None:
    if batch.rows is None:
        pipes.write_all(fd, pipes.as_bytes(batch.array[new]))
        return
    for array, rows in zip(batch.array[new], batch.rows[new], strict=True):
        pipes.write_all(fd, pipes.as_bytes(array[: int(rows)]))
