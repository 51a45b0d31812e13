"""Recordings played again, and what was before a trigger."""

from __future__ import annotations

import math
import os
import signal
import threading

import numpy as np
import pytest

import shmring
from shmring import recording
from support import peers
from support.blocks import block_file, fresh_name
from support.frames import feed, payload
from support.recordings import feed_seqs, need
from support.waiting import PATIENCE, wait_until

META = np.dtype([("exposure", ">f4")])


def recorded(make, path, *, count=10, step_ns=1000, **options):
    """A recording of frames that say their number, and the ring it is from."""
    ring = make(**{"shape": (6, 2), "dtype": ">u2", "slots": 16, "meta": META, **options})
    with ring.producer() as out:
        for number in range(count):
            frame = np.full(ring.shape, number, ring.dtype)
            frame = frame[: 1 + number % 6] if ring.variable_rows else frame
            out.put(frame, timestamp_ns=number * step_ns, meta=(number / 2,))
    recording.record(ring, path)
    return ring


@pytest.mark.parametrize("variable_rows", [False, True], ids=["whole", "rows"])
@pytest.mark.parametrize("suffix", [".npy", ".zarr", ".h5"])
def test_a_replay_is_what_was_recorded(make, tmp_path, suffix, variable_rows) -> None:
    need(suffix)
    source = recorded(make, tmp_path / f"take{suffix}", variable_rows=variable_rows, attrs={"unit": "V"})
    name = fresh_name()
    played = []
    options = {"pace": None, "wait_for": 1, "timeout": PATIENCE}
    thread = threading.Thread(
        target=lambda: played.append(recording.replay(tmp_path / f"take{suffix}", name, **options))
    )
    thread.start()
    with shmring.Ring.attach(name, timeout=PATIENCE) as ring, ring.consumer() as frames:
        assert (ring.shape, ring.dtype, ring.meta_dtype) == (source.shape, source.dtype, META)
        assert (ring.attrs, ring.variable_rows) == ({"unit": "V"}, variable_rows)
        got = [
            (frame.seq, frame.timestamp_ns, float(frame.meta["exposure"]), frame.array.copy())
            for frame in frames
        ]
    thread.join()
    assert played == [10]
    assert [row[:3] for row in got] == [(number, number * 1000, number / 2) for number in range(10)]
    for number, (*_, array) in enumerate(got):
        assert array.shape == ((1 + number % 6, 2) if variable_rows else (6, 2))
        assert (array == number).all()
    assert not block_file(name).exists()


def test_loops_rolling_files_and_a_ring_that_is_there(make, tmp_path) -> None:
    """All files in order, again and again, into a given ring; timestamps of now if asked for."""
    source = make(shape=(8,), dtype="u1", slots=16)
    with source.producer() as out:
        feed_seqs(out, source, 7)
        recording.record(source, tmp_path / "take.npy", roll=recording.Roll(frames=3), frames=7)
    ring = make(shape=(8,), dtype="u1", slots=32)
    frames = ring.consumer()
    options = {"pace": None, "loops": 2, "timestamps": "now"}
    assert recording.replay(tmp_path / "take.npy", ring, **options) == 14
    got = list(frames)
    assert [int(frame.array[0]) for frame in got] == [*range(7), *range(7)]
    assert [frame.seq for frame in got] == list(range(14))
    newest = recording.open_recording(tmp_path / "take-0003.npy").timestamps_ns[-1]
    assert all(frame.timestamp_ns > newest for frame in got)
    frames.close()


def test_gaps_are_played(make, tmp_path) -> None:
    """Where the recorder lost frames, consumers of the replay lose as many."""
    source = make(slots=4)
    with source.producer(on_full="drop") as out:
        recorder = recording.Recorder(source, tmp_path / "take.npy", frames=6)
        feed(out, 7)  # 4 to 6 are dropped
        thread = threading.Thread(target=recorder.run)
        thread.start()
        wait_until(lambda: recorder.frames == 4)
        feed(out, 1)
        wait_until(lambda: recorder.frames == 5)
        out.drop(2)
        feed(out, 1)
        thread.join()
    ring = make(slots=16)
    frames = ring.consumer()
    assert recording.replay(tmp_path / "take.npy", ring, pace=None) == 6
    assert [(frame.seq, frame.lost) for frame in frames] == [(0, 0), (1, 0), (2, 0), (3, 0), (7, 3), (10, 2)]
    frames.close()


class Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now_ns = 5_000_000

    def monotonic_ns(self) -> int:
        return self.now_ns

    def sleep(self, seconds: float) -> None:
        assert seconds < 2**63 / 1e9
        self.now_ns += round(seconds * 1e9)


