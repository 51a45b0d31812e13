"""Errors: one tree, each also a standard type; messages name what was found, expected, to do."""

import builtins
import errno
import os
import pickle
import struct
import subprocess
import sys
import threading
from multiprocessing.shared_memory import SharedMemory

import numpy as np
import pytest

import shmring
from shmring import _messages
from support.blocks import SHM, block_file, fresh_name
from support.frames import WORDS, check, drain, feed, payload
from support.peers import (
    attach,
    become_nobody,
    close_consumer,
    close_ring,
    hold_the_newest,
    look,
    observe,
    open_consumer,
    open_lossy_consumer,
    open_producer,
    published,
    take,
    take_all,
)
from support.processes import PeerError
from support.waiting import PATIENCE, wait_asleep

STANDARD = {
    "RingExists": "FileExistsError",
    "RingNotFound": "FileNotFoundError",
    "RingAccessDenied": "PermissionError",
    "RingNotReady": "TimeoutError",
    "RingIncompatible": "ValueError",
    "RingCorrupt": "RuntimeError",
    "NoSpace": "OSError",
    "RingFull": "TimeoutError",
    "RingEmpty": "TimeoutError",
    "RingClosed": "EOFError",
    "ProducerExists": "RuntimeError",
    "ProducerDied": "ConnectionError",
    "ProducerFailed": "ConnectionError",
    "TooManyConsumers": "RuntimeError",
    "TooFewConsumers": "TimeoutError",
    "SlotsHeld": "RuntimeError",
    "ForkedHandle": "RuntimeError",
    "HandleBusy": "RuntimeError",
}
MAGIC, ABI, READY, GENERATION, BLOCK_BYTES, SLOTS = 0, 8, 12, 16, 48, 56  # of the header; docs/layout.md


def numbers(text: object) -> str:
    """A message without the separators of thousands."""
    return str(text).replace(",", "").replace("_", "")


# ---- the tree


def test_each_error_is_also_a_standard_one():
    for name, standard in STANDARD.items():
        kind = getattr(shmring, name)
        assert issubclass(kind, shmring.ShmringError), name
        assert issubclass(kind, getattr(builtins, standard)), name
        assert getattr(shmring.errors, name) is kind
        assert name in shmring.__all__
        assert kind.__doc__, name


def test_the_tree_is_complete():
    public = {
        name
        for name, value in vars(shmring.errors).items()
        if isinstance(value, type) and issubclass(value, Exception) and not name.startswith("_")
    }
    assert public == {"ShmringError", *STANDARD}
    assert shmring.ShmringError.__bases__ == (Exception,)


def test_errors_of_the_system_have_their_errno():
    """For code that looks at errno, as one does with OSError."""
    found = {name: getattr(shmring, name)("the message") for name in STANDARD}
    numbered = {name: error.errno for name, error in found.items() if isinstance(error, OSError)}
    assert numbered == {
        "RingExists": errno.EEXIST,
        "RingNotFound": errno.ENOENT,
        "RingAccessDenied": errno.EACCES,
        "NoSpace": errno.ENOSPC,
        "ProducerDied": errno.ECONNRESET,
        "ProducerFailed": errno.ECONNRESET,
        **dict.fromkeys(("RingNotReady", "RingFull", "RingEmpty", "TooFewConsumers"), errno.ETIMEDOUT),
    }


def test_errors_can_be_pickled():
    """They come back from pools and futures."""
    for name in STANDARD:
        error = pickle.loads(pickle.dumps(getattr(shmring, name)("the message")))
        assert type(error).__name__ == name
        assert "the message" in str(error)


def test_a_timeout_says_what_was_found_when_it_came(make):
    """Its message is put together when somebody reads it."""
    ring = make()
    with ring.consumer() as consumer:
        with ring.producer() as producer:
            with pytest.raises(shmring.RingEmpty) as caught:
                consumer.get(0)
            feed(producer, 2)
        error = caught.value
        copied = pickle.loads(pickle.dumps(error))
        for said in (str(error), repr(error), str(copied), repr(copied), str(error.args[0])):
            assert "alive" in said
            assert " 0 frames" in said
        assert type(copied.args[0]) is str


# ---- names and blocks


