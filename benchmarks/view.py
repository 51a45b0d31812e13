"""What `shmring view` costs the producer and a lossless recorder: ``python -m benchmarks.view``.

A producer publishes 8-bit 1080p frames, 60 a second or as fast as it can (`put`, one copy); a recorder takes
every one and writes it to a file in memory, so that no disk sets the pace. They share the first core of this
machine; the server of `shmring.view` and the pages have the others (on two cores: the second one). The
question is what 1 or 10 pages take from those two, beyond the cores that the server itself has.

Pages are simulated: programs that ask for whole frames, read each message and acknowledge it 60 times a
second at most, as a browser that draws does, and follow the list of rings. *Latency* runs from publish to the
whole message being there.

Two busy cores take memory, cache and clock rate from each other, whatever they work on. Null rows show how
much: pages *of another ring* do the same work on the server's cores, and do not touch this ring; a program
that only *counts* keeps a core busy without memory; and nothing at all, measured *again*, is the noise. The
target is for what pages of this ring cost beyond that: *beyond* compares them with as many pages of the other
ring in the same round, in turns before and after them.

Each is measured between two rounds without pages, and compared with the mean of those; of many short rounds
the table has the median and the quartiles. The recorder counts what it lost. *Both* counts frames per second
that the processor worked for producer and recorder, whatever else ran on the machine; *server* is how much of
a core it used.
"""

import asyncio
import json
import multiprocessing
import os
import socket
import statistics
import struct
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

import shmring
from benchmarks.harness import alone
from benchmarks.reporting import tables
from shmring import recording

TARGET = 0.97  # of the frames with as many pages of another ring
SHAPE = (1080, 1920)
SLOTS = 16
COMPARED = ("producer", "recorder", "both")
Frames: TypeAlias = np.ndarray[Any, Any]
REFRESH = 1 / 60  # seconds
TOKEN = "the-token-of-the-benchmark"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
IN_MEMORY = "/dev/shm"


@dataclass(frozen=True)
class Beside:
    """What runs on the other cores."""

    label: str
    pages: int = 0
    of_another_ring: bool = False
    counts: bool = False


NOTHING = Beside("no page")
PAIRS = [  # of this ring, and of another
    (Beside("1 page", 1), Beside("1 page of another ring", 1, of_another_ring=True)),
    (Beside("10 pages", 10), Beside("10 pages of another ring", 10, of_another_ring=True)),
]
LOOKERS = [
    Beside("no page, again"),
    Beside("a program that counts", counts=True),
    *(beside for pair in PAIRS for beside in pair),
]


@dataclass(frozen=True)
class Case:
    """So many frames in a round, at this rate; and that part of the rounds."""

    label: str
    rate: float | None
    frames: int
    part: float = 1.0


def cases(quick: bool) -> list[Case]:
    if quick:
        return [Case("60 frames/s", 60.0, 6), Case("flat out", None, 20)]
    return [Case("60 frames/s", 60.0, 30, 0.25), Case("flat out", None, 150)]


def cores() -> tuple[set[int], set[int]]:
    """Return the core of producer and recorder, and those of the server and the pages."""
    first, *others = sorted(os.sched_getaffinity(0))
    return {first}, set(others) or {first}


# ---- the processes


def record(name: str, where: set[int], pipe: Connection) -> None:
    """Record as many frames as each command says, from the next one on."""
    os.sched_setaffinity(0, where)
    while frames := pipe.recv():
        with tempfile.TemporaryDirectory(dir=IN_MEMORY) as folder:
            recorder = recording.Recorder(name, Path(folder) / "take.npy", frames=frames, start="next")
            pipe.send("ready")
            used = time.process_time()
            summary = recorder.run()
            pipe.send((time.monotonic(), time.process_time() - used, summary.frames, summary.lost))


def serve(names: list[str], where: set[int], pipe: Connection) -> None:
    """Serve the view."""
    import shmring.view
    from shmring.view._server import make_server

    os.sched_setaffinity(0, where)
    listening = socket.create_server(("127.0.0.1", 0))
    pipe.send(listening.getsockname()[1])
    make_server(shmring.view.app(names, token=TOKEN)).run([listening])


def feed(name: str, where: set[int]) -> None:
    """Publish frames to the other ring, 60 a second."""
    os.sched_setaffinity(0, where)
    frame = np.random.default_rng(2).integers(0, 256, SHAPE, "u1")
    with shmring.Ring.attach(name) as ring, ring.producer() as out:
        while True:
            out.put(frame)
            time.sleep(REFRESH)


