"""Onlookers: any file, cut at any moment, harms none of them, and no reader stops a ring."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import json
import os
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import shmring
from shmring import _core, _inventory, _names, _presence
from support import peers
from support.blocks import block_file, inode, mappings
from support.frames import WORDS, feed, payload
from support.processes import PeerError
from support.waiting import PATIENCE, task_state, wait_until

pytestmark = pytest.mark.slow

PRODUCER = 1 << 40
TO_THE_END = 0  # as the length of a lock
START_TIME = 256 + 656  # of the producer, in the block
CONSUMERS_START_TIME = 1024 + 144  # of the consumer at place 0
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be two users")


@pytest.fixture
def block(name):
    """The path of a name that nobody has; nothing is left there."""
    path = block_file(name)
    yield path
    with contextlib.suppress(FileNotFoundError):
        path.rmdir() if stat.S_ISDIR(path.lstat().st_mode) else path.unlink()


def up(value: int, unit: int) -> int:
    return -(-value // unit) * unit


def write_sparse(path: Path, slots: int) -> int:
    """A ring's header on a file of holes, one lossless consumer included; its bytes."""
    schema = json.dumps({"dtype": "'|u1'", "shape": [64], "meta": None, "attrs": {}}).encode()
    groups_at = 1024 + 64 * 256
    schema_at = groups_at + 4 * 256
    entries = up(schema_at + len(schema), 128)
    owners = up(entries + slots * 64, 128)
    data = up(owners + slots * 32, 4096)
    total = data + slots * 64
    sizes = (total, slots, 0, 64, 64, 64, 0, 0, 64, 4096)
    geometry = (*sizes, 256, 1024, groups_at, schema_at, len(schema), entries, owners, data)
    with path.open("wb") as file:
        file.truncate(total)
        file.write(struct.pack("<QII16sQII18Q", 0x00474E49524D4853, 2, 1, b"x" * 16, 0, 1, 0, *geometry))
        file.seek(schema_at)
        file.write(schema)
        file.seek(1024 + 128)
        file.write(struct.pack("<Q", 2))
    return total


# ---- files without pages, and files that are cut


@pytest.mark.parametrize("readonly", [True, False])
def test_a_file_without_its_pages_is_refused_and_gets_none(block, name, readonly):
    total = write_sparse(block, 1 << 14)
    before = block.stat().st_blocks
    with pytest.raises(shmring.RingCorrupt, match=rf"{name}.*lacks pages.*{total}.*{before * 512}.*Recreate"):
        shmring.Ring.attach(name, readonly=readonly)
    found = _inventory.look(name)
    assert (found.state, found.ring) == ("damaged", None)
    assert "lacks pages" in found.problem
    assert block.stat().st_blocks == before


@pytest.mark.parametrize("words", [["ls"], ["info", "NAME"], ["metrics"], ["doctor"], ["rm", "--stale"]])
def test_a_file_of_holes_ends_no_command(command, block, name, words):
    write_sparse(block, 1 << 22)
    before = block.stat().st_blocks
    done = command(*(name if word == "NAME" else word for word in words), text=True)
    _, noise = done.communicate(timeout=PATIENCE)
    assert done.returncode in (0, 1), noise
    assert "Traceback" not in noise
    assert block.stat().st_blocks == before


CUT = (0, 100, 4096, 8192, -4096)


def look_at_stats(here):
    here.ring.stats()


def look_at_repr(here):
    repr(here.ring)


def look_with_a_new_observer(here):
    here.ring.observer().latest(0)


def look_with_the_observer(here):
    here.observer.latest(0)


LOOKS = (look_at_stats, look_at_repr, look_with_a_new_observer, look_with_the_observer)


def outcome(other, call) -> str:
    """The kind of error that a call of another process ends in, or "none"."""
    try:
        other.run(call)
    except PeerError as error:
        return error.kind
    return "none"


