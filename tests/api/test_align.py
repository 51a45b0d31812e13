"""`shmring.align`: frames of several rings that belong together by their timestamps."""

import contextlib
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import shmring
from support.frames import WORDS, check, payload
from support.threads import Running
from support.waiting import PATIENCE

Streams = dict[str, list[int]]


# ---- the rule, on all frames at once


def expected_sets(streams: Streams, tolerance: int) -> list[tuple[int, ...]]:
    """Indices of the sets: again and again the first ones that are close enough and as near as can be."""
    sets, start = [], [0] * len(streams)
    times = list(streams.values())
    while True:
        ranges = [range(first, len(one)) for first, one in zip(start, times, strict=True)]
        candidates = [found for found in itertools.product(*ranges) if is_set(times, found, tolerance)]
        if not candidates:
            return sets
        sets.append(min(candidates, key=sum))
        start = [i + 1 for i in sets[-1]]


def is_set(times: list[list[int]], indices: tuple[int, ...], tolerance: int) -> bool:
    """Whether no other choice of one frame, its successor, would be nearer."""
    if span(times, indices) > tolerance:
        return False
    for ring, i in enumerate(indices):
        if i + 1 < len(times[ring]):
            other = (*indices[:ring], i + 1, *indices[ring + 1 :])
            if span(times, other) < span(times, indices):
                return False
    return True


def span(times: list[list[int]], indices: tuple[int, ...]) -> int:
    found = [one[i] for one, i in zip(times, indices, strict=True)]
    return max(found) - min(found)


# ---- rings with these timestamps


@contextlib.contextmanager
def opened(names, slots: int = 32, **options):
    """Producers and consumers of that many rings, by name."""
    with contextlib.ExitStack() as stack:
        rings = {
            name: stack.enter_context(shmring.Ring.create(shape=(WORDS,), dtype="u8", slots=slots))
            for name in names
        }
        consumers = {name: stack.enter_context(ring.consumer(**options)) for name, ring in rings.items()}
        yield {name: stack.enter_context(ring.producer()) for name, ring in rings.items()}, consumers


def offer(producer, timestamp: int) -> None:
    producer.put(payload(producer.next_seq), timestamp_ns=timestamp, timeout=0)


def seqs_of(found: dict) -> tuple[int, ...]:
    """The seqs of a set, each frame checked."""
    return tuple(check(frame) for frame in found.values())


def check_counts(pairs, consumers, sets: int) -> None:
    for name, consumer in consumers.items():
        assert consumer.delivered == sets + pairs.unmatched[name]
        assert consumer.held == 0


times = st.lists(st.integers(0, 60), max_size=7)
streams = st.dictionaries(st.sampled_from("abc"), times, min_size=2, max_size=3)


@settings(max_examples=60, deadline=None)
@given(streams.map(lambda found: {name: sorted(one) for name, one in found.items()}), st.integers(0, 30))
def test_sets_are_those_of_the_rule(streams, tolerance):
    with opened(streams) as (producers, consumers):
        for name, stamps in streams.items():
            for stamp in stamps:
                offer(producers[name], stamp)
            producers[name].close()
        pairs = shmring.align(consumers, tolerance_ns=tolerance, timeout=0)
        got = [seqs_of(found) for found in pairs]
        assert got == expected_sets(streams, tolerance)
        check_counts(pairs, consumers, len(got))


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 20)), max_size=16),
    st.integers(0, 30),
    st.booleans(),
)
def test_sets_do_not_depend_on_when_the_frames_come(arrivals, tolerance, lossless):
    clocks: Streams = {"a": [], "b": [], "c": []}
    got = []
    with opened(clocks, lossless=lossless) as (producers, consumers):
        pairs = shmring.align(consumers, tolerance_ns=tolerance, timeout=0)

        def look() -> None:
            with contextlib.suppress(shmring.RingEmpty):
                got.extend(seqs_of(found) for found in pairs)
            assert all(consumer.held <= 2 for consumer in consumers.values())

        for name, step in arrivals:
            clocks[name].append((clocks[name] or [0])[-1] + step)
            offer(producers[name], clocks[name][-1])
            look()
        for producer in producers.values():
            producer.close()
        look()
        assert got == expected_sets(clocks, tolerance)
        check_counts(pairs, consumers, len(got))


