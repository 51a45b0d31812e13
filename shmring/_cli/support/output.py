"""How commands print: tables, JSON, sizes and ages; nothing that others wrote reaches the terminal raw."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from shmring._messages import age as age
from shmring._words import clean as clean
from shmring._words import count as count
from shmring._words import plural as plural

if TYPE_CHECKING:
    import numpy as np
    from rich.console import Console
    from rich.table import Table

    from shmring._inventory import State

GAP = 2  # columns between two of a table
LEAST = 8  # columns that are left of one that is cut short
UNLIMITED = 100_000  # columns of a file or pipe: nothing is cut there
COLOURS: dict[State, str] = {
    "live": "green",
    "stale": "yellow",
    "damaged": "red",
    "other version": "red",
    "unfinished": "yellow",
    "denied": "dim",
    "foreign": "dim",
}


def make_console(least: int = 0) -> Console:
    """Return rich's console on stdout, as wide as the terminal; without one, as wide as it takes."""
    from rich.console import Console

    console = Console(highlight=False, width=None if sys.stdout.isatty() else UNLIMITED)
    console.width = max(console.width, least)
    return console


def make_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], widths: Sequence[int | None] | None = None
) -> Table:
    """Return rich's table: the column >NAME is aligned right, and one with a width is cut short to it."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, GAP, 0, 0))
    for column, width in zip(columns, widths or [None] * len(columns), strict=True):
        justify: Literal["left", "right"] = "right" if column.startswith(">") else "left"
        table.add_column(column.lstrip(">~"), justify=justify, overflow="ellipsis", no_wrap=True, width=width)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def show_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], styles: Sequence[str] | None = None
) -> None:
    """Print a table: the column >NAME is aligned right, ~NAME is cut short where it must be."""
    console = make_console()
    widths = [
        max(len(cell) for cell in column)
        for column in zip((c.lstrip(">~") for c in columns), *rows, strict=True)
    ]
    excess = sum(widths) + GAP * (len(columns) - 1) - console.width
    for number, column in enumerate(columns):
        if column.startswith("~") and excess > 0:
            kept = min(widths[number], max(LEAST, widths[number] - excess))
            excess -= widths[number] - kept
            widths[number] = kept
    table = make_table(columns, rows, widths)
    for row, style in zip(table.rows, styles or (), strict=bool(styles)):
        row.style = style
    # What is wider than the terminal all the same continues in its next line, whole.
    wide = make_console(console.width + excess)
    with wide.capture() as captured:
        wide.print(table)
    for line in captured.get().splitlines():
        print(line.rstrip())


def show_json(value: Any) -> None:
    """Print a value as JSON."""
    print(json.dumps(value, indent=2))


def size(nbytes: float) -> str:
    """Write a number of bytes for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(nbytes) < 999.5:
            return f"{nbytes:.0f} {unit}" if unit == "B" or nbytes >= 99.95 else f"{nbytes:.1f} {unit}"
        nbytes /= 1000
    return f"{nbytes:.1f} TB"


def bandwidth(nbytes: float, seconds: float = 1.0) -> str:
    """Write bytes per second for people."""
    return f"{size(nbytes / max(seconds, 1e-9))}/s"


def rate(per_second: float | None) -> str:
    """Write frames per second for people."""
    if per_second is None:
        return "-"
    if per_second < 1000:
        return f"{per_second:.1f}/s" if 0 < per_second < 99.95 else f"{per_second:.0f}/s"
    return f"{per_second / 1e3:.1f}k/s" if per_second < 999_500 else f"{per_second / 1e6:.2f}M/s"


def dtype(described: np.dtype[Any], *, short: bool = False) -> str:
    """Write a dtype as errors and reprs do; a structured one, shortly, by its fields."""
    if short and described.names:
        return "{" + ",".join(clean(name) for name in described.names) + "}"
    return clean(str(described))


def shape(lengths: Sequence[int]) -> str:
    """Write a shape for people."""
    return "x".join(str(length) for length in lengths) or "scalar"
