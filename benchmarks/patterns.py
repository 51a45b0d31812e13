"""Common ways to share arrays, with and without shmring: ``python -m benchmarks.patterns``.

Each call hands one thing over, in one process: it is written, and the other side reads it. So the figures are
what the calls and copies cost; how long a sleeping process takes to wake up is not in them. Rounds are
interleaved: one way, the other, then the next pattern. What cannot know whether it read a whole array is
measured as it is, without a check.

Ray takes part where it is installed.
"""

import contextlib
import importlib.util
import math
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from multiprocessing.shared_memory import ShareableList, SharedMemory
from pathlib import Path
from typing import Any

import numpy as np

import shmring
from benchmarks.harness import alone
from benchmarks.harness.isolation import unique_name
from benchmarks.reporting.tables import markdown, spread
from shmring import recording

SMALL, LARGE = (8,), (1 << 17,)  # words: 64 bytes, 1 MiB
PARTS = 4
FRAMES = 64  # of a file
SHORTEST = 0.02  # seconds that one measurement takes at least

Handover = Callable[[], Any]
Ways = tuple[Handover, Handover]  # the usual one, and ours


# ---- memory


@contextlib.contextmanager
def block(nbytes: int) -> Iterator[SharedMemory]:
    memory = SharedMemory(unique_name(), create=True, size=nbytes)
    try:
        yield memory
    finally:
        memory.unlink()
        memory.close()


def array_on_a_block(stack: ExitStack, shape: tuple[int, ...]) -> np.ndarray:
    memory = stack.enter_context(block(8 * math.prod(shape)))
    array: np.ndarray = np.ndarray(shape, "u8", buffer=memory.buf)
    array[...] = 1
    return array


def new_ring(stack: ExitStack, shape: tuple[int, ...], dtype: Any = "u8", slots: int = 4) -> shmring.Ring:
    ring = shmring.Ring.create(unique_name(), shape=shape, dtype=dtype, slots=slots)
    return stack.enter_context(ring)


def newest_of_a_ring(stack: ExitStack, value: np.ndarray) -> Handover:
    """Put a value; a lossy consumer takes the newest one, in place."""
    ring = new_ring(stack, value.shape, value.dtype)
    out, frames = ring.producer(), ring.consumer(lossless=False)

    def hand_over() -> Any:
        out.put(value)
        with frames.latest(timeout=0) as frame:
            return frame.array

    return hand_over


# ---- the patterns


def named_block(stack: ExitStack, folder: Path) -> Ways:
    value, shared = np.ones(LARGE, "u8"), array_on_a_block(stack, LARGE)

    def hand_over() -> Any:
        shared[...] = value
        return shared.copy()

    return hand_over, newest_of_a_ring(stack, value)


def list_of_values(stack: ExitStack, folder: Path) -> Ways:
    values = [float(number) for number in range(8)]
    shared = ShareableList(values, name=unique_name())
    stack.callback(shared.shm.close)
    stack.callback(shared.shm.unlink)

    def hand_over() -> Any:
        for index, value in enumerate(values):
            shared[index] = value
        return list(shared)

    record = np.zeros((), [(f"value{index}", "f8") for index in range(8)])
    return hand_over, newest_of_a_ring(stack, record)


def array_with_a_lock(stack: ExitStack, folder: Path) -> Ways:
    value = np.ones(LARGE, "u8")
    shared = multiprocessing.Array("Q", math.prod(LARGE))
    array = np.frombuffer(shared.get_obj(), "u8")

    def hand_over() -> Any:
        with shared.get_lock():
            array[:] = value
        with shared.get_lock():
            return array.copy()

    return hand_over, newest_of_a_ring(stack, value)


def latest_value(stack: ExitStack, folder: Path) -> Ways:
    value, shared = np.ones(SMALL, "u8"), array_on_a_block(stack, SMALL)

    def hand_over() -> Any:
        shared[...] = value
        return shared.copy()

    return hand_over, newest_of_a_ring(stack, value)


def partitions(stack: ExitStack, folder: Path) -> Ways:
    """Each of several workers writes its part; then one process sums up a word of each."""
    part, shared = np.ones(LARGE, "u8"), array_on_a_block(stack, (PARTS, *LARGE))
    barrier = multiprocessing.Barrier(1)

    def hand_over() -> Any:
        for number in range(PARTS):
            shared[number] = part
        barrier.wait()
        return shared[:, 0].sum()

    rings = [new_ring(stack, LARGE, slots=2) for _ in range(PARTS)]
    ends = [(ring.producer(), ring.consumer()) for ring in rings]

    def through_rings() -> Any:
        for out, _ in ends:
            out.put(part)
        total = 0
        for _, frames in ends:
            with frames.get(timeout=0) as frame:
                total += frame.array[0]
        return total

    return hand_over, through_rings


