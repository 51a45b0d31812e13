"""A ring's file that is cut while it is in use: every call on it, each in a process of its own.

After survive_truncation() nothing ends that process; without it, SIGBUS does.
"""

from __future__ import annotations

import errno
import os
import signal

import pytest

import shmring
from support.blocks import block_file
from support.frames import WORDS, feed
from support.processes import PeerError
from support.recordings import zarr_thread  # noqa: F401 - a fixture

# Runs in the child: a ring of four one-page slots with three frames in it, everything open, one frame held.
OPENED = """if True:
    import ctypes, faulthandler, mmap, resource
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ring = shmring.Ring.create({name!r}, shape=(WORDS,), dtype="u8", slots=4)
    path = f"/dev/shm/{{ring.name}}"
    producer = ring.producer(on_full="drop")
    consumer, lossy, observer = ring.consumer(), ring.consumer(lossless=False), ring.observer()
    ones = np.ones(WORDS, "u8")
    for _ in range(3):
        producer.put(ones)
    held = consumer.get(0)
    def in_place():
        with producer.claim() as slot:
            slot.array[:] = 1
    def failing():
        with producer.claim():
            raise LookupError("the user's own")
    def twice(call):
        try:
            call()
        except shmring.RingCorrupt:
            call()
"""
SURVIVE = "shmring.survive_truncation()"

TO_NOTHING = "os.truncate(path, 0)"
AFTER_FIRST_PAGE = "os.truncate(path, mmap.PAGESIZE)"
LAST_SLOTS = "os.truncate(path, os.stat(path).st_size - 2 * mmap.PAGESIZE)"
CUTS = {"to nothing": TO_NOTHING, "after the first page": AFTER_FIRST_PAGE, "last slots": LAST_SLOTS}

EVERYWHERE = ("to nothing", "after the first page", "last slots")
HEADER = ("to nothing", "after the first page")
# Each call, and the cuts after which it raises RingCorrupt, by itself and not only the next one.
CALLS = {
    "ring.stats()": HEADER,
    "ring.consumer()": HEADER,
    "consumer.get(0)": HEADER,
    "consumer.try_get()": HEADER,
    "consumer.latest(0)": HEADER,
    "consumer.batch(2, timeout=0)": HEADER,
    "next(consumer)": HEADER,
    "next(consumer.windows(2))": HEADER,
    "asyncio.run(consumer.get_async(9))": HEADER,
    "lossy.get(0)": HEADER,
    "shmring.wait([lossy, consumer], 9)[0].get(9)": HEADER,
    "next(shmring.align({'a': lossy, 'b': consumer}, tolerance_ns=0, timeout=9))": HEADER,
    "observer.latest(0)": EVERYWHERE,
    "twice(lambda: observer.latest(0))": EVERYWHERE,
    "producer.put(ones)": EVERYWHERE,
    "producer.put_many(np.stack([ones] * 2))": EVERYWHERE,
    "in_place()": EVERYWHERE,
    "twice(in_place)": EVERYWHERE,
    "producer.claim().abort()": (),
    "producer.claim(); producer.abandon()": (),
    "held.block_offset": (),
    "producer.drop(); ring.stats()": HEADER,
    "producer.wait_for_consumers(2, timeout=0)": ("to nothing",),
    "held.array.sum(); held.release()": (),
    "consumer.close(); lossy.close(); producer.close(); ring.close()": (),
}


@pytest.fixture
def victim(peer, name):
    """Start a process with a ring open, its handles and `path`, that has run some statements."""

    def start(*statements: str):
        other = peer()
        other.do(OPENED.format(name=name) + "".join(f"    {line}\n" for line in statements))
        return other

    yield start
    block_file(name).unlink(missing_ok=True)


def ended_by(other, statements: str) -> int:
    """How a process ends that runs these."""
    other.start(f"exec({statements!r})")
    return other.wait()


@pytest.mark.parametrize("where", CUTS)
@pytest.mark.parametrize("call", CALLS)
def test_no_call_ends_the_process(victim, call, where):
    other = victim(SURVIVE, CUTS[where])
    if where in CALLS[call]:
        with pytest.raises(PeerError, match=r"was cut while it was in use.*Recreate") as raised:
            other.do(call)
        assert raised.value.kind == "RingCorrupt"
    else:
        other.do(call)
    other.do("held.release(); ring.close()")


