"""A cell is one thing to measure; a row holds what one metric of it gave in all rounds."""

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

OURS, OTHER, LIMIT, PEER = "ours", "other", "limit", "peer"  # other: another build of ours
OTHER_SUFFIX = ", other build"  # of its subjects


@dataclass(frozen=True)
class Cell:
    """One subject in one case. `measure()` runs one round and returns metric -> value.

    The tables show the other subjects of a case as fractions of its first limit.
    """

    part: str
    case: str
    subject: str
    kind: str
    measure: Callable[[], Mapping[str, float]]
    units: Mapping[str, str]  # metric -> unit; units of time are better when lower
    settings: str = ""
    slow: bool = False  # fewer rounds
    once: bool = False  # one round: counts and sizes do not vary
    version: str = ""


@dataclass
class Row:
    """One metric of a cell."""

    part: str
    case: str
    subject: str
    kind: str
    metric: str
    unit: str
    settings: str
    values: list[float] = field(default_factory=list)
    core_to_core_ns: list[tuple[float, float]] = field(default_factory=list)  # before and after each run
    error: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def as_json(self) -> dict[str, Any]:
        found = {key: getattr(self, key) for key in ("part", "case", "subject", "kind", "metric", "unit")}
        found |= {"settings": self.settings, "error": self.error, "values": self.values}
        if self.values:
            found |= {"median": self.median, "min": min(self.values), "max": max(self.values)}
        return found | {"core_to_core_ns": self.core_to_core_ns}


def lower_is_better(unit: str) -> bool:
    return unit in {"ns", "us", "ms", "s", "instructions", "% of a core", "1/s", "bytes"}


def fraction(row: dict[str, Any], limit: dict[str, Any]) -> float:
    """How much of the limit was reached: 1 is all of it."""
    ratio: float = row["median"] / limit["median"]
    return 1 / ratio if lower_is_better(row["unit"]) else ratio


def ratios(mine: list[float], theirs: list[float]) -> list[float]:
    """Round by round, as far as both ran."""
    return [a / b for a, b in zip(mine, theirs, strict=False) if b]
