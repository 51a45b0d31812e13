"""One producer, several consumers: of each policy, and mixed. Nobody is pinned."""

from benchmarks.adapters.ours import Shmring
from benchmarks.harness.cells import Cell
from benchmarks.workloads import Effort
from benchmarks.workloads.common import MIB, ring_cell, stream_cell

PART = "fanout"
UNITS = {"GB/s": "GB/s delivered"}
POLICIES = {"lossless": ("lossless",), "lossy": ("lossy",), "mixed": ("lossless", "lossy")}
SLOTS = 8


def cells(effort: Effort) -> list[Cell]:
    made = []
    for consumers in (1, 2, 4, 8):
        for reads, word in (("touch", "touch"), ("all", "read all")):
            case = f"1 MiB by copy, 1 to {consumers}, {word}"
            options = {"nbytes": MIB, "slots": SLOTS, "consumers": consumers, "reads": reads, "units": UNITS}
            made += [
                stream_cell(PART, case, Shmring(), effort, **options),
                ring_cell(PART, case, effort, **options),
            ]
            if consumers == 4:
                made += [
                    stream_cell(PART, case, peer, effort, **options)
                    for peer in effort.peers
                    if peer.fan_out and not peer.in_place and peer.most_nbytes >= MIB
                ]
        for name in ("lossy", "mixed") if consumers > 1 else ("lossy",):
            case = f"1 MiB by copy, 1 to {consumers}, {name}, touch"
            made.append(
                stream_cell(
                    PART, case, Shmring(), effort, nbytes=MIB, slots=SLOTS, consumers=consumers,
                    reads="touch", units=UNITS, policies=POLICIES[name],
                )
            )  # fmt: skip
    return made