BAD = "the name is taken, missing, another program's block, truncated, of another version, half created"


@pytest.mark.event(BAD)
def test_the_name_is_missing(name):
    for timeout in (0, 0.01):
        with pytest.raises(shmring.RingNotFound, match=name):
            shmring.Ring.attach(name, timeout=timeout)


@pytest.mark.event(BAD)
def test_the_name_is_taken(ring):
    with pytest.raises(shmring.RingExists) as caught:
        shmring.Ring.create(ring.name, shape=(4,), dtype="u1", slots=2)
    for part in (ring.name, "attach", "exist_ok"):
        assert part in str(caught.value)
    with ring.producer() as producer, ring.consumer() as consumer:
        feed(producer, 1)
        assert check(consumer.get(0)) == 0


@pytest.mark.event(BAD)
@pytest.mark.parametrize(
    "content", [b"somebody else's data " * 1000, b"x", bytes(100_000)], ids=["text", "tiny", "zeros"]
)
def test_another_programs_block_is_left_alone(make, name, content):
    block_file(name).write_bytes(content)
    try:
        for use in (
            lambda: shmring.Ring.attach(name),
            lambda: shmring.Ring.attach(name, readonly=True),
            lambda: make(name),
            lambda: make(name, exist_ok=True),
        ):
            with pytest.raises(shmring.ShmringError, match=name) as caught:
                use()
            if content[:1] == b"s":
                assert isinstance(caught.value, shmring.RingIncompatible | shmring.RingExists)
        assert block_file(name).read_bytes() == content
    finally:
        block_file(name).unlink()


@pytest.mark.event(BAD)
def test_a_shared_memory_block_is_left_alone(make):
    block = SharedMemory(create=True, size=100_000)
    try:
        block.buf[:4] = b"mine"
        with pytest.raises(shmring.RingIncompatible, match=block.name):
            shmring.Ring.attach(block.name, timeout=0.05)
        with pytest.raises((shmring.RingIncompatible, shmring.RingExists), match=block.name):
            make(block.name)
        assert bytes(block.buf[:4]) == b"mine"
    finally:
        block.close()
        block.unlink()


@pytest.fixture
def fabricate(make):
    """fabricate(change): the name of a block that is a ring's, with its bytes changed by `change`."""
    names = []

    def fabricate(change) -> str:
        ring = make()
        data = bytearray(block_file(ring.name).read_bytes())
        ring.unlink()
        name = fresh_name()
        names.append(name)
        changed = change(data)
        block_file(name).write_bytes(data if changed is None else changed)
        return name

    yield fabricate
    for name in names:
        block_file(name).unlink(missing_ok=True)


@pytest.mark.event(BAD)
@pytest.mark.parametrize("size", [40, 4096, -1, -4096])
def test_a_truncated_block(fabricate, size):
    whole = []

    def cut(data):
        whole.append(len(data))
        return data[:size]

    name = fabricate(cut)
    with pytest.raises((shmring.RingCorrupt, shmring.RingIncompatible, shmring.RingNotReady)) as caught:
        shmring.Ring.attach(name)
    assert name in str(caught.value)
    if size not in (40,):
        assert isinstance(caught.value, shmring.RingCorrupt)
        found = block_file(name).stat().st_size
        assert str(found) in numbers(caught.value)
        assert str(whole[0]) in numbers(caught.value)


@pytest.mark.event(BAD)
def test_another_version(fabricate):
    name = fabricate(lambda data: struct.pack_into("<I", data, ABI, 77))
    with pytest.raises(shmring.RingIncompatible) as caught:
        shmring.Ring.attach(name)
    for part in (name, "77", "version 2"):
        assert part in str(caught.value)
    assert block_file(name).exists()


@pytest.mark.event(BAD)
def test_half_created(fabricate):
    name = fabricate(lambda data: struct.pack_into("<I", data, READY, 0))
    for timeout in (0, 0.05):
        with pytest.raises(shmring.RingNotReady, match=name):
            shmring.Ring.attach(name, timeout=timeout)
    opened = []
    thread = threading.Thread(target=lambda: opened.append(shmring.Ring.attach(name, timeout=PATIENCE)))
    thread.start()
    wait_asleep(os.getpid(), thread.native_id)
    with open(block_file(name), "r+b") as file:
        file.seek(READY)
        file.write(struct.pack("<I", 1))
    with shmring.Ring.attach(name):  # as its creator would be
        thread.join()
    (ring,) = opened
    assert ring.shape == (WORDS,)
    ring.close()


