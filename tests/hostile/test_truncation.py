"""A ring's file that is cut while it is in use: every call on it, each in a process of its own.

After survive_truncation() nothing ends that process; without it, SIGBUS does.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import faulthandler
import mmap
import os
import resource
import signal

import numpy as np
import pytest

import shmring
from support import peers
from support.blocks import SHM, block_file
from support.frames import WORDS, feed
from support.private_shm import give_private_shm
from support.processes import PeerError

pytestmark = pytest.mark.usefixtures("zarr_thread")

# ---- the process whose ring is cut: `here` is its name space


def open_everything(here, name):
    """A ring of four one-page slots with three frames in it, every handle, one frame held."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    here.ring = shmring.Ring.create(name, shape=(WORDS,), dtype="u8", slots=4)
    here.path = block_file(name)
    here.producer = here.ring.producer(on_full="drop")
    here.consumer, here.lossy = here.ring.consumer(), here.ring.consumer(lossless=False)
    here.observer = here.ring.observer()
    here.ones = np.ones(WORDS, "u8")
    for _ in range(3):
        here.producer.put(here.ones)
    here.held = here.consumer.get(0)


def survive(here):
    shmring.survive_truncation()


def cut_to_nothing(here):
    os.truncate(here.path, 0)


def cut_after_the_first_page(here):
    os.truncate(here.path, mmap.PAGESIZE)


def cut_the_last_slots(here):
    os.truncate(here.path, here.path.stat().st_size - 2 * mmap.PAGESIZE)


CUTS = (cut_to_nothing, cut_after_the_first_page, cut_the_last_slots)


def stats(here):
    here.ring.stats()


def new_consumer(here):
    here.ring.consumer()


def get(here):
    here.consumer.get(0)


def try_get(here):
    here.consumer.try_get()


def latest(here):
    here.consumer.latest(0)


def batch(here):
    here.consumer.batch(2, timeout=0)


def iterate(here):
    next(here.consumer)


def window(here):
    next(here.consumer.windows(2))


def get_async(here):
    asyncio.run(here.consumer.get_async(9))


def lossy_get(here):
    here.lossy.get(0)


def wait_for_several(here):
    [ready, *_] = shmring.wait([here.lossy, here.consumer], 9)
    ready.get(9)


def align(here):
    next(shmring.align({"a": here.lossy, "b": here.consumer}, tolerance_ns=0, timeout=9))


def observe(here):
    here.observer.latest(0)


def put(here):
    here.producer.put(here.ones)


def put_many(here):
    here.producer.put_many(np.stack([here.ones] * 2))


def fill_in_place(here):
    with here.producer.claim() as slot:
        slot.array[:] = 1


def fail_in_place(here):
    with here.producer.claim():
        raise LookupError("the user's own")


def abort(here):
    here.producer.claim().abort()


def abandon(here):
    here.producer.claim()
    here.producer.abandon()


def find_in_the_file(here):
    assert here.held.block_offset > 0


def drop(here):
    here.producer.drop()
    stats(here)


def wait_for_consumers(here):
    here.producer.wait_for_consumers(2, timeout=0)


def read_and_release(here):
    here.held.array.sum()
    here.held.release()


def close_all(here):
    for handle in (here.consumer, here.lossy, here.producer, here.ring):
        handle.close()


def end(here):
    here.held.release()
    here.ring.close()


EVERYWHERE = CUTS
HEADER = CUTS[:2]
# Each call, and the cuts after which it raises RingCorrupt, by itself and not only the next one.
CALLS = {
    stats: HEADER,
    new_consumer: HEADER,
    get: HEADER,
    try_get: HEADER,
    latest: HEADER,
    batch: HEADER,
    iterate: HEADER,
    window: HEADER,
    get_async: HEADER,
    lossy_get: HEADER,
    wait_for_several: HEADER,
    align: HEADER,
    observe: EVERYWHERE,
    put: EVERYWHERE,
    put_many: EVERYWHERE,
    fill_in_place: EVERYWHERE,
    abort: (),
    abandon: (),
    find_in_the_file: (),
    drop: HEADER,
    wait_for_consumers: (cut_to_nothing,),
    read_and_release: (),
    close_all: (),
}