@pytest.mark.parametrize("readonly", [True, False])
@pytest.mark.parametrize("size", CUT)
def test_a_ring_that_is_cut_while_it_is_looked_at(make, peer, size, readonly):
    """Without survive_truncation(): an error, or a look at what is left."""
    ring = make(slots=8)
    with ring.producer() as producer:
        feed(producer, 3)
    other = peer()
    other.run(peers.observe, ring.name, readonly)
    whole = block_file(ring.name).stat().st_size
    os.truncate(block_file(ring.name), size if size >= 0 else whole + size)
    for look in LOOKS:
        assert outcome(other, look) in ("none", "RingCorrupt")
    assert "RingCorrupt" in {outcome(other, look) for look in LOOKS} or size < 0
    os.truncate(block_file(ring.name), whole)  # zeros by now
    for look in LOOKS:
        assert outcome(other, look) in ("none", "RingCorrupt", "RingEmpty", "RingClosed")


def states_seen(here, name) -> list[str]:
    return sorted({_inventory.look(name).state for _ in range(500)})


def test_a_ring_that_is_cut_and_extended_again_and_again(make, peer):
    ring = make(slots=64)
    path, whole = block_file(ring.name), ring.nbytes
    other = peer()
    ended = threading.Event()

    def cut():
        sizes = itertools.cycle((0, 4096, 300, whole - 4096))
        while not ended.is_set():
            os.truncate(path, next(sizes))
            os.truncate(path, whole)

    thread = threading.Thread(target=cut)
    thread.start()
    try:
        states = other.run(states_seen, ring.name)
    finally:
        ended.set()
        thread.join()
    assert set(states) <= {"live", "damaged", "unfinished", "foreign"}


def see_the_newest(here, name) -> tuple[int, int]:
    """Its last item, and how many were published."""
    peers.attach(here, name, readonly=True)
    here.seen = here.ring.observer().latest(0)
    return here.seen.array[-1].item(), here.ring.stats().published


def mapped(here) -> list:
    return mappings(inode(here.ring.name))


def test_a_look_maps_nothing(make, peer):
    ring = make()
    with ring.producer() as producer:
        producer.put(np.arange(WORDS, dtype="u8"))
        other = peer()
        assert other.run(see_the_newest, ring.name) == [WORDS - 1, 1]
        assert other.run(mapped) == []


# ---- locks of processes that may only read


@pytest.fixture
def lock_as_reader():
    """lock_as_reader(name, byte, length): a shared lock on bytes of a ring's file; returns how to end it."""
    opened = []

    def lock(name: str, byte: int = 0, length: int = TO_THE_END):
        fd = os.open(block_file(name), os.O_RDONLY)
        opened.append(fd)
        request = struct.pack("@hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, byte, length, 0)
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, request)
        return lambda: os.close(opened.pop(opened.index(fd)))

    yield lock
    for fd in opened:
        os.close(fd)


def test_a_readers_lock_is_no_sign_of_life(make, peer, lock_as_reader):
    ring = make()
    other = peer(ring)
    other.run(peers.open_producer, 1)
    other.run(peers.open_consumer, label="theirs")
    with ring.consumer() as frames:
        assert frames.get(0).seq == 0
        other.kill()
        lock_as_reader(ring.name, PRODUCER, 1)
        lock_as_reader(ring.name, PRODUCER + 1, 1)
        lock_as_reader(ring.name, PRODUCER + 3, 62)
        assert ring.stats().producer.state == "died"
        assert [one.alive for one in ring.stats().consumers if one.label == "theirs"] == [False]
        with pytest.raises(shmring.ProducerDied):
            frames.get(timeout=PATIENCE)


def test_an_error_names_the_reader_whose_lock_is_in_the_way(make, lock_as_reader):
    ring = make()
    let_go = lock_as_reader(ring.name, 0, PRODUCER + 65)
    for take, error in ((ring.producer, shmring.ProducerExists), (ring.consumer, shmring.TooManyConsumers)):
        with pytest.raises(error, match=rf"shared lock.*pid {os.getpid()}.*End that process") as caught:
            take()
        assert "live producer already" not in str(caught.value)
    let_go()
    ring.producer().close()
    ring.consumer().close()


def test_a_dead_consumer_that_cannot_be_evicted_is_explained(make, peer, lock_as_reader):
    ring = make()
    other = peer(ring)
    other.run(peers.open_consumer, label="gone")
    with ring.producer() as producer:
        other.kill()
        let_go = lock_as_reader(ring.name, PRODUCER + 1, 64)
        frame = np.zeros(WORDS, "u8")
        for _ in range(ring.slots):
            producer.put(frame, timeout=0)
        with pytest.raises(shmring.RingFull, match=r"'gone'.*dead.*cannot be freed.*shared lock"):
            producer.put(frame, timeout=0)
        let_go()
        producer.put(frame, timeout=PATIENCE)