@pytest.mark.event(BAD)
def test_an_empty_file(name):
    """Between shm_open and ftruncate, as other programs create blocks."""
    block_file(name).touch()
    try:
        for timeout in (0, 0.05):
            with pytest.raises(shmring.RingNotReady, match=name):
                shmring.Ring.attach(name, timeout=timeout)
    finally:
        block_file(name).unlink()


@pytest.mark.parametrize("offset", range(BLOCK_BYTES, 168, 8))
@pytest.mark.parametrize("value", [0, 1, 3, 2**32, 2**63, 2**64 - 1], ids=hex)
def test_a_damaged_geometry_is_refused_or_harmless(fabricate, offset, value):
    """No number in the header leads out of the block."""
    before = []

    def damage(data):
        before.append(struct.unpack_from("<Q", data, offset)[0])
        struct.pack_into("<Q", data, offset, value)

    name = fabricate(damage)
    if before == [value]:
        shmring.Ring.attach(name).close()
    else:
        with pytest.raises((shmring.RingCorrupt, shmring.RingIncompatible), match=name):
            shmring.Ring.attach(name)


def test_a_damaged_schema_is_refused(make, name):
    ring = make(attrs={"marker": "find me"})
    data = bytearray(block_file(ring.name).read_bytes())
    at = data.index(b"find me")
    data[at - 12 : at + 12] = b"\xff" * 24
    block_file(name).write_bytes(data)
    try:
        with pytest.raises(shmring.RingCorrupt, match=name):
            shmring.Ring.attach(name)
    finally:
        block_file(name).unlink()


@pytest.mark.parametrize("seed", range(5))
def test_random_damage_never_crashes(make, fork, seed):
    """A process that attaches to noise gets an error or spoilt data, never a signal."""
    ring = make(slots=4)
    with ring.producer() as producer:
        feed(producer, 3)

    def work(send):
        random = np.random.default_rng(seed)
        for _ in range(40):
            name = fresh_name()
            data = np.fromfile(block_file(ring.name), "u1")
            spots = random.integers(READY + 4, 8192, int(random.integers(1, 30)))
            data[spots] = random.integers(0, 256, len(spots))
            data.tofile(block_file(name))
            try:
                with (
                    shmring.Ring.attach(name) as damaged,
                    damaged.consumer(lossless=bool(seed % 2)) as consumer,
                ):
                    damaged.stats()
                    for take in (consumer.try_get, consumer.try_get, lambda: consumer.latest(0)):
                        frame = take()
                        assert frame is None or frame.array.sum() is not None
                    with damaged.producer(on_full="drop") as producer:
                        feed(producer, 10)
            except (shmring.ShmringError, ValueError, OverflowError):
                pass
            finally:
                block_file(name).unlink()
        send("done")

    child = fork(work)
    assert child.receive(60) == "done"
    assert child.wait() == 0


# ---- space


@pytest.mark.event("/dev/shm is too small")
def test_more_than_dev_shm_holds(name):
    before = set(os.listdir(SHM))
    space = os.statvfs(SHM)
    free = space.f_bavail * space.f_frsize
    frame = (space.f_blocks * space.f_frsize) // 2 + (64 << 20)
    with pytest.raises(shmring.NoSpace) as caught:
        shmring.Ring.create(name, shape=(frame,), dtype="u1", slots=2)
    message = numbers(caught.value)
    for part in (name, "--shm-size", "/dev/shm"):
        assert part in message
    assert isinstance(caught.value, OSError)
    assert any(digits in message for digits in (str(2 * frame)[:2], str(free)[:2]))
    assert not {left for left in set(os.listdir(SHM)) - before if name in left}


