"""MessageQueue against a pipe per reader: ``python -m benchmarks.broadcast``.

One process sends objects, a dict with an array of 1 KiB to 64 MiB and two small entries, to 1, 4 or 8 others,
each of which adds up the array, all of it. It measures from the first send until every reader has added up
the last array. *Pipes* is what one writes without shared memory: a `multiprocessing.Pipe` for each reader,
and `send` to each. *Queue* is `enqueue` and `dequeue`; *queue, views* is ``dequeue(copy=False)`` instead.

Each round measures all three in turns, with the same processes, which stay until the end. Every reader
checks its sums.
"""

import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from benchmarks.harness import alone
from benchmarks.reporting.tables import aligned, spread
from shmring.broadcast import Handle, MessageQueue

TARGET = 5  # times as many objects as by pipes, of 1 MiB to 4 readers
WAYS = ("pipes", "queue", "queue, views")
PATIENCE = 120.0


@dataclass(frozen=True)
class Case:
    """Objects of one size to some readers."""

    label: str
    nbytes: int
    readers: int
    objects: int  # in a round

    @property
    def is_judged(self) -> bool:
        return (self.label, self.readers) == ("1 MiB", 4)


def cases(quick: bool) -> Iterator[Case]:
    sizes = [("1 KiB", 1 << 10, 2000), ("1 MiB", 1 << 20, 60), ("64 MiB", 1 << 26, 3)]
    for label, nbytes, objects in sizes[:2] if quick else sizes:
        for readers in (1, 4) if quick else (1, 4, 8):
            yield Case(label, nbytes, readers, max(2, objects // 10) if quick else objects)


def read(handle: Handle, rank: int, pipe: Connection, control: Connection) -> None:
    """A reader's process: for each command (way, objects), take as many objects that way."""
    with MessageQueue.create_from_handle(handle, rank) as queue:
        ways: dict[str, Callable[[], Any]] = {
            "pipes": pipe.recv,
            "queue": lambda: queue.dequeue(PATIENCE),
            "queue, views": lambda: queue.dequeue(PATIENCE, copy=False),
        }
        control.send("ready")
        while command := control.recv():
            way, objects = command
            take, right = ways[way], 0
            for number in range(objects):
                found = take()
                right += found["number"] == number and int(found["data"].sum()) == found["sum"]
                del found
            control.send(right)


def run_case(case: Case, rounds: int) -> dict[str, list[float]]:
    """Objects per second of each way, in each round."""
    context = multiprocessing.get_context("spawn")
    rates: dict[str, list[float]] = {way: [] for way in WAYS}
    with MessageQueue(case.readers) as queue:
        pipes = [context.Pipe(duplex=False) for _ in range(case.readers)]
        controls = [context.Pipe() for _ in range(case.readers)]
        processes = [
            context.Process(
                target=read, args=(queue.export_handle(), rank, pipes[rank][0], controls[rank][1])
            )
            for rank in range(case.readers)
        ]
        for process in processes:
            process.start()
        queue.wait_until_ready(PATIENCE)
        assert [ours.recv() for ours, _ in controls] == ["ready"] * case.readers

        def send_by_pipes(value: Any) -> None:
            for _, pipe in pipes:
                pipe.send(value)

        data = np.random.default_rng(1).integers(0, 1 << 32, case.nbytes // 8, "u8")
        total = int(data.sum())
        for number in range(rounds + 1):
            for way in WAYS:
                send = send_by_pipes if way == "pipes" else queue.enqueue
                for ours, _ in controls:
                    ours.send((way, case.objects))
                began = time.perf_counter()
                for sent in range(case.objects):
                    send({"number": sent, "sum": total, "data": data})
                right = [ours.recv() for ours, _ in controls]
                seconds = time.perf_counter() - began
                assert right == [case.objects] * case.readers, (case, way, right)
                if number > 0:  # the first is for page faults and imports
                    rates[way].append(case.objects / seconds)
        for ours, _ in controls:
            ours.send(None)
        for process in processes:
            process.join()
    return rates


def as_row(case: Case, rates: dict[str, list[float]]) -> dict[str, Any]:
    row: dict[str, Any] = {"case": case.label, "readers": case.readers, "objects": case.objects}
    for way, found in rates.items():
        ratios = [ours / theirs for ours, theirs in zip(found, rates["pipes"], strict=True)]
        for name, values in ((way, found), (f"{way} / pipes", ratios)):
            row[name] = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    if case.is_judged:
        row["target"] = TARGET
    return row


def table(rows: list[dict[str, Any]]) -> str:
    """The table to print."""
    names = ["pipes", "queue", "queue, views", "queue / pipes", "queue, views / pipes"]
    lines = [["objects/s, median (min to max)", "readers", *names, ""]]
    for row in rows:
        columns = ["{} ({} to {})".format(*spread(row[name])) for name in names]
        verdict = ""
        if "target" in row:
            met = "met" if row["queue / pipes"]["median"] >= row["target"] else "NOT met"
            verdict = f"target {row['target']}: {met}"
        lines.append([row["case"], str(row["readers"]), *columns, verdict])
    return "\n".join(aligned(lines, numbers=range(1, 7)))


def run(rounds: int, quick: bool) -> list[dict[str, Any]]:
    """All cases."""
    return [as_row(case, run_case(case, rounds)) for case in cases(quick)]


def main() -> None:
    alone.main("broadcast", __doc__, run, table, rounds=7)


if __name__ == "__main__":
    main()
