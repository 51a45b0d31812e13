"""Which consumers make a ring full: the ones that the producer waits for."""

from __future__ import annotations

from shmring import ConsumerStats, RingStats
from shmring._cli.support import output


def kept(one: ConsumerStats, published: int) -> int:
    """Return how many slots a consumer keeps from the producer: what it holds, and what it must still get."""
    if not one.alive:
        return 0
    if one.policy not in ("lossless", "member"):
        return one.held
    return max(one.lag + one.held, published - one.cursor)


def in_the_way(stats: RingStats) -> list[ConsumerStats]:
    """Return the consumers each of which keeps all slots from a living producer."""
    if stats.producer.state != "live":
        return []
    return [one for one in stats.consumers if kept(one, stats.published) >= stats.slots]


def name(one: ConsumerStats) -> str:
    """Name a consumer, by its place where it has no label."""
    group = "" if one.group is None else f" of group {output.clean(one.group)}"
    return f"consumer {output.clean(one.label) or one.place}{group} (pid {one.pid})"


def describe(one: ConsumerStats, slots: int) -> str:
    """Name a consumer that is in the way, and say why."""
    held = f", holds {one.held}" if one.held else ""
    lag = f", lag {one.lag}" if one.lag else ""
    return f"{name(one)}{lag}{held} of {slots} slots"