@pytest.mark.parametrize(("pace", "gap"), [(1.0, 1000), (4.0, 250), (0.5, 2000)])
def test_pace(make, monkeypatch, tmp_path, pace, gap) -> None:
    """Each frame is published when it is due, relative to the first one, in each loop."""
    from shmring.recording import _replay

    recorded(make, tmp_path / "take.npy", count=6, step_ns=1000)
    ring = make(shape=(6, 2), dtype=">u2", slots=16, meta=META)
    clock = Time()
    published = []
    publish = _replay._publish

    def noted(out, found, some, *, keep) -> None:
        published.extend([clock.now_ns - 5_000_000] * (some.stop - some.start))
        publish(out, found, some, keep=keep)

    monkeypatch.setattr(_replay, "time", clock)
    monkeypatch.setattr(_replay, "_publish", noted)
    recording.replay(tmp_path / "take.npy", ring, pace=pace, loops=2)
    once = [number * gap for number in range(6)]
    assert published == once + [5 * gap + due for due in once]


def test_recorded_time_that_goes_back(make, monkeypatch, tmp_path) -> None:
    """The producer's clock was set back by an hour, later on by a century; frames keep their distance."""
    from shmring.recording import _replay

    source, ring = make(slots=16), make(slots=16)
    hour = 3_600 * 10**9
    stamps = [2 * hour, 2 * hour + 1000, hour, hour + 1000, hour + 1000 + 876_000 * hour]
    with source.producer() as out:
        for stamp in stamps:
            out.put(payload(0), timestamp_ns=stamp)
    recording.record(source, tmp_path / "take.npy")
    clock = Time()
    monkeypatch.setattr(_replay, "time", clock)
    assert recording.replay(tmp_path / "take.npy", ring, pace=1e-3) == 5
    assert clock.now_ns - 5_000_000 == pytest.approx((2_000 + 876_000 * hour) * 1000)


def test_late_frames_are_made_up_for(make, monkeypatch, tmp_path) -> None:
    """Behind its time (a full ring, a slow machine), a replay publishes all that is due at once."""
    from shmring.recording import _replay

    recorded(make, tmp_path / "take.npy", count=6, step_ns=1000)
    ring = make(shape=(6, 2), dtype=">u2", slots=16, meta=META)
    clock = Time()
    sizes = []
    publish = _replay._publish

    def slow(out, found, some, *, keep) -> None:
        sizes.append(some.stop - some.start)
        publish(out, found, some, keep=keep)
        clock.now_ns += 3500

    monkeypatch.setattr(_replay, "time", clock)
    monkeypatch.setattr(_replay, "_publish", slow)
    recording.replay(tmp_path / "take.npy", ring)
    assert sizes == [1, 3, 2]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"pace": 0}, "pace must be a number above 0"),
        ({"loops": 0}, "loops must be at least 1, not 0"),
        ({"timestamps": "old"}, "timestamps must be"),
    ],
)
def test_wrong_arguments(tmp_path, options, told) -> None:
    with pytest.raises(ValueError, match=told):
        recording.replay(tmp_path / "take.npy", fresh_name(), **options)


def test_what_cannot_be_played(make, tmp_path) -> None:
    with pytest.raises(FileNotFoundError):
        recording.replay(tmp_path / "take.npy", fresh_name())
    source = recorded(make, tmp_path / "take.npy")
    with pytest.raises(shmring.RingIncompatible, match=r"other frames than ring .*\(6, 2\), not \(3,\)"):
        recording.replay(tmp_path / "take.npy", make(shape=(3,), dtype="u1"))
    with source.producer(), pytest.raises(shmring.RingExists):
        recording.replay(tmp_path / "take.npy", source.name)
    with pytest.raises(shmring.TooFewConsumers):
        recording.replay(tmp_path / "take.npy", fresh_name(), wait_for=1, timeout=0)


def test_a_pace_near_0() -> None:
    """The next frame is due at a time that can be counted, however far away."""
    from shmring.recording import _replay

    clock = _replay._Clock(0, 5e-324)
    assert 1e250 < clock._due_at(1_000) < math.inf


# ---- capture


def check_capture(path, seqs) -> recording.Recording:
    found = recording.open_recording(path)
    assert found.seqs.tolist() == list(seqs)
    for seq, frame in zip(found.seqs.tolist(), np.asarray(found.array), strict=True):
        assert np.array_equal(frame, payload(seq))
    return found


