"""Large rings lie on huge pages where the kernel has some, and say how much of them does."""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import re
import subprocess
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import numpy as np
import pytest

import shmring
from shmring import _core, _huge, _schema
from shmring._cli.support import checks
from shmring._format import check_format
from support.blocks import SHM, block_file, fresh_name
from support.private_shm import give_private_shm
from support.processes import PeerError

HUGE = _core.HUGE_PAGE_BYTES
ODD = {"shape": (HUGE // 2 + 4096,), "dtype": "u1", "slots": 7}  # its two mappings cannot both be aligned
EVEN = {"shape": (HUGE // 4,), "dtype": "u1", "slots": 8, "spares": 8}
FRAME = HUGE // 2 + 4096


def geometry_of(shape, dtype, slots, spares=0):
    return _schema.choose_geometry(check_format(shape, dtype, None, False), slots, spares, 16, None)


def kernel_makes_them() -> str:
    """Why this kernel makes no huge pages; nothing if it does."""
    fd = os.open(SHM, os.O_TMPFILE | os.O_RDWR)
    try:
        geometry = geometry_of((HUGE,), "u1", 2)
        number = geometry.make_huge(fd, 0, geometry.block_bytes)
        return "" if geometry.huge_bytes(fd) else os.strerror(number)
    finally:
        os.close(fd)


@pytest.fixture
def huge_here():
    if HUGE > 32 << 20:
        pytest.skip(f"a huge page takes {HUGE} bytes here")
    if why := kernel_makes_them():
        pytest.skip(f"no huge pages here: {why}")


@pytest.fixture
def large(name, huge_here):
    with shmring.Ring.create(name, **ODD) as ring:
        yield ring


def mapped_huge(name: str) -> int:
    """Bytes that this process maps as huge pages of the ring, in all its mappings of it."""
    inode = str(block_file(name).stat().st_ino)
    found, here = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            here = line.split()[4] == inode
        elif here and line.startswith("ShmemPmdMapped:"):
            found += int(line.split()[1]) << 10
    return found


# ---- what a new ring gets


@pytest.mark.parametrize("asked", [None, True])
@pytest.mark.parametrize("options", [ODD, EVEN], ids=["odd", "even"])
def test_a_large_ring_lies_on_huge_pages(name, huge_here, options, asked):
    with shmring.Ring.create(name, **options, huge_pages=asked) as ring:
        assert ring.huge_nbytes % HUGE == 0
        assert ring.nbytes - 2 * HUGE < ring.huge_nbytes < ring.nbytes
        with shmring.Ring.attach(name, readonly=True) as other:
            assert other.huge_nbytes == ring.huge_nbytes


def test_huge_pages_take_no_further_memory(name, huge_here):
    sizes = set()
    for asked in (False, None, True):
        with shmring.Ring.create(name, **ODD, huge_pages=asked) as ring:
            status = block_file(name).stat()
            sizes.add((ring.nbytes, ring.slots, status.st_size, status.st_blocks))
    assert len(sizes) == 1


def test_a_ring_without_them(name):
    if "huge=" in Path("/proc/mounts").read_text():
        pytest.skip("a file system here makes huge pages by itself")
    with shmring.Ring.create(name, **ODD, huge_pages=False) as ring:
        assert ring.huge_nbytes == 0


def test_a_small_ring_has_none_and_cannot_be_asked_for_some(name):
    small = {"shape": (4096,), "dtype": "u1", "slots": 16}
    with shmring.Ring.create(name, **small) as ring:
        assert ring.huge_nbytes == 0
    with pytest.raises(OSError, match=rf"each has {HUGE} bytes.*leave huge_pages=True out"):
        shmring.Ring.create(name, **small, huge_pages=True)
    assert not block_file(name).exists()


def test_a_given_block_gets_them_too(huge_here):
    block = SharedMemory(fresh_name(), create=True, size=shmring.Ring.required_size(**ODD))
    try:
        block.buf[:8] = b"not used"
        with shmring.Ring.create(block=block, **ODD, huge_pages=True) as ring:
            assert ring.huge_nbytes > ring.nbytes - 2 * HUGE
    finally:
        block.close()
        block.unlink()


def test_a_closed_ring_does_not_say(large):
    large.close()
    with pytest.raises(shmring.RingClosed):
        large.huge_nbytes  # noqa: B018


# ---- what maps them


def frame(number: int) -> np.ndarray:
    return np.full(FRAME, number % 251, "u1")


def test_every_process_maps_huge_pages_as_such(large, peer):
    with large.producer() as producer:
        whole = mapped_huge(large.name)
        assert whole >= large.huge_nbytes
        other = peer()
        other.run(read_in_another_process, large.name, 0, 0)
        for number in range(7):
            producer.put(frame(number))
        assert other.run(read_in_another_process, large.name, 7, 0) >= large.huge_nbytes


def read_in_another_process(here, name, count, first):
    if not count:
        here.ring = shmring.Ring.attach(name)
        here.consumer = here.ring.consumer()
        return 0
    for number in range(first, first + count):
        with here.consumer.get(1) as got:
            assert (got.array == frame(number)).all()
    return mapped_huge(name)


def test_batches_across_the_wrap_are_whole(large):
    with large.producer() as producer, large.consumer() as consumer:
        for number in range(4):
            producer.put(frame(number))
            consumer.get().release()
        for number in range(4, 10):
            producer.put(frame(number))
        with consumer.batch(6, 6) as batch:
            assert batch.array.shape == (6, FRAME)
            assert batch.array[:, 0].tolist() == batch.array[:, -1].tolist() == [4, 5, 6, 7, 8, 9]


def test_a_forked_child_maps_them_again(large, fork):
    with large.producer() as producer, large.consumer() as consumer:
        for _ in range(4):
            producer.put(frame(9))
        held = consumer.get()

        def look(send):
            with large.consumer(start="newest") as mine:
                send([int(mine.get(1).array[-1]), int(held.array[-1]), mapped_huge(large.name)])

        child = fork(look)
        theirs, kept, mapped = child.receive()
        assert child.wait() == 0
        assert (theirs, kept) == (9, 9)
        assert mapped >= HUGE
        held.release()


# ---- where there are none


def give_up_huge_pages(here):
    disabled = ctypes.CDLL(None, use_errno=True).prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE
    assert disabled == 0


def create(here, name, asked):
    here.ring = shmring.Ring.create(name, **ODD, huge_pages=asked)
    with here.ring.producer() as producer, here.ring.consumer() as consumer:
        producer.put(frame(3))
        assert consumer.get().array.sum() == 3 * FRAME
    found = here.ring.huge_nbytes
    here.ring.close()
    here.ring.unlink()
    return found


def left(here):
    return os.listdir(SHM)


def test_without_huge_pages_the_ring_is_as_good(peer, name):
    other = peer()
    give_private_shm(other, "")
    other.run(give_up_huge_pages)
    assert other.run(create, name, None) == 0
    assert other.run(create, name, False) == 0


def test_a_ring_that_must_have_them_says_what_it_has(peer, name):
    other = peer()
    give_private_shm(other, "")
    other.run(give_up_huge_pages)
    with pytest.raises(PeerError, match=r"has 0 bytes on huge pages, not the \d+ that there could be"):
        other.run(create, name, True)
    assert other.run(left) == []


@pytest.mark.parametrize(
    ("number", "words"),
    [(12, "compact_memory"), (16, "compact_memory"), (11, "compact_memory"), (22, "since 6.1")],
)
def test_why_there_are_none(number, words):
    assert words in " ".join(_huge.why_none(number))


@pytest.mark.parametrize("missing", [0, 1])
def test_a_ring_that_just_fits_the_file_system(peer, name, huge_here, missing):
    other = peer()
    pages = shmring.Ring.required_size(**ODD) // mmap.PAGESIZE
    give_private_shm(other, f"nr_blocks={pages - missing},nr_inodes=9")
    if missing:
        with pytest.raises(PeerError, match="NoSpace"):
            other.run(create, name, None)
        assert other.run(left) == []
    else:
        assert other.run(create, name, None) > 0


# ---- a file that is cut


def open_large(here, name):
    here.ring = shmring.Ring.create(name, **ODD)
    here.producer, here.consumer = here.ring.producer(), here.ring.consumer()
    for number in range(7):
        here.producer.put(frame(number + 1))
    here.held = [here.consumer.get() for _ in range(7)]
    shmring.survive_truncation()


def cut(here, size):
    os.truncate(block_file(here.ring.name), size)


def take(here):
    here.consumer.get(0)


def sums(here):
    return [int(held.array.sum()) for held in here.held]


@pytest.mark.parametrize("pages", [1, 300])
def test_a_cut_through_a_huge_page_loses_what_follows(peer, name, huge_here, pages):
    other = peer()
    give_private_shm(other, "")
    other.run(open_large, name)
    size = 2 * HUGE + pages * mmap.PAGESIZE
    other.run(cut, size)
    found = other.run(sums)
    whole = [(number + 1) * FRAME for number in range(7)]
    assert found[:2] == whole[:2]
    assert found[-1] == 0
    with pytest.raises(PeerError, match="RingCorrupt"):
        other.run(take)


# ---- what people see


def test_info_says_how_much_of_a_ring_is_huge(large):
    shown = subprocess.run(["shmring", "info", large.name], capture_output=True, text=True, check=True).stdout
    assert f": {large.nbytes} bytes, {large.huge_nbytes} on huge pages, owner" in shown
    shown = subprocess.run(
        ["shmring", "info", large.name, "--json"], capture_output=True, text=True, check=True
    )
    assert json.loads(shown.stdout)["huge_nbytes"] == large.huge_nbytes


def test_doctor_tries_it(huge_here):
    before = set(os.listdir(SHM))
    [finding] = checks.huge_pages([])
    assert finding.level == "ok"
    assert set(os.listdir(SHM)) - before == set()


def doctor_finds(here):
    [finding] = checks.huge_pages([])
    return [finding.level, finding.found, finding.do]


def test_doctor_says_why_there_are_none(peer):
    other = peer()
    other.run(give_up_huge_pages)
    level, found, do = other.run(doctor_finds)
    assert level == "note"
    assert "since 6.1" in found
    assert do.startswith("sudo mount")
