"""Cost per frame: one to one across processes, and of each call in one process."""

from benchmarks import limits
from benchmarks.adapters.ours import Shmring
from benchmarks.adapters.ours_in_c import c_pair
from benchmarks.harness.cells import LIMIT, OURS, Cell
from benchmarks.workloads import Effort
from benchmarks.workloads import calls as one_process
from benchmarks.workloads.common import MIB, RATE, ring_cell, stream_cell

PART = "cost"
SLOTS = 1024


def slots_for(nbytes: int) -> int:
    return max(4, min(SLOTS, 64 * MIB // nbytes))


def cells(effort: Effort) -> list[Cell]:
    return [
        *small_frames(effort),
        *touched(effort),
        *batches(effort),
        *sizes(effort),
        *calls(effort),
    ]


def small_frames(effort: Effort) -> list[Cell]:
    case = "64 B, one per call"
    options = {"nbytes": 64, "slots": SLOTS}
    return [
        stream_cell(PART, case, Shmring(), effort, **options),
        ring_cell(PART, case, effort, **options),
        Cell(
            PART,
            case,
            "shmring in C",
            OURS,
            lambda: c_pair(64, SLOTS, 1, effort.seconds),
            RATE,
            "public headers, spins",
        ),
        *(stream_cell(PART, case, peer, effort, **options) for peer in effort.peers if not peer.in_place),
        stream_cell(PART, "64 B in place", Shmring("claim"), effort, reads="touch", **options),
        ring_cell(PART, "64 B in place", effort, how="place", **options),
        *(
            stream_cell(PART, "64 B in place", peer, effort, reads="touch", **options)
            for peer in effort.peers
            if peer.in_place
        ),
    ]


def touched(effort: Effort) -> list[Cell]:
    """The consumer looks into every frame: two words, or every byte and a sum."""
    cells = []
    for reads, word in (("touch", "touches"), ("all", "reads all")):
        case = f"64 B, consumer {word}"
        options = {"nbytes": 64, "slots": SLOTS, "reads": reads}
        cells += [
            stream_cell(PART, case, Shmring(), effort, **options),
            ring_cell(PART, case, effort, **options),
        ]
        cells += [stream_cell(PART, case, peer, effort, **options) for peer in effort.peers if peer.contender]
    return cells


def batches(effort: Effort) -> list[Cell]:
    cells = []
    for batch in (8, 64, 1024):
        case = f"64 B, batches of {batch}"
        slots = 4 * SLOTS if batch < SLOTS else 16 * SLOTS
        cells += [
            stream_cell(PART, case, Shmring(batch=batch), effort, nbytes=64, slots=slots),
            ring_cell(PART, case, effort, nbytes=64, slots=slots, batch=batch),
        ]
        if batch == 64:
            cells.append(
                Cell(
                    PART,
                    case,
                    "shmring in C",
                    OURS,
                    lambda: c_pair(64, 4096, 64, effort.seconds),
                    RATE,
                    "public headers, spins",
                )
            )
    return cells


def sizes(effort: Effort) -> list[Cell]:
    cells = []
    for label, nbytes in (
        ("8 B", 8),
        ("4 KiB", 4096),
        ("256 KiB", 256 << 10),
        ("1 MiB", MIB),
        ("32 MiB", 32 * MIB),
    ):
        options = {"nbytes": nbytes, "slots": slots_for(nbytes)}
        for how, way in (("put", "by copy"), ("claim", "in place")):
            case = f"{label} {way}"
            cells.append(stream_cell(PART, case, Shmring(how), effort, reads="touch", **options))
            cells.append(ring_cell(PART, case, effort, how="copy" if how == "put" else "place", **options))
    return cells


def calls(effort: Effort) -> list[Cell]:
    """One process, everything warm: what the calls themselves cost."""
    case = "calls in one process, 64 B"
    return [
        Cell(
            PART,
            case,
            "shmring",
            OURS,
            lambda: one_process.isolated_calls(64, SLOTS, effort.seconds),
            dict.fromkeys(one_process.CALLS, "ns"),
        ),
        Cell(PART, case, "plain C ring", LIMIT, lambda: c_calls(effort), {"put": "ns", "get": "ns"}),
    ]


def c_calls(effort: Effort) -> dict[str, float]:
    return limits.run("ring", "solo", 64, SLOTS, int(effort.seconds * 2e7) // 16 * 16)