@pytest.mark.parametrize("use", ["create", "exist_ok", "rm"])
def test_a_readers_lock_keeps_no_stale_ring(make, peer, lock_as_reader, name, block, use):
    other = peer()
    other.run(peers.create, name, shape=(4,))
    other.kill()
    lock_as_reader(name)
    assert _inventory.look(name).state == "stale"
    if use == "rm":
        _inventory.remove(name)
        assert not block.exists()
    else:
        ring = make(name, exist_ok=use == "exist_ok")
        assert ring.shape == (WORDS,)


def test_attaching_works_beside_a_readers_lock(make, lock_as_reader):
    ring = make()
    ring.close()
    lock_as_reader(ring.name)
    shmring.Ring.attach(ring.name).close()


def test_a_ring_in_use_is_in_use_beside_a_readers_lock(make, lock_as_reader):
    ring = make()
    lock_as_reader(ring.name, 0, PRODUCER)
    assert _inventory.look(ring.name).state == "live"
    with pytest.raises(shmring.RingExists, match="in use"):
        make(ring.name)
    with pytest.raises(shmring.RingExists, match="in use"):
        _inventory.remove(ring.name)


def test_nobody_attaches_while_a_ring_is_replaced(make):
    ring = make()
    ring.close()
    fd = _names.open_block(ring.name, _core.CONSUME)
    try:
        assert _presence.keep_out(fd)
        with pytest.raises(shmring.RingNotFound, match="being replaced"):
            shmring.Ring.attach(ring.name)
        _presence.let_in(fd)
        shmring.Ring.attach(ring.name).close()
        assert _inventory.look(ring.name).state == "live"
    finally:
        os.close(fd)
    assert _inventory.look(ring.name).state == "stale"


# ---- who is named


def test_this_process_is_named_as_such(make):
    ring = make()
    with ring.producer(), pytest.raises(shmring.ProducerExists, match=rf"pid {os.getpid()}, this process"):
        ring.producer()


def test_a_pid_of_another_namespace_gets_no_command(make):
    """The block says when the producer started; here the process of that number started at another time."""
    ring = make()
    with ring.producer():
        assert ring.stats().producer.command
        with block_file(ring.name).open("r+b") as file:
            file.seek(START_TIME)
            file.write(struct.pack("<Q", 1 << 40))
        stats = ring.stats()
        assert (stats.producer.state, stats.producer.pid) == ("live", os.getpid())
        assert stats.producer.command == ""
        with pytest.raises(shmring.ProducerExists, match="of another pid namespace, or gone") as caught:
            ring.producer()
        assert "this process" not in str(caught.value)


def test_doctor_signals_no_process_of_another_namespace(make, peer):
    from shmring._cli.support import checks

    ring = make()
    other = peer(ring)
    other.run(peers.open_consumer, label="theirs")
    other.signal(signal.SIGSTOP)
    wait_until(lambda: task_state(other.pid) == "T", "a stopped process")
    (found,) = checks.dead_participants([_inventory.look(ring.name)])
    assert found.do == f"kill -CONT {other.pid}"
    with block_file(ring.name).open("r+b") as file:
        file.seek(CONSUMERS_START_TIME)
        file.write(struct.pack("<Q", 1 << 40))
    assert list(checks.dead_participants([_inventory.look(ring.name)])) == []


@ROOT
def test_a_container_s_consumer_is_not_taken_for_the_init_of_this_machine(make, name):
    program = (
        f"import shmring; frames = shmring.Ring.attach({name!r}, timeout=60).consumer(label='theirs')\n"
        "print('joined', flush=True); input()"
    )
    command = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", sys.executable, "-c", program]
    ring = make(name)
    with (
        ring.producer() as producer,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as inside,
    ):
        if inside.stdout.readline() != "joined\n":
            pytest.skip(f"no pid namespace here: {inside.communicate()[1]}")
        for _ in range(ring.slots):
            producer.put(payload(0), timeout=0)
        with pytest.raises(shmring.RingFull, match=r"pid 1 \(of another pid namespace.*\) label 'theirs'"):
            producer.put(payload(0), timeout=0)
        inside.communicate("\n")


# ---- what is no file, and what is another user's


def make_fifo(path: Path):
    os.mkfifo(path)