def look(port: int, where: set[int], pipe: Connection) -> None:
    """Be pages as each command says, until the next one."""
    os.sched_setaffinity(0, where)
    asyncio.run(be_pages(port, pipe))


async def be_pages(port: int, pipe: Connection) -> None:
    while command := await asyncio.to_thread(pipe.recv):
        name, count = command
        ages: list[int] = []
        tasks = [asyncio.create_task(be_page(name, port, ages)) for _ in range(count)]
        tasks += [asyncio.create_task(read_list(port)) for _ in range(count)]
        while len(ages) < count:
            await asyncio.sleep(0.005)
        ages.clear()
        pipe.send("ready")
        await asyncio.to_thread(pipe.recv)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        pipe.send(ages)


async def be_page(name: str, port: int, ages: list[int]) -> None:
    from websockets.asyncio.client import connect

    address = f"ws://127.0.0.1:{port}/ws/ring?name={name}"
    async with connect(address, additional_headers=HEADERS, compression=None, max_size=None) as page:
        await page.send(json.dumps({"type": "want", "width": SHAPE[1], "height": SHAPE[0]}))
        async for message in page:
            if isinstance(message, bytes):
                (length,) = struct.unpack_from("<I", message)
                header = json.loads(message[4 : 4 + length])
                ages.append(time.monotonic_ns() - header["timestamp_ns"])
                await asyncio.sleep(REFRESH - time.monotonic() % REFRESH)
                await page.send(json.dumps({"type": "ack", "seq": header["seq"]}))


async def read_list(port: int) -> None:
    from websockets.asyncio.client import connect

    async with connect(f"ws://127.0.0.1:{port}/ws/rings", additional_headers=HEADERS, max_size=None) as page:
        async for _ in page:
            pass


def count(where: set[int], pipe: Connection) -> None:
    """Keep a core busy from a command to the next one, with nothing that needs memory."""
    os.sched_setaffinity(0, where)
    while pipe.recv():
        while not pipe.poll():
            for _ in range(50_000):
                pass
        pipe.recv()


# ---- rounds


@dataclass
class Others:
    """The far ends of the other processes."""

    recorder: Connection
    pages: Connection
    counting: Connection
    other_ring: shmring.Ring
    server_clock: int


def publish(out: shmring.Producer, case: Case, frames: Iterable[np.ndarray[Any, Any]]) -> tuple[float, float]:
    """Publish what a round takes; how many seconds that takes, and of the processor."""
    began, used = time.monotonic(), time.process_time()
    for number, frame in enumerate(frames):
        if case.rate is not None:
            time.sleep(max(0.0, began + number / case.rate - time.monotonic()))
        out.put(frame)
    return time.monotonic() - began, time.process_time() - used


def measure(
    out: shmring.Producer, case: Case, beside: Beside, frames: Frames, others: Others
) -> dict[str, float]:
    """One round with this on the other cores."""
    ring = others.other_ring if beside.of_another_ring else out.ring
    others.pages.send((ring.name, beside.pages))
    assert others.pages.recv() == "ready"
    if beside.counts:
        others.counting.send("begin")
    others.recorder.send(case.frames)
    assert others.recorder.recv() == "ready"
    began, used_by_server = time.monotonic(), time.clock_gettime(others.server_clock)
    seconds, used = publish(out, case, (frames[number % len(frames)] for number in range(case.frames)))
    ended, used_too, recorded, lost = others.recorder.recv()
    used_by_server = time.clock_gettime(others.server_clock) - used_by_server
    assert (recorded, lost) == (case.frames, 0), (recorded, lost)
    if beside.counts:
        others.counting.send("end")
    others.pages.send("end")
    ages = others.pages.recv()
    found = {
        "producer": case.frames / seconds,
        "recorder": case.frames / (ended - began),
        "both": case.frames / (used + used_too),
        "server": used_by_server / (ended - began),
    }
    if beside.pages:
        assert ages, "no page got a frame"
        found["page"] = len(ages) / beside.pages / (ended - began)
        found["latency"] = statistics.median(ages) / 1e6
    return found