SMALL = """
import os, shmring, sys
for size in (900_000, 5_000_000):
    try:
        shmring.Ring.create("small", shape=(size,), dtype="u1", slots=4)
    except shmring.NoSpace as error:
        print(error)
    else:
        print("no error")
    assert os.listdir("/dev/shm") == [], os.listdir("/dev/shm")
with shmring.Ring.create("fits", shape=(200_000,), dtype="u1", slots=4) as ring:
    with ring.producer() as producer, ring.consumer() as consumer:
        for _ in range(8):
            with producer.claim() as slot:
                slot.array[...] = 7
            assert consumer.get(0).array.sum() == 1_400_000
"""


@pytest.mark.event("/dev/shm is too small")
def test_a_small_dev_shm(tmp_path):
    """A container's: a tmpfs of its own, where the machine allows to mount one."""
    script = tmp_path / "small.py"
    script.write_text(SMALL)
    mount = "mount -t tmpfs -o size=1m tmpfs /dev/shm"
    if subprocess.run(["unshare", "-m", "sh", "-c", mount], capture_output=True).returncode:
        pytest.skip("no right to mount a tmpfs")
    command = ["unshare", "-m", "sh", "-c", f'{mount} && exec "$0" "$1"', sys.executable, script]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")
    lines = ended.stdout.splitlines()
    assert len(lines) == 2
    for line in lines:
        assert "--shm-size" in line
        assert "small" in line


def test_nothing_is_left_when_create_fails_late(name):
    """What can be refused is refused before there is a file, or the file goes again."""
    before = set(os.listdir(SHM))
    for wrong in ({"attrs": {1: {2}}}, {"meta": "O"}, {"dtype": "O"}, {"slots": 1 << 60}):
        with pytest.raises((TypeError, ValueError, shmring.ShmringError)):
            shmring.Ring.create(name, **({"shape": (4,), "dtype": "u1", "slots": 2} | wrong))
    assert not {left for left in set(os.listdir(SHM)) - before if name in left}


# ---- permissions

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


@needs_root
@pytest.mark.event("a user attaches from another account")
@pytest.mark.parametrize("readonly", [True, False])
def test_another_account_is_refused_with_mode_and_owner(ring, peer, readonly):
    other = peer()
    other.run(become_nobody)
    with pytest.raises(PeerError) as caught:
        other.run(observe if readonly else attach, ring.name)
    assert caught.value.kind == "RingAccessDenied"
    assert "PermissionError" in caught.value.kinds
    message = caught.value.message
    assert ring.name in message
    assert "600" in message
    assert "root" in message


@needs_root
@pytest.mark.event("a user attaches from another account")
def test_another_account_may_watch_what_it_may_read(make, peer):
    ring = make(mode=0o644)
    other = peer()
    other.run(become_nobody)
    with pytest.raises(PeerError) as caught:
        other.run(attach, ring.name)
    assert caught.value.kind == "RingAccessDenied"
    assert "644" in caught.value.message
    assert "readonly" in caught.value.message
    with ring.producer() as producer:
        other.run(observe, ring.name)
        feed(producer, 2)
        assert [other.run(look) for _ in range(2)] == [0, 1]
        assert other.run(published) == 2
        for use in (open_producer, open_consumer):
            with pytest.raises(PeerError, match="RingAccessDenied"):
                other.run(use)


@needs_root
@pytest.mark.event("a user attaches from another account")
def test_another_account_may_take_part_if_the_mode_says_so(make, peer):
    ring = make(mode=0o666)
    other = peer()
    other.run(become_nobody)
    other.run(attach, ring.name)
    other.run(open_consumer)
    with ring.producer() as producer:
        feed(producer, 2)
        assert other.run(take_all) == [0, 1]


# ---- who is in the way


@pytest.mark.event("all slots are held")
def test_full_names_everyone_in_the_way_and_nobody_else(make, peer):
    ring = make(slots=8)
    slow, hoarder = peer(ring), peer(ring)
    slow.run(open_consumer, "slow one")
    hoarder.run(open_lossy_consumer, "hoarder")
    with ring.producer(on_full="raise") as producer, ring.consumer(label="innocent") as innocent:
        feed(producer, 8)
        slow.run(take)
        drain(innocent)
        feed(producer, 1)
        drain(innocent)
        for call in (
            lambda: producer.put(payload(0)),
            producer.claim,
            lambda: producer.put_many(payload(0)[None]),
        ):
            with pytest.raises(shmring.RingFull) as caught:
                call()
            message = str(caught.value)
            for part in (str(slow.pid), "support.children", "slow one", "8", ring.name):
                assert part in message
            assert "innocent" not in message
            assert "hoarder" not in message
        hoarder.run(hold_the_newest)
        slow.run(close_consumer)
        feed(producer, 1)


