"""Groups: each frame to one member; what a member can do, what it is refused, what stats() says."""

import asyncio
import contextlib
import gc
import pickle

import pytest

import shmring
from support.frames import check, check_batch, drain, feed, payload
from support.threads import Running
from support.waiting import PATIENCE


@pytest.fixture
def join():
    """`join(ring, ...)`: a consumer, closed with the test."""
    with contextlib.ExitStack() as opened:
        yield lambda ring, **options: opened.enter_context(ring.consumer(**options))


@pytest.fixture
def ring(make):
    """With spare slots, so that held frames leave the producer all of the ring."""
    return make(spares=2)


@pytest.fixture
def two(ring):
    """Two members of one group."""
    with ring.consumer(group="workers", label="a") as one, ring.consumer(group="workers", label="b") as other:
        yield one, other


def test_each_frame_goes_to_one_member_the_next_that_asks(ring, two):
    one, other = two
    with ring.producer() as producer, ring.consumer() as recorder:
        feed(producer, 4)
        assert [check(member.get(0)) for member in (one, other, other, one)] == [0, 1, 2, 3]
        assert one.try_get() is None
        assert other.try_get() is None
        assert drain(recorder) == [0, 1, 2, 3]
    assert (one.group, one.delivered, one.lost, one.redelivered) == ("workers", 2, 0, 0)
    assert one.lossless


def test_a_group_holds_the_producer_back_and_its_held_frames_stay(ring, two):
    one, other = two
    with ring.producer() as producer:
        feed(producer, ring.slots)
        with pytest.raises(
            shmring.RingFull, match=r"a group has not read.*label 'a', member of group 'workers'"
        ):
            producer.put(payload(4), timeout=0)
        held = [one.get(0), other.get(0)]
        feed(producer, 2)
        assert [check(frame) for frame in held] == [0, 1]
        assert sorted(drain(one) + drain(other)) == [2, 3, 4, 5]
        assert [check(frame) for frame in held] == [0, 1]


def test_no_frame_is_redelivered_while_all_members_live(ring, two):
    one, _ = two
    with ring.producer() as producer:
        feed(producer, 2)
        frame = one.get(0)
        batch = one.batch(3)
        assert not frame.redelivered
        assert not batch.redelivered
        with ring.consumer() as plain:
            assert plain.group is None
            assert not plain.get(0).redelivered


def test_several_groups_and_consumers_are_independent(make, join):
    ring = make(slots=8)
    with ring.producer() as producer:
        members = {name: join(ring, group=name) for name in ("a", "b", "c", "ä" * 31)}
        viewer = join(ring, lossless=False, start="newest")
        feed(producer, 6)
        assert [drain(one) for one in members.values()] == [list(range(6))] * 4
        assert sorted(drain(viewer)) == list(range(6))
        assert [one.name for one in ring.stats().groups] == list(members)


@pytest.mark.parametrize(("start", "first"), [("oldest", [0, 1, 2]), ("newest", [2]), ("next", [])])
def test_a_group_begins_where_its_first_member_says(ring, start, first):
    with ring.producer() as producer:
        feed(producer, 3)
        with ring.consumer(group="g", start=start) as member:
            assert member.lag == len(first)
            feed(producer, 1)
            assert drain(member) == [*first, 3]
            with ring.consumer(group="g", start="oldest") as late:
                assert drain(late) == []
                feed(producer, 1)
                assert drain(late) == [4]


def test_with_its_last_member_a_group_is_gone(ring):
    with ring.producer() as producer:
        feed(producer, 2)
        with ring.consumer(group="g") as member:
            assert drain(member) == [0, 1]
        assert ring.stats().groups == ()
        with ring.consumer(group="g", at_most_once=True) as member:
            assert drain(member) == [0, 1]
            assert [one.at_most_once for one in ring.stats().groups] == [True]


def test_a_batch_of_a_member(make):
    ring = make(slots=8)
    with ring.producer() as producer, ring.consumer(group="g") as one, ring.consumer(group="g") as other:
        feed(producer, 8)
        batch = one.batch(3)
        rest = other.batch(100)
        assert (check_batch(batch), check_batch(rest)) == ([0, 1, 2], [3, 4, 5, 6, 7])
        del batch, rest
        with pytest.raises(shmring.RingEmpty):
            one.batch(3, timeout=0)
        waiting = Running(lambda: check_batch(one.batch(3, timeout=PATIENCE))).asleep()
        feed(producer, 1)
        assert waiting.end().value == [8]
        producer.close()
        with pytest.raises(shmring.RingClosed):
            one.batch(2, timeout=PATIENCE)


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (lambda one: one.latest(), "latest.. is not for members of a group"),
        (lambda one: one.latest_async(), "latest_async.. is not for members of a group"),
        (lambda one: one.windows(2), "windows.. is not for members of a group"),
        (lambda one: one.batch(3, 2), "min_frames > 1 is not for members of a group"),
        (lambda one: shmring.align({"a": one, "b": one}, tolerance_ns=1), "is in group 'workers'"),
    ],
)
def test_what_a_member_is_refused(two, call, why):
    with pytest.raises(ValueError, match=why):
        call(two[0])


