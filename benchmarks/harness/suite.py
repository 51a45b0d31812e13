"""Runs cells in interleaved rounds."""

import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks import limits
from benchmarks.harness.cells import Cell, Row
from benchmarks.harness.isolation import RunFailed

FEWER_ROUNDS = 2  # for cells that take long to start
MOST_FAILURES = 2  # then the cell is skipped


def run(cells: Sequence[Cell], rounds: int) -> list[dict[str, Any]]:
    """Every cell once, then again, `rounds` times; the rows as JSON."""
    results = {id(cell): {metric: new_row(cell, metric) for metric in cell.units} for cell in cells}
    failures: dict[int, int] = {}
    began = time.monotonic()
    try:
        for turn, number, cell in ((t, n, c) for t in range(rounds) for n, c in enumerate(cells)):
            if (turn >= 1 and cell.once) or (turn >= FEWER_ROUNDS and cell.slow):
                continue
            if failures.get(id(cell), 0) >= MOST_FAILURES:
                continue
            progress(
                f"round {turn + 1}/{rounds}, {number + 1}/{len(cells)}: {cell.case}: {cell.subject}", began
            )
            if not run_cell(cell, results[id(cell)].values()):
                failures[id(cell)] = failures.get(id(cell), 0) + (MOST_FAILURES if cell.slow else 1)
    except KeyboardInterrupt:
        print("\ninterrupted: what was measured so far follows", file=sys.stderr)
    progress("", began)
    return [row.as_json() for cell in cells for row in results[id(cell)].values()]


def new_row(cell: Cell, metric: str) -> Row:
    return Row(cell.part, cell.case, cell.subject, cell.kind, metric, cell.units[metric], cell.settings)


def run_cell(cell: Cell, rows: Iterable[Row]) -> bool:
    """One round of one cell; False if it failed."""
    before = limits.probe()
    try:
        values = cell.measure()
    except (RunFailed, RuntimeError, OSError, ValueError, subprocess.SubprocessError) as error:
        for row in rows:
            row.error = str(error) or type(error).__name__
        return False
    after = limits.probe()
    for row in rows:
        row.values.append(values[row.metric])
        row.core_to_core_ns.append((before, after))
    return True


def progress(text: str, began: float) -> None:
    """One line that changes on a terminal, otherwise one line per cell."""
    if not sys.stderr.isatty():
        print(f"{time.monotonic() - began:5.0f} s  {text}", file=sys.stderr, flush=True)
    else:
        print(f"\r\x1b[K{time.monotonic() - began:5.0f} s  {text[:100]}", end="", file=sys.stderr, flush=True)