@settings(max_examples=30, deadline=None)
@given(streams, st.integers(0, 30))
def test_timestamps_that_run_backwards_break_no_promise(streams, tolerance):
    with opened(streams) as (producers, consumers):
        for name, stamps in streams.items():
            for stamp in stamps:
                offer(producers[name], stamp)
            producers[name].close()
        pairs = shmring.align(consumers, tolerance_ns=tolerance, timeout=0)
        got = []
        for found in pairs:
            stamps = [frame.timestamp_ns for frame in found.values()]
            assert max(stamps) - min(stamps) <= tolerance
            got.append(seqs_of(found))
            del found
        for column in zip(*got, strict=True):
            assert list(column) == sorted(set(column))
        check_counts(pairs, consumers, len(got))


# ---- how a stream ends


def test_the_end_of_one_stream_ends_it():
    with opened("ab") as (producers, consumers):
        for stamp in (0, 10):
            offer(producers["a"], stamp)
            offer(producers["b"], stamp)
        offer(producers["b"], 20)
        producers["a"].close()
        pairs = shmring.align(consumers, tolerance_ns=3)
        assert [seqs_of(found) for found in pairs] == [(0, 0), (1, 1)]
        assert next(pairs, None) is None
        check_counts(pairs, consumers, 2)
        offer(producers["b"], 30)
        assert check(consumers["b"].get(0)) == (3 if pairs.unmatched["b"] else 2)


@pytest.mark.parametrize(("end", "error"), [("abandon", "ProducerDied"), ("fail", "ProducerFailed")])
def test_a_stream_that_ends_too_early_is_an_error(end, error):
    """After every set that was complete."""
    with opened("ab") as (producers, consumers):
        for stamp in (0, 10):
            offer(producers["a"], stamp)
            offer(producers["b"], stamp + 1)
        producers["a"].abandon() if end == "abandon" else producers["a"].close(error="lens cap on")
        pairs = shmring.align(consumers, tolerance_ns=3)
        assert [seqs_of(next(pairs)) for _ in range(2)] == [(0, 0), (1, 1)]
        for _ in range(2):
            with pytest.raises(getattr(shmring, error)):
                next(pairs)
        check_counts(pairs, consumers, 2)


def test_the_next_producer_continues():
    with opened("ab", wait_for_takeover=True) as (producers, consumers):
        pairs = shmring.align(consumers, tolerance_ns=3, timeout=0)
        offer(producers["a"], 1)
        producers["a"].abandon()
        offer(producers["b"], 1)
        assert seqs_of(next(pairs)) == (0, 0)
        with pytest.raises(shmring.RingEmpty):
            next(pairs)
        with consumers["a"].ring.producer() as again:
            offer(again, 5)
            offer(producers["b"], 5)
            assert seqs_of(next(pairs)) == (1, 1)


# ---- waits


def test_it_waits_for_what_decides():
    with opened("ab") as (producers, consumers):
        waiting = Running(lambda: seqs_of(next(shmring.align(consumers, tolerance_ns=3)))).asleep()
        offer(producers["b"], 7)
        waiting.asleep()
        offer(producers["a"], 7)
        assert waiting.end().value == (0, 0)


def test_a_timeout_says_what_decides_and_loses_nothing():
    with opened("ab") as (producers, consumers):
        pairs = shmring.align(consumers, tolerance_ns=3, timeout=0.01)
        offer(producers["a"], 7)
        with pytest.raises(shmring.RingEmpty, match=f"{consumers['b'].name!r}$"):
            next(pairs)
        offer(producers["b"], 8)
        with pytest.raises(shmring.RingEmpty, match=f"{consumers['a'].name!r}$"):
            next(pairs)  # the next frame of a may be nearer
        offer(producers["a"], 11)
        assert seqs_of(next(pairs)) == (0, 0)


