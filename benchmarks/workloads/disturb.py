"""How much a held frame, a slow viewer and a stalled consumer slow down the others.

Each case runs in turns with the same stream that nothing disturbs, in processes of its own.
"""

from collections.abc import Mapping
from statistics import median
from typing import Any

from benchmarks.adapters import ours
from benchmarks.harness.cells import OURS, Cell
from benchmarks.harness.runs import in_turns
from benchmarks.workloads import Effort
from benchmarks.workloads.common import MIB

PART = "disturb"
UNITS = {
    "frames": "frames/s",
    "alone": "frames/s",
    "of_alone": "x",
    "producer_ns": "ns",
    "producer_ns_alone": "ns",
}
SPARES = 8
BESIDE: dict[str, dict[str, Any]] = {
    "a frame held": {"hold": 1},
    f"a frame held, {SPARES} spare slots": {"hold": 1, "spares": SPARES},
    f"{SPARES} frames held, {SPARES} spare slots": {"hold": SPARES, "spares": SPARES},
    "a slow lossy viewer": {"beside": ours.slow_viewer},
    "a stalled lossy consumer": {"beside": ours.stalled},
    "8 stalled lossy consumers": {"beside": ours.stalled, "stalled": 8},
}
SIZES = (("64 B", 64, 1024), ("1 MiB", MIB, 8))


def cells(effort: Effort) -> list[Cell]:
    return [
        cell(f"{label}, {what}", nbytes, slots, options, effort)
        for label, nbytes, slots in SIZES
        for what, options in BESIDE.items()
    ]


def cell(case: str, nbytes: int, slots: int, options: Mapping[str, Any], effort: Effort) -> Cell:
    return Cell(
        PART,
        case,
        "shmring",
        OURS,
        lambda: disturbed(nbytes, slots, options, effort.seconds),
        UNITS,
        "in turns with the same ring, undisturbed",
    )


def disturbed(nbytes: int, slots: int, options: Mapping[str, Any], seconds: float) -> dict[str, float]:
    """Medians over the turns."""
    alone = {"spares": options["spares"]} if "spares" in options else {}
    turns = in_turns(
        ours.Shmring(), nbytes=nbytes, slots=slots, seconds=2 * seconds, first=options, second=alone
    )
    return {
        "frames": median(mine.sent for mine, _ in turns),
        "alone": median(other.sent for _, other in turns),
        "of_alone": median(mine.sent / other.sent for mine, other in turns),
        "producer_ns": median(mine.producer_ns for mine, _ in turns),
        "producer_ns_alone": median(other.producer_ns for _, other in turns),
    }
