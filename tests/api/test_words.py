"""What messages say: numbers with their nouns, valid values, remedies that work, and nothing unprintable."""

import logging
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import shmring
from shmring import _words, recording
from support.frames import feed, payload
from support.processes import PeerError

# ---- numbers


def test_a_number_and_its_noun():
    assert [_words.count(number, "frame") for number in (0, 1, 2)] == ["0 frames", "1 frame", "2 frames"]


def test_one_is_one(make):
    """Each message that counts something, where there is one of it."""
    ring = make(slots=4, spares=1, consumers=1)
    with ring.producer() as out, ring.consumer() as frames:
        feed(out, 1)
        said = [repr(ring), repr(ring.stats()), str(ring.stats())]
        with pytest.raises(shmring.TooManyConsumers) as full_table:
            ring.consumer()
        with pytest.raises(ValueError, match="n=2, but this ring has 1 place for consumers"):
            out.wait_for_consumers(2, 0)
        held = frames.get(0)
        with pytest.raises(shmring.RingEmpty) as empty:
            frames.get(0)
        feed(out, 3)
        with pytest.raises(shmring.RingFull) as full:
            out.put(payload(0), timeout=0)
        del held
    with pytest.raises(shmring.RingClosed) as ended:
        frames.get(0)
    said += [str(one.value) for one in (full_table, empty, full, ended)]
    with ring.producer() as out, pytest.raises(shmring.TooFewConsumers) as nobody:
        out.wait_for_consumers(1, 0)
    said.append(str(nobody.value))
    assert "1 frame published" in said[0]
    assert "0 of 1 consumer joined" in said[-1]
    for text in said:
        assert not re.search(r"(?<!\d)1 (\w+ )?(frames|slots|consumers|places|bytes|swaps|ones)\b", text), (
            text
        )
        assert "(s)" not in text


def test_a_slot_and_a_batch_of_one(ring):
    with ring.producer() as out, ring.consumer() as frames:
        with out.claim() as slot:
            assert "1 frame, open" in repr(slot)
        with frames.batch(1) as batch:
            assert "Batch of 1 frame, seq 0 to 0" in repr(batch)


def test_one_meta_for_two_frames(make):
    ring = make(meta="u4")
    with ring.producer() as out, pytest.raises(ValueError, match="1 meta given for 2 frames"):
        out.put_many(np.stack([payload(0)] * 2), metas=[1])


# ---- wrong values


@pytest.mark.parametrize(
    ("value", "error"),
    [("all", ValueError), (1, TypeError), (True, TypeError), (None, TypeError), ([], TypeError)],
)
def test_a_word_that_is_none_of_the_valid_ones(make, tmp_path, value, error):
    ring = make(slots=4)
    calls = [
        ('on_full must be "wait", "drop" or "raise"', lambda: ring.producer(on_full=value)),
        ('start must be "oldest", "newest" or "next"', lambda: ring.consumer(start=value)),
        ('start must be "oldest", "newest" or "next"', lambda: shmring.follow(ring.name, start=value)),
        ('mode must be "x", "w" or "a"', lambda: recording.record(ring, tmp_path / "x.npy", mode=value)),
        ('timestamps must be "recorded" or "now"', lambda: recording.replay("x.npy", "r", timestamps=value)),
    ]
    for words, call in calls:
        with pytest.raises(error, match=f"{words}, not {re.escape(repr(value))}$"):
            call()
    assert ring.stats().consumers == ()
    assert ring.stats().producer.state == "none"


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        (1.5, TypeError, r"whole number of nanoseconds, not 1\.5"),
        ("now", TypeError, "whole number of nanoseconds, not 'now'"),
        (2**63, OverflowError, r"64 bits with a sign, -2\*\*63 to 2\*\*63 - 1, not 9223372036854775808"),
        (-(2**63) - 1, OverflowError, "64 bits with a sign"),
    ],
)
def test_a_timestamp_that_is_none(ring, value, error, words):
    def on_slot():
        with out.claim() as slot:
            slot.timestamp_ns = value

    with ring.producer() as out:
        for call in (lambda: out.put(payload(0), timestamp_ns=value), on_slot):
            with pytest.raises(error, match=f"timestamp_ns .*{words}"):
                call()
        with out.buffers(1) as lent:
            lent.refill()
            with pytest.raises(error, match=f"timestamp_ns .*{words}"):
                lent.publish(timestamp_ns=value)
        assert out.published == 0


