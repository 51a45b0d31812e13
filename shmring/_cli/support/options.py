"""Options that several commands have, and what can be wrong with several at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from shmring._cli.support import types

if TYPE_CHECKING:
    from shmring.recording._series import Mode

start = click.option(
    "--start",
    metavar="oldest|newest|next",
    type=click.Choice(["oldest", "newest", "next"]),
    default="oldest",
    help="Begin with the oldest frame still there, the newest, or the next to come (default oldest).",
)
lossless = click.option(
    "--lossless/--lossy",
    default=True,
    help="Get every frame and hold the producer back (the default), or never hold it back.",
)
frames = click.option("--frames", metavar="N", type=types.COUNT, help="Stop after N frames.")
codec = click.option(
    "--codec",
    metavar="lz4|zstd",
    type=click.Choice(["lz4", "zstd"]),
    help="For .zarr, .h5 and .ome.zarr: compress, fast with lz4, to smaller files with zstd (default: not).",
)
wait_for = click.option(
    "--wait-for", metavar="N", type=types.CONSUMERS, help="Start when N consumers have joined."
)
ring_timeout = click.option(
    "--timeout", metavar="S", type=types.SECONDS, help="Seconds to wait for the ring (default: forever)."
)
quiet = click.option("--quiet", is_flag=True, help="Show no progress.")


def at_most_one(**chosen: object) -> None:
    """Refuse two options that exclude each other; None and False mean that an option was not given."""
    given = [
        "--" + name.replace("_", "-")
        for name, value in chosen.items()
        if value is not None and value is not False
    ]
    if len(given) > 1:
        raise click.UsageError(f"{given[0]} and {given[1]} cannot be used together")


def mode_of(*, append: bool, overwrite: bool) -> Mode:
    """Return the mode of a recording."""
    at_most_one(append=append, overwrite=overwrite)
    return "a" if append else "w" if overwrite else "x"
