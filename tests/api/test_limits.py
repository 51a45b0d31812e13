"""Limits reached, of the machine, the process and the schema: a named error, and nothing is left behind."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import resource
import subprocess
import sys
import types
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import numpy as np
import pytest

import shmring
from shmring import _blocks, _cgroup, _core, _limits, _names, _presence, _ring
from support.blocks import SHM, block_file, fresh_name
from support.children import find
from support.peers import become_nobody, close_ring, open_consumer, open_producer
from support.private_shm import give_private_shm
from support.processes import PeerError, place

pytestmark = pytest.mark.slow

RING = {"shape": (1 << 20,), "dtype": "u1", "slots": 4}  # 4 MiB and a little


# ---- in a process of its own: what there is, and what a call leaves of it


def state(here):
    return sorted(os.listdir(SHM)), len(os.listdir("/proc/self/fd"))


def error_of(here, *where):
    """The kinds of the error of a function at that place, its number and its message."""
    try:
        find(*where)(here)
    except Exception as error:
        return [one.__name__ for one in type(error).__mro__], error.errno, str(error)


def refused(here, *where):
    """The error of a call that leaves nothing."""
    before = state(here)
    found = error_of(here, *where)
    assert (left := state(here)) == before, (before, left)
    return found


def create(here, name):
    here.ring = shmring.Ring.create(name, **RING)


def create_without_name(here):
    return shmring.Ring.create(**RING)


def create_another(here):
    return shmring.Ring.create("another", **RING)


def create_or_attach(here):
    return shmring.Ring.create(here.ring.name, exist_ok=True, **RING)


def attach_again(here):
    return shmring.Ring.attach(here.ring.name)


def produce(here):
    return here.ring.producer()


def produce_and_close(here):
    here.ring.producer().close()


@pytest.fixture
def other(peer):
    """Another process that can look at what is left."""
    started = peer()
    started.run(state)
    return started


def check_refusal(found, kind: str, *parts: str) -> None:
    kinds, number, message = found
    assert kind in kinds
    assert number is not None
    for part in parts:
        assert part in message


# ---- space


def test_what_cannot_fit_takes_nothing(name, monkeypatch):
    monkeypatch.setattr(os, "posix_fallocate", lambda *given: pytest.fail("took space"))
    disk = os.statvfs(SHM)
    size = disk.f_bavail * disk.f_frsize
    with pytest.raises(shmring.NoSpace, match="--shm-size"):
        shmring.Ring.create(name, shape=(size,), dtype="u1", slots=2)
    assert not block_file(name).exists()


def let_somebody_come_between(here):
    """Once the first step of a block has its space, another file takes most of what is left."""
    _blocks.STEP, really = 1 << 20, os.posix_fallocate

    def take(fd, start, length):
        really(fd, start, length)
        if start == 0:
            with open(SHM / "other", "wb") as file:
                really(file.fileno(), 0, 13 << 20)

    os.posix_fallocate = take


def names_and_free_bytes(here):
    return os.listdir(SHM), os.statvfs(SHM).f_bavail * mmap.PAGESIZE


def test_of_two_that_do_not_both_fit_one_gives_everything_back(other):
    give_private_shm(other, "size=16m")
    other.run(let_somebody_come_between)
    with pytest.raises(PeerError, match="bytes free of 16777216") as raised:
        other.run(create, "late")
    assert raised.value.kind == "NoSpace"
    assert other.run(names_and_free_bytes) == [["other"], 3 << 20]


def create_and_drop(here, name):
    shmring.Ring.create(name, **RING).close()


def start_of_the_block(here):
    """With the generation of the ring."""
    return block_file(here.ring.name).read_bytes()[:32]


def create_twice_the_size(here):
    shmring.Ring.create(here.ring.name, **RING | {"shape": (2 << 20,)})


def test_a_stale_ring_gives_its_space_to_the_next_one(other):
    give_private_shm(other, "size=6m")
    other.run(create_and_drop, "again")
    other.run(create, "again")
    other.run(close_ring)
    generation = other.run(start_of_the_block)
    with pytest.raises(PeerError, match="it needs 83"):
        other.run(create_twice_the_size)
    assert other.run(start_of_the_block) == generation


def have_the_same_size(here):
    return create_or_attach(here).nbytes == here.ring.nbytes


def test_an_existing_ring_is_attached_where_there_is_no_space_for_another(other):
    give_private_shm(other, "size=6m")
    other.run(create, "there")
    assert other.run(have_the_same_size)


def use_a_new_ring(here):
    with create_without_name(here) as ring:
        ring.producer().put(np.ones(1 << 20, "u1"))


def test_a_file_system_without_a_limit(other):
    give_private_shm(other, "size=0")
    other.run(use_a_new_ring)


def make_two_files(here):
    for name in ("one", "two"):
        (SHM / name).touch()


def test_no_inodes(other):
    give_private_shm(other, "nr_inodes=3")
    other.run(make_two_files)
    found = other.run(refused, *place(create_without_name))
    check_refusal(found, "NoSpace", "nr_inodes=6", "limit of 3 files")


def make_block_without_space(here):
    here.block = SharedMemory(create=True, size=shmring.Ring.required_size(**RING))
    with open(SHM / "other", "wb") as file:
        os.posix_fallocate(file.fileno(), 0, 5 << 20)


def create_in_the_block(here):
    return shmring.Ring.create(block=here.block, **RING)


def remove_the_block(here):
    here.block.close()
    here.block.unlink()


def test_a_given_block_that_cannot_be_filled(other):
    """A SharedMemory's pages come with the first touch; as a ring it has them all."""
    give_private_shm(other, "size=6m")
    other.run(make_block_without_space)
    found = other.run(refused, *place(create_in_the_block))
    check_refusal(found, "NoSpace", "bytes free of 6291456")
    other.run(remove_the_block)


