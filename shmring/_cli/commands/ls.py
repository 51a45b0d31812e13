"""`shmring ls`: every ring on the machine."""

from __future__ import annotations

import time
from collections.abc import Sequence

import click

from shmring import RingStats
from shmring._cli.support import output, plain, processes, streams
from shmring._cli.support.rates import Rates, look_twice, ring_key
from shmring._inventory import Found, look_at_all

COLUMNS = ("NAME", "STATE", "DTYPE", "SHAPE", ">SLOTS", ">SIZE", ">RATE", "~PRODUCER", ">CONS", ">AGE")


@click.command()
@click.option("--all", "everything", is_flag=True, help="List the files in /dev/shm that are not rings, too.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list, one object per line of the table.")
def ls(everything: bool, as_json: bool) -> None:
    """List every ring on this machine.

    A live ring has processes attached to it; a stale one does not (shmring rm --stale removes it). Rings
    that cannot be read follow: other version (processes with another version of shmring use it), damaged,
    unfinished, and stale ones of another version. The other files in that folder are only counted; --all
    lists them, too: foreign (another program's), unfinished (empty), denied (you may not read it, so it may
    or may not be a ring).

    CONS counts the living consumers and, in parentheses, the lossless ones among them (members of groups
    are): 3 (1). The rate is measured for a quarter of a second.
    """
    found, rates = look_twice(look_at_all)
    shown = [one for one in found if everything or one.is_ring]
    if as_json:
        output.show_json([plain.block(one, rates.get(ring_key(one))) for one in shown])
        return
    shown.sort(key=lambda one: one.ring is None)
    if shown:
        rows = [_row(one, rates.get(ring_key(one))) for one in shown]
        output.show_table(COLUMNS, rows, [output.COLOURS[one.state] for one in shown])
    rest = _count([] if everything else [one for one in found if not one.is_ring])
    if rest or not shown:
        streams.say(" ".join(filter(None, ("" if shown else "No rings.", rest))))


def _count(others: Sequence[Found]) -> str:
    """Say how many files are not listed."""
    if not others:
        return ""
    denied = sum(one.state == "denied" for one in others)
    files = output.count(len(others), "other file")
    unreadable = f" (you may not read {denied} of them)" if denied else ""
    return f"And {files}{unreadable}: --all lists {'it' if len(others) == 1 else 'them'}."


def _row(found: Found, rates: Rates | None) -> tuple[str, ...]:
    name = output.clean(found.name)
    if found.ring is None:
        return name, found.state, "-", "-", "-", output.size(found.nbytes), "-", f"({found.owner})", "-", "-"
    stats = found.ring.stats
    return (
        name,
        found.state,
        output.dtype(stats.dtype, short=True),
        output.shape(stats.shape),
        str(stats.slots),
        output.size(found.nbytes),
        output.rate(rates.published if rates else None) if stats.producer.state == "live" else "-",
        processes.producer_name(stats.producer),
        _consumers(stats),
        output.age(time.time() - found.ring.created_ns / 1e9),
    )


def _consumers(stats: RingStats) -> str:
    living = [one for one in stats.consumers if one.alive]
    lossless = sum(one.policy in ("lossless", "member") for one in living)
    return f"{len(living)} ({lossless})" if living else "0"
