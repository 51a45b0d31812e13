"""Who makes a ring full: the consumers and groups that the producer waits for."""

from __future__ import annotations

from typing import TypeAlias

from shmring import ConsumerStats, GroupStats, RingStats
from shmring._cli.support import groups, output

Taker: TypeAlias = ConsumerStats | GroupStats


def takers(stats: RingStats) -> list[Taker]:
    """Return what takes frames for itself: consumers that are in no group, and groups."""
    return [*(one for one in stats.consumers if one.group is None), *stats.groups]


def processes(one: Taker, stats: RingStats) -> list[ConsumerStats]:
    """Return the living members of a group, or a living consumer alone."""
    if isinstance(one, GroupStats):
        return groups.living(one, stats)
    return [one] if one.alive else []


def held(one: Taker, stats: RingStats) -> int:
    """Return how many frames are held; those of dead members too, which another member must still get."""
    return sum(each.held for each in groups.members(one, stats)) if isinstance(one, GroupStats) else one.held


def fill(one: Taker, stats: RingStats) -> float:
    """Return how much of the ring is kept from the producer, by what is held and must still be taken."""
    if not processes(one, stats):
        return 0.0
    every = stats.slots + stats.spares
    if isinstance(one, ConsumerStats) and one.policy != "lossless":
        return one.held / every
    cursor = one.next if isinstance(one, GroupStats) else one.cursor
    return max((one.lag + held(one, stats)) / every, (stats.published - cursor) / stats.slots)


def in_the_way(stats: RingStats) -> list[Taker]:
    """Return the consumers and groups each of which keeps all slots from a living producer."""
    if stats.producer.state != "live":
        return []
    return [one for one in takers(stats) if fill(one, stats) >= 1]


def name(one: ConsumerStats) -> str:
    """Name a consumer, by its place where it has no label."""
    group = "" if one.group is None else f" of group {output.clean(one.group)}"
    return f"consumer {output.clean(one.label) or one.place}{group} (pid {one.pid})"


def name_taker(one: Taker, stats: RingStats) -> str:
    """Name a consumer, or a group by its living members."""
    if isinstance(one, ConsumerStats):
        return name(one)
    pids = ", ".join(str(each.pid) for each in processes(one, stats))
    return f"group {output.clean(one.name)} (pid {pids})"


def describe(one: Taker, stats: RingStats) -> str:
    """Name who is in the way, and say why."""
    count = held(one, stats)
    holds = f", holds {count}" if count else ""
    lag = f", lag {one.lag}" if one.lag else ""
    spares = f" and {output.count(stats.spares, 'spare one')}" if stats.spares else ""
    return f"{name_taker(one, stats)}{lag}{holds} of {stats.slots} slots{spares}"


def held_cell(one: ConsumerStats) -> str:
    """Say how many frames a consumer holds, and of how many slots if it may not hold all."""
    return f"{one.held:,}" if one.max_held is None else f"{one.held:,}/{one.max_held:,}"
