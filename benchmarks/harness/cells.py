"""A cell is one thing to measure; a row is what came of it over all rounds."""

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

OURS, LIMIT, PEER = "ours", "limit", "peer"


@dataclass(frozen=True)
class Cell:
    """One subject in one case. `measure()` gives one round: metric -> value.

    The first limit of a case is what its other subjects are given as a fraction of.
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
    near_ns: list[tuple[float, float]] = field(default_factory=list)  # core to core: before, after
    error: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def as_json(self) -> dict[str, Any]:
        found = {key: getattr(self, key) for key in ("part", "case", "subject", "kind", "metric", "unit")}
        found |= {"settings": self.settings, "error": self.error, "values": self.values}
        if self.values:
            found |= {"median": self.median, "min": min(self.values), "max": max(self.values)}
        return found | {"core_to_core_ns": self.near_ns}


def lower_is_better(unit: str) -> bool:
    return unit in {"ns", "us", "ms", "s", "instructions", "% of a core", "bytes"}


def fraction(row: dict[str, Any], limit: dict[str, Any]) -> float:
    """How much of the limit was reached: 1 is all of it."""
    better = (limit["median"], row["median"])
    return better[0] / better[1] if lower_is_better(row["unit"]) else better[1] / better[0]
