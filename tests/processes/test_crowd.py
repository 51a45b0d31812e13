"""Everything at once: consumers of every kind, each in its own process, frames held, kills in between."""

import os
import time

import numpy as np
import pytest

import shmring
from support.frames import check, check_batch, fill, payload
from support.waiting import PATIENCE

pytestmark = pytest.mark.slow

LONG = [pytest.mark.stress, pytest.mark.timeout(300)]


def consume(ring, lossless: bool, manner: str, seed: int, send) -> None:
    """Read a whole stream in one manner, hold things at random, check them when they are let go."""
    random = np.random.default_rng(seed)
    with ring.consumer(lossless=lossless, label=f"{manner} {seed}", spin=None if seed % 2 else 0) as consumer:
        send("joined")
        held, seqs_seen, expected = [], 0, 0
        windows = consumer.windows(2, 1)
        try:
            while True:
                if manner == "get":
                    taken = consumer.get()
                    seqs = [check(taken)]
                    assert seqs[0] == expected + taken.lost
                elif manner == "latest":
                    taken = consumer.latest()
                    seqs = [check(taken)]
                elif manner == "batch":
                    taken = consumer.batch(int(random.integers(1, 4)))
                    seqs = check_batch(taken)
                else:
                    taken = next(windows)
                    seqs = check_batch(taken)
                assert seqs == sorted(set(seqs))
                assert seqs[-1] >= expected
                expected = seqs[-1] + 1
                seqs_seen += 1
                if random.random() < 0.3 and len(held) < 2:
                    held.append(taken)
                del taken
                if held and random.random() < 0.3:
                    let_go = held.pop(int(random.integers(0, len(held))))
                    check(let_go) if isinstance(let_go, shmring.Frame) else check_batch(let_go)
                    del let_go
        except (shmring.RingClosed, StopIteration):
            pass
        for rest in held:
            check(rest) if isinstance(rest, shmring.Frame) else check_batch(rest)
        held.clear()
        rest = None
        send([consumer.delivered, consumer.lost, consumer.skipped, consumer.held, seqs_seen])


@pytest.mark.parametrize("frames", [2000, pytest.param(200_000, marks=LONG)])
@pytest.mark.parametrize("slots", [24, 37])
def test_every_kind_of_consumer_at_once(make, fork, slots, frames):
    ring = make(slots=slots)
    kinds = [
        (True, "get"),
        (True, "batch"),
        (True, "windows"),
        (False, "get"),
        (False, "latest"),
        (True, "latest"),
    ]
    random = np.random.default_rng(slots)
    with ring.producer() as producer:
        children = [
            fork(lambda send, kind=kind, seed=seed: consume(ring, *kind, seed, send))
            for seed, kind in enumerate(kinds)
        ]
        for child in children:
            assert child.receive() == "joined"
        while producer.next_seq < frames:
            how = random.random()
            if how < 0.5:
                assert producer.put(payload(producer.next_seq), timeout=PATIENCE)
            elif how < 0.8:
                with producer.claim(int(random.integers(1, 4)), timeout=PATIENCE) as slot:
                    fill(slot)
            elif how < 0.9:
                count = int(random.integers(1, 5))
                many = np.stack([payload(producer.next_seq + i) for i in range(count)])
                assert producer.put_many(many, timeout=PATIENCE) == count
            else:
                slot = producer.claim(timeout=PATIENCE)
                slot.array[:100] = 1
                slot.abort()
        total = producer.next_seq
    for (lossless, manner), child in zip(kinds, children, strict=True):
        delivered, lost, skipped, held, _ = child.receive()
        assert held == 0
        assert child.wait() == 0
        if manner == "windows":
            assert delivered + lost + skipped in (total, total - 1)  # the last frame may be no window
        else:
            assert delivered + lost + skipped == total
        if lossless:
            assert lost == 0
        if manner == "get" and lossless:
            assert delivered == total


@pytest.mark.parametrize("rounds", [10, pytest.param(300, marks=LONG)])
def test_kills_among_everyone(make, fork, rounds):
    """One consumer after the other is killed and replaced; those that live on miss nothing."""
    ring = make(slots=8)
    random = np.random.default_rng(rounds)

    def steady(send):
        with ring.consumer(label="steady") as consumer:
            send("joined")
            send([check(frame) for frame in consumer][-1] + 1 - consumer.delivered)

    with ring.producer() as producer:
        survivor = fork(steady)
        assert survivor.receive() == "joined"
        for turn in range(rounds):
            kind = [(True, "get"), (False, "get"), (True, "batch"), (False, "latest")][turn % 4]
            victim = fork(lambda send, kind=kind, turn=turn: consume(ring, *kind, turn, send))
            assert victim.receive() == "joined"
            until = time.monotonic() + float(random.uniform(0, 0.01))
            while time.monotonic() < until:
                assert producer.put(payload(producer.next_seq), timeout=PATIENCE)
            victim.kill()
        for _ in range(3 * ring.slots):
            assert producer.put(payload(producer.next_seq), timeout=PATIENCE)
    assert survivor.receive() == 0
    assert survivor.wait() == 0
    assert [row.pid for row in ring.stats().consumers if row.alive and row.pid != os.getpid()] == []
