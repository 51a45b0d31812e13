"""A producer that ends because of an error: consumers get every frame, and then learn of it."""

import asyncio
import contextlib
import errno
import json
import logging
import os
import pickle
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

import shmring
from support import peers
from support.blocks import block_file
from support.frames import check, feed, payload
from support.processes import PeerError
from support.waiting import PATIENCE, wait_asleep, wait_until

EVENT = "the producer ends by an exception"
MOST = 79  # bytes of UTF-8 that a ring keeps of an error


def fail(ring, error: BaseException, frames: int = 0) -> None:
    """A producer that publishes, and ends by that exception."""
    with contextlib.suppress(type(error)), ring.producer() as producer:
        feed(producer, frames)
        raise error


# ---- what consumers see


@pytest.mark.event(EVENT)
def test_consumers_get_every_frame_and_then_the_error(ring, lossless):
    with ring.consumer(lossless=lossless) as consumer:
        fail(ring, OSError("camera unplugged"), frames=2)
        assert [check(consumer.get(0)) for _ in range(2)] == [0, 1]
        for wait in (
            consumer.get,
            consumer.try_get,
            consumer.latest,
            lambda: consumer.batch(1),
            lambda: next(consumer),
            lambda: next(consumer.iter(timeout=1)),
            lambda: next(consumer.windows(1)),
            lambda: asyncio.run(consumer.get_async()),
        ):
            with pytest.raises(shmring.ProducerFailed, match="OSError: camera unplugged") as caught:
                wait()
            assert ring.name in str(caught.value)
            assert caught.value.failure == "OSError: camera unplugged"
            assert caught.value.errno == errno.ECONNRESET
        assert isinstance(caught.value, shmring.ProducerDied)
        assert consumer.lost == 0
    producer = ring.stats().producer
    assert (producer.state, producer.failure) == ("failed", "OSError: camera unplugged")
    assert "producer failed" in repr(ring)


@pytest.mark.event(EVENT)
def test_iteration_raises_the_error_after_the_last_frame(ring):
    got = []
    with ring.consumer() as consumer:
        fail(ring, ValueError("wrong gain"), frames=3)
        with pytest.raises(shmring.ProducerFailed, match="ValueError: wrong gain"):
            got.extend(check(frame) for frame in consumer)
    assert got == [0, 1, 2]


@pytest.mark.event(EVENT)
def test_async_iteration_raises_the_error_after_the_last_frame(ring):
    async def follow(consumer) -> list[int]:
        got = []
        with contextlib.suppress(shmring.ProducerFailed):
            async for frame in consumer:
                got.append(check(frame))  # noqa: PERF401 - all that came before the error
            pytest.fail("a regular end")
        return got

    with ring.consumer() as consumer:
        fail(ring, ValueError("wrong gain"), frames=3)
        assert asyncio.run(follow(consumer)) == [0, 1, 2]


def test_a_short_batch_comes_before_the_error(ring):
    with ring.consumer() as consumer:
        fail(ring, OSError("camera unplugged"), frames=3)
        with consumer.batch(4, min_frames=4) as batch:
            assert len(batch) == 3
        with pytest.raises(shmring.ProducerFailed):
            consumer.batch(4, min_frames=4)


def test_frames_dropped_before_the_error_are_lost(ring):
    with ring.consumer() as consumer:
        with contextlib.suppress(OSError), ring.producer() as producer:
            feed(producer, 1)
            producer.drop(5)
            raise OSError
        assert check(consumer.get(0)) == 0
        with pytest.raises(shmring.ProducerFailed):
            consumer.get(0)
        assert consumer.lost == 5


def test_observers_learn_of_it_too(ring):
    fail(ring, OSError("camera unplugged"), frames=1)
    with shmring.Ring.attach(ring.name, readonly=True) as watched, watched.observer() as observer:
        assert check(observer.get(0)) == 0
        with pytest.raises(shmring.ProducerFailed, match="camera unplugged"):
            observer.get()
        with pytest.raises(shmring.ProducerFailed, match="camera unplugged"):
            observer.latest(0)


