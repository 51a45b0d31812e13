"""The results of a run: the lines of its tables, and all of them for a terminal."""

from collections.abc import Sequence
from itertools import groupby
from statistics import median
from typing import Any

from benchmarks import workloads
from benchmarks.harness.cells import LIMIT, fraction
from benchmarks.reporting import comparison
from benchmarks.reporting.tables import aligned, number, spread

Row = dict[str, Any]
HEAD = ["", "", "median", "min", "max", "of limit", "core to core, ns", "settings"]
COMPARISON = "this build against the other one"
COMPARISON_HEAD = ["", "", "", "this", "other", "this / other", "min", "max", "every round"]
TARGETS_HEAD = ["target", "bound", "median", "min", "max", ""]


def as_text(result: dict[str, Any]) -> str:
    """For a terminal."""
    text = []
    for part, part_rows in groupby(result["rows"], key=lambda row: row["part"]):
        text.append(f"\n==== {workloads.NAMES[part]}")
        for case, rows in groupby(part_rows, key=lambda row: row["case"]):
            text += [f"\n{case}", *aligned([HEAD, *lines_of(list(rows))])]
    compared = comparison_lines(result["rows"])
    if compared:
        text += ["", f"==== {COMPARISON}", *aligned([COMPARISON_HEAD, *compared], range(3, 8))]
    text += ["", "==== peers that are not there"]
    text += [f"{peer['name']}: {peer['error']}" for peer in result["absent"]]
    text += ["", "==== targets", *aligned([TARGETS_HEAD, *target_lines(result)])]
    return "\n".join(text)


def limit_of(rows: Sequence[Row], row: Row) -> Row | None:
    """The case's first limit with the same metric."""
    for other in rows:
        same = all(other[key] == row[key] for key in ("part", "case", "metric"))
        if same and other["kind"] == LIMIT and other["values"]:
            return other
    return None


def lines_of(rows: Sequence[Row]) -> list[list[str]]:
    """The lines below HEAD."""
    return [measured_line(rows, row) if row["values"] else failed_line(row) for row in rows]


def measured_line(rows: Sequence[Row], row: Row) -> list[str]:
    limit = limit_of(rows, row)
    of_limit = f"{fraction(row, limit):.2f}" if limit and limit is not row else ""
    probes = [probe for pair in row["core_to_core_ns"] for probe in pair]
    near = f"{min(probes):.0f}-{max(probes):.0f}"
    return [row["subject"], metric_of(row), *spread(row), of_limit, near, row["settings"]]


def failed_line(row: Row) -> list[str]:
    word = "failed" if row["error"] else "not run"
    return [row["subject"], metric_of(row), word, "", "", "", "", row["error"][:90]]


def metric_of(row: Row) -> str:
    return row["unit"] if row["metric"] in row["unit"] else f"{row['metric']}, {row['unit']}"


def comparison_lines(rows: Sequence[Row]) -> list[list[str]]:
    """The lines below COMPARISON_HEAD: medians of both builds, and of the ratio in each round."""
    lines = []
    for row, other, found in comparison.compared(rows):
        ratio = {"median": median(found), "min": min(found), "max": max(found)}
        medians = [number(each["median"]) for each in (row, other)]
        names = [row["case"], row["subject"], metric_of(row)]
        lines.append([*names, *medians, *spread(ratio), comparison.verdict(found, row["unit"])])
    return lines


def target_lines(result: dict[str, Any]) -> list[list[str]]:
    lines = []
    for target in result["targets"]:
        bound = f"{'>=' if target['at_least'] else '<='} {number(target['bound'])} {target['unit']}"
        if "median" not in target:
            lines.append([target["target"], bound, "", "", "", f"not measured: {target['why'][:60]}"])
            continue
        lines.append([target["target"], bound, *spread(target), "met" if target["met"] else "NOT met"])
    return lines
