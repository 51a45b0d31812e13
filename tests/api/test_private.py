"""private(): writable arrays of held frames, whose writes nobody else sees."""

from __future__ import annotations

import os
import resource
import threading
from pathlib import Path

import numpy as np
import pytest

import shmring
from shmring import _core
from support.blocks import block_file
from support.frames import WORDS, payload
from support.processes import PeerError
from support.waiting import settle

LARGE = (257 * WORDS,)  # more than 1 MiB: mapped, not copied
ODD = (1_100_003,)  # of bytes: slots begin and end within a page
FORMATS = {
    "small": ((7,), "f4"),
    "a page": ((WORDS,), "u8"),
    "no axes": ((), "c16"),
    "large": (LARGE, "u8"),
    "odd": (ODD, "u1"),
    "structure": ((120_000,), [("a", "u1"), ("b", ">i8")]),
    "large dates": ((1500, 100), "M8[ms]"),
}
by_format = pytest.mark.parametrize(("shape", "dtype"), FORMATS.values(), ids=FORMATS)


def content(shape, dtype, number: int) -> np.ndarray:
    """An array that differs from those of other numbers."""
    dtype = np.dtype(dtype)
    count = int(np.prod(shape)) * dtype.itemsize
    return ((np.arange(count, dtype="u4") + number) % 251).astype("u1").view(dtype).reshape(shape)


def feed(producer, count: int) -> None:
    """Frames of words, each of them what its seq demands."""
    for _ in range(count):
        producer.put(payload(producer.next_seq, producer.ring.shape), timeout=5)


def put(producer, count: int) -> None:
    """Frames whose content follows from their seq."""
    ring = producer.ring
    for _ in range(count):
        producer.put(content(ring.shape, ring.dtype, producer.next_seq), timeout=5)


def same(array, *seqs) -> bool:
    """Whether these are the frames, bit by bit."""
    frames = array if array.ndim and len(seqs) > 1 else [array]
    return all(
        np.ascontiguousarray(one).tobytes() == content(one.shape, one.dtype, seq).tobytes()
        for one, seq in zip(frames, seqs, strict=True)
    )


def mappings(name: str) -> int:
    """How many private mappings of a ring's file this process has."""
    inode = str(block_file(name).stat().st_ino)
    lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    return sum(len(line) > 4 and line[4] == inode and line[1].endswith("p") for line in lines)


@pytest.fixture
def held(make):
    """A large frame, with everything around it: (ring, producer, consumer, frame)."""
    ring = make(shape=LARGE)
    with ring.producer() as producer, ring.consumer() as consumer:
        feed(producer, 1)
        frame = consumer.get(0)
        yield ring, producer, consumer, frame
        frame.release()  # pytest keeps it for a while


# ---- what it is


@by_format
def test_what_is_written_is_seen_by_nobody_else(make, shape, dtype):
    ring = make(shape=shape, dtype=dtype)
    with ring.producer() as producer, ring.consumer() as consumer, ring.consumer() as other:
        put(producer, 1)
        frame = consumer.get(0)
        first, second = frame.private(), frame.private()
        for mine in (first, second):
            assert (mine.shape, mine.dtype, mine.flags.writeable) == (frame.shape, frame.dtype, True)
            assert same(mine, frame.seq)
        first[...] = np.zeros((), dtype)
        assert not first.tobytes().strip(b"\0")
        with other.get(0) as seen:
            assert [same(one, 0) for one in (second, frame.array, seen.array, frame.private())] == [True] * 4


@by_format
def test_batches_across_the_wrap(make, shape, dtype):
    ring = make(shape=shape, dtype=dtype, slots=4)
    with ring.producer() as producer, ring.consumer() as consumer:
        put(producer, ring.slots - 1)
        consumer.batch(ring.slots - 1).release()
        put(producer, 3)
        batch = consumer.batch(3)
        seqs = [int(seq) for seq in batch.seqs]
        assert len(seqs) == 3
        mine = batch.private()
        assert mine.shape == batch.shape
        assert same(mine, *seqs)
        mine[1] = np.zeros((), dtype)
        assert same(batch.array, *seqs)
        assert same(mine[::2], *seqs[::2])