@pytest.mark.parametrize(
    ("options", "kind", "why"),
    [
        ({"group": "g", "lossless": False}, ValueError, "a group holds the producer back"),
        ({"group": ""}, ValueError, "at least one byte"),
        ({"group": "x" * 64}, ValueError, "a group has at most 63 bytes, not 64"),
        ({"group": "ä" * 32}, ValueError, "a group has at most 63 bytes, not 64"),
        ({"group": "a\0b"}, ValueError, "a group has no NUL"),
        ({"group": "\udc80"}, ValueError, "surrogates"),
        ({"group": 3}, TypeError, "group must be a str"),
        ({"group": b"g"}, TypeError, "group must be a str"),
        ({"group": "g", "at_most_once": 1}, TypeError, "at_most_once"),
        ({"at_most_once": True}, ValueError, "give group="),
    ],
)
def test_how_a_group_cannot_be_joined(ring, options, kind, why):
    with pytest.raises(kind, match=why):
        ring.consumer(**options)
    with pytest.raises(kind, match=why):
        shmring.follow(ring.name, **options)
    assert ring.stats().consumers == ()


@pytest.mark.parametrize("first", [True, False])
def test_all_members_agree_on_what_a_death_does(ring, first):
    with ring.consumer(group="g", at_most_once=first) as member:
        with pytest.raises(ValueError, match=f"exists with at_most_once={first}.*pass at_most_once={first}"):
            ring.consumer(group="g", at_most_once=not first)
        assert [one.place for one in ring.stats().consumers] == [member.place]


def test_a_fifth_group_is_refused(ring, join):
    members = [join(ring, group=f"g{number}", label=f"m{number}") for number in range(4)]
    with pytest.raises(shmring.TooManyConsumers, match=r"room for 4 groups.*'g0'.*'m0'.*'g3'.*'m3'"):
        ring.consumer(group="fifth")
    assert len(ring.stats().consumers) == 4
    members.pop().close()
    with ring.consumer(group="fifth") as member:
        assert member.group == "fifth"


# ---- the ends of streams


def test_every_member_comes_to_the_end(ring, two):
    one, other = two
    with ring.producer() as producer:
        feed(producer, 4)
    assert [check(frame) for frame in one] == [0, 1, 2, 3]
    assert list(other) == []
    with pytest.raises(shmring.RingClosed):
        other.get(0)


def test_members_of_one_process_do_not_wait_for_each_other_at_the_end(ring, two):
    one, other = two
    with ring.producer() as producer:
        feed(producer, 2)
    held = one.get(0)
    assert [check(frame) for frame in other] == [1]
    assert check(held) == 0
    assert list(one) == []


def test_a_member_waits_for_the_next_producer_if_asked_to(ring):
    with ring.consumer(group="g", wait_for_takeover=True) as member:
        peerless = ring.producer()
        feed(peerless, 1)
        peerless.abandon()
        assert check(member.get(0)) == 0
        with ring.producer() as producer:
            feed(producer, 1)
            frame = member.get(PATIENCE)
            assert (check(frame), frame.epoch) == (1, 2)


# ---- handles


def test_close_while_holding(ring, two):
    one, other = two
    with ring.producer() as producer:
        feed(producer, 2)
        frame = one.get(0)
        array = frame.array
        one.close()
        assert check(frame) == 0
        row = ring.stats().consumers[0]
        assert (row.policy, row.group, row.held) == ("left", None, 1)
        assert drain(other) == [1]
        for _ in range(3):
            feed(producer, ring.slots)
            drain(other)
        assert check(frame) == 0
        del frame, array
        assert [one.label for one in ring.stats().consumers] == ["b"]


def test_a_frame_can_outlive_its_member_and_be_released_in_any_thread(ring):
    with ring.producer() as producer:
        member = ring.consumer(group="g")
        feed(producer, 2)
        frame, kept = member.get(0), member.get(0).array
        Running(frame.release).end()
        assert member.held == 1
        member.close()
        assert (kept == payload(1)).all()
        del kept
        assert ring.stats().consumers == ()


def test_a_member_is_collected(ring):
    with pytest.warns(ResourceWarning, match="unclosed Consumer"):
        ring.consumer(group="g")
    gc.collect()
    assert ring.stats().groups == ()


def test_a_member_is_not_pickled(two):
    with pytest.raises(TypeError, match=r"open the handle there"):
        pickle.dumps(two[0])


def test_what_it_says_at_a_prompt(ring, two):
    with ring.producer() as producer:
        feed(producer, 1)
        assert "member of group 'workers', open" in repr(two[0])
        assert "redelivered" not in repr(two[0].get(0))


