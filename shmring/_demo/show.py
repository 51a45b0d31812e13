"""What `shmring demo` shows: live rates while it runs, and a table at the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence

from shmring import ConsumerStats, RingStats
from shmring._cli.support import output
from shmring._cli.support.rates import Rates, between, consumer_key
from shmring._demo.children import CONSUMERS

Row = Sequence[str]
LIVE_COLUMNS = ("process", ">frames", ">frames/s", ">GB/s", ">lag", ">lost", ">skipped", ">held")
TICK = 0.5  # seconds between two live lines


class LiveRows:
    """Makes a row for each process, from one look at the ring to the next."""

    def __init__(self, frame_nbytes: int):
        self.due = time.monotonic()  # when the next look is worth it
        self.seconds = 0.0  # since the first frame was seen
        self._gigabytes = frame_nbytes / 1e9
        self._begin = 0.0
        self._before: RingStats | None = None
        self._seen: dict[str, ConsumerStats] = {}

    def look(self, stats: RingStats) -> list[Row]:
        """Return the rows, the producer's first; none while there is no rate to show."""
        now = time.monotonic()
        if stats.producer.state != "live" or stats.published == 0:
            self.due = now + TICK / 10
            return []
        self.due = now + TICK
        before, self._before = self._before, stats
        # A consumer that left is shown as it was last seen.
        self._seen.update((consumer.label, consumer) for consumer in stats.consumers)
        if before is None:
            self._begin = now
            return []
        elapsed, self.seconds = now - self._begin - self.seconds, now - self._begin
        return self._rows(stats.published, between(before, stats, elapsed))

    def _rows(self, published: int, rates: Rates) -> list[Row]:
        rows = [self._row("producer", published, rates.published, ("", "", "", ""))]
        for label in CONSUMERS:
            one = self._seen.get(label)
            if one is not None:
                counters = [f"{count:,}" for count in (one.lag, one.lost, one.skipped, one.held)]
                rate = rates.delivered.get(consumer_key(one), 0.0)
                rows.append(self._row(label, one.delivered, rate, counters))
        return rows

    def _row(self, label: str, frames: int, rate: float, counters: Row) -> Row:
        return (label, f"{frames:,}", f"{rate:,.0f}", f"{rate * self._gigabytes:.2f}", *counters)


class Lines:
    """Live display for a file or a pipe: a line each time."""

    def __enter__(self) -> Lines:
        """Begin the live part."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the live part."""

    def live(self, seconds: float, rows: Iterable[Row]) -> None:
        """Show the state of the stream."""
        parts = []
        for label, _, rate, gigabytes, lag, lost, skipped, _ in rows:
            if label == "producer":
                parts.append(f"producer {rate} frames/s {gigabytes} GB/s")
            else:
                parts.append(f"{label} {rate}/s lag {lag} lost {lost} skipped {skipped}")
        self.say(f"{seconds:5.1f} s  " + " | ".join(parts))

    def say(self, line: str) -> None:
        """Show one line that stays."""
        print(line, flush=True)


class Screen(Lines):
    """Live display on a terminal: one table that changes in place."""

    def __init__(self) -> None:
        from rich.live import Live

        self._console = output.make_console()
        # Refreshed by hand: no thread of rich's beside the processes that are measured.
        self._live = Live(console=self._console, auto_refresh=False, transient=True)

    def __enter__(self) -> Screen:
        """Begin the live part."""
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End the live part, and take its table away."""
        self._live.stop()

    def live(self, seconds: float, rows: Iterable[Row]) -> None:
        """Show the state of the stream in place of the last one."""
        table = output.make_table(LIVE_COLUMNS, rows)
        table.caption, table.caption_justify = f"after {seconds:.1f} s", "left"
        self._live.update(table, refresh=True)

    def say(self, line: str) -> None:
        """Show one line that stays, above the table."""
        self._console.print(line, markup=False)


def make_display() -> Lines:
    """Choose a live table on a terminal, else plain lines."""
    return Screen() if sys.stdout.isatty() else Lines()
