"""How long the first steps take, and how much memory a ring needs."""

import os
import statistics
import subprocess
import sys
import time
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory

import shmring
from benchmarks.harness.cells import OURS, Cell
from benchmarks.harness.isolation import isolated, unique_name
from benchmarks.harness.roles import Role
from benchmarks.workloads import Effort
from benchmarks.workloads.common import MIB

PART = "setup"
STEPS = ("create", "produce", "attach", "join", "first_frame")
ATTACHING = ("attach", "shared_memory")  # by SharedMemory: to open and map the same block
UNITS = dict.fromkeys((*STEPS, "shared_memory", *(f"{each}_again" for each in ATTACHING)), "us")
IMPORT_UNITS = {"import": "ms", "numpy": "ms"}
TURNS = 128
IMPORT = """
import time
began = time.perf_counter()
import numpy
middle = time.perf_counter()
import shmring
print(middle - began, time.perf_counter() - middle)
"""
clock = time.perf_counter_ns


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
            "each process attaches once; again: in one process, in turns, the median",
            slow=size[0] > MIB,
        )
        for label, size in sizes.items()
    ]
    made.append(Cell(PART, "import, beyond numpy", "shmring", OURS, import_times, IMPORT_UNITS))
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
    """Microseconds of each step; what attaches does so in another process."""
    times = {}
    began = clock()
    ring = shmring.Ring.create(unique_name(), shape=(nbytes,), dtype="u1", slots=slots)
    times["create"] = clock() - began
    began = clock()
    producer = ring.producer()
    times["produce"] = clock() - began
    with producer.claim() as slot:
        slot.array[:] = 1
    resource_tracker.ensure_running()  # SharedMemory would start one in each process
    for attaching in (attach, open_shared_memory, attach_again):
        process = Role(attaching, ring.name, core=None)
        times |= process.answer()
        process.end()
    producer.close()
    ring.close()
    ring.unlink()
    return {step: value / 1e3 for step, value in times.items()}


def attach(pipe: Connection, name: str) -> None:
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


def open_shared_memory(pipe: Connection, name: str) -> None:
    pipe.send({"shared_memory": time_of_shared_memory(name)})
    pipe.recv()


def attach_again(pipe: Connection, name: str) -> None:
    """In turns, after a first time."""
    times = [(time_of_attach(name), time_of_shared_memory(name)) for _ in range(TURNS)]
    pipe.send(
        {
            f"{each}_again": statistics.median(found)
            for each, found in zip(ATTACHING, zip(*times, strict=True), strict=True)
        }
    )
    pipe.recv()


def time_of_attach(name: str) -> int:
    began = clock()
    ring = shmring.Ring.attach(name)
    ended = clock()
    ring.close()
    return ended - began


def time_of_shared_memory(name: str) -> int:
    began = clock()
    block = SharedMemory(name)
    ended = clock()
    block.close()
    resource_tracker.unregister(f"/{name}", "shared_memory")  # it would unlink the block
    return ended - began


def import_times() -> dict[str, float]:
    """With cached bytecode, as pip writes it when it installs; the first of two runs writes it here."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    for _ in range(2):
        found = subprocess.run(
            [sys.executable, "-c", IMPORT], env=environment, capture_output=True, text=True, check=True
        )
    numpy, ours = (1e3 * float(seconds) for seconds in found.stdout.split())
    return {"import": ours, "numpy": numpy}


def overhead() -> dict[str, float]:
    few, many = (
        shmring.Ring.required_size(shape=(4096,), dtype="u1", slots=slots) for slots in (1024, 65536)
    )
    per_slot = (many - few) / (65536 - 1024) - 4096
    return {"per_slot": per_slot, "per_ring": few - 1024 * (4096 + per_slot)}