def test_a_batch_of_many_small_frames(make):
    """Together they are large; between them are gaps, and the wrap."""
    ring = make(shape=(1001,), dtype="f4", slots=512)
    with ring.producer() as producer, ring.consumer() as consumer:
        put(producer, 300)
        consumer.batch(300).release()
        put(producer, 400)
        batch = consumer.batch(400)
        seqs = [int(seq) for seq in batch.seqs]
        mine = batch.private()
        assert mine.shape == batch.shape == (400, 1001)
        assert same(mine, *seqs)
        assert mappings(ring.name) > 0
        mine[...] = 0
        assert same(batch.array, *seqs)


def test_frames_in_spare_slots(make):
    ring = make(shape=LARGE, slots=2, spares=6)
    with ring.producer() as producer, ring.consumer(lossless=False, max_held=6) as consumer:
        kept = []
        for seq in range(6):
            feed(producer, 1)
            kept.append(consumer.get(0).private())
            kept[-1][:WORDS] = seq
        for seq, mine in enumerate(kept):
            assert set(mine[:WORDS].tolist()) == {seq}
            assert np.array_equal(mine[WORDS:], payload(seq, LARGE)[WORDS:])


def test_rows_that_are_valid(make):
    ring = make(shape=(300, WORDS), variable_rows=True)
    with ring.producer() as producer, ring.consumer() as consumer:
        for rows in (0, 1, 300):
            producer.put(payload(rows, (rows, WORDS)))
            with consumer.get(0) as frame:
                mine = frame.private()
                assert np.array_equal(mine, payload(rows, (rows, WORDS)))
                mine += 1
                assert np.array_equal(frame.array, payload(rows, (rows, WORDS)))


def test_a_window_that_is_a_copy_already(make):
    ring = make(shape=LARGE, slots=8)
    with ring.producer() as producer, ring.consumer() as consumer:
        windows = consumer.windows(3)
        feed(producer, 4)
        kept = consumer.get(0).array
        window = None
        while window is None or not window.copied:
            del window
            feed(producer, 3)
            window = next(windows)
        mine = window.private()
        first = int(window.seqs[0])
        mine[0] = 0
        assert np.array_equal(window.array[0], payload(first, LARGE))
        assert np.array_equal(mine[1:], np.stack([payload(first + i, LARGE) for i in (1, 2)]))
        assert np.array_equal(kept, payload(0, LARGE))


def test_the_flag_can_be_taken_back(held):
    mine = held[3].private()
    mine.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        mine[0] = 1
    mine.flags.writeable = True
    memoryview(mine)[0] = 1
    assert mine[0] == 1