@pytest.mark.parametrize("value", [[1.5], ["now"], [2**64]], ids=str)
def test_timestamps_that_are_none(ring, value):
    with ring.producer() as out, pytest.raises(TypeError, match="whole numbers of nanoseconds in 64 bits"):
        out.put_many(payload(0)[None], timestamps_ns=value)


def test_a_timestamp_at_either_end(ring):
    with ring.producer() as out, ring.consumer() as frames:
        for value in (-(2**63), -1, 0, np.int64(5), 2**63 - 1):
            out.put(payload(0), timestamp_ns=value)
            assert frames.get(0).timestamp_ns == value
        with pytest.raises(OverflowError, match="not 9223372036854775808"):
            out.put_many(payload(0)[None], timestamps_ns=[2**63])


@pytest.mark.parametrize("value", [1.5, "2", None], ids=repr)
def test_a_count_that_is_none(make, value):
    ring = make(shape=(4, 512), variable_rows=True)
    with ring.producer() as out:
        slot = out.claim()
        with pytest.raises(TypeError, match=f"rows must be an int, not {value!r}"):
            slot.rows = value
        if value is not None:
            with pytest.raises(TypeError, match=f"count must be an int, not {value!r}"):
                slot.publish(value)
        slot.abort()


@pytest.mark.parametrize("value", ["5", None, 0, -1.0, float("nan")], ids=repr)
def test_a_limit_is_a_number_above_0(make, tmp_path, value):
    ring = make(slots=4)
    words = f"must be a number above 0.*, not {re.escape(repr(value))}"
    calls = [lambda: shmring.report_to_log(ring, value)]
    if value is not None:
        calls += [
            lambda: recording.record(ring, tmp_path / "x.npy", frames=value),
            lambda: recording.record(ring, tmp_path / "x.npy", seconds=value),
            lambda: recording.Roll(nbytes=value),
            lambda: recording.replay("x.npy", "r", pace=value),
        ]
    for call in calls:
        with pytest.raises((TypeError, ValueError), match=words):
            call()
    for wanted in ({"before": value}, {"before": 1, "after": "x"}):
        with pytest.raises((TypeError, ValueError), match=r"(before|after) must be (an int|at least 1)"):
            recording.Capture(ring, tmp_path / "x.npy", **wanted)


# ---- what to do


def test_a_full_ring_advises_what_was_not_done_yet(make):
    ring = make(slots=4)
    with ring.consumer(label="slow"):
        with ring.producer(on_full="raise") as out:
            feed(out, 4)
            with pytest.raises(shmring.RingFull) as refused:
                out.put(payload(0))
        with ring.producer() as out:
            with pytest.raises(shmring.RingFull) as looked:
                out.put(payload(0), timeout=0)
            with pytest.raises(shmring.RingFull) as waited:
                out.put(payload(0), timeout=0.01)
    said = {"refused": refused, "looked": looked, "waited": waited}
    advice = {key: str(one.value).rpartition(". ")[2] for key, one in said.items()}
    last = 'use more slots, drop frames (on_full="drop"), or make that consumer lossy'
    assert advice == {
        "refused": f'Try again later, let the producer wait (on_full="wait"), {last}',
        "looked": f"Wait for space (timeout=seconds), {last}",
        "waited": f"Wait longer, {last}",
    }
    assert not re.search(r"for \S+ s now", str(refused.value))
    assert re.search(r"for 0\.\d+ s now", str(waited.value))