# ---- a file system that cannot be written to


def leave_a_frame(here):
    with here.ring.producer() as producer:
        producer.put(np.ones(1 << 20, "u1"))
    here.ring.close()


def remount_read_only(here):
    """What both calls of mount return."""
    mount, shm, bind, remount, readonly = here.libc.mount, bytes(SHM), 4096, 32, 1
    return mount(shm, shm, None, bind, None), mount(None, shm, None, bind | remount | readonly, None)


def attach_readonly(here):
    return shmring.Ring.attach(here.ring.name, readonly=True)


def sum_of_the_frame(here):
    return int(attach_readonly(here).observer().latest(0).array.sum())


def test_a_file_system_that_is_read_only(other):
    give_private_shm(other, "size=16m")
    other.run(create, "there")
    other.run(leave_a_frame)
    assert other.run(remount_read_only) == [0, 0]
    for call in (create_another, attach_again):
        found = other.run(refused, *place(call))
        check_refusal(found, "RingAccessDenied", "read-only", "readonly=True", "remount,rw")
    assert other.run(sum_of_the_frame) == 1 << 20


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_directory_that_this_user_may_not_write_to(other):
    give_private_shm(other, "size=16m,mode=755")
    other.run(become_nobody)
    found = other.run(refused, *place(create_another))
    check_refusal(found, "RingAccessDenied", "may not write to /dev/shm", "chmod 1777")


# ---- limits of the process


