"""Cells that several parts share."""

from collections.abc import Mapping
from typing import Any

from benchmarks import limits
from benchmarks.adapters.ours import Shmring
from benchmarks.harness.cells import LIMIT, OURS, PEER, Cell
from benchmarks.harness.runs import ping_pong, stream
from benchmarks.harness.transport import Transport
from benchmarks.workloads import Effort

MIB = 1 << 20
HD = 1080 * 1920 * 3
UHD = 2160 * 3840 * 3
RATE = {"frames": "frames/s"}
TIMES = {"p50": "ns", "p99": "ns", "p99.9": "ns"}
PACE = 2e-11  # seconds per byte, roughly: decides how many frames a C program sends


def kind_of(transport: Transport) -> str:
    return OURS if isinstance(transport, Shmring) else PEER


def stream_cell(
    part: str,
    case: str,
    transport: Transport,
    effort: Effort,
    units: Mapping[str, str] = RATE,
    **options: Any,
) -> Cell:
    """A stream over a transport."""
    nbytes = options["nbytes"]

    def measure() -> dict[str, float]:
        found = stream(transport, seconds=effort.seconds, **options)
        return found | {"GB/s": found["delivered"] * nbytes / 1e9}

    return cell_of(part, case, transport, measure, units)


def latency_cell(part: str, case: str, transport: Transport, effort: Effort, **options: Any) -> Cell:
    return cell_of(
        part, case, transport, lambda: ping_pong(transport, seconds=effort.seconds, **options), TIMES
    )


def cell_of(part: str, case: str, transport: Transport, measure: Any, units: Mapping[str, str]) -> Cell:
    return Cell(
        part, case, transport.name, kind_of(transport), measure, units, transport.settings, transport.slow
    )


def ring_cell(
    part: str,
    case: str,
    effort: Effort,
    *,
    nbytes: int,
    slots: int,
    consumers: int = 1,
    how: str = "copy",
    reads: str = "touch",
    reuse: str = "walk",
    batch: int = 1,
    units: Mapping[str, str] = RATE,
) -> Cell:
    """The plain C ring: the limit of a stream."""
    each = 2e-8 if how == "place" or nbytes < 4096 else nbytes * PACE * (2 if reads == "all" else 1)
    frames = max(64, int(effort.seconds / (each * max(1, consumers / 2))) // batch * batch)

    def measure() -> dict[str, float]:
        rate = float(limits.run("ring", nbytes, slots, frames, consumers, how, reads, reuse, batch))
        return {"frames": rate, "delivered": rate * consumers, "GB/s": rate * consumers * nbytes / 1e9}

    subject = "plain C ring" + (", slot freed last first" if reuse == "warm" else "")
    return Cell(part, case, subject, LIMIT, measure, units, "spins, nothing but acquire and release")
