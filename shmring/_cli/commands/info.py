"""`shmring info`: everything about one ring."""

from __future__ import annotations

import contextlib
import json
import time

import click

from shmring import ConsumerStats, Ring, ShmringError
from shmring._cli.support import full, groups, names, output, plain, processes
from shmring._cli.support.rates import Rates, consumer_key, look_twice, ring_key
from shmring._cli.support.refusal import Refusal
from shmring._inventory import Found, RingFacts, look
from shmring._stats import spares_of

COLUMNS = (
    "~LABEL",
    ">PID",
    "~USER",
    "~POLICY",
    ">LAG",
    ">LOST",
    ">SKIPPED",
    ">HELD",
    ">RATE",
    "~COMMAND",
)


@click.command()
@names.ring
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def info(name: str, as_json: bool) -> None:
    """Show everything about the ring NAME: schema, attrs, counters, and each participant.

    Each slot takes one frame. Counts are in frames. LAG: published, but not taken yet. LOST: never received.
    SKIPPED: passed over on purpose. HELD: kept from being overwritten; 1/4 if the consumer is lossy and may
    hold 4. A member of a group has the group in the column POLICY, and the group's lag. The line "full" names
    the consumer or group that the producer waits for, or drops frames for.
    """
    [found], measured = look_twice(lambda: [look(name)])
    if found.ring is None:
        raise Refusal(found.problem)
    rates = measured.get(ring_key(found))
    huge = _huge_nbytes(name)
    if as_json:
        output.show_json(plain.block(found, rates) | {"huge_nbytes": huge})
        return
    for title, text in _facts(found, found.ring, rates, huge):
        click.echo(f"{title:<10} {text}")
    if found.ring.stats.consumers:
        click.echo()
        output.show_table(COLUMNS, [_consumer(one, rates) for one in found.ring.stats.consumers])


def _huge_nbytes(name: str) -> int:
    """Count what lies on huge pages, which takes too long for commands that show many rings."""
    with contextlib.suppress(ShmringError), Ring.attach(name, readonly=True) as ring:
        return ring.huge_nbytes
    return 0  # it has gone since


def _facts(found: Found, ring: RingFacts, rates: Rates | None, huge: int) -> list[tuple[str, str]]:
    stats = ring.stats
    rows = ", the first axis may be shorter" if ring.variable_rows else ""
    meta = f", each with meta {output.dtype(ring.meta_dtype)}" if ring.meta_dtype is not None else ""
    created = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(ring.created_ns / 1e9))
    age = output.age(time.time() - ring.created_ns / 1e9)
    speed = ""
    if rates is not None:
        speed = f"; {output.rate(rates.published)}, {output.bandwidth(rates.published * ring.frame_nbytes)}"
    memory = f"{output.size(found.nbytes)}: {found.nbytes} bytes, {huge} on huge pages"
    published, swaps = output.count(stats.published, "frame", ","), output.count(stats.swaps, "swap", ",")
    frames = f"shape {stats.shape} dtype {output.dtype(stats.dtype)}, {output.size(ring.frame_nbytes)}"
    facts = [
        ("ring", f"{output.clean(found.name)}, {found.state}"),
        ("frames", f"{frames}{rows}{meta}"),
        ("slots", f"{stats.slots}{spares_of(stats)}, for one frame each"),
        ("block", f"{memory}, owner {found.owner}, mode {found.mode:#o}"),
        ("created", f"{created} ({age} ago) by pid {ring.creator_pid}"),
        ("published", f"{published}, {stats.dropped:,} dropped, {swaps}{speed}"),
    ]
    facts += [("attrs", json.dumps(ring.attrs))] if ring.attrs else []
    joined = sum(one.alive for one in stats.consumers)
    blocking = "; ".join(full.describe(one, stats) for one in full.in_the_way(stats))
    consumers = f"{joined} of {output.count(ring.places, 'place')}"
    facts += [("producer", _producer(ring)), ("consumers", consumers)]
    facts += [("group", groups.describe(one, stats)) for one in stats.groups]
    does = "drops frames for" if rates and rates.dropped else "waits for"
    return [*facts, ("full", f"{does} {blocking}")] if blocking else facts


def _producer(ring: RingFacts) -> str:
    producer = ring.stats.producer
    if producer.state != "live":
        was = f", it was pid {producer.pid}" if producer.pid else ""
        why = f": {output.clean(producer.failure)}" if producer.failure else ""
        return f"{producer.state}{was}{why}"
    process = processes.describe(producer.pid, producer.start_time, alive=True)
    who = " ".join(word for word in (f"pid {producer.pid}", process.user, process.status) if word)
    return f"{who}, epoch {producer.epoch}: {processes.command(producer)}"


def _consumer(one: ConsumerStats, rates: Rates | None) -> tuple[str, ...]:
    process = processes.describe(one.pid, one.start_time, alive=one.alive)
    halted = process.halted if one.alive else "dead"
    command = processes.command(one) if one.alive else ""
    return (
        output.clean(one.label),
        str(one.pid),
        process.user,
        groups.policy(one),
        f"{one.lag:,}",
        f"{one.lost:,}",
        f"{one.skipped:,}",
        full.held_cell(one),
        output.rate(rates.delivered.get(consumer_key(one)) if rates else None),
        f"({halted}) {command}".rstrip() if halted else command,
    )