@pytest.mark.parametrize("where", CUTS)
def test_a_new_producer_maps_anew_and_finds_the_file_short(victim, where):
    other = victim(SURVIVE, "producer.close()", CUTS[where])
    with pytest.raises(PeerError) as raised:
        other.do("ring.producer()")
    assert raised.value.kind == ("RingNotReady" if where == "to nothing" else "RingCorrupt")


def test_lost_frames_read_as_zeros_and_others_as_they_were(victim):
    other = victim(SURVIVE, "frames = [held, consumer.get(0), consumer.get(0)]", LAST_SLOTS)
    sums = other.ask("[int(frame.array.sum()) for frame in frames]")
    assert sorted(sums) == [0, WORDS, WORDS]
    with pytest.raises(PeerError, match="was cut"):
        other.do("consumer.try_get()")


def test_an_exception_in_a_claim_stays_what_it_was(victim):
    with pytest.raises(PeerError, match="the user's own"):
        victim(SURVIVE, TO_NOTHING).do("failing()")


def test_a_consumer_that_sleeps_is_told(victim, name):
    other = victim(SURVIVE, "consumer.batch(2)")
    other.start("consumer.get()").asleep()
    os.truncate(block_file(name), 0)
    with pytest.raises(PeerError, match="was cut"):
        other.answer()


def test_a_wait_for_several_rings_is_told(victim, name):
    other = victim(
        SURVIVE, "consumer.batch(2)", "other = shmring.Ring.create(shape=(4,), dtype='u8', slots=4)"
    )
    other.do("silent = other.consumer()")
    other.start("shmring.wait([silent, consumer]) == [consumer]").asleep()
    os.truncate(block_file(name), 0)
    assert other.answer() is True
    with pytest.raises(PeerError, match="was cut"):
        other.do("consumer.get()")
    other.do("silent.close(); other.unlink(); other.close()")


def test_a_producer_that_sleeps_is_told(victim, name):
    other = victim(SURVIVE, "producer.close()", "producer = ring.producer()", "producer.put(ones)")
    other.start("producer.put(ones)").asleep()
    os.truncate(block_file(name), 0)
    with pytest.raises(PeerError, match="was cut"):
        other.answer()


def test_other_rings_of_the_process_go_on(victim):
    other = victim(SURVIVE, "second = shmring.Ring.create(shape=(4,), dtype='u8', slots=4)", TO_NOTHING)
    with pytest.raises(PeerError, match="was cut"):
        other.do("ring.stats()")
    other.do("writer, reader = second.producer(), second.consumer()")
    assert other.ask("writer.put(np.arange(4, dtype='u8')) and reader.get(0).array.tolist()") == [0, 1, 2, 3]
    other.do("second.unlink()")
    # The addresses of the first one are used again, for a ring that lost nothing.
    other.do("del held, consumer, lossy, observer, producer; ring.close(); del ring")
    other.do("third = [shmring.Ring.create(shape=(4,), dtype='u8', slots=4) for _ in range(3)]")
    assert other.ask("[one.stats().published for one in third]") == [0, 0, 0]
    other.do("for one in third: one.unlink()")


def test_installed_once_for_rings_opened_before_and_after(victim):
    other = victim(SURVIVE, SURVIVE, "late = shmring.Ring.attach(ring.name)", TO_NOTHING)
    for ring in ("ring", "late"):
        with pytest.raises(PeerError, match="was cut"):
            other.do(f"{ring}.stats()")


def test_a_forked_child_has_the_handler_too(victim):
    other = victim(SURVIVE)
    other.do(f"""if True:
        child = os.fork()
        if child == 0:
            {TO_NOTHING}
            try:
                ring.stats()
            except shmring.RingCorrupt:
                os._exit(7)
            os._exit(1)
    """)
    assert other.ask("os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])") == 7


def test_a_forked_child_maps_the_slots_elsewhere(victim):
    """The handler knows the new place, and what the child inherited is not in the file any more."""
    other = victim(SURVIVE, "array = held.array")
    other.do(f"""if True:
        child = os.fork()
        if child == 0:
            {LAST_SLOTS}
            try:
                observer.latest(0)
            except shmring.RingCorrupt:
                os._exit(7 if int(array.sum()) == WORDS else 2)
            os._exit(1)
    """)
    assert other.ask("os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])") == 7