@pytest.fixture
def victim(peer, name):
    """Start a process with everything open that has done some things."""

    def start(*steps):
        other = peer()
        other.run(open_everything, name)
        for step in steps:
            other.run(step)
        return other

    yield start
    block_file(name).unlink(missing_ok=True)


def ended_by(other, call) -> int:
    """How a process ends that calls this."""
    other.begin(call)
    return other.wait()


def is_told(other, call) -> None:
    with pytest.raises(PeerError, match=r"was cut while it was in use.*Recreate") as raised:
        other.run(call)
    assert raised.value.kind == "RingCorrupt"


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.slow
def test_no_call_ends_the_process(victim, call, cut):
    other = victim(survive, cut)
    if cut in CALLS[call]:
        is_told(other, call)
    else:
        other.run(call)
    other.run(end)


def call_twice(here, call):
    for _ in range(2):
        with pytest.raises(shmring.RingCorrupt, match="was cut"):
            globals()[call](here)


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("call", [observe, fill_in_place])
def test_the_next_call_is_told_too(victim, call, cut):
    victim(survive, cut).run(call_twice, call.__name__)


def close_producer(here):
    here.producer.close()


def open_producer(here):
    here.producer = here.ring.producer()


@pytest.mark.parametrize("cut", CUTS)
def test_a_new_producer_maps_anew_and_finds_the_file_short(victim, cut):
    other = victim(survive, close_producer, cut)
    with pytest.raises(PeerError) as raised:
        other.run(open_producer)
    assert raised.value.kind == ("RingNotReady" if cut is cut_to_nothing else "RingCorrupt")


def hold_all(here):
    here.frames = [here.held, here.consumer.get(0), here.consumer.get(0)]


def sums(here):
    return [int(frame.array.sum()) for frame in here.frames]


def test_lost_frames_read_as_zeros_and_others_as_they_were(victim):
    other = victim(survive, hold_all, cut_the_last_slots)
    assert sorted(other.run(sums)) == [0, WORDS, WORDS]
    is_told(other, try_get)


def test_an_exception_in_a_claim_stays_what_it_was(victim):
    with pytest.raises(PeerError, match="the user's own"):
        victim(survive, cut_to_nothing).run(fail_in_place)


def take_the_rest(here):
    here.consumer.batch(2)


def wait_for_a_frame(here):
    here.consumer.get()


def fill_the_ring(here):
    open_producer(here)
    put(here)


def wait_with_a_silent_ring(here):
    with shmring.Ring.create(shape=(4,), dtype="u8", slots=4) as other, other.consumer() as silent:
        [ready] = shmring.wait([silent, here.consumer])
        ready.get()


@pytest.mark.parametrize(
    ("steps", "waits"),
    [
        ([take_the_rest], wait_for_a_frame),
        ([take_the_rest], wait_with_a_silent_ring),
        ([close_producer, fill_the_ring], put),
    ],
)
def test_whoever_sleeps_is_told(victim, name, steps, waits):
    other = victim(survive, *steps)
    other.begin(waits).asleep()
    os.truncate(block_file(name), 0)
    with pytest.raises(PeerError, match="was cut"):
        other.answer()


def make_ring() -> shmring.Ring:
    return shmring.Ring.create(shape=(4,), dtype="u8", slots=4)


def make_second_ring(here):
    here.second = make_ring()


def use_second_ring(here):
    with here.second, here.second.producer() as producer, here.second.consumer() as consumer:
        producer.put(np.arange(4, dtype="u8"))
        assert consumer.get(0).array.tolist() == [0, 1, 2, 3]
        here.second.unlink()


def use_the_addresses_again(here):
    """For rings that lost nothing."""
    del here.held, here.consumer, here.lossy, here.observer, here.producer
    here.ring.close()
    rings = [make_ring() for _ in range(3)]
    assert [ring.stats().published for ring in rings] == [0, 0, 0]
    for ring in rings:
        ring.unlink()


def test_other_rings_of_the_process_go_on(victim):
    other = victim(survive, make_second_ring, cut_to_nothing)
    is_told(other, stats)
    other.run(use_second_ring)
    other.run(use_the_addresses_again)


