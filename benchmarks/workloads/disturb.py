"""How much a held frame, a slow viewer and a stalled consumer slow down the others."""

from benchmarks.adapters import ours
from benchmarks.harness.cells import Cell
from benchmarks.workloads import Effort
from benchmarks.workloads.common import MIB, stream_cell

PART = "disturb"
UNITS = {"frames": "frames/s", "producer_ns": "ns"}
SPARES = 8
BESIDE = {
    "alone": {},
    "a frame held": {"hold": 1},
    f"alone, {SPARES} spare slots": {"spares": SPARES},
    f"a frame held, {SPARES} spare slots": {"hold": 1, "spares": SPARES},
    f"{SPARES} frames held, {SPARES} spare slots": {"hold": SPARES, "spares": SPARES},
    "a slow lossy viewer": {"beside": ours.slow_viewer},
    "a stalled lossy consumer": {"beside": ours.stalled},
    "8 stalled lossy consumers": {"beside": ours.stalled, "stalled": 8},
}


def cells(effort: Effort) -> list[Cell]:
    return [
        stream_cell(
            PART,
            f"{label}, {what}",
            ours.Shmring(),
            effort,
            nbytes=nbytes,
            slots=slots,
            units=UNITS,
            **options,
        )
        for label, nbytes, slots in (("64 B", 64, 1024), ("1 MiB", MIB, 8))
        for what, options in BESIDE.items()
    ]
