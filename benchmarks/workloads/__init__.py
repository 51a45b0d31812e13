"""The workloads. Each module has `cells(effort)`, the cells of one part, in the order of its table."""

import importlib
from dataclasses import dataclass, field

from benchmarks.harness.cells import PEER, Cell
from benchmarks.harness.transport import Transport

NAMES = {
    "cost": "cost per frame",
    "latency": "one-way latency",
    "fanout": "fan-out",
    "video": "video",
    "disturb": "what others cost",
    "groups": "groups",
    "idle": "idle processor time",
    "setup": "create, attach, import, memory",
    "scaling": "scaling",
    "instructions": "instructions per operation",
    "bandwidth": "memory bandwidth",
}


@dataclass(frozen=True)
class Effort:
    """How long each run lasts, and which peers take part."""

    seconds: float = 0.2
    quick: bool = False
    peers: list[Transport] = field(default_factory=list)


def cells(parts: list[str], effort: Effort) -> list[Cell]:
    """All cells of the named parts. In a quick run, a peer that starts slowly only takes part in `cost`."""
    modules = [importlib.import_module(f"benchmarks.workloads.{part}") for part in parts]
    found = [cell for module in modules for cell in module.cells(effort)]
    return [
        cell
        for cell in found
        if not (effort.quick and cell.slow and cell.kind == PEER and cell.part != "cost")
    ]
