"""One-way latency by ping-pong, spinning and asleep."""

from benchmarks import limits
from benchmarks.adapters.ours import Shmring
from benchmarks.harness.cells import LIMIT, Cell
from benchmarks.workloads import Effort
from benchmarks.workloads.common import MIB, TIMES, latency_cell

PART = "latency"


def cells(effort: Effort) -> list[Cell]:
    made = []
    for label, nbytes, slots in (("64 B", 64, 64), ("1 MiB by copy", MIB, 4)):
        for waiting in ("spinning", "asleep"):
            sleeping = waiting == "asleep"
            case = f"{label}, {waiting}"
            options = {"nbytes": nbytes, "slots": slots, "sleeping": sleeping}
            made.append(latency_cell(PART, case, Shmring(), effort, **options))
            if sleeping and nbytes == 64:
                made += [
                    latency_cell(PART, case, Shmring(waits_for=rings), effort, **options) for rings in (1, 8)
                ]
            if not sleeping or nbytes == 64:
                made.append(limit(case, nbytes, effort, sleeping))
            if sleeping and nbytes > 64:
                continue  # the copy and the wake-up, which have rows of their own
            made += [
                latency_cell(PART, case, peer, effort, **options)
                for peer in effort.peers
                if (peer.sleeps if sleeping else peer.spins)
                and not peer.in_place
                and nbytes <= peer.most_nbytes
            ]
    return made


def limit(case: str, nbytes: int, effort: Effort, sleeping: bool) -> Cell:
    if sleeping:
        arguments = ("futex", int(effort.seconds / 60e-6))
        subject = "raw futex wake"
    elif nbytes > 64:
        arguments = ("copy", int(effort.seconds / 200e-6), nbytes)
        subject = "plain C copy and a flag"
    else:
        arguments = ("line", int(effort.seconds / 1e-6))
        subject = "C cache-line ping-pong"
    return Cell(PART, case, subject, LIMIT, lambda: limits.run("pingpong", *arguments), TIMES)