@pytest.mark.parametrize("published", [3, 8, 100])
def test_capture_before_and_after(make, tmp_path, published) -> None:
    """The last frames up to the trigger, in place in the ring until then, and those that follow."""
    ring = make(slots=32)
    with ring.producer(on_full="raise") as out:
        feed(out, 1)
        capture = recording.Capture(ring, tmp_path / "take.npy", before=16, after=5)
        feed(out, published - 1)
        capture.trigger()
        feed(out, 10)
        capture.trigger()  # one is running already
        [summary] = capture.run()
    first = max(0, published - 16)
    assert (summary.frames, summary.lost) == (published + 5 - first, 0)
    assert summary.ended == ("limit" if published >= 16 else "incomplete")
    found = check_capture(tmp_path / "take.npy", range(first, published + 5))
    assert (found.lost, found.ended) == (0, summary.ended)
    assert ring.stats().consumers == ()


@pytest.mark.parametrize("suffix", [".zarr", ".h5"])
def test_capture_in_other_formats(make, tmp_path, suffix) -> None:
    need(suffix)
    ring = make(slots=32)
    with ring.producer() as out:
        feed(out, 50)
        capture = recording.Capture(ring, tmp_path / f"take{suffix}", before=4, after=2)
        capture.trigger()
        feed(out, 2)
        capture.run()
    with check_capture(tmp_path / f"take{suffix}", range(46, 52)):
        pass


def test_what_came_too_late_is_counted(make, tmp_path) -> None:
    """The process woke up when the producer was a lap further on: what is left, and how much is not."""
    ring = make(slots=8)
    with ring.producer(on_full="raise") as out:
        feed(out, 20)
        capture = recording.Capture(ring, tmp_path / "take.npy", before=4, after=9)
        capture.trigger()  # 16 to 19, and 20 to 28
        feed(out, 12)  # up to 31: the ring has 24 to 31
        [summary] = capture.run()
    found = check_capture(tmp_path / "take.npy", range(24, 29))
    assert found.lost_before.tolist() == [8, 0, 0, 0, 0]
    assert (summary.frames, summary.lost, summary.ended) == (5, 8, "incomplete")


@pytest.mark.parametrize("after", [0, 3])
def test_a_capture_that_came_too_late_for_all(make, tmp_path, after) -> None:
    ring = make(slots=8)
    with ring.producer(on_full="raise") as out:
        feed(out, 20)
        capture = recording.Capture(ring, tmp_path / "take.npy", before=4, after=after)
        capture.trigger()  # 16 to 19
        feed(out, 30)
        [summary] = capture.run()
    assert (summary.frames, summary.lost, summary.ended) == (0, 4 + after, "incomplete")
    assert recording.open_recording(tmp_path / "take.npy").lost == 4 + after


def test_frames_lost_at_the_end_of_a_capture(make, monkeypatch, tmp_path) -> None:
    """What was wanted after the trigger is overwritten while what was before it is written."""
    from shmring.recording._series import FileSeries

    ring = make(slots=8)
    with ring.producer(on_full="raise") as out:
        feed(out, 8)
        capture = recording.Capture(ring, tmp_path / "take.npy", before=4, after=3)
        capture.trigger()  # 4 to 7, and 8 to 10
        write = FileSeries.write

        def write_slowly(self, array, index) -> None:
            write(self, array, index)
            feed(out, 12)

        monkeypatch.setattr(FileSeries, "write", write_slowly)
        [summary] = capture.run()
    assert (summary.frames, summary.lost, summary.ended) == (4, 3, "incomplete")
    assert recording.open_recording(tmp_path / "take.npy").lost == 3


def test_frames_of_an_earlier_capture_are_not_missing(make, tmp_path) -> None:
    ring = make(slots=16)
    with ring.producer() as out:
        feed(out, 10)
        capture = recording.Capture(ring, tmp_path / "take.npy", before=5, captures=2)
        triggers = iter([lambda: (feed(out, 2), capture.trigger()), lambda: None])
        capture._on_capture = lambda summary: next(triggers)()
        capture.trigger()
        first, second = capture.run()
    assert (first.frames, first.ended) == (5, "limit")
    assert (second.frames, second.lost, second.ended) == (2, 0, "limit")