def test_frames_that_never_match_do_not_outlast_the_timeout():
    with opened("ab", slots=4, lossless=False) as (producers, consumers):
        stamps = itertools.count()
        done = []

        def flood() -> None:
            while not done:
                offer(producers["a"], next(stamps) * 1000)
                offer(producers["b"], next(stamps) * 1000)

        flooding = Running(flood)
        with pytest.raises(shmring.RingEmpty):
            next(shmring.align(consumers, tolerance_ns=3, timeout=0))
        done.append(True)
        assert flooding.end().error is None


def test_a_lossy_viewer_keeps_up():
    """One ring says nothing for long: the other's producer is not held up, and the newest frames match."""
    with opened("ab", slots=4, lossless=False) as (producers, consumers):
        pairs = shmring.align(consumers, tolerance_ns=0, timeout=0)
        for stamp in range(100):
            offer(producers["a"], stamp)
            with contextlib.suppress(shmring.RingEmpty):
                pytest.fail(f"{next(pairs)}")
        offer(producers["b"], 99)
        found = next(pairs)
        assert found["a"].timestamp_ns == found["b"].timestamp_ns == 99
        assert consumers["a"].delivered + consumers["a"].lost == 100
        assert pairs.unmatched["a"] == consumers["a"].delivered - 1


def test_a_frame_of_a_set_is_yours():
    with opened("ab", slots=4) as (producers, consumers):
        pairs = shmring.align(consumers, tolerance_ns=0, timeout=PATIENCE)
        kept = None
        for stamp in range(12):
            offer(producers["a"], stamp)
            offer(producers["b"], stamp)
            found = next(pairs)
            kept = kept or found
        assert seqs_of(kept) == (0, 0)


def test_who_keeps_every_frame_is_told():
    with opened("ab", slots=4) as (producers, consumers):
        pairs = shmring.align(consumers, tolerance_ns=0)
        kept = []
        for stamp in range(4):
            offer(producers["a"], stamp)
            offer(producers["b"], stamp)
            kept.append(next(pairs))
        with pytest.raises(shmring.SlotsHeld):
            next(pairs)


# ---- what cannot be aligned


def test_what_is_not_to_be_aligned(make):
    with opened("ab") as (_, consumers), make(slots=2, shape=(4096,)).consumer() as small:
        a, b = consumers.values()
        for wrong, error, message in (
            ([a, b], TypeError, "a dict of consumers"),
            ({"a": a, "b": a.ring}, TypeError, r"align\(\) takes Consumers, not Ring"),
            ({"a": a}, ValueError, "two or more"),
            ({}, ValueError, "two or more"),
            ({"a": a, "b": b, "c": a}, ValueError, "different"),
            ({"a": a, "small": small}, ValueError, "'small': ring .* has 2 slots, but"),
        ):
            with pytest.raises(error, match=message):
                shmring.align(wrong, tolerance_ns=1)
        with pytest.raises(ValueError, match="tolerance_ns must be 0 or more"):
            shmring.align(consumers, tolerance_ns=-1)
        with pytest.raises(TypeError, match="whole number of nanoseconds"):
            shmring.align(consumers, tolerance_ns=0.5)
        with pytest.raises(ValueError, match="timeout"):
            shmring.align(consumers, tolerance_ns=1, timeout=-1)
        assert "a (0 unmatched), b (0 unmatched)" in repr(shmring.align(consumers, tolerance_ns=1))


def test_a_consumer_that_is_closed_meanwhile():
    with opened("ab") as (producers, consumers):
        pairs = shmring.align(consumers, tolerance_ns=1)
        offer(producers["a"], 1)
        consumers["b"].close()
        with pytest.raises(shmring.RingClosed, match="this Consumer"):
            next(pairs)