def file_as_the_medium(stack: ExitStack, folder: Path) -> Ways:
    """A file of many frames is written, and read again; nobody waits for the disk."""
    value = np.ones(LARGE, "u8")

    def hand_over() -> Any:
        path = folder / "memmap"
        written = np.memmap(path, "u8", "w+", shape=(FRAMES, *LARGE))
        for number in range(FRAMES):
            written[number] = value
        total = np.memmap(path, "u8", "r", shape=written.shape)[:, 0].sum()
        path.unlink()
        return total

    ring = new_ring(stack, LARGE, slots=FRAMES)
    out = ring.producer()

    def through_a_recording() -> Any:
        recorder = recording.Recorder(ring, folder / "take.npy", mode="w", frames=FRAMES, start="next")
        for _ in range(FRAMES):
            out.put(value)
        recorder.run()
        with recording.open_recording(folder / "take.npy") as take:
            return take.array[:, 0].sum()

    return hand_over, through_a_recording


def object_store(stack: ExitStack, folder: Path) -> Ways:
    import ray

    ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False, configure_logging=False)
    stack.callback(ray.shutdown)
    value = np.ones(LARGE, "u8")

    def hand_over() -> Any:
        return ray.get(ray.put(value))

    return hand_over, newest_of_a_ring(stack, value)


PATTERNS: dict[str, tuple[str, str, Callable[[ExitStack, Path], Ways]]] = {
    "named block, 1 MiB": ("SharedMemory, copied out", "put, latest", named_block),
    "8 values": ("ShareableList", "put, latest", list_of_values),
    "array with a lock, 1 MiB": ("Array, copied out", "put, latest", array_with_a_lock),
    "latest value, 64 B": ("SharedMemory, copied out", "put, latest", latest_value),
    "4 parts of 1 MiB": ("SharedMemory, Barrier", "a ring for each", partitions),
    "file, 64 MiB": ("np.memmap", "Recorder", file_as_the_medium),
}
if importlib.util.find_spec("ray"):
    PATTERNS["object store, 1 MiB"] = ("ray.put, ray.get", "put, latest", object_store)


# ---- measuring


def microseconds(hand_over: Handover, count: int) -> float:
    """How long one call takes, on average."""
    began = time.perf_counter_ns()
    for _ in range(count):
        hand_over()
    return (time.perf_counter_ns() - began) / count / 1000


def run(rounds: int, shortest: float) -> list[dict[str, Any]]:
    """All patterns, interleaved."""
    times: dict[str, tuple[list[float], list[float]]] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ways = {name: make(stack, folder) for name, (_, _, make) in PATTERNS.items()}
        counts = {
            name: [
                max(1, round(shortest * 1e6 / min(microseconds(way, 1) for _ in range(3)))) for way in pair
            ]
            for name, pair in ways.items()
        }
        for _ in range(rounds):
            for name, pair in ways.items():
                for way, count, found in zip(
                    pair, counts[name], times.setdefault(name, ([], [])), strict=True
                ):
                    found.append(microseconds(way, count))
    return [as_row(name, *columns) for name, columns in times.items()]


def as_row(name: str, usual: list[float], ours: list[float]) -> dict[str, Any]:
    row: dict[str, Any] = {"pattern": name, "usual": PATTERNS[name][0], "shmring": PATTERNS[name][1]}
    ratios = [one / other for one, other in zip(usual, ours, strict=True)]
    for key, values in {"usual us": usual, "shmring us": ours, "ratio": ratios}.items():
        row[key] = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return row


def table(rows: list[dict[str, Any]]) -> str:
    """The table to print."""
    head = ["pattern", "usual way", "µs", "shmring", "µs", "times faster"]
    return markdown(head, [line_of(row) for row in rows])


def line_of(row: dict[str, Any]) -> list[str]:
    spreads = [spread(row[name]) for name in ("usual us", "shmring us", "ratio")]
    usual, ours, ratio = (f"{middle} ({least} to {most})" for middle, least, most in spreads)
    return [row["pattern"], row["usual"], usual, row["shmring"], ours, ratio]


def main() -> None:
    alone.main(
        "patterns",
        __doc__,
        lambda rounds, quick: run(rounds, 0.0001 if quick else SHORTEST),
        table,
        rounds=15,
        packages=("ray",),
    )


if __name__ == "__main__":
    main()
