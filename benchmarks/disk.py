"""The recorder against dd, writing as many bytes to the same file system: ``python -m benchmarks.disk``.

Rounds are interleaved: dd, recorder, dd, … for each case. dd copies from /dev/zero in blocks as large as the
recorder's writes. Either both leave it to the kernel when to write to the disk ("cached"), or both end with
an fdatasync ("on disk": dd's conv=fdatasync). The recorder's time runs from the first frame to the closed
files; it is a process of its own, and so is the producer, which writes frames in place, one word in each.
Every round checks that no frame is missing and that each carries its number.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

import shmring
from benchmarks.harness import machine
from benchmarks.reporting.tables import aligned, spread
from shmring import recording
from shmring.recording._recorder import BATCH

TARGET = 0.9
AT_THE_END = 1e9  # seconds between syncs: longer than a round, so only the final one happens


@dataclass(frozen=True)
class Case:
    """Frames of so many 8-byte words."""

    label: str
    words: int
    slots: int


CASES = [
    Case("4 KiB", 512, 4096),
    Case("1 MiB", 1 << 17, 32),
    Case("1080p RGB, 6.2 MB", 1080 * 1920 * 3 // 8, 8),
]


def record(ring: shmring.Ring, path: Path, sync: float | None, pipe: Connection) -> None:
    """The recorder's process."""
    recorder = recording.Recorder(ring, path, sync=sync)
    pipe.send("ready")
    summary = recorder.run()
    pipe.send((time.monotonic(), summary.frames, summary.lost))


def run_recorder(case: Case, frames: int, path: Path, sync: float | None) -> float:
    """How many seconds it takes."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    with shmring.Ring.create(shape=(case.words,), dtype="u8", slots=case.slots) as ring:
        process = context.Process(target=record, args=(ring, path, sync, theirs))
        process.start()
        assert ours.recv() == "ready"
        most = max(1, min(BATCH // ring.frame_nbytes, ring.slots // 4))
        with ring.producer() as out:
            began = time.monotonic()
            while out.next_seq < frames:
                with out.claim(min(most, frames - out.next_seq)) as slot:
                    array = slot.array.reshape(slot.count, case.words)
                    array[:, 0] = np.arange(slot.seq, slot.seq + slot.count)
        ended, count, lost = ours.recv()
        process.join()
    assert (count, lost) == (frames, 0), (count, lost)
    found = np.load(path, mmap_mode="r")
    assert found.shape == (frames, case.words)
    assert (found[:, 0] == np.arange(frames)).all()
    return ended - began


def run_dd(nbytes: int, path: Path, *, on_disk: bool) -> float:
    """How many seconds it takes."""
    command = ["dd", "if=/dev/zero", f"of={path}", f"bs={BATCH}", f"count={nbytes}", "iflag=count_bytes"]
    began = time.monotonic()
    subprocess.run(command + ["conv=fdatasync"] * on_disk, check=True, capture_output=True)
    seconds = time.monotonic() - began
    assert path.stat().st_size == nbytes
    return seconds


def run(rounds: int, nbytes: int, folder: Path) -> list[dict[str, Any]]:
    """All cases, interleaved."""
    rates: dict[tuple[str, bool], list[tuple[float, float]]] = {}
    for _ in range(rounds):
        for case in CASES:
            for on_disk in (False, True):
                frames = max(1, nbytes // (case.words * 8))
                size = frames * case.words * 8
                with tempfile.TemporaryDirectory(dir=folder) as name:
                    theirs = run_dd(size, Path(name) / "dd", on_disk=on_disk)
                os.sync()  # what is left to write would slow the next run down
                with tempfile.TemporaryDirectory(dir=folder) as name:
                    sync = AT_THE_END if on_disk else None
                    ours = run_recorder(case, frames, Path(name) / "take.npy", sync)
                os.sync()
                rates.setdefault((case.label, on_disk), []).append((size / ours / 1e6, size / theirs / 1e6))
    return [as_row(label, on_disk, pairs) for (label, on_disk), pairs in rates.items()]


def as_row(label: str, on_disk: bool, pairs: list[tuple[float, float]]) -> dict[str, Any]:
    row: dict[str, Any] = {"case": label, "sync": "on disk" if on_disk else "cached"}
    columns = zip(*[(ours, theirs, ours / theirs) for ours, theirs in pairs], strict=True)
    for name, values in zip(("recorder", "dd", "ratio"), columns, strict=True):
        row[name] = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    row["target"] = TARGET
    return row


def table(rows: list[dict[str, Any]]) -> str:
    """The table to print."""
    head = ["median (min to max)", "recorder MB/s", "dd MB/s", "ratio", f"target {TARGET}"]
    return "\n".join(aligned([head, *map(line_of, rows)], numbers=range(1, 4)))


def line_of(row: dict[str, Any]) -> list[str]:
    met = "met" if row["ratio"]["median"] >= TARGET else "NOT met"
    spreads = [spread(row[name]) for name in ("recorder", "dd", "ratio")]
    columns = [f"{middle} ({least} to {most})" for middle, least, most in spreads]
    return [f"{row['case']}, {row['sync']}", *columns, met]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.disk", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="interleaved rounds (default 7)")
    parser.add_argument("--megabytes", type=int, default=2000, help="of each file (default 2000)")
    parser.add_argument("--folder", type=Path, default=Path(), help="on the file system that is measured")
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    options = parser.parse_args()
    facts = {**machine.describe(), "file system": file_system(options.folder)}
    for key, value in facts.items():
        print(f"{key}: {value}")
    rows = run(options.rounds, options.megabytes * 10**6, options.folder)
    print(table(rows))
    if options.json:
        options.json.write_text(json.dumps({"machine": facts, "rows": rows}, indent=1) + "\n")


def file_system(folder: Path) -> str:
    """Its type and mount options, without its place."""
    command = ["findmnt", "-n", "-o", "FSTYPE,OPTIONS", "--target", str(folder.resolve())]
    return machine.output(*command)


if __name__ == "__main__":
    main()
