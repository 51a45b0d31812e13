"""How long the first steps take, and how much memory a ring needs."""

import os
import subprocess
import sys
import time
from multiprocessing.connection import Connection

import shmring
from benchmarks.harness.cells import OURS, Cell
from benchmarks.harness.isolation import isolated, unique_name
from benchmarks.harness.roles import Role
from benchmarks.workloads import Effort
from benchmarks.workloads.common import MIB

PART = "setup"
UNITS = dict.fromkeys(("create", "produce", "attach", "join", "first_frame"), "us")
IMPORT = """
import time, numpy
began = time.perf_counter()
import shmring
print((time.perf_counter() - began) * 1e3)
"""


def cells(effort: Effort) -> list[Cell]:
    sizes = {"1 MiB": (MIB // 16, 16), "256 MiB": (16 * MIB, 16)}
    if not effort.quick:
        sizes["2 GiB"] = (64 * MIB, 32)
    made = [
        Cell(
            PART,
            f"ring of {label}",
            "shmring",
            OURS,
            lambda size=size: isolated(lambda: begin(*size)),
            UNITS,
            slow=size[0] > MIB,
        )
        for label, size in sizes.items()
    ]
    made.append(Cell(PART, "import, beyond numpy", "shmring", OURS, import_time, {"import": "ms"}))
    made.append(
        Cell(
            PART,
            "memory beyond the frames",
            "shmring",
            OURS,
            overhead,
            {"per_ring": "bytes", "per_slot": "bytes"},
            "16 consumers",
            once=True,
        )
    )
    return made


def begin(nbytes: int, slots: int) -> dict[str, float]:
    """Microseconds of each step; attach and join in another process."""
    clock = time.perf_counter_ns
    times = {}
    began = clock()
    ring = shmring.Ring.create(unique_name(), shape=(nbytes,), dtype="u1", slots=slots)
    times["create"] = clock() - began
    began = clock()
    producer = ring.producer()
    times["produce"] = clock() - began
    with producer.claim() as slot:
        slot.array[:] = 1
    consumer = Role(attach, ring.name, core=None)
    times |= consumer.answer()
    consumer.end()
    producer.close()
    ring.close()
    ring.unlink()
    return {step: value / 1e3 for step, value in times.items()}


def attach(pipe: Connection, name: str) -> None:
    clock = time.perf_counter_ns
    began = clock()
    ring = shmring.Ring.attach(name)
    attached = clock()
    consumer = ring.consumer()
    joined = clock()
    assert consumer.get(10).array[0] == 1
    ended = clock()
    pipe.send({"attach": attached - began, "join": joined - attached, "first_frame": ended - joined})
    consumer.close()
    ring.close()
    pipe.recv()  # until the other side has its answer and ends this process


def import_time() -> dict[str, float]:
    """With cached bytecode, as pip writes it when it installs; the first of two runs writes it here."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    for _ in range(2):
        found = subprocess.run(
            [sys.executable, "-c", IMPORT], env=environment, capture_output=True, text=True, check=True
        )
    return {"import": float(found.stdout)}


def overhead() -> dict[str, float]:
    few, many = (
        shmring.Ring.required_size(shape=(4096,), dtype="u1", slots=slots) for slots in (1024, 65536)
    )
    per_slot = (many - few) / (65536 - 1024) - 4096
    return {"per_slot": per_slot, "per_ring": few - 1024 * (4096 + per_slot)}