def test_a_ring_that_got_space_by_the_time_of_its_message_says_so(ring):
    error = _messages.held_up(ring._block, ring._fd, None, 2 * 10**9, ring.slots)
    assert str(error) == f"ring {ring.name!r} was full for 2 s, but has space again now: retry"


def open_two_consumers(here):
    here.first, here.second = here.ring.consumer(label="first"), here.ring.consumer(label="second")


def close_the_first(here):
    here.first.close()


def test_full_says_that_the_frames_taken_last_keep_their_places(make):
    ring = make(slots=2, spares=4)
    with ring.producer() as producer, ring.consumer() as consumer:
        feed(producer, 2)
        held = [consumer.get(0), consumer.get(0)]
        with pytest.raises(shmring.RingFull) as raised:
            producer.put(payload(2), timeout=0)
        assert "has not read, or took last and holds: " in str(raised.value)
        assert "lag 0 frames, holds 2 frames. What a lossless consumer took" in str(raised.value)
        assert "release frames earlier" in str(raised.value)
        assert consumer.try_get() is None  # it asks for the next frame
        for number in range(2, 4):
            assert producer.put(payload(number), timeout=0)
        with pytest.raises(shmring.RingFull, match=r"has not read: [^\n]*lag 2 frames\. Wait"):
            producer.put(payload(4), timeout=0)
        assert len(held) == consumer.held


def test_a_full_table_names_those_in_it(make, peer):
    ring = make(consumers=2)
    other = peer(ring)
    other.run(open_two_consumers)
    for _ in range(2):
        with pytest.raises(shmring.TooManyConsumers) as caught:
            ring.consumer()
        for part in ("2", str(other.pid), "first", "second", "consumers="):
            assert part in str(caught.value)
    other.run(close_the_first)
    with ring.consumer() as consumer:
        assert consumer.place == 0


def test_messages_say_what_to_do(ring):
    with ring.producer() as producer, ring.consumer() as consumer:
        with pytest.raises(shmring.RingEmpty, match=ring.name):
            consumer.get(0)
        feed(producer, ring.slots)
        with pytest.raises(shmring.RingFull) as caught:
            producer.put(payload(0), timeout=0)
        assert "on_full" in str(caught.value) or "lossless" in str(caught.value)
        held = [consumer.get(0) for _ in range(ring.slots)]
        with pytest.raises(shmring.SlotsHeld, match="release"):
            consumer.get(0)
        held.clear()
        with pytest.raises(shmring.TooFewConsumers, match="1"):
            producer.wait_for_consumers(2, 0)
    with ring.consumer(start="next") as consumer, pytest.raises(shmring.RingClosed, match=ring.name):
        consumer.get(0)


def test_a_taken_name_names_who_uses_it(ring):
    with ring.producer(), ring.consumer(label="recorder"):
        with pytest.raises(
            shmring.RingExists, match=r"in use \(producer pid .*; consumer pid .*'recorder'"
        ) as caught:
            shmring.Ring.create(ring.name, shape=(4,), dtype="f4", slots=4)
        assert str(os.getpid()) in str(caught.value)
    with pytest.raises(shmring.RingExists, match=f"pid {os.getpid()}, this process, is attached to it"):
        shmring.Ring.create(ring.name, shape=(4,), dtype="f4", slots=4)


def test_a_taken_name_that_another_process_is_attached_to(make, peer):
    ring = make()
    other = peer(ring)
    ring.close()
    with pytest.raises(shmring.RingExists, match="another process is attached"):
        shmring.Ring.create(ring.name, shape=(4,), dtype="f4", slots=4)
    with (
        shmring.Ring.attach(ring.name, readonly=True),
        pytest.raises(shmring.RingExists, match="another process is attached"),
    ):
        shmring.unlink(ring.name)
    other.run(close_ring)
