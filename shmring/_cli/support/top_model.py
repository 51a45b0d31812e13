"""What `shmring top` knows: every ring as last seen, its rates, and how they went."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from shmring import ConsumerStats
from shmring._cli.support.full import fill, takers
from shmring._cli.support.rates import ConsumerKey, Meter, Rates, RingKey, consumer_key, ring_key
from shmring._inventory import Found, RingFacts

REMEMBERED = 120  # looks


def lag_fraction(one: ConsumerStats, slots: int) -> float:
    """Return how much of the ring a consumer lags behind; more than 1 for a lossy one that was lapped."""
    return one.lag / slots


@dataclass(slots=True)
class Line:
    """One ring."""

    found: Found
    ring: RingFacts
    rates: Rates | None = None
    history: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    lags: dict[ConsumerKey, deque[float]] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Frames published per second."""
        return self.rates.published if self.rates else 0.0

    @property
    def status(self) -> str:
        """What is shown of a ring without a producer, in place of a rate."""
        if self.found.state == "stale":
            return "stale"
        return {"none": "-"}.get(self.ring.stats.producer.state, self.ring.stats.producer.state)

    @property
    def bandwidth(self) -> float:
        """Bytes published per second."""
        return self.rate * self.ring.frame_nbytes

    @property
    def fill(self) -> float:
        """How much of the ring one consumer or group keeps from the producer; 1 makes it wait."""
        stats = self.ring.stats
        return min(1.0, max((fill(one, stats) for one in takers(stats)), default=0.0))

    @property
    def lag(self) -> int:
        """Lag of the consumer that lags most."""
        return max((one.lag for one in self.ring.stats.consumers if one.alive), default=0)

    @property
    def lost(self) -> int:
        """Frames lost by all consumers and groups, and dropped by the producer."""
        stats = self.ring.stats
        by_consumers = sum(one.lost for one in stats.consumers)
        by_groups = sum(one.lost for one in stats.groups)
        return stats.dropped + by_consumers + by_groups

    @property
    def lost_rate(self) -> float:
        """The same per second."""
        if self.rates is None:
            return 0.0
        return self.rates.dropped + self.rates.lost_by_groups + sum(self.rates.lost.values())

    def update(self, found: Found, ring: RingFacts, rates: Rates | None) -> None:
        """Take in a new look; one that is older than the last changes nothing."""
        if ring.time_ns < self.ring.time_ns:
            return
        self.found, self.ring, self.rates = found, ring, rates
        if rates:
            self.history.append(rates.published)
        lags = {}
        for one in ring.stats.consumers:
            key = consumer_key(one)
            lags[key] = self.lags.get(key) or deque(maxlen=REMEMBERED)
            lags[key].append(min(1.0, lag_fraction(one, ring.stats.slots)))
        self.lags = lags


SORT_KEYS: dict[str, Callable[[Line], float | str]] = {
    "rate": lambda line: line.rate,
    "bandwidth": lambda line: line.bandwidth,
    "fill": lambda line: line.fill,
    "lag": lambda line: line.lag,
    "lost": lambda line: line.lost,
    "name": lambda line: line.found.name,
}


class Model:
    """Every ring, and how many blocks are not rings."""

    def __init__(self) -> None:
        self.lines: dict[RingKey, Line] = {}
        self.others = 0
        self._meter = Meter()

    def update(self, found: Iterable[Found]) -> None:
        """Take in a new look at all blocks; rings that vanished are forgotten."""
        blocks = list(found)
        rates = self._meter.update(blocks)
        lines = {}
        for one in blocks:
            if one.ring is not None:
                key = ring_key(one)
                line = self.lines.get(key) or Line(one, one.ring)
                line.update(one, one.ring, rates.get(key))
                lines[key] = line
        self.lines, self.others = lines, len(blocks) - len(lines)

    def ordered(self, by: str, *, largest_first: bool) -> list[Line]:
        """Return the lines, sorted; equal ones by name."""
        lines = sorted(self.lines.values(), key=lambda line: line.found.name)
        return sorted(lines, key=SORT_KEYS[by], reverse=largest_first)
