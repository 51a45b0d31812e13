"""`shmring record`: from a ring into a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from shmring._cli.support import names, options, output, plain, recordings, types
from shmring._cli.support.advice import advice
from shmring._cli.support.progress import ProgressLine
from shmring._cli.support.signals import stopped_by_signals

if TYPE_CHECKING:
    from shmring.recording import Recorder, Roll


@click.command()
@names.ring
@recordings.file
@options.frames
@click.option("--seconds", metavar="S", type=types.POSITIVE, help="Stop after S seconds.")
@click.option("--bytes", "nbytes", metavar="SIZE", type=types.SIZE, help="Stop after SIZE: 500MB, 4GiB.")
@click.option("--roll-frames", metavar="N", type=types.COUNT, help="Begin a new file every N frames.")
@click.option("--roll-seconds", metavar="S", type=types.POSITIVE, help="Begin a new file every S seconds.")
@click.option("--roll-bytes", metavar="SIZE", type=types.SIZE, help="Begin a new file every SIZE bytes.")
@click.option(
    "--keep", metavar="K", type=types.COUNT, help="Delete all but the last K files (default: keep all)."
)
@click.option("--append", is_flag=True, help="Continue a file that exists.")
@click.option("--overwrite", is_flag=True, help="Replace a file that exists.")
@options.codec
@options.lossless
@options.start
@click.option(
    "--takeover",
    "wait_for_takeover",
    is_flag=True,
    help="When the producer fails or dies, wait for the next one instead of ending.",
)
@click.option(
    "--follow",
    is_flag=True,
    help="When the producer ends or dies, wait for the next ring of that name and continue with it, in the "
    "same file.",
)
@click.option(
    "--sync",
    metavar="S",
    type=types.POSITIVE,
    help="For .npy: flush everything to the disk every S seconds, against power failures (default: when the "
    "kernel does).",
)
@options.ring_timeout
@options.quiet
@click.option("--json", "as_json", is_flag=True, help="Print what was recorded as a JSON object.")
def record(
    name: str,
    file: str,
    roll_frames: int | None,
    roll_seconds: float | None,
    roll_bytes: int | None,
    keep: int | None,
    append: bool,
    overwrite: bool,
    quiet: bool,
    as_json: bool,
    **wanted: Any,
) -> int:
    """Record the frames of the ring NAME to FILE, until its producer closes it.

    The suffix of FILE chooses the format: .npy (beside it FILE.index.npy with seqs, timestamps and losses,
    and FILE.json), .zarr (pip install "shmring[zarr]"), .h5 or .hdf5 (pip install "shmring[hdf5]"), and for
    microscopy .ome.zarr or .ome.tiff (pip install "shmring[ome]"). With one of the --roll options the files
    are FILE-0001, FILE-0002, and so on.

    Waits for a ring with a living producer; --timeout 0 records what an earlier one left behind. Ctrl-C,
    SIGTERM and a full disk end the recording. Whatever ends it, everything recorded before is readable.

    Exit codes: 0 recorded to a limit or to the end of the stream, 1 the producer failed or died, or the disk
    is full, 3 another ring took the name, 130 Ctrl-C, 143 SIGTERM.
    """
    from shmring.recording import Recorder

    options.at_most_one(takeover=wanted["wait_for_takeover"], follow=wanted["follow"])
    mode = options.mode_of(append=append, overwrite=overwrite)
    roll = _roll(roll_frames, roll_seconds, roll_bytes, keep)
    recordings.check_order(file, name)
    recordings.check_file(
        file, several=roll is not None, mode=mode, sync=wanted["sync"], codec=wanted["codec"]
    )
    limits = (wanted["frames"], wanted["seconds"], wanted["nbytes"])
    with stopped_by_signals() as signals, Progress(quiet, *limits) as line:
        with advice(name):
            recorder = Recorder(name, file, roll=roll, mode=mode, progress=line.show, **wanted)
        signals.stop = recorder.stop
        summary = recorder.run()
    if as_json:
        output.show_json(plain.recording(summary))
    else:
        recordings.show_summary("record", summary)
    return signals.code or (1 if summary.ended in ("producer failed", "producer died") else 0)


def _roll(frames: int | None, seconds: float | None, nbytes: int | None, keep: int | None) -> Roll | None:
    """Return how files follow each other; None if there is one file."""
    from shmring.recording import Roll

    if frames is None and seconds is None and nbytes is None:
        if keep is not None:
            raise click.UsageError("--keep needs --roll-frames, --roll-seconds or --roll-bytes")
        return None
    return Roll(frames, seconds, nbytes, keep=keep)


class Progress(ProgressLine):
    """Shows how much was recorded, how fast, and how far behind the ring it is."""

    def __init__(self, quiet: bool, frames: int | None, seconds: float | None, nbytes: int | None) -> None:
        super().__init__(quiet, "waiting for the ring")
        self._frames, self._seconds, self._nbytes = frames, seconds, nbytes

    def show(self, recorder: Recorder) -> None:
        """Draw it again."""
        seconds = recorder.seconds  # the time before the ring was there does not count
        parts = [(recorder.frames, self._frames), (recorder.nbytes, self._nbytes), (seconds, self._seconds)]
        shares = [done / limit for done, limit in parts if limit is not None]
        self.draw(
            f"{output.count(recorder.frames, 'frame')}  {output.size(recorder.nbytes)}  "
            f"{output.bandwidth(recorder.nbytes, seconds)}  {output.age(seconds)}  "
            f"lag {recorder.lag}  lost {recorder.lost}",
            max(shares, default=None),
        )