def test_the_producer_is_not_held_back_by_frames_that_are_held(make, monkeypatch, tmp_path) -> None:
    """While the captured frames are being written, half of the slots are free for the producer."""
    from shmring.recording._series import FileSeries

    ring = make(slots=16)
    with ring.producer(on_full="raise") as out:
        feed(out, 30)
        capture = recording.Capture(ring, tmp_path / "take.npy", before=8)
        capture.trigger()
        held = []
        write = FileSeries.write

        def busy(files, array, index) -> None:
            held.append(sum(one.held for one in ring.stats().consumers))
            feed(out, 40)  # on_full="raise": it would say so
            write(files, array, index)

        monkeypatch.setattr(FileSeries, "write", busy)
        capture.run()
    assert held[0] == 8
    check_capture(tmp_path / "take.npy", range(22, 30))


def test_conditions(make, tmp_path) -> None:
    """Each frame that meets the condition triggers; the captures get numbers."""
    ring = make(slots=64)
    summaries: list[recording.Summary] = []
    seen: list[int] = []

    def odd_one(frame: shmring.Frame) -> bool:
        seen.append(frame.seq)
        return frame.seq in (10, 30)

    with ring.producer() as out:
        feed(out, 5)
        capture = recording.Capture(
            ring,
            tmp_path / "take.npy",
            before=4,
            after=3,
            when=odd_one,
            captures=None,
            on_capture=summaries.append,
        )
        feed(out, 35)
    assert capture.run() == summaries
    assert [file.name for one in summaries for file in one.paths] == ["take-0001.npy", "take-0002.npy"]
    check_capture(tmp_path / "take-0001.npy", range(7, 14))
    check_capture(tmp_path / "take-0002.npy", range(27, 34))
    assert seen == list(range(5, 40))


def test_capture_function(make, tmp_path) -> None:
    ring = make(slots=16)
    summaries: list[recording.Summary] = []
    thread = threading.Thread(
        target=lambda: summaries.extend(
            recording.capture(ring.name, tmp_path / "take.npy", before=2, when=lambda frame: frame.seq == 3)
        )
    )
    with ring.producer() as out:
        thread.start()
        out.wait_for_consumers(2, timeout=PATIENCE)
        feed(out, 5)
        thread.join()
    assert [one.frames for one in summaries] == [2]
    check_capture(tmp_path / "take.npy", [2, 3])


@pytest.mark.parametrize("end", ["close", "stop", "kill"])
def test_no_trigger_comes(make, peer, tmp_path, end) -> None:
    ring = make(slots=8)
    producer = peer(ring)
    producer.run(peers.open_producer, 3)
    capture = recording.Capture(ring, tmp_path / "take.npy", before=2)
    if end == "stop":
        capture.stop()
    elif end == "close":
        producer.run(peers.close_producer)
    else:
        producer.kill()
    assert capture.run() == []
    assert not list(tmp_path.iterdir())
    assert ring.stats().consumers == ()


def test_the_stream_ends_within_a_capture(make, tmp_path) -> None:
    ring = make(slots=8)
    with ring.producer() as out:
        feed(out, 5)
        capture = recording.Capture(ring, tmp_path / "take.npy", before=2, after=100)
        capture.trigger()
        feed(out, 1)
    [summary] = capture.run()
    assert (summary.frames, summary.ended) == (3, "producer closed")
    check_capture(tmp_path / "take.npy", [3, 4, 5])


def capture_at_a_signal(here, path):
    here.capture = recording.Capture(here.ring, path, before=8)
    signal.signal(signal.SIGUSR1, lambda *_: here.capture.trigger())


def run_capture(here) -> list[int]:
    return [one.frames for one in here.capture.run()]


def test_a_signal_wakes_it(make, peer, tmp_path) -> None:
    """From a signal handler, in the thread that waits."""
    ring = make(slots=16)
    other = peer(ring)
    other.run(capture_at_a_signal, tmp_path / "take.npy")
    with ring.producer() as out:
        feed(out, 50)
        other.begin(run_capture).asleep()
        other.signal(signal.SIGUSR1)
        assert other.answer() == [8]
    check_capture(tmp_path / "take.npy", range(42, 50))


def test_wrong_captures(make, tmp_path) -> None:
    ring = make(slots=8)
    path = tmp_path / "take.npy"
    with pytest.raises(ValueError, match="before=5 is more than half of the 8 slots"):
        recording.Capture(ring, path, before=5)
    with pytest.raises(ValueError, match="before must be at least 1, not 0"):
        recording.Capture(ring, path, before=0)
    with pytest.raises(ValueError, match='mode "a" is for several captures'):
        recording.Capture(ring, path, before=1, mode="a")
    path.touch()
    with pytest.raises(FileExistsError):
        recording.Capture(ring, path, before=1)
    assert os.listdir(tmp_path) == ["take.npy"]
    assert ring.stats().consumers == ()
