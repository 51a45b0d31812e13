"""What `shmring demo` shows: live rates while it runs, and a table at the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any

from shmring import ConsumerStats, RingStats
from shmring._demo.children import CONSUMERS

Row = Sequence[str]
LIVE_COLUMNS = ("process", "frames", "frames/s", "GB/s", "lag", "lost", "skipped", "held")
TICK = 0.5  # seconds between two live lines


class Meter:
    """Turns counters into rates: what changed since the last look."""

    def __init__(self, frame_nbytes: int):
        self.due = time.monotonic()  # when the next look is worth it
        self.seconds = 0.0  # since the first frame was seen
        self._gigabytes = frame_nbytes / 1e9
        self._begin = 0.0
        self._before: dict[str, int] = {}
        self._seen: dict[str, ConsumerStats] = {}

    def look(self, stats: RingStats) -> list[Row]:
        """One row for each process, the producer first; none while there is no rate to tell."""
        now = time.monotonic()
        first = not self._before
        if stats.producer.state != "live" or stats.published == 0:
            self.due = now + TICK / 10
            return []
        self.due = now + TICK
        self._begin = now if first else self._begin
        elapsed, self.seconds = now - self._begin - self.seconds, now - self._begin
        # A consumer that left is shown as it was last seen.
        self._seen.update((consumer.label, consumer) for consumer in stats.consumers)
        rows = [self._row("producer", stats.published, elapsed, ("", "", "", ""))]
        for label in CONSUMERS:
            one = self._seen.get(label)
            if one is not None:
                counters = [f"{count:,}" for count in (one.lag, one.lost, one.skipped, one.held)]
                rows.append(self._row(label, one.delivered, elapsed, counters))
        return [] if first else rows

    def _row(self, label: str, frames: int, elapsed: float, counters: Row) -> Row:
        rate = (frames - self._before.get(label, 0)) / elapsed if elapsed else 0
        self._before[label] = frames
        return (label, f"{frames:,}", f"{rate:,.0f}", f"{rate * self._gigabytes:.2f}", *counters)


class Lines:
    """Live display for a file, a pipe, or a terminal without rich: a line each time."""

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

    def table(self, columns: Row, rows: Sequence[Row]) -> None:
        """Show a table that stays; its first column holds names, the others numbers."""
        widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
        for name, *numbers in (columns, *rows):
            cells = [cell.rjust(width) for cell, width in zip(numbers, widths[1:], strict=True)]
            self.say("  ".join([name.ljust(widths[0]), *cells]))


class Screen(Lines):
    """Live display on a terminal, with rich: one table that changes in place."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = Console(highlight=False)
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
        self._live.update(_rich_table(LIVE_COLUMNS, rows, f"after {seconds:.1f} s"), refresh=True)

    def say(self, line: str) -> None:
        """Show one line that stays."""
        self._console.print(line, markup=False)

    def table(self, columns: Row, rows: Sequence[Row]) -> None:
        """Show a table that stays."""
        self._console.print(_rich_table(columns, rows, None))


def _rich_table(columns: Row, rows: Iterable[Row], caption: str | None) -> Any:
    from rich.table import Table

    table = Table(caption=caption, caption_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    for row in rows:
        table.add_row(*row)
    return table


def make_display() -> Lines:
    """Choose a live table on a terminal if rich is installed (the extra `cli`), else plain lines."""
    if sys.stdout.isatty():
        try:
            return Screen()
        except ImportError:
            pass
    return Lines()