def test_a_producer_that_came_along_in_a_fork_says_where_to_open_it(ring, fork):
    with ring.producer() as out, ring.consumer() as frames:
        with pytest.raises(PeerError, match=r"one producer at a time.* close it in the parent") as caught:
            fork(lambda send: out.put(payload(0))).receive()
        assert caught.value.kind == "ForkedHandle"
        with pytest.raises(PeerError, match="open one here, from the same Ring") as caught:
            fork(lambda send: frames.get(0)).receive()
        assert "one producer" not in str(caught.value)

    def follow_the_advice(send):
        with ring.producer() as mine:
            send(mine.put(payload(0)))

    assert fork(follow_the_advice).receive() is True  # it was closed in the parent


def test_more_slots_than_any_lossy_consumer_may_hold(make):
    ring = make(slots=8, spares=4)
    with pytest.raises(ValueError, match=r"max_held=11.* may hold 10 at most.*spares=5 or more") as refused:
        ring.consumer(lossless=False, max_held=11)
    assert ring.stats().consumers == ()
    with ring.consumer(lossless=False, max_held=10) as most:
        assert most.max_held == 10
    spares = int(re.search(r"spares=(\d+)", str(refused.value))[1])
    with make(slots=8, spares=spares).consumer(lossless=False, max_held=11) as most:
        assert most.max_held == 11


def test_a_ring_of_two_slots_leaves_one_to_hold(make):
    ring = make(slots=2)
    with pytest.raises(ValueError, match="may hold 1 at most: of its 2 slots, the producer keeps 1"):
        ring.consumer(lossless=False, max_held=2)
    with ring.consumer(lossless=False, max_held=1) as most:
        assert most.max_held == 1


def test_options_that_are_given_by_position(ring):
    calls = {
        'ring.producer(on_full="drop")': lambda: ring.producer("drop"),
        'ring.consumer(label="viewer")': lambda: ring.consumer("viewer"),
        'Ring.attach("camera", timeout=5)': lambda: shmring.Ring.attach(ring.name, 5),
    }
    for example, call in calls.items():
        with pytest.raises(TypeError, match=re.escape(f"by name: {example}")):
            call()
    assert ring.stats().consumers == ()


@pytest.mark.parametrize("name", ["create", "attach"])
def test_a_call_of_the_ring_that_is_looked_for_in_the_module(name):
    with pytest.raises(AttributeError, match=rf"did you mean shmring\.Ring\.{name}\?"):
        getattr(shmring, name)
    with pytest.raises(AttributeError, match=r"no attribute 'nonsense'$"):
        _ = shmring.nonsense


@pytest.mark.parametrize("attrs", [5, [1, 2], "fps"], ids=repr)
def test_attrs_that_are_no_mapping(name, attrs):
    with pytest.raises(TypeError, match=f"attrs must be a mapping .* not {re.escape(repr(attrs))}"):
        shmring.Ring.create(name, shape=(4,), dtype="u1", slots=2, attrs=attrs)


def test_bytes_are_made_an_array_as_the_error_says(make):
    ring = make(shape=(2, 4), dtype="u1")
    data = bytes(range(8))
    with ring.producer() as out, ring.consumer() as frames:
        with pytest.raises(ValueError, match=r"numpy\.frombuffer\(data, ") as refused:
            out.put(data)
        advised = str(refused.value).rpartition(": ")[2]
        out.put(eval(advised, {"numpy": np, "data": data, "ring": ring}))
        assert frames.get(0).array.tobytes() == data


def test_nobody_waited(ring):
    with ring.producer() as out, ring.consumer() as frames:
        with pytest.raises(shmring.RingEmpty, match=f"no new frame in ring '{ring.name}'; the producer"):
            frames.get(0)
        with pytest.raises(shmring.RingEmpty, match=r"within 0\.01 s"):
            frames.get(0.01)
        with pytest.raises(shmring.TooFewConsumers, match=f"joined ring '{ring.name}': pid"):
            out.wait_for_consumers(2, 0)


@pytest.mark.parametrize("kind", ["producer", "consumer"])
def test_a_closed_handle_says_how_to_get_another(ring, kind):
    handle = getattr(ring, kind)()
    handle.close()
    with pytest.raises(shmring.RingClosed, match=rf"is closed: open another one \(ring\.{kind}\(\)\)"):
        handle.put(payload(0)) if kind == "producer" else handle.get(0)