@pytest.mark.event(EVENT)
def test_a_consumer_that_already_waits_is_told(ring, peer, lossless):
    watcher = peer(ring)
    with contextlib.suppress(OSError), ring.producer():
        watcher.run(peers.open_consumer, lossless=lossless)
        watcher.begin(peers.take, None).asleep()
        raise OSError("camera unplugged")
    with pytest.raises(PeerError, match=r"ProducerFailed: .*camera unplugged"):
        watcher.answer()


def test_a_frame_being_written_is_never_seen(ring):
    with ring.consumer() as consumer:
        with contextlib.suppress(OSError), ring.producer() as producer:
            feed(producer, 1)
            slot = producer.claim()
            slot.array[:] = 7
            raise OSError
        assert check(consumer.get(0)) == 0
        with pytest.raises(shmring.ProducerFailed):
            consumer.get(0)


# ---- the next producer


def test_a_takeover_ends_the_failure(ring):
    with ring.consumer() as consumer:
        fail(ring, OSError("camera unplugged"), frames=1)
        assert check(consumer.get(0)) == 0
        with pytest.raises(shmring.ProducerFailed):
            consumer.get(0)
        with ring.producer() as producer:
            assert (ring.stats().producer.state, ring.stats().producer.failure) == ("live", "")
            assert consumer.try_get() is None
            feed(producer, 1)
            assert check(consumer.get(0)) == 1
        assert (ring.stats().producer.state, ring.stats().producer.failure) == ("closed", "")
        with pytest.raises(shmring.RingClosed):
            consumer.get(0)


def test_a_later_failure_replaces_the_text(ring):
    fail(ring, OSError("a long story about the camera"))
    fail(ring, KeyError())
    assert ring.stats().producer.failure == "KeyError"


def test_consumers_that_wait_for_a_takeover_wait(ring, peer):
    watcher = peer(ring)
    with contextlib.suppress(OSError), ring.producer():
        watcher.run(peers.open_consumer, wait_for_takeover=True)
        watcher.begin(peers.take, None).asleep()
        raise OSError("camera unplugged")
    with ring.consumer(wait_for_takeover=True) as consumer:
        assert consumer.try_get() is None
        with pytest.raises(shmring.RingEmpty, match="failed: OSError: camera unplugged"):
            consumer.get(0)
        with ring.producer() as producer:
            assert not watcher.answered()
            feed(producer, 1)
            assert watcher.answer() == 0
            assert check(consumer.get(0)) == 0


# ---- which ends are failures


REGULAR = [
    KeyboardInterrupt(),
    GeneratorExit(),
    asyncio.CancelledError(),
    SystemExit(),
    SystemExit(0),
    SystemExit(128 + signal.SIGTERM),
]


@pytest.mark.parametrize("error", REGULAR, ids=repr)
@pytest.mark.parametrize("of_ring", [False, True], ids=["producer", "ring"])
def test_whoever_is_asked_to_end_does_not_fail(name, error, of_ring):
    with shmring.Ring.create(name, shape=(1,), dtype="u1", slots=2) as ring, ring.consumer() as consumer:
        with contextlib.suppress(type(error)), shmring.Ring.attach(name) as attached:
            producer = attached.producer()
            with contextlib.nullcontext() if of_ring else producer:
                raise error
        with pytest.raises(shmring.RingClosed):
            consumer.get(0)


FAILURES = [
    (SystemExit(1), "SystemExit: 1"),
    (SystemExit("no camera"), "SystemExit: no camera"),
    (StopIteration(), "StopIteration"),
    (ExceptionGroup("two cameras", [OSError()]), "ExceptionGroup: two cameras (1 sub-exception)"),
]


@pytest.mark.parametrize(("error", "text"), FAILURES, ids=lambda value: repr(value)[:20])
@pytest.mark.parametrize("of_ring", [False, True], ids=["producer", "ring"])
def test_other_exceptions_are_failures(name, error, text, of_ring):
    with shmring.Ring.create(name, shape=(1,), dtype="u1", slots=2) as ring, ring.consumer() as consumer:
        with contextlib.suppress(type(error)), shmring.Ring.attach(name) as attached:
            producer = attached.producer()
            with contextlib.nullcontext() if of_ring else producer:
                raise error
        with pytest.raises(shmring.ProducerFailed) as caught:
            consumer.get(0)
        assert caught.value.failure == text


