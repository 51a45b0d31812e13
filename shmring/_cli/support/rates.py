"""Turns counters of rings into rates: what changed since the last look."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from shmring import ConsumerStats, RingStats
from shmring._inventory import Found, RingFacts

INTERVAL = 0.25  # seconds between the two looks that make a rate
RingKey = tuple[str, int]
ConsumerKey = tuple[int, int, int]


@dataclass(slots=True)
class Rates:
    """Per second, between the last two looks at a ring."""

    published: float
    dropped: float
    lost_by_groups: float
    lost: dict[ConsumerKey, float] = field(default_factory=dict)
    delivered: dict[ConsumerKey, float] = field(default_factory=dict)


def ring_key(found: Found) -> RingKey:
    """Distinguish a ring from the next one of that name."""
    return found.name, found.inode


def consumer_key(one: ConsumerStats) -> ConsumerKey:
    """Distinguish a consumer from the next one at its place."""
    return one.place, one.pid, one.joined_ns


class Meter:
    """Remembers the last look at every ring, and turns the next one into rates."""

    def __init__(self) -> None:
        self._before: dict[RingKey, RingFacts] = {}
        self._rates: dict[RingKey, Rates] = {}

    def update(self, found: Iterable[Found]) -> dict[RingKey, Rates]:
        """Return the rates of each ring that was there at the last look too.

        A look at a ring that is not newer than the last one changes nothing.
        """
        looks, rates = {}, {}
        for one in found:
            if one.ring is None:
                continue
            key = ring_key(one)
            before = self._before.get(key)
            looks[key] = one.ring
            if before is None:
                continue
            seconds = (one.ring.time_ns - before.time_ns) / 1e9
            if seconds > 0:
                rates[key] = between(before.stats, one.ring.stats, seconds)
                continue
            looks[key] = before
            if key in self._rates:
                rates[key] = self._rates[key]
        self._before, self._rates = looks, rates
        return rates


def look_twice(look: Callable[[], list[Found]]) -> tuple[list[Found], dict[RingKey, Rates]]:
    """Look at rings, and again for their rates if one of them has a producer."""
    found = look()
    if not any(one.ring is not None and one.ring.stats.producer.state == "live" for one in found):
        return found, {}
    meter = Meter()
    meter.update(found)
    time.sleep(INTERVAL)
    found = look()
    return found, meter.update(found)


def between(old: RingStats, new: RingStats, seconds: float) -> Rates:
    """Return the rates from one look at a ring to a later one."""

    def rate(earlier: int, later: int) -> float:
        return max(later - earlier, 0) / seconds  # counters grow, unless something overwrote them

    lost_before = {one.name: one.lost for one in old.groups}
    rates = Rates(
        rate(old.published, new.published),
        rate(old.dropped, new.dropped),
        sum(rate(lost_before[one.name], one.lost) for one in new.groups if one.name in lost_before),
    )
    known = {consumer_key(one): one for one in old.consumers}
    for one in new.consumers:
        earlier = known.get(consumer_key(one))
        if earlier is not None:
            rates.lost[consumer_key(one)] = rate(earlier.lost, one.lost)
            rates.delivered[consumer_key(one)] = rate(earlier.delivered, one.delivered)
    return rates