def make_socket(path: Path):
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


def make_link(path: Path):
    path.symlink_to("/dev/zero")


def make_directory(path: Path):
    path.mkdir()


def make_device(path: Path):
    os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))


KINDS = {
    "FIFO": make_fifo,
    "socket": make_socket,
    "symbolic link": make_link,
    "directory": make_directory,
    "device": make_device,
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_name_that_is_no_file(make, block, name, kind):
    try:
        KINDS[kind](block)
    except PermissionError:
        pytest.skip("needs root, to make a device")
    for use in (
        lambda: shmring.Ring.attach(name),
        lambda: shmring.Ring.attach(name, timeout=None),
        lambda: shmring.Ring.attach(name, readonly=True, timeout=PATIENCE),
        lambda: make(name),
        lambda: make(name, exist_ok=True),
        lambda: _inventory.remove(name),
        lambda: _inventory.unlink(name),
    ):
        with pytest.raises((shmring.RingExists, shmring.RingIncompatible), match=rf"{name}.*{kind}.*rm"):
            use()
    found = _inventory.look(name)
    assert found.state == "foreign"
    assert kind in found.problem
    assert block.lstat()


NOBODY = 65534
FRAMES = {"shape": (4,), "dtype": "u1", "slots": 4}


@ROOT
@pytest.mark.parametrize("mode", [0o666, 0o644, 0o600, 0o200, 0])
def test_a_stale_ring_of_another_user(block, name, fork, mode):
    fork(lambda _: shmring.Ring.create(name, **FRAMES, mode=mode)).wait()

    def as_nobody(send) -> None:
        os.setuid(NOBODY)
        for use in (
            lambda: shmring.Ring.create(name, **FRAMES),
            lambda: shmring.Ring.create(name, **FRAMES, exist_ok=True),
            lambda: _inventory.remove(name),
            lambda: _inventory.unlink(name),
            lambda: shmring.Ring.attach(name).unlink(),
        ):
            try:
                send(["nothing", str(use())])
            except (shmring.RingExists, shmring.RingAccessDenied) as error:
                send([type(error).__name__, str(error)])

    child = fork(as_nobody)
    for _ in range(5):
        _, said = child.receive()
        assert "its owner is root (uid 0)" in said
        assert "nobody (uid 65534)" in said
    assert block.exists()


@ROOT
@pytest.mark.parametrize("mode", [0o666, 0o644, 0o600])
def test_the_command_line_says_whose_a_stale_ring_is(block, name, fork, mode):
    from shmring._cli.support.advice import advice, refuse_in_use
    from shmring._cli.support.refusal import Refusal

    fork(lambda _: shmring.Ring.create(name, **FRAMES, mode=mode)).wait()

    def as_nobody(send) -> None:
        os.setuid(NOBODY)
        try:
            with advice(name):
                refuse_in_use(name)
                shmring.Ring.create(name, **FRAMES)
        except (Refusal, shmring.ShmringError) as error:
            send(str(error))

    assert "its owner is root (uid 0)" in fork(as_nobody).receive()
    assert block.exists()


@ROOT
@pytest.mark.parametrize("mode", [0o400, 0o444, 0o200, 0])
def test_a_ring_that_its_owner_may_not_write_to(block, name, fork, mode):
    def as_nobody(send) -> None:
        os.setuid(NOBODY)
        with shmring.Ring.create(name, **FRAMES):
            block.chmod(mode)
            for use in (
                lambda: shmring.Ring.attach(name),
                lambda: shmring.Ring.create(name, **FRAMES),
                lambda: _inventory.remove(name),
            ):
                try:
                    send(["nothing", str(use())])
                except (shmring.RingExists, shmring.RingAccessDenied) as error:
                    send([type(error).__name__, str(error)])

    child = fork(as_nobody)
    for _ in range(3):
        _, said = child.receive()
        assert f"its mode is {mode:#o}" in said
        assert f"chmod u+rw /dev/shm/{name}" in said
    child.wait()


@ROOT
@pytest.mark.parametrize("mode", [0o400, 0o444, 0o200, 0])
def test_a_mode_that_keeps_the_creator_out(name, fork, mode):
    def as_nobody(_send) -> None:
        os.setuid(NOBODY)
        shmring.Ring.create(name, **FRAMES, mode=mode)

    with pytest.raises(PeerError, match=f"its mode is {mode:#o}.*mode=0o600") as caught:
        fork(as_nobody).receive()
    assert caught.value.kind == "RingAccessDenied"


@ROOT
def test_doctor_leaves_the_stale_rings_of_others_to_their_owner(block, name, fork):
    from shmring._cli.support import checks

    fork(lambda _: shmring.Ring.create(name, **FRAMES, mode=0o666)).wait()

    def as_nobody(send) -> None:
        os.setuid(NOBODY)
        (found,) = checks.stale_rings([_inventory.look(name)])
        send([found.level, found.do])

    assert fork(as_nobody).receive() == ["note", "sudo -u root shmring rm --stale"]
    (found,) = checks.stale_rings([_inventory.look(name)])
    assert (found.level, found.do) == ("problem", "shmring rm --stale")


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "no inode left"),
        (errno.EROFS, "mounted read-only"),
        (errno.EACCES, "may not write"),
        (errno.EOPNOTSUPP, "without a name"),
    ],
)
def test_doctor_says_why_no_file_can_be_made(monkeypatch, number, words):
    from shmring._cli.support import checks

    def refuse(*_arguments) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(checks.os, "open", refuse)
    (found,) = checks.kernel([])
    assert words in found.found