def run_case(case: Case, rounds: int, out: shmring.Producer, others: Others) -> list[dict[str, Any]]:
    frames = np.random.default_rng(1).integers(0, 256, (8, *SHAPE), "u1")
    found: dict[str, list[dict[str, float]]] = {beside.label: [] for beside in [NOTHING, *LOOKERS]}
    for number in range(rounds + 1):
        before = measure(out, case, NOTHING, frames, others)
        for beside in LOOKERS if number % 2 else LOOKERS[::-1]:
            result = measure(out, case, beside, frames, others)
            after = measure(out, case, NOTHING, frames, others)
            for name in COMPARED:
                result[f"{name} / without"] = 2 * result[name] / (before[name] + after[name])
            if number > 0:  # the first is for page faults and imports
                found[beside.label].append(result)
                found[NOTHING.label].append(after)
            before = after
    for ours, null in PAIRS:
        for one, other in zip(found[ours.label], found[null.label], strict=True):
            for name in COMPARED:
                one[f"{name} / beyond"] = one[f"{name} / without"] / other[f"{name} / without"]
    return [as_row(case, label, results) for label, results in found.items()]


def as_row(case: Case, label: str, found: list[dict[str, float]]) -> dict[str, Any]:
    row: dict[str, Any] = {"case": case.label, "beside": label, "frames": case.frames, "rounds": len(found)}
    for name in found[0]:
        values = [one[name] for one in found]
        low, median, high = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
        row[name] = {"median": median, "low": low, "high": high, "min": min(values), "max": max(values)}
    return row


def run(rounds: int, quick: bool) -> list[dict[str, Any]]:
    """All cases."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = cores()
    with (
        shmring.Ring.create(shape=SHAPE, dtype="u1", slots=SLOTS) as ring,
        shmring.Ring.create(shape=SHAPE, dtype="u1", slots=SLOTS) as other,
        ring.producer() as out,
    ):
        out.put(np.zeros(SHAPE, "u1"))
        recorder, far_recorder = context.Pipe()
        server, far_server = context.Pipe()
        pages, far_pages = context.Pipe()
        counting, far_counting = context.Pipe()
        names = [ring.name, other.name]
        processes = [context.Process(target=serve, args=(names, theirs, far_server), daemon=True)]
        processes[0].start()
        port = server.recv()
        processes += [
            context.Process(target=record, args=(ring.name, ours, far_recorder), daemon=True),
            context.Process(target=look, args=(port, theirs, far_pages), daemon=True),
            context.Process(target=count, args=(theirs, far_counting), daemon=True),
            context.Process(target=feed, args=(other.name, theirs), daemon=True),
        ]
        for process in processes[1:]:
            process.start()
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, ours)
        try:
            clock = ~(processes[0].pid or 0) << 3 | 2  # of a process: clock_getcpuclockid(3)
            others = Others(recorder, pages, counting, other, clock)
            return [
                row
                for case in cases(quick)
                for row in run_case(case, max(1, round(rounds * case.part)), out, others)
            ]
        finally:
            os.sched_setaffinity(0, before)
            recorder.send(0)
            pages.send(None)
            counting.send(None)
            for process in (processes[0], processes[-1]):
                process.terminate()
            for process in processes:
                process.join()


def table(rows: list[dict[str, Any]]) -> str:
    """The table to print."""
    names = [column for name in COMPARED for column in (name, f"{name} / without", f"{name} / beyond")]
    names += ["server", "page", "latency"]
    units = ["producer/s", "recorder/s", "both/CPU s"]
    heads = [column for unit in units for column in (unit, "/ without", "beyond")]
    heads += ["server, cores", "each page/s", "latency, ms", f"target {TARGET}"]
    lines = [["1080p, 8 bit; median (quartiles)", "beside", *heads]]
    for row in rows:
        columns = [middle(row[name]) if name in row else "" for name in names]
        lines.append([row["case"], row["beside"], *columns, verdict(row)])
    return "\n".join(tables.aligned(lines, numbers=range(2, 2 + len(names))))


def verdict(row: dict[str, Any]) -> str:
    if "producer / beyond" not in row:
        return ""
    least = min(row[f"{name} / beyond"]["median"] for name in ("producer", "recorder"))
    return "met" if least >= TARGET else "NOT met"


def middle(found: dict[str, float]) -> str:
    return "{} ({} to {})".format(*(tables.number(found[key]) for key in ("median", "low", "high")))


def main() -> None:
    alone.main("view", __doc__, run, table, rounds=24, packages=("starlette", "uvicorn", "websockets"))


if __name__ == "__main__":
    main()