def attach_again(here):
    here.late = shmring.Ring.attach(here.ring.name)


def stats_of_the_late(here):
    here.late.stats()


def test_installed_once_for_rings_opened_before_and_after(victim):
    other = victim(survive, survive, attach_again, cut_to_nothing)
    is_told(other, stats)
    is_told(other, stats_of_the_late)


# ---- forks


def in_a_fork(here, test) -> int:
    """The exit code of a child that ends with what `test()` returns."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(test())
        finally:
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def told_in_a_fork(here):
    def test():
        cut_to_nothing(here)
        with pytest.raises(shmring.RingCorrupt):
            stats(here)
        return 7

    return in_a_fork(here, test)


def copied_in_a_fork(here):
    def test():
        cut_the_last_slots(here)
        with pytest.raises(shmring.RingCorrupt):
            observe(here)
        return 7 if int(here.array.sum()) == WORDS else 2

    return in_a_fork(here, test)


def zeros_in_a_fork(here):
    return in_a_fork(here, lambda: 7 if int(here.array.sum()) == 0 else 2)


def go_across_the_wrap(here):
    here.held.release()
    for frame in (here.consumer.get(0), here.consumer.get(0)):
        frame.release()
    for _ in range(3):
        put(here)
    here.held = here.consumer.get(0)  # for which the child maps the slots elsewhere


def zeros_across_the_wrap_in_a_fork(here):
    def test():
        batch = here.ring.consumer(start="oldest").batch(4)
        seqs = batch.seqs.tolist()
        cut_to_nothing(here)
        return 7 if (seqs, int(batch.array.sum())) == ([2, 3, 4, 5], 0) else 2

    return in_a_fork(here, test)


def keep_array(here):
    here.array = here.held.array


def test_a_forked_child_has_the_handler_too(victim):
    assert victim(survive).run(told_in_a_fork) == 7


def test_a_forked_child_maps_the_slots_elsewhere(victim):
    """The handler knows the new place, and what the child inherited is not in the file any more."""
    assert victim(survive, keep_array).run(copied_in_a_fork) == 7


def test_a_forked_child_maps_both_halves_elsewhere(victim):
    assert victim(survive, go_across_the_wrap).run(zeros_across_the_wrap_in_a_fork) == 7


def test_a_fork_after_the_cut_copies_zeros(victim):
    assert victim(survive, keep_array, cut_to_nothing).run(zeros_in_a_fork) == 7


# ---- holes

PUNCH = 3  # FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE


def punch_slots(here):
    """Take the pages of the slots out of the file, which stays as long as it was."""
    slots = 4 * mmap.PAGESIZE
    start = here.path.stat().st_size - slots
    with open(here.path, "r+b") as file:
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.fallocate(file.fileno(), PUNCH, ctypes.c_long(start), ctypes.c_long(slots)) == 0


def sum_of_held(here):
    return int(here.held.array.sum())


def test_a_punched_hole_is_zeros_and_no_signal(victim):
    """Only a full file system makes a hole a SIGBUS; here the pages are simply new."""
    other = victim(survive, punch_slots)
    assert other.run(sum_of_held) == 0
    assert other.run(peers.published) == 3


def punch_slots_and_fill_up(here):
    with open(SHM / "fill", "wb", 0) as file:
        os.posix_fallocate(file.fileno(), 0, os.statvfs(SHM).f_bavail * mmap.PAGESIZE)
        punch_slots(here)
        os.posix_fallocate(file.fileno(), 0, os.stat(file.fileno()).st_size + 4 * mmap.PAGESIZE)


def test_a_hole_in_a_full_file_system(peer, name):
    """There the kernel has no page to fill the hole with: SIGBUS, though the file is as long as ever."""
    other = peer()
    give_private_shm(other, "size=256k")
    other.run(open_everything, name)
    other.run(punch_slots_and_fill_up)
    other.run(survive)
    assert other.run(sum_of_held) == 0
    is_told(other, stats)


# ---- what writes frames elsewhere: never zeros for frames


def cut(ring) -> None:
    """Take the last slot away."""
    os.truncate(block_file(ring.name), ring.nbytes - WORDS * 8)


def cut_under_way(ring):
    """A write that finds its pages gone: the kernel's answer."""

    def write(*given):
        cut(ring)
        raise OSError(errno.EFAULT, os.strerror(errno.EFAULT))

    return write