# ---- close(error=...)


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        ("camera unplugged", "camera unplugged"),
        (OSError(5, "Input/output error"), "OSError: [Errno 5] Input/output error"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        ("two\nlines\tand a\0 zero", "two lines and a zero"),
        ("x" * 79, "x" * 79),
        ("x" * 80, "x" * 79),
        ("x" * 10_000, "x" * 79),
        ("ä" * 60, "ä" * 39),
        ("x" + "€" * 60, "x" + "€" * 26),
        ("😀" * 60, "😀" * 19),
        ("a lone \ud800 surrogate", "a lone ? surrogate"),
    ],
    ids=lambda value: repr(value)[:24].encode("ascii", "backslashreplace").decode(),
)
def test_what_is_kept_of_an_error(ring, error, kept):
    with ring.consumer() as consumer:
        producer = ring.producer()
        producer.close(error=error)
        producer.close()  # twice is once
        with pytest.raises(shmring.ProducerFailed) as caught:
            consumer.get(0)
        assert caught.value.failure == kept
        assert len(kept.encode()) <= MOST


def test_an_exception_that_cannot_be_printed(ring):
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    fail(ring, Mute())
    assert ring.stats().producer.failure == "Mute"


@pytest.mark.parametrize("error", [5, b"bytes", OSError, "", " \n"], ids=repr)
def test_what_is_no_error_is_refused(ring, error):
    with ring.producer() as producer:
        with pytest.raises((TypeError, ValueError), match="error"):
            producer.close(error=error)
        feed(producer, 1)


def test_a_failure_while_another_thread_waits_in_the_handle(ring):
    with ring.consumer() as consumer:
        producer = ring.producer()
        feed(producer, ring.slots)
        ended = []

        def put() -> None:
            try:
                producer.put(payload(99))
            except shmring.RingClosed:
                ended.append(True)

        thread = threading.Thread(target=put)
        thread.start()
        wait_asleep(os.getpid(), thread.native_id)
        producer.close(error="camera unplugged")
        thread.join(PATIENCE)
        assert ended == [True]
        assert drain_all(consumer) == list(range(ring.slots))
        assert ring.stats().producer.failure == "camera unplugged"


def drain_all(consumer) -> list[int]:
    got = []
    with contextlib.suppress(shmring.ProducerFailed):
        got.extend(check(frame) for frame in consumer)
    return got


def test_the_bytes_of_a_damaged_block_are_only_text(ring):
    """No zero at the end, no UTF-8: an error all the same, and nothing behind the text."""
    fail(ring, OSError())
    with open(block_file(ring.name), "r+b") as file:
        file.seek(256 + 680)
        file.write(b"\xff" * 88)
    with ring.consumer() as consumer, pytest.raises(shmring.ProducerFailed) as caught:
        consumer.get(0)
    assert caught.value.failure == "\ufffd" * MOST


# ---- programs that an exception ends


PROGRAM = """
import sys, threading, numpy as np, shmring

def produce():
    ring = shmring.Ring.attach(sys.argv[1])
    out = ring.producer()
    out.put(np.zeros(512, "u8"))
    raise {error}

{call}
"""


def drain(consumer) -> None:
    with contextlib.suppress(shmring.RingClosed, shmring.ProducerFailed):
        while True:
            consumer.get(0)


def run_program(ring, error: str, call: str, *options: str) -> int:
    command = [sys.executable, *options, "-c", PROGRAM.format(error=error, call=call), ring.name]
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    ).returncode


@pytest.mark.event(EVENT)
@pytest.mark.parametrize(
    ("error", "call", "code", "failure"),
    [
        ("OSError('camera unplugged')", "produce()", 1, "OSError: camera unplugged"),
        (
            "OSError('camera unplugged')",
            "ring = shmring.Ring.attach(sys.argv[1])\nout = ring.producer()\n1 / 0",
            1,
            "ZeroDivisionError: division by zero",
        ),
        ("KeyboardInterrupt", "produce()", -signal.SIGINT, None),
        ("OSError", "try:\n    produce()\nexcept OSError:\n    pass", 0, None),
    ],
    ids=["function", "module", "Ctrl-C", "caught"],
)
@pytest.mark.slow
def test_an_uncaught_exception_without_with(ring, error, call, code, failure):
    with ring.consumer() as consumer:
        assert run_program(ring, error, call) == code
        drain(consumer)
        expected = shmring.RingClosed if failure is None else shmring.ProducerFailed
        with pytest.raises(expected) as caught:
            consumer.get(0)
        assert getattr(caught.value, "failure", None) == failure