def test_a_fork_has_copies_of_what_a_member_holds(ring, two, fork):
    one, _ = two
    with ring.producer() as producer:
        feed(producer, 3)
        frame, batch = one.get(0), one.batch(2)
        arrays = [frame.array, *batch.array]

        def work(send):
            send([bool((one == payload(seq)).all()) for seq, one in enumerate(arrays)])
            try:
                one.get(0)
            except shmring.ForkedHandle as error:
                send(str(error))
            with ring.consumer(group="workers", label="child") as member:
                send([check(other) for other in member])

        child = fork(work)
        assert child.receive() == [True, True, True]
        assert "before a fork" in child.receive()
        feed(producer, 1)
        del frame, batch
        arrays.clear()
        producer.close()
        seqs = child.receive()
        assert seqs + drain_to_end(one) == [3]


def drain_to_end(consumer) -> list[int]:
    return [check(frame) for frame in consumer]


# ---- several at once, asyncio, following


def test_wait_returns_the_members_that_have_something_to_take(ring, two):
    one, other = two
    with ring.producer() as producer:
        assert shmring.wait([one, other], 0) == []
        waiting = Running(lambda: shmring.wait([one, other], PATIENCE)).asleep()
        feed(producer, 1)
        assert set(waiting.end().value) == {one, other}
        assert check(other.try_get()) == 0
        assert one.try_get() is None
        assert shmring.wait([one], 0) == []
    assert shmring.wait([one, other], PATIENCE) == [one, other]


def test_asyncio_shares_the_frames(make):
    ring = make(slots=8)

    async def work(member):
        seqs = []
        async for frame in member:
            seqs.append(check(frame))
            await asyncio.sleep(0)
        return seqs

    async def main(producer):
        members = [ring.consumer(group="g") for _ in range(3)]
        tasks = [asyncio.create_task(work(member)) for member in members]
        for _ in range(10):
            feed(producer, 4)
            while members[0].lag:
                await asyncio.sleep(0.001)
        producer.close()
        done = await asyncio.gather(*tasks)
        with pytest.raises(shmring.RingClosed):
            await members[0].get_async(0)
        for member in members:
            member.close()
        return done

    with ring.producer() as producer:
        assert sorted(seq for seqs in asyncio.run(main(producer)) for seq in seqs) == list(range(40))


def test_a_cancelled_call_has_taken_no_frame(ring, two):
    one, other = two

    async def main(producer):
        task = asyncio.create_task(one.get_async())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(shmring.RingEmpty):
            await one.get_async(0.001)
        feed(producer, 1)
        return check(await other.get_async(PATIENCE))

    with ring.producer() as producer:
        assert asyncio.run(main(producer)) == 0


@pytest.mark.slow
def test_followers_share_one_ring_after_another(make, name):
    pools = [shmring.follow(name, timeout=PATIENCE, group="g", label=f"f{n}") for n in range(2)]
    seqs = []
    ring = make(name)
    for first in (0, 3, 6):
        with ring.producer() as producer:
            running = Running(lambda: [check(next(pools[0])), check(next(pools[1]))])
            producer.wait_for_consumers(1, timeout=PATIENCE)
            feed(producer, 2)
            seqs += sorted(running.end().value)
            feed(producer, 1)
            seqs.append(check(next(pools[first % 2])))
    for one in pools:
        one.close()
    assert seqs == list(range(9))


# ---- what others see


def test_stats_of_a_group(ring, two):
    one, other = two
    with ring.producer() as producer:
        feed(producer, 4)
        frame = one.get(0)
        stats = ring.stats()
        (group,) = stats.groups
        assert (group.name, group.next, group.lag, group.members) == (
            "workers",
            1,
            3,
            (one.place, other.place),
        )
        assert (group.redelivered, group.lost, group.at_most_once) == (0, 0, False)
        assert [(row.policy, row.group, row.lag, row.held) for row in stats.consumers] == [
            ("member", "workers", 3, 1),
            ("member", "workers", 3, 0),
        ]
        assert f"group 'workers': members at places {one.place}, {other.place}; lag 3" in str(stats)
        assert stats.as_dict()["groups"][0]["name"] == "workers"
        assert check(frame) == 0


def test_a_name_used_again_is_one_group(ring):
    first, second = ring.consumer(group="a"), ring.consumer(group="b")
    first.close()
    second.close()
    with ring.consumer(group="b") as member:
        assert [(one.name, one.members) for one in ring.stats().groups] == [("b", (member.place,))]


def test_wait_for_consumers_counts_members(ring, two):
    with ring.producer() as producer:
        producer.wait_for_consumers(2, timeout=0)
        with pytest.raises(shmring.TooFewConsumers, match="member of group 'workers'"):
            producer.wait_for_consumers(3, timeout=0)


def test_a_producer_that_waits_for_members_of_its_own_thread_alone(ring, two):
    with ring.producer() as producer:
        feed(producer, ring.slots)
        with pytest.raises(shmring.SlotsHeld, match="would never end"):
            producer.put(payload(4))


def test_a_member_that_holds_every_slot(ring):
    with ring.producer(on_full="drop") as producer, ring.consumer(group="g") as member:
        held = []
        while producer.put(payload(producer.next_seq)):
            held.append(member.get(0))
        with pytest.raises(shmring.SlotsHeld, match="this consumer itself holds"):
            member.get()
        held.clear()
        feed(producer, 1)
        assert member.get(PATIENCE).seq == producer.next_seq - 1
