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
    """Remembers the last look at every ring, and what came of it."""

    def __init__(self) -> None:
        self._before: dict[RingKey, Found] = {}
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
            if before is None:
                looks[key] = one
            elif _time_ns(one) > _time_ns(before):
                looks[key], rates[key] = one, _between(before, one)
            else:
                looks[key] = before
                if key in self._rates:
                    rates[key] = self._rates[key]
        self._before, self._rates = looks, rates
        return rates


def _time_ns(found: Found) -> int:
    assert found.ring is not None
    return found.ring.time_ns


def _between(before: Found, after: Found) -> Rates:
    assert before.ring is not None
    assert after.ring is not None
    old, new = before.ring.stats, after.ring.stats
    seconds = (after.ring.time_ns - before.ring.time_ns) / 1e9

    def rate(earlier: int, later: int) -> float:
        return max(later - earlier, 0) / seconds  # counters grow, unless something overwrote them

    rates = Rates(rate(old.published, new.published), rate(old.dropped, new.dropped))
    known = {consumer_key(one): one for one in old.consumers}
    for one in new.consumers:
        earlier = known.get(consumer_key(one))
        if earlier is not None:
            rates.lost[consumer_key(one)] = rate(earlier.lost, one.lost)
            rates.delivered[consumer_key(one)] = rate(earlier.delivered, one.delivered)
    return rates