def test_an_exception_at_a_prompt_is_no_failure(ring):
    with ring.consumer() as consumer:
        assert run_program(ring, "OSError", "produce()", "-i") == 0
        drain(consumer)
        with pytest.raises(shmring.RingClosed):
            consumer.get(0)


# ---- SIGTERM


TERMINATED = """
import sys, numpy as np, shmring

shmring.close_on_sigterm()
shmring.close_on_sigterm()  # twice is once
with shmring.Ring.create(sys.argv[1], shape=(4,), dtype="u1", slots=4) as ring, ring.producer() as out:
    out.wait_for_consumers(1)
    out.put(np.zeros(4, "u1"))
    while True:
        out.put(np.zeros(4, "u1"))
"""

FOLLOWER = """
import sys, shmring

shmring.close_on_sigterm()
with shmring.Ring.attach(sys.argv[1]) as ring, ring.consumer() as frames:
    for frame in frames:
        pass
"""


def test_a_producer_told_to_end_leaves_nothing(name):
    """The pattern of docs/how-to/takeover.md, at a wait for space."""
    process = subprocess.Popen([sys.executable, "-c", TERMINATED, name], stderr=subprocess.PIPE)
    with process, shmring.Ring.attach(name, timeout=PATIENCE) as ring, ring.consumer() as consumer:
        wait_until(lambda: ring.stats().published == ring.slots, "a full ring")
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 128 + signal.SIGTERM
        assert process.stderr.read() == b""
        assert not block_file(name).exists()
        assert len(list(consumer)) == ring.slots  # and a regular end


def test_a_consumer_told_to_end_gives_its_place_back(make):
    ring = make(shape=(4,), dtype="u1")
    process = subprocess.Popen([sys.executable, "-c", FOLLOWER, ring.name], stderr=subprocess.PIPE)
    with process, ring.producer() as producer:
        producer.wait_for_consumers(1, PATIENCE)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 128 + signal.SIGTERM
        assert process.stderr.read() == b""
        assert ring.stats().consumers == ()


@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda number, frame: None], ids=["ignored", "another"])
def test_another_handler_of_sigterm_stays(handler):
    before = signal.signal(signal.SIGTERM, handler)
    try:
        with pytest.raises(RuntimeError, match="SIGTERM"):
            shmring.close_on_sigterm()
        assert signal.getsignal(signal.SIGTERM) == handler
    finally:
        signal.signal(signal.SIGTERM, before)


def test_sigterm_is_arranged_in_the_main_thread():
    caught = []

    def ask() -> None:
        try:
            shmring.close_on_sigterm()
        except RuntimeError as error:
            caught.append(str(error))

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join(PATIENCE)
    assert "main thread" in caught[0]


# ---- recordings, commands, reports


@pytest.fixture
def run():
    pytest.importorskip("click")
    from shmring._cli.app import run

    return lambda *words: run([str(word) for word in words])


def test_a_recording_says_that_the_producer_failed(make, tmp_path):
    from shmring import recording

    ring = make(slots=8)
    fail(ring, OSError("camera unplugged"), frames=5)
    summary = recording.record(ring, tmp_path / "take.npy")
    assert (summary.frames, summary.ended) == (5, "producer failed")
    assert summary.failure == "OSError: camera unplugged"
    assert recording.open_recording(tmp_path / "take.npy").ended == "producer failed"


def test_record_ends_with_1(make, run, tmp_path, capsys):
    ring = make(slots=8)
    fail(ring, OSError("camera unplugged"), frames=5)
    assert run("record", ring.name, tmp_path / "take.npy") == 1
    begin = "shmring record: producer failed (OSError: camera unplugged): 5 frames, "
    assert capsys.readouterr().err.startswith(begin)
    assert run("record", "--json", ring.name, tmp_path / "again.npy") == 1
    said = json.loads(capsys.readouterr().out)
    assert (said["ended"], said["failure"]) == ("producer failed", "OSError: camera unplugged")


