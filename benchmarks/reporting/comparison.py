"""This build against the other one, row by row."""

from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.harness.cells import OTHER, OTHER_SUFFIX, OURS, lower_is_better, ratios

Row = dict[str, Any]
ENOUGH = 3  # rounds: fewer agree by chance too often


def compared(rows: Sequence[Row]) -> Iterator[tuple[Row, Row, list[float]]]:
    """Each row of ours with that of the other build, where both have values, and the ratio in each round."""
    keys = ("part", "case", "subject", "metric")
    ours = {tuple(row[key] for key in keys): row for row in rows if row["kind"] == OURS}
    for other in rows:
        if other["kind"] == OTHER:
            subject = other["subject"].removesuffix(OTHER_SUFFIX)
            row = ours[other["part"], other["case"], subject, other["metric"]]
            found = ratios(row["values"], other["values"])
            if found:
                yield row, other, found


def verdict(found: list[float], unit: str) -> str:
    """Better or worse if there are enough rounds, and all of them agree."""
    lower, higher = max(found) < 1, min(found) > 1
    if len(found) < ENOUGH or not (lower or higher):
        return ""
    return "better" if lower == lower_is_better(unit) else "worse"
