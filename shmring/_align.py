"""Frames of several rings that belong together, by their timestamps."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping
from operator import index
from typing import NoReturn

from shmring import _core, _messages, errors
from shmring._wait import Wait

__all__ = ["Aligner", "align"]

LEAST_SLOTS = 4  # two frames that wait for their partners, one in the caller's loop, one being written


class Aligner:
    """Iterates over sets of frames that belong together: from ``shmring.align()``."""

    unmatched: dict[str, int]
    """Frames of each ring that were taken and are in no set, so far."""

    def __init__(self, consumers: Mapping[str, _core.Consumer], tolerance_ns: int, timeout: float | None):
        self._consumers = checked(consumers)
        self._tolerance, self._timeout = checked_tolerance(tolerance_ns), timeout
        _core.check_timeout(timeout)
        self._waiting: dict[str, deque[_core.Frame]] = {name: deque() for name in consumers}
        self._ends: dict[str, Exception] = {}
        self._end: Exception | None = None
        self.unmatched = dict.fromkeys(consumers, 0)

    def __repr__(self) -> str:
        rings = ", ".join(f"{name} ({count} unmatched)" for name, count in self.unmatched.items())
        return f"<shmring.Aligner of {rings}, within {self._tolerance} ns>"

    def __iter__(self) -> Iterator[dict[str, _core.Frame]]:
        return self

    def __next__(self) -> dict[str, _core.Frame]:
        wait = Wait(self._timeout)
        grace = sum(one.ring.slots for one in self._consumers.values())  # frames to look at after the timeout
        if self._end is not None:
            self._finish(self._end)
        while (wanted := self._drop_or_want()) is not None:
            for name in wanted:
                if name in self._ends:
                    self._finish(self._ends[name])
            grace -= bool(wanted) and wait.left <= 0
            if wanted and (grace < 0 or not self._take(wanted, wait.left)):
                raise _messages.no_set([self._consumers[name] for name in wanted], self._timeout or 0)
        return {name: frames.popleft() for name, frames in self._waiting.items()}

    def _drop_or_want(self) -> list[str] | None:
        """Do one step towards the next set; None once it is there.

        Returns
        -------
        list of str
            The rings whose next frame decides. Empty after a frame was dropped that has no partner.
        """
        times = {name: frames[0].timestamp_ns for name, frames in self._waiting.items() if frames}
        missing = [name for name in self._waiting if name not in times]
        if not times:
            return missing
        earliest = min(times, key=times.__getitem__)
        span = max(times.values()) - times[earliest]
        if span > self._tolerance:
            self._drop(earliest)
            return []
        if missing or span == 0:
            return missing or None
        if len(self._waiting[earliest]) == 1:
            return None if earliest in self._ends else [earliest]
        times[earliest] = self._waiting[earliest][1].timestamp_ns
        if max(times.values()) - min(times.values()) >= span:
            return None
        self._drop(earliest)
        return []

    def _drop(self, name: str) -> None:
        self._waiting[name].popleft().release()
        self.unmatched[name] += 1

    def _take(self, wanted: list[str], left: float) -> bool:
        """Take the next frame of one ring or more, or note that its stream is over; False if none comes."""
        names = {self._consumers[name]: name for name in wanted}
        ready = _core.wait(list(names), None if left == math.inf else max(left, 0))
        for consumer in ready:
            try:
                frame = consumer.try_get()
            except (errors.RingClosed, errors.ProducerDied) as end:
                self._ends[names[consumer]] = end.with_traceback(None)  # which would keep frames
            else:
                if frame is not None:
                    self._waiting[names[consumer]].append(frame)
        return bool(ready)

    def _finish(self, end: Exception) -> NoReturn:
        """No set can come any more."""
        self._end = end
        for name, frames in self._waiting.items():
            while frames:
                self._drop(name)
        raise StopIteration if isinstance(end, errors.RingClosed) else end


def checked(consumers: Mapping[str, _core.Consumer]) -> dict[str, _core.Consumer]:
    """Return the consumers, unless they cannot be aligned."""
    if not isinstance(consumers, Mapping):
        raise TypeError(
            f'align() takes a dict of consumers, {{"left": consumer, ...}}, not {type(consumers).__name__}'
        )
    for name, one in consumers.items():
        if not isinstance(one, _core.Consumer):
            raise TypeError(_messages.not_awaitable(one, "align"))
        if one.group is not None:
            raise ValueError(
                f"{name!r}: that consumer of ring {one.name!r} is in group {one.group!r}, so other "
                f"members have some of the partners: join without group="
            )
        if one.ring.slots < LEAST_SLOTS:
            raise ValueError(
                f"{name!r}: ring {one.name!r} has {one.ring.slots} slots, but align() needs {LEAST_SLOTS}: "
                f"two for frames that wait for partners, one for your loop, one for the producer"
            )
    if len(set(consumers.values())) < max(2, len(consumers)):
        raise ValueError(f"align() needs two or more different consumers, not {list(consumers.values())}")
    return dict(consumers)


def checked_tolerance(tolerance_ns: int) -> int:
    """Return a tolerance, unless it is none."""
    try:
        tolerance = index(tolerance_ns)
    except TypeError:
        raise TypeError(f"tolerance_ns is a whole number of nanoseconds, not {tolerance_ns!r}") from None
    if tolerance < 0:
        raise ValueError(f"tolerance_ns must be 0 or more, not {tolerance}")
    return tolerance


def align(
    consumers: Mapping[str, _core.Consumer], *, tolerance_ns: int, timeout: float | None = None
) -> Aligner:
    """Iterate over sets of frames of several rings that were taken at the same time.

    A set has one frame of each ring, and its timestamps differ by at most `tolerance_ns`. Sets come in order,
    and no frame is in two of them. Of several frames that would do, the nearest is taken: the earliest frame
    of a set gives way to its successor as long as that brings the set closer together. That is why a set
    comes once the next frame of that ring is there, or at once if all its timestamps are equal.

    Parameters
    ----------
    consumers : dict of str to Consumer
        Two or more, of either policy. The rings need 4 slots or more, and timestamps of one clock that do not
        decrease.
    tolerance_ns : int
        How far the timestamps of a set may be apart, in nanoseconds. Less than half the time between two
        frames is what makes partners unambiguous.
    timeout : float, optional
        Seconds to wait for each set; None waits forever, 0 never waits.

    Returns
    -------
    Aligner
        An iterator of ``{name: Frame}``. It ends when one of the streams has ended and no further set is
        possible. Its ``unmatched`` counts, for each ring, the frames that it took and that are in no set:
        ``consumer.delivered`` is that number plus the number of sets, unless you take frames yourself.

    Raises
    ------
    TypeError, ValueError
        Something else than consumers, too few of them, one given twice, or a ring with too few slots.
    RingEmpty
        No set in time, while iterating. The iteration can be continued.
    ProducerDied, SlotsHeld, RingCorrupt, ForkedHandle, HandleBusy
        As `Consumer.get`, while iterating.

    Notes
    -----
    It holds at most two frames of each ring. While it waits for one of them, the lossy consumers of others
    keep up, and count what they lose in ``consumer.lost``; the lossless ones hold their producers back.

    Examples
    --------
    >>> import numpy as np, shmring
    >>> with shmring.Ring.create(shape=(2,), dtype="f4", slots=8) as left, left.consumer() as a:
    ...     with shmring.Ring.create(shape=(2,), dtype="f4", slots=8) as right, right.consumer() as b:
    ...         with left.producer() as out:
    ...             _ = [out.put(np.ones(2, "f4"), timestamp_ns=t) for t in (0, 100, 200)]
    ...         with right.producer() as out:
    ...             _ = [out.put(np.ones(2, "f4"), timestamp_ns=t) for t in (103, 198)]
    ...         pairs = shmring.align({"left": a, "right": b}, tolerance_ns=10)
    ...         print([(pair["left"].timestamp_ns, pair["right"].timestamp_ns) for pair in pairs])
    ...         print(pairs.unmatched)
    [(100, 103), (200, 198)]
    {'left': 1, 'right': 0}
    """
    return Aligner(consumers, tolerance_ns, timeout)
