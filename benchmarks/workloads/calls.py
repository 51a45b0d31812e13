"""What each call costs in one process, with everything in the cache."""

import contextlib
import os
import time
from collections.abc import Callable
from functools import partial
from itertools import repeat
from statistics import median

import numpy as np

import shmring
from benchmarks.harness.isolation import isolated, unique_name

TAKERS = {"get": {}, "member": {"group": "workers"}}
NO_OP = "no_op"  # the cheapest call there is, which the others are measured by
CALLS = ("put", "get", "claim", "array", "batch", "put_many", NO_OP)
TURN = 64  # puts, then as many gets: well inside the ring
clock = time.perf_counter_ns


def per_call(count: int, call: Callable[[], object]) -> float:
    """Nanoseconds of one call, without the loop's own share."""
    began = clock()
    for _ in repeat(None, count):
        call()
    middle = clock()
    for _ in repeat(None, count):
        pass
    return (2 * middle - began - clock()) / count


def isolated_calls(
    nbytes: int, slots: int, seconds: float, consumers: int = 1, in_place: bool = False
) -> dict[str, float]:
    """Medians over many turns, ns per frame, of each call."""
    return isolated(lambda: measure_calls(nbytes, slots, seconds, consumers, in_place))


def measure_calls(
    nbytes: int, slots: int, seconds: float, consumers: int, in_place: bool
) -> dict[str, float]:
    os.sched_setaffinity(0, {os.cpu_count() - 1})
    found: dict[str, list[float]] = {call: [] for call in CALLS}
    turn = min(TURN if consumers == 1 else TURN // 4, slots // 2)
    with shmring.Ring.create(
        unique_name(), shape=(nbytes // 8,), dtype="u8", slots=slots, consumers=64
    ) as ring:
        readers = [ring.consumer() for _ in range(consumers)]
        with ring.producer() as producer:
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline or len(found["claim"]) < 8:
                claims(producer, readers, turn, found)
                if not in_place:
                    copies(producer, readers[0], nbytes // 8, turn, max(1, slots // (2 * turn)), found)
    return {call: median(values) for call, values in found.items() if values}


def isolated_gets(nbytes: int, slots: int, seconds: float) -> dict[str, float]:
    """Medians over many turns, ns, of a get with release: an ordinary consumer's, and a member's."""
    return isolated(lambda: measure_gets(nbytes, slots, seconds))


def measure_gets(nbytes: int, slots: int, seconds: float) -> dict[str, float]:
    os.sched_setaffinity(0, {os.cpu_count() - 1})
    found: dict[str, list[float]] = {taker: [] for taker in TAKERS}
    data = np.ones(nbytes // 8, np.uint64)
    with contextlib.ExitStack() as opened:
        ends = {}
        for taker, options in TAKERS.items():
            ring = shmring.Ring.create(unique_name(), shape=data.shape, dtype="u8", slots=slots, consumers=64)
            opened.enter_context(ring)
            ends[taker] = (
                opened.enter_context(ring.producer()),
                opened.enter_context(ring.consumer(**options)),
            )
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline or len(found["get"]) < 8:
            for taker, (producer, consumer) in ends.items():
                for _ in repeat(None, TURN):
                    producer.put(data)
                found[taker].append(per_call(TURN, consumer.get))
                release_last(consumer)
    return {taker: median(values) for taker, values in found.items()}


def claims(
    producer: shmring.Producer, readers: list[shmring.Consumer], turn: int, found: dict[str, list[float]]
) -> None:
    """Frames in place: published by a claim, read by every reader."""
    claim = producer.claim

    began = clock()
    for _ in repeat(None, turn):
        with claim():
            pass
    middle = clock()
    for _ in repeat(None, turn):
        pass
    found["claim"].append((2 * middle - began - clock()) / turn)
    for reader in readers:
        cost = per_call(turn, reader.get)
        release_last(reader)
    found["get"].append(cost)


def copies(
    producer: shmring.Producer,
    reader: shmring.Consumer,
    words: int,
    turn: int,
    batches: int,
    found: dict[str, list[float]],
) -> None:
    """Frames by copy: one per call and in batches of a turn's length."""
    get = reader.get
    found[NO_OP].append(per_call(turn, (1).conjugate))

    def get_array() -> None:
        frame = get()  # kept while its array is used, as by a loop
        frame.array  # noqa: B018 - making the array is what is measured

    def only_get() -> None:
        get()

    found["put"].append(per_call(turn, partial(producer.put, np.ones(words, np.uint64))))
    without = per_call(turn, only_get)
    release_last(reader)
    for _ in range(turn):
        producer.put(np.ones(words, np.uint64))
    found["array"].append(per_call(turn, get_array) - without)
    release_last(reader)
    many = np.ones((turn, words), np.uint64)
    batch = reader.batch

    def batch_array() -> None:
        batch(turn, turn).array  # noqa: B018

    found["put_many"].append(per_call(batches, partial(producer.put_many, many)) / turn)
    found["batch"].append(per_call(batches, batch_array) / turn)
    release_last(reader)


def release_last(reader: shmring.Consumer) -> None:
    """Release the last frame, so that the cursor does not lag."""
    assert reader.try_get() is None