def test_a_capture_ends_when_the_producer_fails(make, tmp_path):
    from shmring import recording

    ring = make(slots=8)
    capture = recording.Capture(ring, tmp_path / "event.npy", before=2, after=5)
    fail(ring, OSError("camera unplugged"), frames=3)
    capture.trigger()
    [summary] = capture.run()
    assert (summary.ended, summary.failure) == ("producer failed", "OSError: camera unplugged")
    assert recording.Capture(ring, tmp_path / "other.npy", before=2).run() == []


def test_commands_show_the_failure(ring, run, capsys):
    with shmring.Ring.attach(ring.name):
        fail(ring, OSError("camera \x1b[31m unplugged"))
        shown = "OSError: camera \\x1b[31m unplugged"
        assert run("ls") == 0
        assert " failed " in capsys.readouterr().out
        assert run("info", ring.name) == 0
        assert f"failed, it was pid {os.getpid()}: {shown}" in capsys.readouterr().out
        assert run("info", "--json", ring.name) == 0
        said = json.loads(capsys.readouterr().out)["producer"]
        assert (said["state"], said["failure"]) == ("failed", "OSError: camera \x1b[31m unplugged")
        run("doctor")
        assert f"failed ({shown})" in capsys.readouterr().out


def test_metrics_have_the_failure(ring):
    pytest.importorskip("prometheus_client")
    from shmring._cli.support.collector import RingCollector

    def value(of: str) -> float:
        families = {family.name: family for family in RingCollector([ring.name]).collect()}
        [sample] = families[of].samples
        return sample.value

    assert value("shmring_producer_failed") == 0
    fail(ring, OSError())
    assert (value("shmring_producer_failed"), value("shmring_producer_died")) == (1, 0)


def test_reports_to_the_log_warn_of_it(ring, caplog):
    with caplog.at_level(logging.INFO, "shmring"), shmring.report_to_log(ring, 3600):
        fail(ring, OSError("camera unplugged"))
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert f"the producer (pid {os.getpid()}) failed: OSError: camera unplugged" in record.message


def test_a_replay_that_fails_midway_passes_its_error_on(make, tmp_path):
    from shmring import recording

    ring = make(slots=8)
    with ring.producer() as producer:
        feed(producer, 5)
    recording.record(ring, tmp_path / "take.npy")

    def interfere(published: int, share: float | None) -> None:
        raise ValueError("no more")

    again = make(slots=8)
    with again.consumer() as consumer:
        with pytest.raises(ValueError, match="no more"):
            recording.replay(tmp_path / "take.npy", again, pace=None, progress=interfere)
        drain(consumer)
        with pytest.raises(shmring.ProducerFailed, match="ValueError: no more"):
            consumer.get(0)


def test_the_error_can_be_pickled_with_its_text(ring):
    with ring.consumer() as consumer:
        fail(ring, OSError("camera unplugged"))
        with pytest.raises(shmring.ProducerFailed) as caught:
            consumer.get(0)
    assert pickle.loads(pickle.dumps(caught.value)).failure == "OSError: camera unplugged"


def test_read_ends_with_1(make, command):
    ring = make(shape=(4,), dtype="u1", slots=64)
    with contextlib.suppress(OSError), ring.producer() as producer:
        producer.put(np.arange(4, dtype="u1"))
        raise OSError("camera unplugged")
    reader = command("read", ring.name)
    out, noise = reader.communicate(timeout=PATIENCE)
    assert (reader.returncode, out) == (1, bytes(range(4)))
    assert b"failed: OSError: camera unplugged" in noise


def test_write_passes_its_error_on(name, command):
    """The input ends within a frame: readers of the ring learn of it, after the last whole frame."""
    options = ["--shape", "4", "--dtype", "u1", "--wait-for", "1"]
    process = command("write", name, *options, stdin=subprocess.PIPE)
    with shmring.Ring.attach(name, timeout=PATIENCE) as ring, ring.consumer() as consumer:
        process.stdin.write(bytes(10))
        process.stdin.close()
        assert process.wait(PATIENCE) == 1
        assert len([consumer.get(0), consumer.get(0)]) == 2
        with pytest.raises(
            shmring.ProducerFailed, match="failed: the input ended within a frame: 2 of its 4"
        ):
            consumer.get(0)
