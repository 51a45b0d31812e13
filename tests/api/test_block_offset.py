"""Where frames lie in the ring's file: other programs map it, and find the same bytes."""

import mmap

import numpy as np
import pytest

import shmring
from support.blocks import block_file
from support.frames import check, feed, payload


@pytest.fixture
def bytes_at():
    """`bytes_at(ring, offset, size)`: what a program reads that maps the file and knows nothing of rings."""

    def read(ring, offset: int, size: int) -> bytes:
        with (
            open(block_file(ring.name), "rb") as file,
            mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as block,
        ):
            return block[offset : offset + size]

    return read


def test_a_frame_lies_there(make, bytes_at, lossless):
    """Held frames make the producer swap slots: a frame is not simply where its seq says."""
    ring = make(slots=10)
    with ring.producer() as producer, ring.consumer(lossless=lossless) as consumer:
        held = []
        for _ in range(3 * ring.slots):
            feed(producer, 1)
            frame = consumer.get(0)
            assert bytes_at(ring, frame.block_offset, frame.nbytes) == payload(frame.seq).tobytes()
            check(frame)
            assert bytes_at(ring, frame.block_offset, frame.nbytes) == frame.array.tobytes()
            if frame.seq in (1, 12):
                held.append(frame)
        for frame in held:
            assert bytes_at(ring, frame.block_offset, frame.nbytes) == payload(frame.seq).tobytes()


def test_the_frames_of_a_batch_lie_there(make, bytes_at):
    ring = make(slots=8)
    with ring.producer() as producer, ring.consumer() as consumer:
        feed(producer, 5)
        with consumer.batch(2) as batch:
            assert bytes_at(ring, batch.block_offset, batch.array.nbytes) == batch.array.tobytes()
        window = next(consumer.windows(3))
        assert not window.copied
        for i, seq in enumerate(window.seqs):
            offset = window.block_offset + i * window.array.strides[0]
            assert bytes_at(ring, offset, window.nbytes // 3) == payload(int(seq)).tobytes()


@pytest.mark.parametrize("shape", [(5,), (3, 2), ()])
def test_frames_with_gaps_between_them(make, bytes_at, shape):
    ring = make(shape=shape, dtype=">i2", meta="u8")
    with ring.producer() as producer, ring.consumer() as consumer:
        for number in range(3):
            producer.put(np.full(shape, number, ">i2"), meta=number)
        for number in range(3):
            frame = consumer.get(0)
            assert bytes_at(ring, frame.block_offset, frame.nbytes) == np.full(shape, number, ">i2").tobytes()


def test_shorter_frames_begin_there(make, bytes_at):
    ring = make(shape=(6, 4), dtype="u2", variable_rows=True)
    with ring.producer() as producer, ring.consumer() as consumer:
        producer.put(np.arange(8, dtype="u2").reshape(2, 4))
        frame = consumer.get(0)
        assert bytes_at(ring, frame.block_offset, frame.nbytes) == np.arange(8, dtype="u2").tobytes()


def test_a_claimed_slot_lies_there(ring, bytes_at):
    with ring.producer() as producer, ring.consumer() as consumer:
        feed(producer, 1)
        first = consumer.get(0).block_offset
        with producer.claim() as slot:
            slot.array[...] = payload(1)
            assert slot.block_offset != first
            offset = slot.block_offset
            assert bytes_at(ring, offset, slot.array.nbytes) == payload(1).tobytes()
        assert consumer.get(0).block_offset == offset
        slot = producer.claim(2)
        slot.array[1] = payload(7)
        assert (
            bytes_at(ring, slot.block_offset + slot.array.strides[0], slot.array[1].nbytes)
            == payload(7).tobytes()
        )
        slot.abort()


def test_what_is_not_there_any_more(ring):
    with ring.producer() as producer, ring.consumer() as consumer:
        feed(producer, 2)
        looked_at, other = consumer.get(0), consumer.get(0)
        looked_at.array  # noqa: B018 - the array keeps the slot now, and the frame no longer
        for frame in (looked_at, other):
            frame.release()
            with pytest.raises(ValueError, match="released"):
                frame.block_offset  # noqa: B018
        slot = producer.claim()
        slot.publish()
        with pytest.raises(ValueError, match="published or aborted"):
            slot.block_offset  # noqa: B018


def test_what_was_never_there(ring):
    with ring.producer(on_full="drop") as producer, ring.consumer():
        feed(producer, ring.slots)
        slot = producer.claim()
        assert slot.dropped
        with pytest.raises(ValueError, match="scratch memory"):
            slot.block_offset  # noqa: B018
        slot.abort()


def test_a_window_that_is_a_copy_is_not_there(make):
    ring = make(slots=8)
    with ring.producer() as producer, ring.consumer() as consumer, ring.consumer() as holder:
        windows = consumer.windows(2)
        feed(producer, 1)
        held = holder.get(0)  # the producer must swap when it comes back to that slot
        for _ in range(ring.slots):
            feed(producer, 1 if producer.published == 1 else 2)
            while holder.try_get() is not None:
                pass
            window = next(windows)
            if window.copied:
                break
        with pytest.raises(ValueError, match="private copy"):
            window.block_offset  # noqa: B018
        assert check(held) == 0


def test_in_a_forked_child_nothing_is_there(ring, fork):
    """The parent may release the frame meanwhile."""
    with ring.producer() as producer, ring.consumer() as consumer:
        feed(producer, 1)
        frame, slot = consumer.get(0), producer.claim()

        def ask(send) -> None:
            for one in (frame, slot):
                with pytest.raises(shmring.ForkedHandle):
                    one.block_offset  # noqa: B018
            send("refused twice")

        child = fork(ask)
        assert child.receive() == "refused twice"
        child.wait()
        slot.abort()