# ---- what other processes call themselves

JOIN = """
import sys, shmring
with shmring.Ring.attach(sys.argv[1]) as ring, ring.consumer(label=sys.argv[2]):
    print(flush=True)
    sys.stdin.read()
"""
UGLY = "two\nlines \x1b[31mred"


@pytest.fixture
def ugly(ring):
    """The pid of a consumer whose command line and label are not printable."""
    command = [sys.executable, "-c", JOIN, ring.name, UGLY]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        program.stdout.readline()
        yield program.pid
        program.stdin.close()


def test_what_a_process_calls_itself_is_escaped(ring, ugly, cli, caplog):
    with ring.producer() as out:
        feed(out, ring.slots)
        with pytest.raises(shmring.RingFull) as full:
            out.put(payload(0), timeout=0)
        (consumer,) = ring.stats().consumers
        table = str(ring.stats()).splitlines()
        with caplog.at_level(logging.INFO, "shmring"), shmring.report_to_log(ring, 60):
            pass
        _, shown, _ = cli("info", ring.name)
    assert consumer.pid == ugly
    assert r"two\nlines \x1b[31mred" in consumer.command
    assert consumer.label == UGLY
    assert len(table) == 5  # ring, counters, producer, head, consumer
    texts = [str(full.value), *table, *(one.getMessage() for one in caplog.records), *shown.splitlines()]
    assert any("two" in text for text in texts)
    assert [text for text in texts if not text.isprintable()] == []


@pytest.mark.parametrize("word", ["plain", "two words", "it's", "a\nb", "\x1b'\\", "\udcff", "größe", ""])
def test_a_quoted_word_is_printable_and_means_itself(word):
    quoted = _words.quoted(word)
    assert quoted.isprintable()
    said = subprocess.run(["bash", "-c", f"printf %s {quoted}"], stdout=subprocess.PIPE, check=True).stdout
    assert said == os.fsencode(word)


@pytest.mark.parametrize("text", ["a\nb\x1b[0m\udcff"])
def test_cleaned_text_is_printable(text):
    assert _words.clean(text) == r"a\nb\x1b[0m\udcff"
    assert _words.clean(_words.clean(text)) == _words.clean(text)


# ---- exist_ok


@pytest.fixture
def plain(name):
    """A live ring without huge pages."""
    options = {"shape": (1 << 21,), "dtype": "u1", "slots": 4}
    with shmring.Ring.create(name, **options, huge_pages=False) as ring, ring.consumer():
        if ring.huge_nbytes:
            pytest.skip("the file system makes huge pages by itself")
        yield options


def test_a_ring_that_exists_must_have_the_memory_that_is_asked_for(name, plain):
    with pytest.raises(OSError, match=r"exists, with 0 bytes on huge pages of the .* leave huge_pages=True"):
        shmring.Ring.create(name, **plain, huge_pages=True, exist_ok=True)
    with shmring.Ring.create(name, **plain, exist_ok=True) as ring:
        assert ring.huge_nbytes == 0


def test_a_ring_that_exists_is_locked_if_that_is_asked_for(name, plain):
    def locked_kib():
        return int(re.search(r"VmLck:\s+(\d+)", Path("/proc/self/status").read_text())[1])

    nbytes = plain["slots"] * plain["shape"][0]
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if os.geteuid() != 0 and soft != resource.RLIM_INFINITY and soft < 4 * nbytes:
        pytest.skip("this process may not lock so much")
    before = locked_kib()
    with shmring.Ring.create(name, **plain, lock_memory=True, exist_ok=True):
        assert locked_kib() - before >= nbytes // 1024


def test_other_frames_are_refused_before_any_memory(name, plain):
    with pytest.raises(shmring.RingIncompatible, match="other frames"):
        shmring.Ring.create(name, **{**plain, "shape": (7,)}, huge_pages=True, exist_ok=True)