def test_a_fork_after_the_cut_copies_zeros(victim):
    other = victim(SURVIVE, "array = held.array", TO_NOTHING)
    other.do("""if True:
        child = os.fork()
        if child == 0:
            os._exit(7 if int(array.sum()) == 0 else 2)
    """)
    assert other.ask("os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])") == 7


def test_a_punched_hole_is_zeros_and_no_signal(victim):
    """Only a full file system makes a hole a SIGBUS; here the pages are simply new."""
    other = victim(SURVIVE, "libc = ctypes.CDLL(None, use_errno=True)", "size = os.stat(path).st_size")
    other.do("fd = os.open(path, os.O_RDWR)")
    hole = "libc.fallocate(fd, 3, ctypes.c_long(size - 4 * mmap.PAGESIZE), ctypes.c_long(4 * mmap.PAGESIZE))"
    assert other.ask(hole) == 0
    assert other.ask("int(held.array.sum())") == 0
    assert other.ask("ring.stats().published") == 3


def test_a_hole_in_a_full_file_system(peer):
    """There the kernel has no page to fill the hole with: SIGBUS, though the file is as long as ever."""
    other = peer()
    other.do("""if True:
        import ctypes
        libc = ctypes.CDLL(None, use_errno=True)
        newns, private = 0x20000, 1 << 14 | 1 << 18
        mounted = (libc.unshare(newns) == 0 and libc.mount(None, b"/", None, private, None) == 0
                   and libc.mount(b"none", b"/dev/shm", b"tmpfs", 0, b"size=256k") == 0)
    """)
    if not other.ask("mounted"):
        pytest.skip("may not mount a file system")
    other.do(OPENED.format(name="full"))
    other.do("size, fd = os.stat(path).st_size, os.open(path, os.O_RDWR)")
    other.do("""if True:
        with open("/dev/shm/fill", "wb", 0) as file:
            os.posix_fallocate(file.fileno(), 0, os.statvfs("/dev/shm").f_bavail * mmap.PAGESIZE)
            slots = 4 * mmap.PAGESIZE
            assert libc.fallocate(fd, 3, ctypes.c_long(size - slots), ctypes.c_long(slots)) == 0
            os.posix_fallocate(file.fileno(), 0, os.stat("/dev/shm/fill").st_size + slots)
    """)
    other.do(SURVIVE)
    assert other.ask("int(held.array.sum())") == 0
    with pytest.raises(PeerError, match="was cut"):
        other.do("ring.stats()")


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


@pytest.mark.parametrize("call", ["consumer.get(0)", "producer.put(ones)", "held.array.sum()"])
def test_without_it_sigbus_ends_the_process(victim, call):
    assert ended_by(victim(TO_NOTHING), call) == -signal.SIGBUS


FOREIGN = (
    "file = open(f'/dev/shm/{ring.name}', 'r+b')",
    "foreign = mmap.mmap(file.fileno(), 0)",  # not a mapping of shmring
    TO_NOTHING,
)


def test_a_fault_elsewhere_ends_the_process(victim):
    assert ended_by(victim(SURVIVE, *FOREIGN), "foreign[0]") == -signal.SIGBUS


@pytest.mark.parametrize("before", ["", "signal.signal(signal.SIGBUS, signal.SIG_IGN)"])
def test_a_signal_that_is_sent_does_what_it_did(victim, before):
    code = ended_by(victim(before, SURVIVE), "os.kill(os.getpid(), signal.SIGBUS); os._exit(7)")
    assert code == (7 if before else -signal.SIGBUS)


def test_a_fault_elsewhere_goes_to_the_handler_before(victim):
    other = victim("faulthandler.enable()", SURVIVE, *FOREIGN)
    with pytest.raises(PeerError, match="was cut"):
        other.do("ring.stats()")
    assert ended_by(other, "foreign[0]") == -signal.SIGBUS
    assert "Fatal Python error: Bus error" in other.stderr()


def test_a_handler_installed_over_it_is_an_error(victim):
    """Each would pass the signal on to the other for ever."""
    other = victim(SURVIVE, "faulthandler.enable()")
    with pytest.raises(PeerError, match=r"faulthandler\.enable") as raised:
        other.do(SURVIVE)
    assert raised.value.kind == "RuntimeError"
    other.do("faulthandler.disable()")
    other.do(f"{SURVIVE}; {TO_NOTHING}; held.array.sum()")