def take_descriptors(here, but):
    """All that this process may have, but for so many."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (40, 80))
    here.before, here.taken = state(here), []
    with contextlib.suppress(OSError):
        while True:
            here.taken.append(os.open("/dev/null", os.O_RDONLY))
    for _ in range(but):
        os.close(here.taken.pop())


def give_descriptors_back(here):
    while here.taken:
        os.close(here.taken.pop())


def create_and_close(here, name):
    here.closed = shmring.Ring.create(name, **RING)
    here.closed.close()


def attach_in_time(here):
    return shmring.Ring.attach(here.ring.name, timeout=9)


def consume(here):
    return here.ring.consumer()


def observe(here):
    return here.ring.observer()


def unlink_closed(here):
    here.closed.unlink()


def call_and_close(here, *where):
    if found := find(*where)(here):
        found.close()


CALLS = {
    create_another: (0, 1),
    create_or_attach: (0, 1),
    attach_again: (0, 1),
    attach_in_time: (0,),
    attach_readonly: (0,),
    produce: (0,),
    consume: (0,),
    observe: (0,),
    unlink_closed: (0,),
}


def is_as_before(here):
    return state(here) == here.before


@pytest.mark.parametrize(("call", "left"), [(call, n) for call, many in CALLS.items() for n in many])
def test_no_descriptor_left(other, name, call, left):
    other.run(create, name)
    other.run(create_and_close, f"{name}-closed")
    try:
        other.run(take_descriptors, left)
        found = other.run(error_of, *place(call))
        other.run(give_descriptors_back)
        check_refusal(found, "OSError", "limit of 40 open files", "ulimit -n 80")
        assert other.run(is_as_before)
        other.run(call_and_close, *place(call))  # and it works again
    finally:
        for left_name in (name, f"{name}-closed", "another"):
            block_file(left_name).unlink(missing_ok=True)


def allow_little_address_space(here):
    used = int(Path("/proc/self/statm").read_text().split()[0]) * mmap.PAGESIZE
    resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 20),) * 2)


def test_no_address_space(other):
    other.run(allow_little_address_space)
    found = other.run(refused, *place(create_without_name))
    check_refusal(found, "OSError", "address space", "ulimit -v")


AREA = ctypes.c_size_t(1 << 29)


def take_mappings(here, but):
    """All that this process may have, but for so many: every second page is made a mapping of its own."""
    libc = here.libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    at = here.area = libc.mmap(None, AREA, 0, 0x22, -1, ctypes.c_long(0))
    page = mmap.PAGESIZE
    while libc.mprotect(ctypes.c_void_p(at), ctypes.c_size_t(page), mmap.PROT_READ) == 0:
        at += 2 * page
    libc.munmap(ctypes.c_void_p(at - but * page), ctypes.c_size_t((but + 1) * page))


def give_mappings_back(here):
    here.libc.munmap(ctypes.c_void_p(here.area), AREA)


most_mappings = int(Path("/proc/sys/vm/max_map_count").read_text())
few_mappings = pytest.mark.skipif(most_mappings > 100_000, reason="vm.max_map_count is large here")


@few_mappings
def test_no_mapping_left(other, name):
    other.run(create, name)
    try:
        other.run(take_mappings, 2)
        for call in (produce, attach_again):
            found = other.run(refused, *place(call))
            check_refusal(found, "OSError", "vm.max_map_count=", str(most_mappings * 2))
        other.run(give_mappings_back)
        other.run(produce_and_close)
    finally:
        block_file(name).unlink(missing_ok=True)


def allow_small_files(here):
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20,) * 2)


def test_a_file_may_not_be_that_large(other):
    other.run(allow_small_files)
    found = other.run(refused, *place(create_without_name))
    check_refusal(found, "NoSpace", "a file of this process may have 1048576", "ulimit -f")


LITTLE = 1 << 16


def most_to_lock(here):
    """How much this process may ever lock."""
    return resource.getrlimit(resource.RLIMIT_MEMLOCK)[1]


def let_lock(here, soft):
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (soft, most_to_lock(here)))


def create_locked(here, *name):
    here.ring = shmring.Ring.create(*name, lock_memory=True, shape=(LITTLE,), dtype="u1", slots=4)


def state_of_the_producer(here):
    return here.ring.stats().producer.state


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who may lock little")
def test_memory_that_may_not_be_locked(other, name):
    most = other.run(most_to_lock)
    if 0 <= most < 1 << 21:
        pytest.skip("this process may lock next to nothing")
    other.run(let_lock, LITTLE)
    other.run(become_nobody)
    check_refusal(other.run(refused, *place(create_locked)), "OSError", "may lock 65536", "ulimit -l")
    try:
        other.run(let_lock, most)
        other.run(create_locked, name)
        other.run(let_lock, LITTLE)
        check_refusal(other.run(refused, *place(produce)), "OSError", "may lock 65536", "ulimit -l")
        assert other.run(state_of_the_producer) == "none"  # it never was one, and holds no lock
        other.run(let_lock, most)
        other.run(produce_and_close)
    finally:
        block_file(name).unlink(missing_ok=True)


@pytest.mark.parametrize("number", [*_limits._WHY, 5])
def test_every_refusal_says_what_and_why(number):
    error = _limits.refused(number, "cannot do it")
    assert str(error).split("] ")[-1].startswith("cannot do it: ")
    assert error.errno is not None
    assert isinstance(error, shmring.NoSpace) == (number in _limits.FULL)


# ---- a producer that is refused


def create_large(here, name):
    here.ring = shmring.Ring.create(name, **RING | {"slots": 32})


def page_faults(here):
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def test_a_refused_producer_touches_no_page(other, name):
    other.run(create_large, name)
    try:
        other.run(open_producer)
        before = other.run(page_faults)
        with pytest.raises(PeerError, match="live producer"):
            other.run(produce)
        assert other.run(page_faults) - before < (32 << 20) // os.sysconf("SC_PAGESIZE") // 4
    finally:
        block_file(name).unlink()


def test_a_producer_that_is_still_opening_is_not_given_the_name_of_the_last_one(ring):
    ring.producer().close()
    opening = _core.reopen(ring._fd, True)
    try:
        assert _core.lock(opening, _core.LOCK_PRODUCER, _core.EXCLUSIVE)
        with pytest.raises(shmring.ProducerExists, match="a process that is opening it right now"):
            ring.producer()
    finally:
        os.close(opening)
    ring.producer().close()


def test_the_next_producer_is_let_in_when_the_first_closed(make):
    ring = make()
    with ring.producer() as first, pytest.raises(shmring.ProducerExists):
        ring.producer()
    assert first.closed
    ring.producer().close()


# ---- a process that is stopped while it removes the ring


@pytest.fixture
def being_removed(name):
    """A ring that somebody keeps everyone out of, as `rm` does for a moment."""
    shmring.Ring.create(name, shape=(4,), dtype="u1", slots=2).close()
    fd = _core.open_block(name, _core.CONSUME)
    assert _presence.keep_out(fd)
    yield fd
    os.close(fd)
    block_file(name).unlink(missing_ok=True)


def test_exist_ok_gives_up_on_a_ring_that_is_being_removed_for_ever(name, being_removed, monkeypatch):
    monkeypatch.setattr(_names, "PATIENCE", 0.05)
    monkeypatch.setattr(_blocks, "allocate", lambda *given: pytest.fail("took space"))
    slept = []
    monkeypatch.setattr(
        _ring, "time", types.SimpleNamespace(monotonic=_ring.time.monotonic, sleep=slept.append)
    )
    with pytest.raises(shmring.RingExists, match="removing or replacing that ring"):
        shmring.Ring.create(name, shape=(4,), dtype="u1", slots=2, exist_ok=True)
    assert slept


def test_exist_ok_waits_for_a_ring_to_be_removed(name, being_removed, monkeypatch):
    finish = types.SimpleNamespace(
        monotonic=_ring.time.monotonic,
        sleep=lambda seconds: _core.lock(
            being_removed, _core.LOCK_PRESENCE, _core.UNLOCKED, _core.PRESENCE_BYTES
        ),
    )
    monkeypatch.setattr(_ring, "time", finish)
    with shmring.Ring.create(name, shape=(4,), dtype="u1", slots=2, exist_ok=True) as ring:
        assert ring.stats().published == 0


# ---- pages lost where there is no mapping left


def create_many_small_slots(here, name):
    shmring.survive_truncation()
    here.ring = shmring.Ring.create(name, shape=(4096,), dtype="u1", slots=256)


def take_every_slot(here):
    here.producer.put_many(np.ones((256, 4096), "u1"))
    here.frames = here.consumer.batch(256)


def sum_of_the_lost(here):
    """Every second page upwards, then the others downwards."""
    order = [*range(1, 256, 2), *range(254, 0, -2)]
    return sum(int(here.frames.array[i, 0]) for i in order)


def try_get(here):
    here.consumer.try_get()


@few_mappings
def test_lost_pages_take_no_mapping_each(other, name):
    other.run(create_many_small_slots, name)
    path = block_file(name)
    try:
        other.run(open_producer)
        other.run(open_consumer)
        other.run(take_every_slot)
        other.run(take_mappings, 60)
        os.truncate(path, path.stat().st_size - 255 * 4096)
        assert other.run(sum_of_the_lost) == 0
        other.run(give_mappings_back)
        with pytest.raises(PeerError, match="was cut"):
            other.run(try_get)
    finally:
        path.unlink(missing_ok=True)


# ---- memory limits


def groups(root: Path, files: dict[str, object], cgroup: str, mounts: str) -> Path:
    """A machine with these control groups."""
    for name, value in {
        "proc/self/cgroup": cgroup,
        "proc/self/mountinfo": mounts,
        "proc/meminfo": "MemTotal: 1000 kB\nSwapFree: 0 kB\nAnonPages: 100 kB\nShmem: 200 kB\n",
        **files,
    }.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{value}\n")
    return root


MOUNTED_2 = "30 25 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate"
MOUNTED_1 = "30 25 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"
V2, V1 = "sys/fs/cgroup", "sys/fs/cgroup/memory"
NO_LIMIT_1 = 9223372036854771712


def rooms(root: Path) -> dict[str, tuple[int, int]]:
    return {
        one.whose.rpartition("cgroup")[2]: (one.limit, one.room) for one in _cgroup.memory_limits(str(root))
    }


MACHINE = {"this machine": (1000 << 10, 700 << 10)}


def test_limits_of_version_2_and_of_the_groups_above(tmp_path):
    root = groups(
        tmp_path,
        {
            f"{V2}/memory.stat": "anon 1",
            f"{V2}/pod/memory.max": 5000,
            f"{V2}/pod/memory.stat": "anon 1000\nfile 900\nshmem 500\nslab_reclaimable 7",
            f"{V2}/pod/own/memory.max": "max",
        },
        "0::/pod/own",
        MOUNTED_2,
    )
    assert rooms(root) == {"/pod": (5000, 3500), **MACHINE}


def test_limits_of_version_1(tmp_path):
    root = groups(
        tmp_path,
        {
            f"{V1}/memory.limit_in_bytes": NO_LIMIT_1,
            f"{V1}/a/memory.limit_in_bytes": 8000,
            f"{V1}/a/memory.stat": "rss 1\ntotal_rss 1000\ntotal_cache 6000\ntotal_shmem 2000",
            f"{V1}/a/b/memory.limit_in_bytes": 6000,
        },
        "4:cpu,cpuacct:/x\n3:memory:/a/b\n0::/",
        MOUNTED_1,
    )
    assert rooms(root) == {"/memory/a/b": (6000, 6000), "/memory/a": (8000, 5000), **MACHINE}


def test_inside_a_container_the_mounted_group_is_its_own(tmp_path):
    """Its path is one of the world outside, and the mount begins there."""
    files = {f"{V1}/memory.limit_in_bytes": 4000}
    mounted = MOUNTED_1.replace(" / ", " /docker/1234 ")
    root = groups(tmp_path, files, "3:memory:/docker/1234", mounted)
    assert rooms(root) == {"/memory": (4000, 4000), **MACHINE}
    for mounts in (mounted, MOUNTED_1):
        root = groups(tmp_path, files, "3:memory:/../elsewhere", mounts)
        assert rooms(root) == {"/memory": (4000, 4000), **MACHINE}


@pytest.mark.parametrize(("most", "room"), [("max", 5000 + 300 * 1024), ("2000", 5000 + 1500), ("0", 5000)])
def test_what_may_go_out_to_swap_is_room(tmp_path, most, room):
    files = {
        f"{V2}/own/memory.max": 5000,
        f"{V2}/own/memory.swap.max": most,
        f"{V2}/own/memory.swap.current": 500,
        "proc/meminfo": "MemTotal: 1000 kB\nSwapFree: 300 kB",
    }
    root = groups(tmp_path, files, "0::/own", MOUNTED_2)
    assert rooms(root)["/own"] == (5000, room)


def test_a_mount_point_may_have_any_bytes_in_its_name(tmp_path):
    root = groups(tmp_path, {f"{V2}/own/memory.max": 5000}, "0::/own", MOUNTED_2)
    with (root / "proc/self/mountinfo").open("ab") as file:
        file.write(b"31 25 0:27 / /mnt/caf\xe9 rw - tmpfs tmpfs rw\n")
    assert rooms(root)["/own"] == (5000, 5000)


def test_a_machine_that_says_nothing(tmp_path):
    assert _cgroup.memory_limits(str(tmp_path)) == []
    assert _cgroup.cores_of_time(str(tmp_path)) is None


@pytest.mark.parametrize(
    ("files", "cgroup", "mounts"),
    [
        ({f"{V2}/a/cpu.max": "150000 100000", f"{V2}/cpu.max": "max 100000"}, "0::/a", MOUNTED_2),
        (
            {
                f"{V1}/a/cpu.cfs_quota_us": 150000,
                f"{V1}/a/cpu.cfs_period_us": 100000,
                f"{V1}/cpu.cfs_quota_us": -1,
            },
            "3:cpu,memory:/a",
            MOUNTED_1.replace("rw,memory", "rw,cpu,memory"),
        ),
    ],
    ids=["2", "1"],
)
def test_time_of_both_versions(tmp_path, files, cgroup, mounts):
    assert _cgroup.cores_of_time(str(groups(tmp_path, files, cgroup, mounts))) == 1.5


def test_a_memory_limit_below_the_ring_is_no_space(name, monkeypatch):
    limits = [
        _cgroup.MemoryLimit("the control group /outer", 9 << 20, 8 << 20, "/outer/memory.max"),
        _cgroup.MemoryLimit("the control group /inner", 5 << 20, 3 << 20, "/inner/memory.max"),
    ]
    monkeypatch.setattr(_cgroup, "memory_limits", lambda: limits)
    monkeypatch.setattr(os, "posix_fallocate", lambda *given: pytest.fail("took space"))
    with pytest.raises(
        shmring.NoSpace, match=r"group /inner may use 5242880 .*3145728 are left.*/inner/memory.max"
    ):
        shmring.Ring.create(name, shape=(1 << 20,), dtype="u1", slots=4)
    assert not block_file(name).exists()


def test_a_small_ring_does_not_wait_for_the_memory_limits_to_be_read(name, monkeypatch):
    monkeypatch.setattr(_cgroup, "memory_limits", lambda: pytest.fail("read"))
    shmring.Ring.create(name, shape=(1 << 16,), dtype="u1", slots=16).close()
    shmring.unlink(name)


IN_A_GROUP = """
import shmring, sys
for slots in (400, 40):
    try:
        with shmring.Ring.create(sys.argv[1], shape=(1_000_000,), dtype="u1", slots=slots) as ring:
            with ring.producer(), ring.consumer():
                print("fits")
    except shmring.NoSpace as error:
        print(error)
