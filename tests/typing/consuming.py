"""Consumers, observers, frames and batches, as mypy and pyright see them; never run."""

from collections.abc import Iterator
from typing import Any, assert_type

import numpy as np
import numpy.typing as npt

import shmring


def read(ring: shmring.Ring) -> None:
    with ring.consumer(lossless=False, start="newest", label="viewer") as frames:
        assert_type(frames, shmring.Consumer)
        assert_type(frames.get(timeout=1), shmring.Frame)
        assert_type(frames.latest(), shmring.Frame)
        maybe = frames.try_get()
        assert_type(maybe, shmring.Frame | None)
        maybe.release()  # type: ignore[union-attr]
        for frame in frames:
            assert_type(frame, shmring.Frame)
            pixels: npt.NDArray[Any] = frame.array
            pixels.sum()
            assert_type(frame.seq, int)
            assert_type(frame.timestamp_ns, int)
            assert_type(frame.lost, int)
            assert_type(np.asarray(frame), npt.NDArray[Any])
            memoryview(frame)
        for frame in frames.iter(timeout=5):
            assert_type(frame, shmring.Frame)
        with frames.get() as held:
            assert_type(held, shmring.Frame)
        batch = frames.batch(16, min_frames=4, timeout=None)
        assert_type(batch, shmring.Batch)
        assert_type(len(batch), int)
        assert_type(batch.copied, bool)
        assert_type(frames.windows(64, 16), Iterator[shmring.Batch])
        assert_type(frames.lag, int)
        assert_type(frames.ring, shmring.Ring)
        assert_type(frames.shape, tuple[int, ...])
    ring.consumer(start="first")  # type: ignore[arg-type]


def share(ring: shmring.Ring) -> None:
    with ring.consumer(group="workers", at_most_once=True, label="one") as member:
        assert_type(member, shmring.Consumer)
        assert_type(member.group, str | None)
        assert_type(member.redelivered, int)
        assert_type(member.get().redelivered, bool)
        assert_type(member.batch(8).redelivered, bool)
    assert_type(shmring.follow(ring.name, group="workers", at_most_once=False), shmring.Follower)
    for group in ring.stats().groups:
        assert_type(group, shmring.GroupStats)
        assert_type(group.name, str)
        assert_type(group.members, tuple[int, ...])
        assert_type(group.lost, int)
    ring.consumer(group=b"workers")  # type: ignore[arg-type]
    ring.consumer(group="workers", at_most_once="yes")  # type: ignore[arg-type]


def read_several(left: shmring.Consumer, right: shmring.Consumer) -> None:
    assert_type(shmring.wait([left, right], timeout=5), list[shmring.Consumer])
    pairs = shmring.align({"left": left, "right": right}, tolerance_ns=1000)
    assert_type(pairs.unmatched, dict[str, int])
    for pair in pairs:
        assert_type(pair, dict[str, shmring.Frame])
        assert_type(pair["left"].block_offset, int)
    shmring.wait(left)  # type: ignore[arg-type]


async def read_async(consumer: shmring.Consumer) -> None:
    assert_type(await consumer.get_async(timeout=1.0), shmring.Frame)
    assert_type(await consumer.latest_async(timeout=1.0), shmring.Frame)
    async for frame in consumer:
        assert_type(frame, shmring.Frame)
    async for frame in consumer.iter(timeout=5):
        assert_type(frame, shmring.Frame)


def look(ring: shmring.Ring) -> None:
    observer = ring.observer()
    assert_type(observer, shmring.Observer)
    copy = observer.latest()
    assert_type(copy, shmring.FrameCopy)
    copy.array[...] = 0