def test_on_huge_pages(make):
    ring = make(shape=(_core.HUGE_PAGE_BYTES // 8 * 2,), slots=3)
    with ring.producer() as producer, ring.consumer() as consumer:
        for _ in range(4):
            feed(producer, 1)
            frame = consumer.get(0)
            mine = frame.private()
            assert np.array_equal(mine, frame.array)
            mine[::WORDS] = 0
            assert np.array_equal(frame.array, payload(frame.seq, ring.shape))
            mine[::WORDS] = frame.array[::WORDS]
            assert np.array_equal(mine, frame.array)


# ---- how long it holds


def test_it_holds_the_slot_until_its_last_view_is_gone(held):
    ring, producer, consumer, frame = held
    mine = frame.private()
    view = mine[5:10]
    frame.release()
    del mine, frame, held
    assert (consumer.held, mappings(ring.name)) == (1, 1)
    for _ in range(3 * ring.slots):
        feed(producer, 1)
        consumer.get(0).release()
    assert np.array_equal(view, payload(0, LARGE)[5:10])
    del view
    settle()
    assert (consumer.held, mappings(ring.name)) == (0, 0)


def test_a_small_one_holds_nothing(ring):
    with ring.producer() as producer, ring.consumer() as consumer:
        feed(producer, 1)
        with consumer.get(0) as frame:
            mine = frame.private()
        assert consumer.held == 0
        assert np.array_equal(mine, payload(0))


@pytest.mark.parametrize("shape", [(WORDS,), LARGE])
def test_of_a_frame_that_was_released(make, shape):
    ring = make(shape=shape)
    with ring.producer() as producer, ring.consumer() as consumer:
        feed(producer, 3)
        frame, batch = consumer.get(0), consumer.batch(2)
        for one in (frame, batch):
            one.release()
            with pytest.raises(ValueError, match="was released; copy"):
                one.private()


def test_handles_and_names_may_go_first(held):
    ring, producer, consumer, frame = held
    ring.unlink()
    consumer.close()
    producer.close()
    ring.close()
    mine = frame.private()
    mine[0] += 1
    assert np.array_equal(mine[1:], payload(0, LARGE)[1:])
    assert np.array_equal(frame.array, payload(0, LARGE))


def test_from_many_threads(held):
    ring, _, consumer, frame = held
    right = []

    def work(number):
        for _ in range(20):
            mine = frame.private()
            mine[number] = 0
            right.append(np.count_nonzero(mine != frame.array) == 1)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert right == [True] * 80
    assert (consumer.held, mappings(ring.name)) == (1, 0)


# ---- forks


def overwrite(ring, producer, consumer):
    """Publish until every slot that nobody holds has another frame, and more."""
    for _ in range(3 * ring.slots):
        feed(producer, 1)
        consumer.get(0).release()


def test_a_forked_child_keeps_its_own(held, fork):
    ring, producer, consumer, frame = held
    kept = [frame.private()]
    kept[0][7] = 1
    expected = kept[0].copy()
    reader, writer = os.pipe()

    def work(send):
        assert os.read(reader, 1)
        [mine] = kept
        send(np.array_equal(mine, expected))
        mine[:] = 0
        send(int(mine.sum()))

    child = fork(work)
    kept[0][7] = 2
    frame.release()
    kept.clear()
    assert consumer.held == 0
    overwrite(ring, producer, consumer)
    os.write(writer, b"x")
    assert child.receive() is True
    assert child.receive() == 0
    assert child.wait() == 0
    os.close(reader)
    os.close(writer)


def test_a_child_ends_nothing_of_its_parent(held, fork):
    ring, producer, consumer, frame = held
    mine = frame.private()
    frame.release()
    kept = [mine]
    del mine

    def work(send):
        kept.clear()
        send(ring.stats().consumers[0].held)

    child = fork(work)
    assert child.receive() == 1
    assert child.wait() == 0
    overwrite(ring, producer, consumer)
    assert np.array_equal(kept[0], payload(0, LARGE))


def test_a_private_array_of_an_inherited_frame(held, fork):
    frame = held[3]

    def work(send):
        mine = frame.private()
        mine[0] = 5
        send([int(mine[0]), np.array_equal(frame.array, payload(0, LARGE))])

    child = fork(work)
    assert child.receive() == [5, True]
    assert child.wait() == 0


# ---- limits and damage


def with_limit(which, limit, call):
    before = resource.getrlimit(which)
    resource.setrlimit(which, (limit, before[1]))
    try:
        return call()
    finally:
        resource.setrlimit(which, before)


def test_without_a_descriptor_left_it_is_a_copy(held):
    _, _, consumer, frame = held
    mine = with_limit(resource.RLIMIT_NOFILE, 0, frame.private)
    mine[0] += 1
    assert np.array_equal(frame.array, payload(0, LARGE))
    frame.release()
    assert consumer.held == 0


def without_address_space(here):
    with shmring.Ring.create(shape=(8 << 20,), dtype="u1", slots=2) as ring:
        ring.unlink()
        with ring.producer() as producer, ring.consumer() as consumer:
            producer.claim().publish()
            frame = consumer.get(0)
            taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            with_limit(resource.RLIMIT_AS, taken + (1 << 20), frame.private)


def test_without_address_space(peer):
    with pytest.raises(PeerError, match=r"8\.00 MiB") as raised:
        peer().run(without_address_space)
    assert "MemoryError" in raised.value.kinds


def hold_a_private_array(here, name):
    shmring.survive_truncation()
    here.ring = shmring.Ring.create(name, shape=LARGE, dtype="u8", slots=2)
    here.producer, here.consumer = here.ring.producer(), here.ring.consumer()
    feed(here.producer, 1)
    here.frame = here.consumer.get(0)
    here.mine = here.frame.private()
    here.mine[0] = 1


def lose_it(here):
    os.truncate(block_file(here.ring.name), block_file(here.ring.name).stat().st_size - 2 * here.frame.nbytes)
    lost = int(here.mine.sum())  # before anything else touches the slots
    here.mine[5] = 2
    for call in (here.frame.private, here.consumer.try_get):
        with pytest.raises(shmring.RingCorrupt, match="was cut"):
            call()
    return [lost, int(here.mine.sum())]


def test_after_the_file_was_cut(peer, name):
    other = peer()
    other.run(hold_a_private_array, name)
    assert other.run(lose_it) == [0, 2]
    block_file(name).unlink()
