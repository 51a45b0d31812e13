"""Following a name from ring to ring: shmring.follow."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import io
import os
import threading

import numpy as np
import pytest

import shmring
from shmring import _presence, recording
from support.blocks import SHM
from support.frames import check, feed, payload
from support.recordings import need
from support.waiting import PATIENCE, settle, wait_until

pytestmark = pytest.mark.slow


def camera(name: str, first: int, *, end: str = "close") -> None:
    """Three frames for one follower, in a process that ends in some way."""
    wait_until(lambda: not is_used(name), "the end of the last one to be noticed")
    pid = os.fork()
    if pid:
        assert os.waitpid(pid, 0)[1] == 0
        return
    try:
        ring = shmring.Ring.create(name, shape=(2,), dtype="i4", slots=8)
        out = ring.producer()
        out.wait_for_consumers(1, timeout=PATIENCE)
        for number in range(first, first + 3):
            out.put(np.full(2, number, "i4"), timeout=PATIENCE)
        if end == "close":
            out.close()
            ring.close()  # the name stays
        os._exit(0)
    finally:
        os._exit(1)


def is_used(name: str) -> bool:
    """Whether a follower is still attached to the ring of that name."""
    try:
        fd = os.open(SHM / name, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        return _presence.in_use(fd)
    finally:
        os.close(fd)


def follow(here, name):
    here.frames = shmring.follow(name, timeout=30, label="follower")


def take(here, count):
    return [(int(frame.array[0]), frame.seq) for _, frame in zip(range(count), here.frames, strict=False)]


@pytest.fixture
def follower(peer, name):
    """Another process that follows; what it got is asked for."""
    other = peer()
    other.run(follow, name)
    yield other
    (SHM / name).unlink(missing_ok=True)


def frames_from(first: int, seq: int = 0) -> list[list[int]]:
    return [[first + n, seq + n] for n in range(3)]


@pytest.mark.parametrize("end", ["close", "crash"])
def test_the_next_ring_is_followed(follower, name, end):
    follower.begin(take, 9)
    for first in 10, 20, 30:
        camera(name, first, end=end)
    assert follower.answer() == frames_from(10) + frames_from(20) + frames_from(30)


def test_left_overs_are_not_followed(follower, name):
    with shmring.Ring.create(name, shape=(2,), dtype="i4", slots=8) as ring, ring.producer() as out:
        out.put(np.full(2, 1, "i4"))
        ring._owner = 0  # so that it is left behind
    follower.begin(take, 3)
    camera(name, 10)
    assert follower.answer() == frames_from(10)


def test_a_frame_that_the_loop_still_has_is_in_nobodys_way(name):
    """The loop's variable holds the last frame of the dead ring while it waits for the next one."""
    frames = shmring.follow(name, timeout=PATIENCE)
    seen = []
    with shmring.Ring.create(name, shape=(), dtype="i4", slots=4) as ring, ring.producer() as out:
        out.put(np.int32(1))
        frame = next(frames)
        out.close()
        frames._timeout = 0.01
        with pytest.raises(shmring.RingNotFound):
            next(frames)
    frames._timeout = PATIENCE
    with shmring.Ring.create(name, shape=(), dtype="i4", slots=4) as ring, ring.producer() as out:
        out.put(np.int32(2))
        seen.append(int(next(frames).array))
        assert (seen, int(frame.array)) == ([2], 1)
    frames.close()


def test_without_waiting_it_says_how_to_wait(name, tmp_path):
    with pytest.raises(shmring.RingNotFound, match="wait for it"):
        recording.record(name, tmp_path / "take.npy", follow=True)
    with shmring.follow(name, timeout=0) as frames, pytest.raises(shmring.RingNotFound, match="wait for it"):
        next(frames)


def test_nothing_is_attached_before_a_producer_comes(make, name):
    """A creator that dies before it produces finds nobody in its way when it is started again."""
    make(name).close()
    with shmring.follow(name, timeout=0.05) as frames:
        with pytest.raises(shmring.RingNotFound, match=r"with a producer came within 0\.05 s"):
            next(frames)
        with make(name) as ring, ring.producer() as out:
            feed(out, 1)
            assert check(next(frames)) == 0


