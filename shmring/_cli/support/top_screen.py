"""The screen of `shmring top`."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
from collections.abc import Iterable, Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.events import Resize
from textual.widgets import DataTable, Footer, Input, Sparkline, Static

from shmring import ConsumerStats, RingNotFound, _names
from shmring._cli.support import full, groups, output, processes
from shmring._cli.support.rates import RingKey, consumer_key, ring_key
from shmring._cli.support.top_model import REMEMBERED, SORT_KEYS, Line, Model, lag_fraction
from shmring._inventory import Found, look, look_at_all
from shmring._stats import spares_of

WIDE = 110  # columns at which every column is shown
TALL = 32  # lines at which the graph of the chosen ring is shown below the others
EIGHTHS = " ▏▎▍▌▋▊▉█"
LEVELS = "▁▂▃▄▅▆▇█"

RINGS = (
    "NAME",
    "STATE",
    "RATE",
    "BANDWIDTH",
    "FILL",
    "LAG",
    "LOST",
    "LOST/s",
    "CONS",
    "PRODUCER",
    "PAST RATE",
)
RINGS_NARROW = ("NAME", "RATE", "BANDWIDTH", "FILL", "LAG", "LOST", "PAST RATE")
CONSUMERS = (
    "LABEL", "PID", "USER", "POLICY", "RATE", "LAG", "", "LOST", "LOST/s", "SKIPPED", "HELD", "PAST LAG",
    "COMMAND",
)  # fmt: skip
CONSUMERS_NARROW = ("LABEL", "PID", "POLICY", "RATE", "LAG", "", "LOST", "HELD", "PAST LAG")
SORTED_BY = {
    "NAME": "name",
    "RATE": "rate",
    "BANDWIDTH": "bandwidth",
    "FILL": "fill",
    "LAG": "lag",
    "LOST": "lost",
}


def bar(fraction: float, width: int) -> Text:
    """Draw a bar, in the colour of how bad it is."""
    fraction = min(max(fraction, 0.0), 1.0)
    whole, part = divmod(round(fraction * width * 8), 8)
    drawn = EIGHTHS[8] * whole + (EIGHTHS[part] if part else "")
    colour = "green" if fraction < 0.5 else "yellow" if fraction < 0.9 else "red"
    return Text.assemble((drawn, colour), ("·" * (width - len(drawn)), "dim"), f" {fraction:4.0%}")


def sparks(values: Iterable[float], width: int, most: float | None = None) -> str:
    """Draw the last values as a line of small bars, against `most` or the largest of them."""
    shown = list(values)[-width:]
    largest = most or max(shown, default=0) or 1
    return "".join(LEVELS[min(round(max(value, 0) / largest * 7), 7)] for value in shown)


def reflowed(text: str) -> str:
    """Return the help of a command, for a screen of any width."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(
        one.removeprefix("\b\n") if one.startswith("\b") else " ".join(one.split()) for one in paragraphs
    )


def right(text: str) -> Text:
    """Align a cell to the right."""
    return Text(text, justify="right")


