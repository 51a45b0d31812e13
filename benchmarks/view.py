"""What `shmring view` costs the producer and a lossless recorder: ``python -m benchmarks.view``.

A producer publishes 8-bit 1080p frames, 60 a second or as fast as it can (`put`, one copy); a recorder takes
every one and writes it to a file in memory, so that no disk sets the pace. They share the first core of this
machine; the server of `shmring.view` and the pages have the others (on two cores: the second one). The
question is what 1 or 10 pages take from those two, beyond the cores that the server itself has.

Pages are simulated: programs that ask for whole frames, read each message and acknowledge it 60 times a
second at most, as a browser that draws does. *Latency* runs from publish to the whole message being there.
Ten pages *of another ring* do the same work on the server's cores, and touch this ring not at all: what they
cost is what two busy cores take from each other, their memory and caches.

Each round measures all of them in turns, with the same processes; the recorder counts what it lost.
*Both* counts frames per second that the processor worked for producer and recorder, whatever else ran on the
machine.
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
from typing import Any

import numpy as np

import shmring
from benchmarks.harness import alone
from benchmarks.reporting.tables import aligned, spread
from shmring import recording

TARGET = 0.97  # of the frames without pages
SHAPE = (1080, 1920)
SLOTS = 16
LOOKERS = {"no page": 0, "1 page": 1, "10 pages": 10, "10 pages of another ring": 10}
REFRESH = 1 / 60  # seconds
TOKEN = "the-token-of-the-benchmark"
IN_MEMORY = "/dev/shm"


@dataclass(frozen=True)
class Case:
    """So many frames in a round, at this rate."""

    label: str
    rate: float | None
    frames: int


def cases(quick: bool) -> list[Case]:
    if quick:
        return [Case("60 frames/s", 60.0, 12), Case("flat out", None, 30)]
    return [Case("60 frames/s", 60.0, 60), Case("flat out", None, 600)]


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
        pages = [asyncio.create_task(be_page(name, port, ages)) for _ in range(count)]
        await asyncio.to_thread(pipe.recv)
        for page in pages:
            page.cancel()
        await asyncio.gather(*pages, return_exceptions=True)
        pipe.send(ages)


async def be_page(name: str, port: int, ages: list[int]) -> None:
    from websockets.asyncio.client import connect

    address = f"ws://127.0.0.1:{port}/ws/ring?name={name}"
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with connect(address, additional_headers=headers, compression=None, max_size=None) as page:
        await page.send(json.dumps({"type": "want", "width": SHAPE[1], "height": SHAPE[0]}))
        async for message in page:
            if isinstance(message, bytes):
                (length,) = struct.unpack_from("<I", message)
                header = json.loads(message[4 : 4 + length])
                ages.append(time.monotonic_ns() - header["timestamp_ns"])
                await asyncio.sleep(REFRESH - time.monotonic() % REFRESH)
                await page.send(json.dumps({"type": "ack", "seq": header["seq"]}))


# ---- rounds


@dataclass
class Others:
    """The far ends of the other processes."""

    recorder: Connection
    pages: Connection
    other_ring: shmring.Ring


def publish(out: shmring.Producer, case: Case, frames: Iterable[np.ndarray[Any, Any]]) -> tuple[float, float]:
    """Publish what a round takes; how many seconds that takes, and of the processor."""
    began, used = time.monotonic(), time.process_time()
    for number, frame in enumerate(frames):
        if case.rate is not None:
            time.sleep(max(0.0, began + number / case.rate - time.monotonic()))
        out.put(frame)
    return time.monotonic() - began, time.process_time() - used


def measure(out: shmring.Producer, case: Case, lookers: str, others: Others) -> dict[str, float]:
    """One round with these pages."""
    pages = LOOKERS[lookers]
    ring = others.other_ring if "another" in lookers else out.ring
    others.pages.send((ring.name, pages))
    if pages:
        while not any(one.label == "shmring view" for one in ring.stats().consumers):
            time.sleep(0.01)
    others.recorder.send(case.frames)
    assert others.recorder.recv() == "ready"
    some = np.random.default_rng(1).integers(0, 256, (8, *SHAPE), "u1")
    began = time.monotonic()
    seconds, used = publish(out, case, (some[number % 8] for number in range(case.frames)))
    ended, used_too, frames, lost = others.recorder.recv()
    assert (frames, lost) == (case.frames, 0), (frames, lost)
    others.pages.send("end")
    ages = others.pages.recv()
    found = {
        "producer": case.frames / seconds,
        "recorder": case.frames / (ended - began),
        "both": case.frames / (used + used_too),
    }
    if pages:
        assert ages, "no page got a frame"
        found["page"] = len(ages) / pages / (ended - began)
        found["latency"] = statistics.median(ages) / 1e6
    return found


def run_case(case: Case, rounds: int, out: shmring.Producer, others: Others) -> list[dict[str, Any]]:
    found: dict[str, list[dict[str, float]]] = {lookers: [] for lookers in LOOKERS}
    for number in range(rounds + 1):
        for lookers in LOOKERS:
            result = measure(out, case, lookers, others)
            if number > 0:  # the first is for page faults and imports
                found[lookers].append(result)
    return [as_row(case, lookers, found[lookers], found["no page"]) for lookers in LOOKERS]


def as_row(
    case: Case, lookers: str, found: list[dict[str, float]], without: list[dict[str, float]]
) -> dict[str, Any]:
    row: dict[str, Any] = {"case": case.label, "pages": lookers, "frames": case.frames}
    columns = {name: [one[name] for one in found] for name in found[0]}
    for name in ("producer", "recorder", "both"):
        pairs = zip(columns[name], (one[name] for one in without), strict=True)
        columns[f"{name} / without"] = [ours / theirs for ours, theirs in pairs]
    for name, values in columns.items():
        row[name] = {"median": statistics.median(values), "min": min(values), "max": max(values)}
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
        names = [ring.name, other.name]
        processes = [context.Process(target=serve, args=(names, theirs, far_server), daemon=True)]
        processes[0].start()
        port = server.recv()
        processes += [
            context.Process(target=record, args=(ring.name, ours, far_recorder), daemon=True),
            context.Process(target=look, args=(port, theirs, far_pages), daemon=True),
            context.Process(target=feed, args=(other.name, theirs), daemon=True),
        ]
        for process in processes[1:]:
            process.start()
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, ours)
        try:
            others = Others(recorder, pages, other)
            return [row for case in cases(quick) for row in run_case(case, rounds, out, others)]
        finally:
            os.sched_setaffinity(0, before)
            recorder.send(0)
            pages.send(None)
            for process in (processes[0], processes[-1]):
                process.terminate()
            for process in processes:
                process.join()


def table(rows: list[dict[str, Any]]) -> str:
    """The table to print."""
    names = ["producer", "producer / without", "recorder", "recorder / without", "both", "both / without"]
    names += ["page", "latency"]
    heads = ["producer/s", "/ without", "recorder/s", "/ without", "both/CPU s", "/ without", "each page/s"]
    heads += ["latency, ms", f"target {TARGET}"]
    lines = [["1080p, 8 bit; median (min to max)", "pages", *heads]]
    for row in rows:
        columns = ["{} ({} to {})".format(*spread(row[name])) if name in row else "" for name in names]
        least = min(row["producer / without"]["median"], row["recorder / without"]["median"])
        verdict = "" if "no page" in row["pages"] else "met" if least >= TARGET else "NOT met"
        lines.append([row["case"], row["pages"], *columns, verdict])
    return "\n".join(aligned(lines, numbers=range(2, 10)))


def main() -> None:
    alone.main("view", __doc__, run, table, rounds=10, packages=("starlette", "uvicorn", "websockets"))


if __name__ == "__main__":
    main()
