"""What the commands for recordings share: the FILE, and what was recorded into it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from shmring._cli.support import output, streams
from shmring._cli.support.refusal import system_error

if TYPE_CHECKING:
    from shmring.recording import Summary
    from shmring.recording._series import Mode

file = click.argument("file", metavar="FILE", type=click.Path(dir_okay=True, writable=False, path_type=str))


def check_file(
    file: str,
    *,
    several: bool,
    mode: Mode,
    sync: float | None = None,
    codec: str | None = None,
    appendable: bool = True,
) -> None:
    """Refuse a FILE that cannot be recorded into as wrong usage, before anything is waited for."""
    from shmring.recording._destination import check_destination

    try:
        check_destination(file, several=several, mode=mode, sync=sync, codec=codec, appendable=appendable)
    except FileExistsError as error:
        said = str(error).replace('mode="a"', "--append").replace('mode="w"', "--overwrite")
        raise click.UsageError(said) from None
    except OSError as error:
        raise click.UsageError(system_error(error)) from None
    except (ValueError, ImportError) as error:
        raise click.UsageError(str(error)) from None


def check_order(file: str, name: str) -> None:
    """Refuse FILE and NAME the wrong way round: commands differ in which one is first."""
    from shmring.recording._destination import is_recording_name

    if is_recording_name(name) and not is_recording_name(file):
        raise click.UsageError(f"{name!r} looks like FILE, and {file!r} like NAME: exchange them")


def show_summary(command: str, summary: Summary) -> None:
    """Say on stderr what was recorded."""
    files = str(summary.paths[-1]) if summary.paths else "no file"
    if len(summary.paths) > 1:
        files = f"{len(summary.paths)} files, the last one {files}"
    ended: str = "done" if summary.ended == "limit" else summary.ended
    if summary.failure:
        ended += f" ({output.clean(summary.failure)})"
    reached = " (limit reached)" if summary.ended == "limit" and command == "record" else ""
    streams.say(
        f"shmring {command}: {ended}: {output.count(summary.frames, 'frame')}{reached}, "
        f"{output.size(summary.nbytes)} in {summary.seconds:.1f} s "
        f"({output.bandwidth(summary.nbytes, summary.seconds)}), {summary.lost} lost; in {files}"
    )
