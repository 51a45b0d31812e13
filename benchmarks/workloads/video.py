"""1080p and 4K frames of three bytes a pixel, by copy and in place."""

from benchmarks.adapters.ours import Shmring
from benchmarks.harness.cells import Cell
from benchmarks.workloads import Effort
from benchmarks.workloads.common import HD, UHD, ring_cell, stream_cell

PART = "video"
SLOTS = 8


def cells(effort: Effort) -> list[Cell]:
    made = []
    for label, nbytes in (("1080p", HD), ("4K", UHD)):
        for reads, word in (("touch", "touches"), ("all", "reads all")):
            case = f"{label} by copy, consumer {word}"
            options = {"nbytes": nbytes, "slots": SLOTS, "reads": reads}
            made += [
                stream_cell(PART, case, Shmring(), effort, **options),
                ring_cell(PART, case, effort, reuse="warm", **options),
                ring_cell(PART, case, effort, **options),
            ]
            made += [
                stream_cell(PART, case, peer, effort, **options)
                for peer in effort.peers
                if not peer.in_place and nbytes <= peer.most_nbytes and (label == "1080p" or peer.contender)
            ]
        for reads, word in (("touch", "consumer touches"), ("sample", "transport")):
            case = f"{label} in place, {word}"
            options = {"nbytes": nbytes, "slots": SLOTS, "reads": reads}
            made += [
                stream_cell(PART, case, Shmring("claim"), effort, **options),
                ring_cell(PART, case, effort, how="place", **options),
            ]
            made += [
                stream_cell(PART, case, peer, effort, **options) for peer in effort.peers if peer.in_place
            ]
    return made