def test_the_same_ring_taken_over_repeats_no_frame(make):
    ring = make(slots=8)
    with shmring.follow(ring.name, timeout=0.05) as frames:
        with ring.producer() as out:
            feed(out, 3)
            assert [check(next(frames)) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(shmring.RingNotFound):
            next(frames)
        assert ring.stats().consumers == ()
        with ring.producer() as out:
            feed(out, 2)
            assert [check(next(frames)) for _ in range(2)] == [3, 4]


def test_a_producer_that_has_taken_over_already_is_followed(make):
    """It came between the follower's last look at the old stream and its leaving."""
    ring = make(slots=8)
    with shmring.follow(ring.name, timeout=PATIENCE) as frames:
        with ring.producer() as out:
            feed(out, 1)
            next(frames)
        with ring.producer() as out:
            frames._pass_by()
            feed(out, 1)
            assert check(next(frames)) == 1


@pytest.mark.parametrize(
    "options",
    [{"dtype": "f4"}, {"shape": (3,)}, {"meta": "f8"}, {"variable_rows": True}],
    ids=lambda options: next(iter(options)),
)
def test_other_frames_are_refused_once(name, options):
    with shmring.follow(name, timeout=PATIENCE) as frames:
        usual = {"shape": (2,), "dtype": "i4", "slots": 8}
        with shmring.Ring.create(name, **usual) as ring, ring.producer() as out:
            out.put(np.zeros(2, "i4"))
            next(frames).release()
        with shmring.Ring.create(name, **{**usual, **options}) as ring, ring.producer() as out:
            out.put(np.zeros(ring.shape, ring.dtype))
            words = f"other frames than those so far: {next(iter(options))} "
            with pytest.raises(shmring.RingIncompatible, match=words):
                next(frames)
            assert ring.stats().consumers == ()
            assert next(frames).array.shape == ring.shape


def test_start_is_for_the_first_ring(make, name):
    with shmring.follow(name, start="newest", timeout=PATIENCE) as frames:
        for expected in (3, 0):
            ring = make(name, slots=8)
            with ring, ring.producer() as out:
                feed(out, 4)
                assert check(next(frames)) == expected


def test_ring_is_the_one_that_is_read(make):
    ring = make(attrs={"unit": "m"})
    with shmring.follow(ring.name, timeout=PATIENCE) as frames:
        assert frames.ring is None
        assert repr(frames) == f"<shmring.Follower of {ring.name!r}, waiting>"
        with ring.producer() as out:
            feed(out, 1)
            next(frames)
            assert frames.ring is not None
            assert frames.ring.attrs == {"unit": "m"}


def test_the_timeout_is_for_each_frame(make):
    ring = make()
    with shmring.follow(ring.name, timeout=0.01) as frames, ring.producer() as out:
        with pytest.raises(shmring.RingEmpty):
            next(frames)
        feed(out, 1)
        assert check(next(frames)) == 0


def test_a_loop_that_ends_leaves(make):
    ring = make()
    with ring.producer() as out:
        feed(out, 1)
        for _ in shmring.follow(ring.name):
            break
        del _
        settle()
        assert ring.stats().consumers == ()


def test_closed_it_ends(make):
    ring = make()
    with shmring.follow(ring.name) as frames:
        pass
    frames.close()
    assert list(frames) == []


def test_in_asyncio(make, name):
    """Two rings, one loop; other tasks run meanwhile."""

    async def take() -> list[int]:
        seen = []
        with shmring.follow(name, timeout=PATIENCE) as frames:
            async for frame in frames:
                seen.append(check(frame))
                got.set()
                if len(seen) == 2:
                    break
        return seen

    async def produce() -> None:
        for _ in range(2):
            with make(name) as ring, ring.producer() as out:
                feed(out, 1)
                await got.wait()
                got.clear()

    async def both() -> list[int]:
        return (await asyncio.gather(take(), produce()))[0]

    got = asyncio.Event()
    assert asyncio.run(both()) == [0, 0]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"timeout": -1}, ValueError),
        ({"timeout": True}, TypeError),
        ({"lossless": 1}, TypeError),
        ({"start": "first"}, ValueError),
    ],
)
def test_arguments_are_checked_at_once(name, options, error):
    with pytest.raises(error):
        shmring.follow(name, **options)