class Top(App[int]):
    """All rings above, the consumers of the chosen one below; or one ring alone."""

    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #summary { height: 1; background: $panel; padding: 0 1; }
    #rings { height: 1fr; min-height: 5; }
    #filter { display: none; height: 1; border: none; padding: 0 1; }
    #ring { height: auto; max-height: 60vh; border-top: solid $panel; }
    #title { height: auto; padding: 0 1; }
    #history { height: 3; margin: 0 1; }
    #consumers { height: auto; max-height: 40vh; }
    #help { display: none; height: 1fr; padding: 1 2; overflow-y: auto; }
    .low #history { display: none; }
    .low #ring { max-height: 45vh; }
    .low #consumers { max-height: 30vh; }
    .alone #ring { height: 1fr; max-height: 100%; border-top: none; }
    .alone #consumers { height: 1fr; max-height: 100%; }
    .alone #history { display: block; height: 6; }
    .help #help { display: block; }
    .help #rings, .help #ring { display: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "sort", "Sort"),
        Binding("r", "reverse", "Reverse"),
        Binding(
            "slash", "filter", "Filter", priority=True
        ),  # so that the next letter, however soon, is for it
        Binding("x", "hide_stale", "Stale"),
        Binding("p,space", "pause", "Pause"),
        Binding("question_mark,h,f1", "help", "Help"),
        Binding("q", "quit_with(0)", "Quit"),
        Binding("escape", "leave", show=False),
        Binding("ctrl+c", "quit_with(130)", show=False, priority=True),
    ]
    OF_SEVERAL_RINGS = ("sort", "reverse", "filter", "hide_stale")

    def __init__(self, name: str | None, interval: float, help_text: str) -> None:
        super().__init__()
        self.ring_name = name
        self.interval = interval
        self.help_text = help_text
        self.model = Model()
        self.looking = False
        self.paused = False
        self.sorted_by = "rate"
        self.largest_first = True
        self.filter = ""
        self.stale_hidden = False
        self.chosen: RingKey | None = None
        self.wide = True

    # ---- the screen

    def compose(self) -> ComposeResult:
        """Make the widgets."""
        yield Static(id="summary", markup=False)
        if self.ring_name is None:
            yield DataTable(id="rings", cursor_type="row")
            yield Input(id="filter", placeholder="part of a name; Enter keeps it, Escape shows all rings")
        with Vertical(id="ring"):
            yield Static(id="title", markup=False)
            yield Sparkline(id="history", summary_function=max)
            yield DataTable(id="consumers", cursor_type="none")
        yield Static(reflowed(self.help_text), id="help", markup=False)
        yield Footer()

    def on_mount(self) -> None:
        """Begin to look."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.exit, 128 + number)
        self.screen.set_class(self.ring_name is not None, "alone")
        self.screen.set_class(self.size.height < TALL, "low")
        self._set_columns(self.size.width)
        self.look()
        self.set_interval(self.interval, self.look)

    def on_resize(self, event: Resize) -> None:
        """Show more or fewer columns and lines."""
        self.screen.set_class(event.size.height < TALL, "low")
        if self.wide != (event.size.width >= WIDE):
            self._set_columns(event.size.width)
            self.show()

    def _set_columns(self, width: int) -> None:
        self.wide = width >= WIDE
        for table, columns in (
            ("#rings", RINGS if self.wide else RINGS_NARROW),
            ("#consumers", CONSUMERS if self.wide else CONSUMERS_NARROW),
        ):
            for widget in self.query(table).results(DataTable):
                widget.clear(columns=True)
                for column in columns:
                    widget.add_column(column, key=column or "bar")

    # ---- looking

    def look(self) -> None:
        """Look at the rings in a thread: many of them take longer than a screen should freeze.

        One look at a time: two that overlap may end in the wrong order, and a cancelled thread runs on.
        """
        if not self.paused and not self.looking:
            self.looking = True
            self.run_worker(self._look, thread=True)

    def _look(self) -> None:
        if self.ring_name is None:
            found = look_at_all()
        else:
            try:
                found = [look(self.ring_name)]
            except RingNotFound:
                found = []
        self.call_from_thread(self._take, found)

    def _take(self, found: list[Found]) -> None:
        self.looking = False
        self.model.update(found)
        self.show()

    # ---- showing

    def show(self) -> None:
        """Draw what is known."""
        lines = self._lines()
        keys = [ring_key(line.found) for line in lines]
        if self.chosen not in keys:
            self.chosen = keys[0] if keys else None
        self._show_summary(lines)
        for table in self.query("#rings").results(DataTable):
            with self.prevent(DataTable.RowHighlighted):
                self._fill(table, [self._ring_row(line) for line in lines])
                if self.chosen is not None:
                    table.move_cursor(row=keys.index(self.chosen))
        self._show_ring(self.model.lines[self.chosen] if self.chosen else None)

    def _lines(self) -> list[Line]:
        """Return the rings that are shown, in their order."""
        lines = self.model.ordered(self.sorted_by, largest_first=self.largest_first)
        return [
            line
            for line in lines
            if self.filter.casefold() in line.found.name.casefold()
            and not (self.stale_hidden and line.found.state == "stale")
        ]

    def _show_summary(self, lines: Sequence[Line]) -> None:
        every = self.model.lines.values()
        stale = sum(line.found.state == "stale" for line in every)
        disk = os.statvfs(_names.DIRECTORY)
        used = (disk.f_blocks - disk.f_bfree) * disk.f_frsize
        count = f"{len(lines)} of {len(every)}" if self.filter else f"{len(every)}"
        hidden = " hidden" if self.stale_hidden else ""
        words = [
            "shmring top",
            f"{count} {'ring' if len(every) == 1 else 'rings'}"
            + (f" ({stale} stale{hidden})" if stale else ""),
            f"{_names.DIRECTORY} {output.size(used)} of {output.size(disk.f_blocks * disk.f_frsize)}",
        ]
        others = self.model.others
        words += [f"{others} other {'file' if others == 1 else 'files'}"] if self.wide and others else []
        words += [f"every {self.interval:g} s"] if self.wide else []
        if self.ring_name is None:
            words.append(f"by {self.sorted_by} {'▼' if self.largest_first else '▲'}")
        words += [f"/{self.filter}"] if self.filter else []
        words += ["PAUSED"] if self.paused else []
        self.query_one("#summary", Static).update("  ".join(words))

    def _fill(self, table: DataTable[Text | str], rows: Iterable[dict[str, Text | str]]) -> None:
        offset = table.scroll_offset
        table.clear()
        for row in rows:
            table.add_row(*(row[str(key.value)] for key in table.columns))
        table.scroll_to(offset.x, offset.y, animate=False)

    def _ring_row(self, line: Line) -> dict[str, Text | str]:
        stats = line.ring.stats
        width = 10 if self.wide else 5
        cut = 40 if self.wide else 16
        return {
            "NAME": Text(_cut(output.clean(line.found.name), cut), style=output.COLOURS[line.found.state]),
            "STATE": Text(line.found.state, style=output.COLOURS[line.found.state]),
            "RATE": self._ring_rate(line),
            "BANDWIDTH": right(output.bandwidth(line.bandwidth)),
            "FILL": bar(line.fill, width),
            "LAG": right(f"{line.lag:,}"),
            "LOST": Text(f"{line.lost:,}", justify="right", style="red" if line.lost_rate else ""),
            "LOST/s": right(output.rate(line.lost_rate)),
            "CONS": right(str(sum(one.alive for one in stats.consumers))),
            "PRODUCER": Text(
                processes.producer_name(stats.producer),
                style="red" if stats.producer.state in ("failed", "died") else "",
            ),
            "PAST RATE": sparks(line.history, 30 if self.wide else 8),
        }

    def _ring_rate(self, line: Line) -> Text:
        producer = line.ring.stats.producer
        if producer.state != "live":
            return right("-" if self.wide else line.status)
        if line.rate == 0:
            halted = processes.describe(producer.pid, producer.start_time, alive=True).halted
            if halted:
                return Text(halted, justify="right", style="red")
        return right(output.rate(line.rate))

    def _show_ring(self, line: Line | None) -> None:
        title = self.query_one("#title", Static)
        history = self.query_one("#history", Sparkline)
        consumers: DataTable[Text | str] = self.query_one("#consumers", DataTable)
        if line is None:
            name = output.clean(self.ring_name or "")
            hidden = (
                "No ring is shown: / filters by name, x hides stale ones."
                if self.model.lines
                else "No rings."
            )
            title.update(f"There is no ring {name!r} now; waiting for it." if name else hidden)
            history.data = []
            self._fill(consumers, [])
            return
        title.update(self._ring_title(line))
        # Padded, so that time has one scale from the first look.
        history.data = [0.0] * (REMEMBERED - len(line.history)) + list(line.history)
        self._fill(consumers, [self._consumer_row(line, one) for one in line.ring.stats.consumers])

    def _ring_title(self, line: Line) -> str:
        stats = line.ring.stats
        blocking = full.in_the_way(stats)
        words = [
            output.clean(stats.name),
            line.found.state,
            f"{output.shape(stats.shape)} {output.dtype(stats.dtype, short=True)}",
            f"{stats.slots} slots{spares_of(stats)}",
            output.size(line.found.nbytes),
            f"{output.rate(line.rate)} {output.bandwidth(line.bandwidth)}",
            f"published {stats.published:,}",
            f"dropped {stats.dropped:,}",
            f"full: waits for {full.name_taker(blocking[0], stats)}" if blocking else f"fill {line.fill:.0%}",
            f"producer {processes.producer_name(stats.producer)}",
            output.clean(stats.producer.failure),
        ]
        lines = [f"group {groups.describe(one, stats)}" for one in stats.groups]
        return "\n".join(["  ".join(filter(None, words)), *lines])

    def _consumer_row(self, line: Line, one: ConsumerStats) -> dict[str, Text | str]:
        key = consumer_key(one)
        slots = line.ring.stats.slots
        lost_rate = line.rates.lost.get(key, 0.0) if line.rates else 0.0
        process = processes.describe(one.pid, one.start_time, alive=one.alive)
        halted = process.halted if one.alive else "dead"
        rate = output.rate(line.rates.delivered.get(key) if line.rates else None)
        return {
            "LABEL": Text(_cut(output.clean(one.label) or "-", 30 if self.wide else 14)),
            "PID": Text(f"{one.pid}", style="red" if halted else ""),
            "USER": process.user,
            "POLICY": _cut(groups.policy(one), 30 if self.wide else 14),
            "RATE": Text(halted or rate, justify="right", style="red" if halted else ""),
            "LAG": right(f"{one.lag:,}"),
            "bar": bar(lag_fraction(one, slots), 10 if self.wide else 5),
            "LOST": Text(f"{one.lost:,}", justify="right", style="red" if lost_rate else ""),
            "LOST/s": right(output.rate(lost_rate)),
            "SKIPPED": right(f"{one.skipped:,}"),
            "HELD": right(full.held_cell(one)),
            "PAST LAG": sparks(line.lags.get(key, ()), 20 if self.wide else 8, most=1.0),
            "COMMAND": _cut(processes.command(one) if one.alive else "", 60),
        }

    # ---- keys

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool:
        """Leave out of the footer what makes no sense for one ring alone."""
        return self.ring_name is None or action not in self.OF_SEVERAL_RINGS

    def action_sort(self) -> None:
        """Sort by the next column."""
        keys = list(SORT_KEYS)
        self._sort(keys[(keys.index(self.sorted_by) + 1) % len(keys)])

    def _sort(self, by: str) -> None:
        self.sorted_by, self.largest_first = by, by != "name"
        self.show()

    def action_reverse(self) -> None:
        """Turn the order round."""
        self.largest_first = not self.largest_first
        self.show()

    def action_pause(self) -> None:
        """Stop looking, or continue."""
        self.paused = not self.paused
        self.look()
        self.show()

    def action_hide_stale(self) -> None:
        """Hide stale rings, or show them again."""
        self.stale_hidden = not self.stale_hidden
        self.show()

    def action_filter(self) -> None:
        """Ask for a part of the names to show."""
        field = self.query_one("#filter", Input)
        field.display = True
        self.set_focus(field)

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter while the part of a name is typed."""
        self.filter = event.value
        self.show()

    def on_input_submitted(self) -> None:
        """Go back to the rings that are left."""
        self._leave_filter()

    def action_leave(self) -> None:
        """Leave the help, or the filter: every ring is shown again."""
        if self.screen.has_class("help"):
            self.action_help()
        elif self.ring_name is None:
            self.query_one("#filter", Input).value = ""
            self._leave_filter()

    def _leave_filter(self) -> None:
        self.query_one("#filter", Input).display = False
        self.query_one("#rings", DataTable).focus()

    def action_help(self) -> None:
        """Show what the columns and keys mean, or the rings again."""
        self.screen.toggle_class("help")

    def action_quit_with(self, code: int) -> None:
        """End with an exit code."""
        self.exit(code)

    def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        """Show the consumers of the ring under the cursor."""
        lines = self._lines()
        if event.data_table.id == "rings" and 0 <= event.cursor_row < len(lines):
            self.chosen = ring_key(lines[event.cursor_row].found)
            self._show_ring(lines[event.cursor_row])

    def on_data_table_header_selected(self, event: DataTable.HeaderSelected) -> None:
        """Sort by the column that was clicked."""
        by = SORTED_BY.get(str(event.column_key.value))
        if event.data_table.id != "rings" or by is None:
            return
        if by == self.sorted_by:
            self.action_reverse()
        else:
            self._sort(by)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
