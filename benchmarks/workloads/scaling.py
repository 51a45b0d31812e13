"""How the cost of a call depends on the number of slots, of consumers, and the size of a frame."""

from benchmarks.harness.cells import OURS, Cell
from benchmarks.workloads import Effort
from benchmarks.workloads import calls as one_process
from benchmarks.workloads.common import MIB

PART = "scaling"
UNITS = {"get": "ns", "claim": "ns"}
SLOTS = (2, 16, 1024, 65_536, 1_000_000)
CONSUMERS = (1, 2, 4, 8, 16, 32, 64)
PAGE = 4096  # few slots are whole pages, so that their number is not rounded up


def cells(effort: Effort) -> list[Cell]:
    made = [cell(f"{slots:,} slots", PAGE if slots <= 1024 else 64, slots, 1, effort) for slots in SLOTS]
    made += [cell(f"{consumers} consumers", 64, 64, consumers, effort) for consumers in CONSUMERS]
    sizes = (("64 B", 64, 64), ("4 KiB", PAGE, 64), ("1 MiB", MIB, 16), ("32 MiB", 32 * MIB, 16))
    for label, nbytes, slots in sizes:
        made.append(cell(f"frames of {label}, in place", nbytes, slots, 1, effort))
    return made


def cell(case: str, nbytes: int, slots: int, consumers: int, effort: Effort) -> Cell:
    def measure() -> dict[str, float]:
        return one_process.isolated_calls(nbytes, slots, effort.seconds, consumers, in_place=True)

    return Cell(
        PART, case, "shmring", OURS, measure, UNITS, f"one process, claim and get in place, {slots} slots"
    )
