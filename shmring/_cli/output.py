"""How commands print: tables, JSON, sizes and ages; nothing that others wrote reaches the terminal raw."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from shmring._inventory import State

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


def clean(text: str) -> str:
    """Make what another process wrote (name, label, command) safe for a terminal."""
    return "".join(
        sign if sign.isprintable() else sign.encode("unicode_escape", "backslashreplace").decode()
        for sign in text
    )


def make_console() -> Console:
    """Return rich's console on stdout; as wide as it takes where that is no terminal."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else UNLIMITED)


def show_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], styles: Sequence[str] | None = None
) -> None:
    """Print a table: a column whose name begins with > is aligned right, with ~ may be cut short."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        name = column.lstrip(">~")
        cut = column.startswith("~")
        table.add_column(
            name,
            justify="right" if column.startswith(">") else "left",
            overflow="ellipsis" if cut else "fold",
            no_wrap=cut,
        )
    for number, row in enumerate(rows):
        table.add_row(*(Text(cell) for cell in row), style=styles[number] if styles else None)
    make_console().print(table)


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


def rate(per_second: float | None) -> str:
    """Write frames per second for people."""
    if per_second is None:
        return "-"
    if per_second < 1000:
        return f"{per_second:.1f}/s" if 0 < per_second < 99.95 else f"{per_second:.0f}/s"
    return f"{per_second / 1e3:.1f}k/s" if per_second < 999_500 else f"{per_second / 1e6:.2f}M/s"


def age(seconds: float) -> str:
    """Write a duration for people."""
    if seconds < 120:
        return f"{max(seconds, 0):.0f} s"
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.0f} d"


def shape(lengths: Sequence[int]) -> str:
    """Write a shape for people."""
    return "x".join(str(length) for length in lengths) or "scalar"
