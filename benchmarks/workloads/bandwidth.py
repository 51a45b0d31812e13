"""What one core can copy and read."""

from benchmarks import limits
from benchmarks.harness.cells import LIMIT, Cell
from benchmarks.workloads import Effort
from benchmarks.workloads.common import HD, MIB

PART = "bandwidth"
SIZES = {"1 MiB": MIB, "1080p frame": HD, "64 MiB": 64 * MIB}


def cells(effort: Effort) -> list[Cell]:
    milliseconds = max(1, round(effort.seconds * 400))
    return [
        Cell(
            PART, f"{label}, {what}", "one core", LIMIT,
            lambda way=way, nbytes=nbytes: {"rate": limits.run("bandwidth", way, nbytes, milliseconds)},
            {"rate": "GB/s"},
        )
        for label, nbytes in SIZES.items()
        for way, what in (("memcpy", "memcpy"), ("stream", "streaming copy"), ("read", "read"))
    ]  # fmt: skip
