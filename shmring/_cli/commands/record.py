"""`shmring record`: from a ring into a file."""

from __future__ import annotations

import dataclasses
import re
import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal

import click

from shmring._cli.app import system_error
from shmring._cli.support import names, output, streams, types
from shmring._cli.support.advice import advice
from shmring._cli.support.progress import ProgressLine

if TYPE_CHECKING:
    from shmring.recording import Recorder, Summary
    from shmring.recording._series import Mode

TOGETHER = 1.0  # seconds in which signals are one
UNITS = {
    "": 1,
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
}


def _size(text: str) -> int:
    match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,6})?) ?([kMGT]?|[KMGT]i)B?", text)
    nbytes = int(float(match[1]) * UNITS[match[2]]) if match else 0
    if nbytes < 1:
        raise ValueError(f"{text!r} is not a size; write it as 500MB, 2GB or 4GiB")
    return nbytes


SIZE = types.Parsed("size", _size)
FILE = click.Path(dir_okay=True, writable=False, path_type=str)

start = click.option(
    "--start",
    metavar="oldest|newest|next",
    type=click.Choice(["oldest", "newest", "next"]),
    default="oldest",
    help="Begin with the oldest frame still there, the newest, or the next to come (default oldest).",
)
ring_timeout = click.option(
    "--timeout", metavar="S", type=types.SECONDS, help="Seconds to wait for the ring (default: for ever)."
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print a JSON object: what was recorded.")
quiet = click.option("--quiet", is_flag=True, help="Show no progress.")


@click.command()
@names.ring
@click.argument("file", metavar="FILE", type=FILE)
@click.option("--frames", metavar="N", type=types.COUNT, help="Stop after N frames.")
@click.option("--seconds", metavar="S", type=types.POSITIVE, help="Stop after S seconds.")
@click.option("--bytes", "nbytes", metavar="SIZE", type=SIZE, help="Stop after so much: 500MB, 4GiB.")
@click.option("--roll-frames", metavar="N", type=types.COUNT, help="Begin a new file every N frames.")
@click.option("--roll-seconds", metavar="S", type=types.POSITIVE, help="Begin a new file every S seconds.")
@click.option("--roll-bytes", metavar="SIZE", type=SIZE, help="Begin a new file every so many bytes.")
@click.option(
    "--keep", metavar="K", type=types.COUNT, help="Delete all but the last K files (default: keep all)."
)
@click.option("--append", is_flag=True, help="Continue a file that exists.")
@click.option("--overwrite", is_flag=True, help="Replace a file that exists.")
@click.option(
    "--lossless/--lossy",
    default=True,
    help="Get every frame and hold the producer back (the default), or never hold it back.",
)
@start
@click.option(
    "--takeover",
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
    help="For .npy: have everything on the disk every S seconds, against power failures (default: when the "
    "kernel likes).",
)
@ring_timeout
@quiet
@as_json
def record(
    name: str,
    file: str,
    frames: int | None,
    seconds: float | None,
    nbytes: int | None,
    roll_frames: int | None,
    roll_seconds: float | None,
    roll_bytes: int | None,
    keep: int | None,
    append: bool,
    overwrite: bool,
    lossless: bool,
    start: Literal["oldest", "newest", "next"],
    takeover: bool,
    follow: bool,
    sync: float | None,
    timeout: float | None,
    quiet: bool,
    as_json: bool,
) -> int:
    """Save the frames of the ring NAME in FILE, until its producer closes it.

    The suffix of FILE chooses the format: .npy (beside it FILE.index.npy with seqs, timestamps and losses,
    and FILE.json), .zarr (pip install "shmring[zarr]"), .h5 or .hdf5 (pip install "shmring[hdf5]"). With
    one of the --roll options the files are FILE-0001, FILE-0002, and so on.

    Waits for the ring to appear; what an earlier producer left behind does not count (--timeout 0 records
    that). Ctrl-C and SIGTERM end the recording; a full disk does, too. Whatever ends it, everything recorded
    before is readable.

    Exit codes: 0 recorded to a limit or to the end of the stream, 1 the producer failed or died, or the disk
    is full, 3 another ring took the name, 130 Ctrl-C, 143 SIGTERM.
    """
    from shmring.recording import Recorder, Roll

    if append and overwrite:
        raise click.UsageError("--append and --overwrite are not allowed with one another")
    if takeover and follow:
        raise click.UsageError("--takeover and --follow are not allowed with one another: --follow does both")
    limits = (roll_frames, roll_seconds, roll_bytes)
    if keep is not None and limits == (None, None, None):
        raise click.UsageError("--keep needs --roll-frames, --roll-seconds or --roll-bytes")
    roll = None if limits == (None, None, None) else Roll(*limits, keep=keep)
    mode: Mode = "a" if append else "w" if overwrite else "x"
    check_file(file, several=roll is not None, mode=mode, sync=sync)
    with Signals() as signals, Progress(quiet, frames, seconds, nbytes) as line:
        with advice(name):
            recorder = Recorder(
                name,
                file,
                frames=frames,
                seconds=seconds,
                nbytes=nbytes,
                roll=roll,
                mode=mode,
                lossless=lossless,
                start=start,
                wait_for_takeover=takeover,
                follow=follow,
                timeout=timeout,
                sync=sync,
                progress=line.show,
            )
        signals.stop = recorder.stop
        summary = recorder.run()
    tell("record", summary, as_json)
    return signals.code or (1 if summary.ended in ("producer failed", "producer died") else 0)


def check_file(
    file: str, *, several: bool, mode: Mode, sync: float | None = None, appendable: bool = True
) -> None:
    """Refuse a FILE that cannot be recorded into as wrong usage, before anything is waited for."""
    from shmring.recording._destination import check_destination

    try:
        check_destination(file, several=several, mode=mode, sync=sync, appendable=appendable)
    except FileExistsError as error:
        said = str(error).replace('mode="a"', "--append").replace('mode="w"', "--overwrite")
        raise click.UsageError(said) from None
    except OSError as error:
        raise click.UsageError(system_error(error)) from None
    except (ValueError, ImportError) as error:
        raise click.UsageError(str(error)) from None


class Signals:
    """Lets SIGINT, SIGTERM and SIGHUP end a recording in good order; at the second one at once.

    Signals that come together are one: a terminal sends them, and `timeout` or a parent passes them on.
    """

    def __init__(self) -> None:
        self.stop: Callable[[], object] | None = None
        self._received = 0
        self._received_at = 0.0

    def __enter__(self) -> Signals:
        self._before = {
            number: signal.signal(number, self._receive)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
            if number == signal.SIGINT or signal.getsignal(number) is signal.SIG_DFL
        }
        return self

    def __exit__(self, *_exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._received and now - self._received_at < TOGETHER:
            return
        if self.stop is None or self._received:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            raise SystemExit(128 + number)
        self._received, self._received_at = number, now
        self.stop()

    @property
    def code(self) -> int:
        """The exit code that says which signal came; 0 if none did."""
        return 128 + self._received if self._received else 0


class Progress(ProgressLine):
    """How much, how fast, how far behind."""

    def __init__(self, quiet: bool, frames: int | None, seconds: float | None, nbytes: int | None) -> None:
        super().__init__(quiet, "waiting for the ring")
        self._frames, self._seconds, self._nbytes = frames, seconds, nbytes

    def show(self, recorder: Recorder) -> None:
        """Draw it again."""
        seconds = recorder.seconds  # the time before the ring was there does not count
        parts = [(recorder.frames, self._frames), (recorder.nbytes, self._nbytes), (seconds, self._seconds)]
        shares = [done / limit for done, limit in parts if limit is not None]
        self.draw(
            f"{recorder.frames} frames  {output.size(recorder.nbytes)}  "
            f"{output.size(recorder.nbytes / max(seconds, 1e-9))}/s  {output.age(seconds)}  "
            f"lag {recorder.lag}  lost {recorder.lost}",
            max(shares, default=None),
        )


def tell(command: str, summary: Summary, as_json: bool) -> None:
    """Say what was recorded: on stderr for people, on stdout for programs."""
    if as_json:
        output.show_json(as_plain(summary))
        return
    files = str(summary.paths[-1]) if summary.paths else "no file"
    if len(summary.paths) > 1:
        files = f"{len(summary.paths)} files, the last one {files}"
    rate = output.size(summary.nbytes / max(summary.seconds, 1e-9))
    ended: str = "done" if summary.ended == "limit" else summary.ended
    if summary.failure:
        ended += f" ({output.clean(summary.failure)})"
    reached = " (limit reached)" if summary.ended == "limit" and command == "record" else ""
    streams.say(
        f"shmring {command}: {ended}: {summary.frames} frames{reached}, {output.size(summary.nbytes)} in "
        f"{summary.seconds:.1f} s ({rate}/s), {summary.lost} lost; in {files}"
    )


def as_plain(summary: Summary) -> dict[str, Any]:
    """Make JSON of it."""
    return {**dataclasses.asdict(summary), "paths": [str(path) for path in summary.paths]}
