"""Turns counters of rings into rates: what changed since the last look."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from shmring import ConsumerStats
from shmring._inventory import Found

RingKey = tuple[str, int]
ConsumerKey = tuple[int, int, int]


@dataclass(slots=True)
class Rates:
    """Per second, between the last two looks at a ring."""

    published: float
    dropped: float
    lost: dict[ConsumerKey, float] = field(default_factory=dict)
    delivered: dict[ConsumerKey, float] = field(default_factory=dict)


def ring_key(found: Found) -> RingKey:
    """Tell a ring from the next one of that name."""
    return found.name, found.inode


def consumer_key(one: ConsumerStats) -> ConsumerKey:
    """Tell a consumer from the next one at its place."""
    return one.place, one.pid, one.joined_ns


class Meter:
    """Remembers the last look at every ring."""

    def __init__(self) -> None:
        self._before: dict[RingKey, Found] = {}

    def update(self, found: Iterable[Found]) -> dict[RingKey, Rates]:
        """Return the rates of each ring that was there at the last look too."""
        now = {ring_key(one): one for one in found}
        rates = {
            key: _between(self._before[key], one)
            for key, one in now.items()
            if one.ring and key in self._before and self._before[key].ring
        }
        self._before = now
        return rates


def _between(before: Found, after: Found) -> Rates:
    assert before.ring is not None
    assert after.ring is not None
    old, new = before.ring.stats, after.ring.stats
    seconds = max(after.ring.time_ns - before.ring.time_ns, 1) / 1e9
    rates = Rates((new.published - old.published) / seconds, (new.dropped - old.dropped) / seconds)
    known = {consumer_key(one): one for one in old.consumers}
    for one in new.consumers:
        earlier = known.get(consumer_key(one))
        if earlier is not None:
            rates.lost[consumer_key(one)] = (one.lost - earlier.lost) / seconds
            rates.delivered[consumer_key(one)] = (one.delivered - earlier.delivered) / seconds
    return rates
