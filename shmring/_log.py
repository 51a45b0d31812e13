"""Reports of a ring's state through `logging`, from a thread."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from types import TracebackType

from shmring._ring import Ring
from shmring._schema import check_above_zero
from shmring._stats import ConsumerStats, RingStats
from shmring._words import clean, count
from shmring.errors import RingClosed

__all__ = ["RingReporter", "report_to_log"]

LOGGER = logging.getLogger("shmring")


def report_to_log(
    ring: Ring,
    interval: float = 60.0,
    logger: logging.Logger | logging.LoggerAdapter[logging.Logger] = LOGGER,
    level: int = logging.INFO,
) -> RingReporter:
    """Log the state of a ring every `interval` seconds, from a thread that ends with the ring's handle.

    A report gives the frames published since the last one, and the state of every consumer. It is a warning
    if since the last report frames were lost or dropped, the producer failed, or it or a consumer died. The
    statistics are attached as ``record.ring`` (a RingStats), for handlers that want numbers.

    Parameters
    ----------
    ring : Ring
        Attached in any way; readonly suffices.
    interval : float
        Seconds between two reports.
    logger : logging.Logger or logging.LoggerAdapter
        Default: the logger ``"shmring"``.
    level : int
        Of reports that have nothing to warn of.

    Returns
    -------
    RingReporter
        A context manager; `close` ends the reports with a last one.

    Examples
    --------
    >>> import logging, sys, shmring
    >>> logger = logging.getLogger("example")
    >>> logger.addHandler(logging.StreamHandler(sys.stdout))
    >>> logger.setLevel(logging.INFO)
    >>> with shmring.Ring.create("report-example", shape=(4,), dtype="u1", slots=2) as ring:
    ...     with shmring.report_to_log(ring, 60, logger):
    ...         pass
    ring report-example: 0 frames published (0.0/s), 0 dropped; producer none; no consumers
    """
    check_above_zero("interval", interval)
    return RingReporter(ring, interval, logger, level)


class RingReporter:
    """Reports until it is closed, or its ring is: from ``report_to_log``."""

    def __init__(
        self,
        ring: Ring,
        interval: float,
        logger: logging.Logger | logging.LoggerAdapter[logging.Logger],
        level: int,
    ) -> None:
        # Weak, so that the thread does not keep a forgotten ring attached.
        self._ring = weakref.ref(ring)
        self._interval = interval
        self._logger = logger
        self._level = level
        self._last = ring.stats()
        self._last_time = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"shmring report {ring.name}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the reports with a last one. May be called twice."""
        if not self._ended.is_set():
            self._ended.set()
            self._thread.join()

    def __enter__(self) -> RingReporter:
        """Return self."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()

    def _run(self) -> None:
        last = False
        while not last:
            last = self._ended.wait(self._interval)
            ring = self._ring()
            if ring is None:
                return
            try:
                stats = ring.stats()
            except RingClosed:
                return
            del ring
            self._report(stats)

    def _report(self, stats: RingStats) -> None:
        now = time.monotonic()
        seconds = max(now - self._last_time, 1e-9)
        before, self._last, self._last_time = self._last, stats, now
        troubles = find_troubles(before, stats)
        published = stats.published - before.published
        words = (
            f"ring {clean(stats.name)}: {count(published, 'frame')} published ({published / seconds:.1f}/s), "
            f"{stats.dropped - before.dropped} dropped; producer {stats.producer.state}; "
            f"{describe_consumers(stats)}"
        )
        if troubles:
            words += f". Since the last report: {'; '.join(troubles)}"
        self._logger.log(logging.WARNING if troubles else self._level, "%s", words, extra={"ring": stats})


def describe_consumers(stats: RingStats) -> str:
    """Describe every consumer."""
    return (
        "; ".join(
            f"{_name(one)} (pid {one.pid}, {_policy(one)}) lag {one.lag} lost {one.lost}"
            f"{'' if one.alive else ' dead'}"
            for one in stats.consumers
        )
        or "no consumers"
    )


def _policy(one: ConsumerStats) -> str:
    return one.policy if one.group is None else f"member of group {clean(one.group)}"


def _name(one: ConsumerStats) -> str:
    return clean(one.label) or "consumer"


def find_troubles(before: RingStats, after: RingStats) -> list[str]:
    """Describe what went wrong between two reports."""
    troubles = []
    if after.dropped > before.dropped:
        troubles.append(f"the producer dropped {count(after.dropped - before.dropped, 'frame')}")
    ended = after.producer.state, after.producer.epoch
    if ended[0] in ("failed", "died") and ended != (before.producer.state, before.producer.epoch):
        why = f": {clean(after.producer.failure)}" if after.producer.failure else ""
        troubles.append(f"the producer (pid {after.producer.pid}) {after.producer.state}{why}")
    known = {(one.place, one.pid, one.joined_ns): one for one in before.consumers}
    for one in after.consumers:
        earlier = known.get((one.place, one.pid, one.joined_ns))
        lost = one.lost - (earlier.lost if earlier else 0)
        who = f"{_name(one)} (pid {one.pid})"
        if lost > 0:
            troubles.append(f"{who} lost {count(lost, 'frame')}")
        if not one.alive and (earlier is None or earlier.alive):
            troubles.append(f"{who} died")
    lost_before = {one.name: one.lost for one in before.groups}
    for group in after.groups:
        lost = group.lost - lost_before.get(group.name, 0)
        if lost > 0:
            troubles.append(f"group {clean(group.name)} lost {count(lost, 'frame')} of members that died")
    return troubles