@pytest.fixture(params=[".npy", ".zarr", ".h5"])
def recorder(request, ring, tmp_path):
    pytest.importorskip({".zarr": "zarr", ".h5": "h5py"}.get(request.param, "numpy"))
    recording = pytest.importorskip("shmring.recording")
    with ring.producer() as producer:
        feed(producer, 3)
        yield recording.Recorder(ring, tmp_path / f"take{request.param}", frames=3)


def test_a_recorder_counts_no_zeros(ring, recorder):
    cut(ring)
    with pytest.raises(shmring.RingCorrupt, match="was cut"):
        recorder.run()
    assert recorder.summary.frames == 0
    assert len(shmring.recording.open_recording(recorder.path)) == 0


def test_a_ring_that_is_cut_while_it_is_recorded(ring, recorder, monkeypatch):
    monkeypatch.setattr(recorder._files, "write", cut_under_way(ring))
    with pytest.raises(shmring.RingCorrupt, match="was cut"):
        recorder.run()
    assert recorder.summary.frames == 0


def test_a_capture_of_a_ring_that_is_cut(ring, tmp_path):
    recording = pytest.importorskip("shmring.recording")
    with ring.producer() as producer:
        capture = recording.Capture(ring, tmp_path / "take.npy", before=2, after=0)
        feed(producer, 3)
        capture.trigger()
        cut(ring)
        with pytest.raises(shmring.RingCorrupt, match="was cut"):
            capture.run()


def test_a_ring_that_is_cut_while_it_is_piped(ring, monkeypatch, capsys):
    pytest.importorskip("click")
    from shmring._cli import app
    from shmring._cli.commands import read

    with ring.producer() as producer:
        feed(producer, 3)
        monkeypatch.setattr(read, "_write_batch", cut_under_way(ring))
        assert app.run(["read", ring.name]) != 0
        assert "was cut while it was in use" in capsys.readouterr().err


# ---- without the handler, and signals that are not ours


@pytest.mark.parametrize("call", [get, put, read_and_release])
def test_without_it_sigbus_ends_the_process(victim, call):
    assert ended_by(victim(cut_to_nothing), call) == -signal.SIGBUS


def map_it_otherwise(here):
    """A mapping that is not one of shmring."""
    with open(here.path, "r+b") as file:
        here.foreign = mmap.mmap(file.fileno(), 0)


def read_it_otherwise(here):
    return here.foreign[0]


def test_a_fault_elsewhere_ends_the_process(victim):
    other = victim(survive, map_it_otherwise, cut_to_nothing)
    assert ended_by(other, read_it_otherwise) == -signal.SIGBUS


def ignore_sigbus(here):
    signal.signal(signal.SIGBUS, signal.SIG_IGN)


def send_sigbus(here):
    os.kill(os.getpid(), signal.SIGBUS)
    os._exit(7)


def test_a_signal_that_is_sent_does_what_it_did(victim):
    assert ended_by(victim(survive), send_sigbus) == -signal.SIGBUS
    assert ended_by(victim(ignore_sigbus, survive), send_sigbus) == 7


def enable_faulthandler(here):
    faulthandler.enable()


def disable_faulthandler(here):
    faulthandler.disable()


def test_a_fault_elsewhere_goes_to_the_handler_before(victim):
    other = victim(enable_faulthandler, survive, map_it_otherwise, cut_to_nothing)
    is_told(other, stats)
    assert ended_by(other, read_it_otherwise) == -signal.SIGBUS
    assert "Fatal Python error: Bus error" in other.stderr()


def test_a_handler_installed_over_it_is_an_error(victim):
    """Each would pass the signal on to the other forever."""
    other = victim(survive, enable_faulthandler)
    with pytest.raises(PeerError, match=r"faulthandler\.enable") as raised:
        other.run(survive)
    assert raised.value.kind == "RuntimeError"
    other.run(disable_faulthandler)
    other.run(survive)
    other.run(cut_to_nothing)
    other.run(read_and_release)
