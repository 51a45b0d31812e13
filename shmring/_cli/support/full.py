"""Which consumers make a ring full: the ones that the producer waits for."""

from __future__ import annotations

from shmring import ConsumerStats, RingStats
from shmring._cli.support import output


def fill(one: ConsumerStats, stats: RingStats) -> float:
    """Return how much of the ring a consumer keeps from the producer, by what it holds and must still get."""
    if not one.alive:
        return 0.0
    every = stats.slots + stats.spares
    if one.policy not in ("lossless", "member"):
        return one.held / every
    return max((one.lag + one.held) / every, (stats.published - one.cursor) / stats.slots)


def in_the_way(stats: RingStats) -> list[ConsumerStats]:
    """Return the consumers each of which keeps all slots from a living producer."""
    if stats.producer.state != "live":
        return []
    return [one for one in stats.consumers if fill(one, stats) >= 1]


def name(one: ConsumerStats) -> str:
    """Name a consumer, by its place where it has no label."""
    group = "" if one.group is None else f" of group {output.clean(one.group)}"
    return f"consumer {output.clean(one.label) or one.place}{group} (pid {one.pid})"


def describe(one: ConsumerStats, stats: RingStats) -> str:
    """Name a consumer that is in the way, and say why."""
    holds = f", holds {one.held}" if one.held else ""
    lag = f", lag {one.lag}" if one.lag else ""
    spares = f" and {stats.spares} spare ones" if stats.spares else ""
    return f"{name(one)}{lag}{holds} of {stats.slots} slots{spares}"


def held(one: ConsumerStats) -> str:
    """Say how many frames a consumer holds, and of how many slots if it may not hold all."""
    return f"{one.held:,}" if one.max_held is None else f"{one.held:,}/{one.max_held:,}"
