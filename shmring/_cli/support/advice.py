"""What errors of the library mean on the command line: wrong usage, a missing extra, what to type."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import click

from shmring import RingExists, RingNotFound, ShmringError
from shmring._cli.support.refusal import Refusal
from shmring._inventory import look, users

# Their absence is explained where they are needed.
LIBRARIES = ("zarr", "h5py", "hdf5plugin", "ome_writers", "av")


@contextlib.contextmanager
def advice(name: str | None = None) -> Iterator[None]:
    """Translate the errors of a command that works with the ring `name`."""
    try:
        yield
    except ImportError as error:
        if error.name not in LIBRARIES:
            raise
        raise click.UsageError(str(error)) from None
    except RingExists as error:
        raise Refusal(_in_use(name) or str(error)) from None
    except ShmringError:
        raise
    except (ValueError, OverflowError) as error:
        raise click.UsageError(str(error)) from None


def refuse_in_use(name: str) -> None:
    """Refuse the name of a ring that has a producer, before waiting for the input that describes a ring."""
    with contextlib.suppress(RingNotFound):
        ring = look(name).ring
        if ring is not None and ring.stats.producer.state == "live" and (said := _in_use(name)):
            raise Refusal(said)


def _in_use(name: str | None) -> str:
    try:
        if name is None or (found := look(name)).ring is None or found.state != "live":
            return ""
        return f"ring {name!r} is in use ({users(name)}): end that first, or choose another name"
    except RingNotFound:  # it has just gone away
        return ""