"""


def test_a_real_memory_limit(name, tmp_path):
    group = next(
        (
            Path(root, fresh_name())
            for root, file in (
                ("/sys/fs/cgroup", "memory.max"),
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            )
            if os.access(root, os.W_OK) and Path(root, file).exists()
        ),
        None,
    )
    if group is None:
        pytest.skip("no control group can be made here")
    group.mkdir()
    try:
        file = next(one for one in (group / "memory.max", group / "memory.limit_in_bytes") if one.exists())
        file.write_text("200000000")
        enter = f'echo $$ > {group}/cgroup.procs && exec "$@"'
        command = ["sh", "-c", enter, "sh", sys.executable, "-c", IN_A_GROUP, name]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    finally:
        with contextlib.suppress(OSError):
            block_file(name).unlink()
        group.rmdir()
    assert (ended.returncode, ended.stderr) == (0, "")
    refusal, fits = ended.stdout.splitlines()
    assert str(group) in refusal
    assert "may use 2000" in refusal or "may use 1999" in refusal  # in pages
    assert fits == "fits"


# ---- dtypes, shapes, attrs


def nested(levels: int) -> np.dtype:
    dtype = np.dtype("f4")
    for _ in range(levels):
        dtype = np.dtype([("x", dtype)])
    return dtype


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"shape": (1,) * 32}, "at most 31 axes, not 32"),
        ({"shape": (1,) * 65}, "at most 31 axes, not 65"),
        ({"shape": (1,) * 30, "dtype": "(1,1)u1"}, "at most 31 axes, not 32, 2 of them in the sub-array"),
        ({"dtype": nested(300)}, "dtype is nested too deeply"),
        ({"dtype": nested(900)}, "dtype is nested too deeply"),
        ({"meta": nested(300)}, "meta is nested too deeply"),
        (
            {"meta": f"V{(1 << 20) + 1}"},
            r"has at most 1048576 bytes \(1 MiB\), not 1048577",
        ),
        ({"shape": (1 << 70,)}, "1 TiB"),
        ({"dtype": "(0,)u1"}, "an axis of 0"),
        ({"dtype": "(2,3"}, "dtype must be a numpy dtype"),
        ({"dtype": "u1,,f4"}, "dtype must be a numpy dtype"),
        ({"dtype": [("a", "u1"), ("a", "u1")]}, "occurs more than once"),
        ({"meta": [(f"{i:01000}", "u1") for i in range(1100)]}, "dtype, meta and attrs take"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_limits_of_a_frame_say_their_reason(name, arguments, words):
    with pytest.raises(ValueError, match=words) as raised:
        shmring.Ring.create(name, **({"shape": (4,), "dtype": "u1", "slots": 2} | arguments))
    assert len(str(raised.value)) < 600
    assert not block_file(name).exists()


def deep(levels: int) -> dict:
    found: dict = {}
    for _ in range(levels - 1):
        found = {"x": found}
    return found


@pytest.mark.parametrize("levels", [101, 900, 20000])
def test_attrs_nested_too_deeply(name, levels):
    with pytest.raises(ValueError, match="attrs are nested too deeply: at most 100"):
        shmring.Ring.create(name, shape=(4,), dtype="u1", slots=2, attrs=deep(levels))


@pytest.mark.parametrize(
    "arguments",
    [
        {"shape": (1,) * 31},
        {"shape": (1,) * 29, "dtype": "(1,1)u1"},
        {"dtype": nested(90)},
        {"meta": f"V{1 << 20}"},
        {"attrs": deep(100)},
    ],
    ids=["axes", "axes of a sub-array", "nested", "meta", "attrs"],
)
def test_what_is_just_within_the_limits_works(make, arguments):
    ring = make(**({"shape": (4,), "dtype": "u1", "slots": 2} | arguments))
    with shmring.Ring.attach(ring.name) as other:
        assert (other.shape, other.dtype, other.meta_dtype) == (ring.shape, ring.dtype, ring.meta_dtype)
        assert other.attrs == arguments.get("attrs", {})
        with ring.producer() as writer, other.consumer() as reader:
            writer.put(np.zeros(ring.shape, ring.dtype))
            assert reader.get(0).array.shape == ring.shape