def test_names_are_checked_at_once():
    with pytest.raises(ValueError, match="a ring's name"):
        shmring.follow("a/b")


def test_what_is_no_ring_is_said_at_once(name):
    (SHM / name).write_bytes(b"something else" * 1000)
    try:
        with shmring.follow(name) as frames, pytest.raises(shmring.RingIncompatible):
            next(frames)
    finally:
        (SHM / name).unlink()


# ---- recorders


def publish_stream(name: str, values: list[int], *, drop: int = 0, **options) -> None:
    """A ring of that name, from its creation to its end, for one recorder."""
    options = {"shape": (2,), "dtype": "i4", "slots": 8, **options}
    wait_until(lambda: not is_used(name), "the end of the last one to be noticed")
    with shmring.Ring.create(name, **options) as ring, ring.producer() as out:
        if drop:
            out.drop(drop)
        out.wait_for_consumers(1, timeout=PATIENCE)
        for value in values:
            out.put(np.full(ring.shape, value, ring.dtype), timeout=PATIENCE)


@pytest.fixture
def recorder(name, tmp_path):
    """Start to record a name, in a thread; its end is the future's result."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        yield functools.partial(
            pool.submit, recording.record, name, tmp_path / "take.npy", follow=True, timeout=30
        )


@pytest.mark.usefixtures("zarr_thread")
@pytest.mark.parametrize("suffix", [".npy", ".zarr", ".h5"])
def test_a_recorder_continues_with_the_next_ring(name, tmp_path, suffix):
    need(suffix)
    take = tmp_path / f"take{suffix}"
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        running = pool.submit(recording.record, name, take, follow=True, frames=7, timeout=30)
        publish_stream(name, [1, 2, 3], attrs={"run": 1})
        publish_stream(name, [4, 5], attrs={"run": 2})
        publish_stream(name, [6, 7], attrs={"run": 3}, drop=2)
        summary = running.result(PATIENCE)
    assert (summary.frames, summary.lost, summary.ended) == (7, 2, "limit")
    assert summary.paths == (take,)
    with recording.open_recording(take) as taken:
        assert taken.array[:, 0].tolist() == [1, 2, 3, 4, 5, 6, 7]
        assert taken.seqs.tolist() == [0, 1, 2, 0, 1, 2, 3]
        assert taken.lost_before.tolist() == [0, 0, 0, 0, 0, 2, 0]
        assert [(part.frames, part.attrs["run"], part.lost, part.ended) for part in taken.parts] == [
            (3, 1, 0, "producer closed"),
            (2, 2, 0, "producer closed"),
            (2, 3, 2, "limit"),
        ]


def test_a_recorder_takes_no_frame_twice_from_a_ring_taken_over(make, name, recorder, tmp_path):
    ring = make(name, slots=8)
    running = recorder(frames=5)
    for count in 3, 2:
        with ring.producer() as out:
            out.wait_for_consumers(1, timeout=PATIENCE)
            feed(out, count)
        wait_until(lambda: not ring.stats().consumers, "the recorder to leave")
    assert running.result(PATIENCE).frames == 5
    with recording.open_recording(tmp_path / "take.npy") as taken:
        assert (taken.seqs.tolist(), taken.lost) == ([0, 1, 2, 3, 4], 0)


def test_other_frames_end_the_recording(name, recorder, tmp_path):
    running = recorder()
    publish_stream(name, [1, 2])
    with shmring.Ring.create(name, shape=(3,), dtype="f4", slots=8) as ring, ring.producer():
        words = r"holds other frames than ring .*shape \(2,\), not \(3,\); dtype int32, not float32"
        with pytest.raises(shmring.RingIncompatible, match=words):
            running.result(PATIENCE)
        assert ring.stats().consumers == ()
    with recording.open_recording(tmp_path / "take.npy") as taken:
        assert taken.array[:, 0].tolist() == [1, 2]


def test_other_frames_get_the_next_file_of_a_roll(name, recorder, tmp_path):
    running = recorder(roll=recording.Roll(frames=100), frames=4)
    publish_stream(name, [1, 2])
    publish_stream(name, [3, 4], shape=(3,))
    assert running.result(PATIENCE).nbytes == 2 * 8 + 2 * 12
    files = recording.pieces(tmp_path / "take.npy")
    assert [np.load(file).tolist() for file in files] == [[[1] * 2, [2] * 2], [[3] * 3, [4] * 3]]


def test_a_recorder_between_two_rings_can_be_stopped(name, tmp_path):
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        made = threading.Event()

        def run() -> recording.Summary:
            recorders.append(recording.Recorder(name, tmp_path / "take.npy", follow=True, timeout=30))
            made.set()
            return recorders[0].run()

        recorders: list[recording.Recorder] = []
        running = pool.submit(run)
        publish_stream(name, [1, 2])
        made.wait(PATIENCE)
        wait_until(lambda: recorders[0].frames == 2, "the frames")
        recorders[0].stop()
        assert (running.result(PATIENCE).frames, recorders[0].lost) == (2, 0)


def test_what_following_recorders_cannot_have(ring, tmp_path):
    for given, options in (ring, {}), (ring.name, {"wait_for_takeover": True}):
        with pytest.raises(ValueError, match="follow=True"):
            recording.Recorder(given, tmp_path / "take.npy", follow=True, **options)
    with pytest.raises(TypeError):
        recording.Recorder(ring.name, tmp_path / "take.npy", follow=1)


# ---- commands


def test_record_and_read_have_the_option(name, command, tmp_path):
    recorder = command("record", name, tmp_path / "take.npy", "--follow", "--frames", "5", "--quiet")
    reader = command("read", name, "--follow", "--frames", "5", "--format", "npy")
    for values in [1, 2, 3], [4, 5]:
        wait_until(lambda: not is_used(name), "the end of the last one to be noticed")
        with shmring.Ring.create(name, shape=(2,), dtype="i4", slots=8) as ring, ring.producer() as out:
            out.wait_for_consumers(2, timeout=PATIENCE)
            out.put_many(np.array(values, "i4").repeat(2).reshape(-1, 2))
    read, err = reader.communicate(timeout=PATIENCE)
    assert reader.returncode == 0, err
    assert np.load(io.BytesIO(read))[:, 0].tolist() == [1, 2, 3, 4, 5]
    _, err = recorder.communicate(timeout=PATIENCE)
    assert recorder.returncode == 0, err
    assert np.load(tmp_path / "take.npy")[:, 0].tolist() == [1, 2, 3, 4, 5]


def test_read_refuses_other_frames(name, command):
    reader = command("read", name, "--follow")
    publish_stream(name, [1])
    with shmring.Ring.create(name, shape=(3,), dtype="i4", slots=8) as ring, ring.producer():
        read, err = reader.communicate(timeout=PATIENCE)
        assert (reader.returncode, read) == (1, np.full(2, 1, "i4").tobytes())
        assert b"has other frames than those so far: shape (3,), not (2,)" in err


def test_read_takes_no_frame_twice_from_a_ring_taken_over(name, make, command):
    ring = make(name, slots=8)
    reader = command("read", name, "--follow", "--frames", "5")
    for count in 3, 2:
        with ring.producer() as out:
            out.wait_for_consumers(1, timeout=PATIENCE)
            feed(out, count)
        wait_until(lambda: not ring.stats().consumers, "the reader to leave")
    read, err = reader.communicate(timeout=PATIENCE)
    assert reader.returncode == 0, err
    assert read == b"".join(payload(seq).tobytes() for seq in range(5))