# ---- schemas


def test_a_dtype_of_many_fields_takes_no_time(make, block, name):
    """Not by the clock: numpy's reader of PEP 3118, which is quadratic, is not asked."""
    many = np.dtype([(f"f{n}", "u1") for n in range(5000)])
    with make(shape=(2,), dtype=many, slots=2) as ring, ring.producer() as out, ring.consumer() as frames:
        out.put(np.ones(2, many))
        frame = frames.get(0)
        assert frame.array["f4999"].tolist() == [1, 1]
        assert np.asarray(frame).dtype == many
        with pytest.raises(BufferError):
            memoryview(frame)


HOSTILE = {
    "deep": b'{"dtype": "' + b"(" * 300 + b")" * 300 + b'", "shape": [1], "meta": null, "attrs": {}}',
    "deep json": b"[" * 5000,
    "nan": b'{"dtype": "\'u1\'", "shape": [1], "meta": null, "attrs": {"a": NaN}}',
    "infinity": b'{"dtype": "\'u1\'", "shape": [1], "meta": null, "attrs": {"a": 1e999}}',
    "no dict": b"7",
    "attrs of no dict": b'{"dtype": "\'u1\'", "shape": [1], "meta": null, "attrs": 7}',
    "same field": b'{"dtype": "[(\'a\',\'u1\'),(\'a\',\'u1\')]", "shape": [1], "attrs": {}, "meta": null}',
    "code": b'{"dtype": "__import__(\'os\').abort()", "shape": [1], "meta": null, "attrs": {}}',
    "dict": b'{"dtype": "{1: 2}", "shape": [1], "meta": null, "attrs": {}}',
    "large": b'{"dtype": "(\'u1\', (1180591620717411303424,))", "shape": [1], "meta": null, "attrs": {}}',
    "objects": b'{"dtype": "\'O\'", "shape": [1], "meta": null, "attrs": {}}',
    "number": b'{"dtype": 7, "shape": [1], "meta": null, "attrs": {}}',
    "long number": b'{"dtype": "\'u1\'", "shape": [' + b"9" * 5000 + b'], "meta": null, "attrs": {}}',
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_schema_is_a_damaged_ring(make, block, name, kind):
    ring = make(attrs={"room": "x" * 6000})
    data = bytearray(block_file(ring.name).read_bytes())
    at, size = data.index(b'{"dtype"'), ring._block.schema
    data[at : at + len(size)] = HOSTILE[kind].ljust(len(size))
    block.write_bytes(data)
    for readonly in (True, False):
        with pytest.raises(shmring.RingCorrupt, match=name) as caught:
            shmring.Ring.attach(name, readonly=readonly)
        assert len(str(caught.value)) < 600
    assert _inventory.look(name).state == "damaged"


def test_a_dtype_that_is_nested_too_deeply_is_refused(make):
    nested = np.dtype("u1")
    for _ in range(300):
        nested = np.dtype([("in", nested)])
    with pytest.raises(ValueError, match="nest") as caught:
        make(shape=(1,), dtype=nested)
    assert len(str(caught.value)) < 600
