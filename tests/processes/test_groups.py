"""Groups of real processes: kill -9, SIGSTOP, Ctrl-C, takeovers; each frame exactly once."""

import contextlib
import signal

import pytest

import shmring
from support import peers
from support.frames import check, drain, feed, payload
from support.processes import PeerError
from support.waiting import PATIENCE, wait_until

pytestmark = pytest.mark.slow


def join(here, label="", **options):
    peers.open_consumer(here, label, group="g", **options)


def work(here):
    """Take, check and release every frame until the stream ends; (seq, redelivered) of each."""
    seen = []
    for frame in here.consumer:
        seen.append((check(frame), frame.redelivered))
        frame.release()
    return seen


def work_in_batches(here):
    seen = []
    with contextlib.suppress(shmring.RingClosed):
        while True:
            with here.consumer.batch(3, timeout=PATIENCE) as batch:
                seen += [(int(seq), batch.redelivered) for seq in batch.seqs]
    return seen


def take_marked(here):
    """The next frame: (seq, redelivered)."""
    with here.consumer.get(PATIENCE) as frame:
        return [check(frame), frame.redelivered]


def get_with_timeout(here, seconds):
    here.consumer.get(seconds)


@pytest.fixture
def pool(peer):
    """`pool(ring, count)`: members of the group g, labelled m0, m1, ..."""

    def start(ring, count, **options):
        members = [peer(ring) for _ in range(count)]
        for number, one in enumerate(members):
            one.run(join, label=f"m{number}", **options)
        return members

    return start


# ---- kill -9


def test_another_member_gets_what_a_killed_one_held_marked_and_counted(ring, pool):
    one, other = pool(ring, 2)
    with ring.producer() as producer:
        feed(producer, 4)
        one.run(peers.hold, 2)
        one.kill()
        assert sorted(other.run(take_marked) for _ in range(4)) == [
            [0, True],
            [1, True],
            [2, False],
            [3, False],
        ]
        (group,) = ring.stats().groups
        assert (group.redelivered, group.lost, group.lag) == (2, 0, 0)
        assert [(row.label, row.redelivered) for row in ring.stats().consumers] == [("m1", 2)]


def abandon(here):
    """Twice, and with releases after it, which have no effect any more."""
    here.consumer._abandon()
    here.consumer._abandon()
    peers.let_go(here)
    here.consumer.close()


def test_what_a_member_abandons_goes_to_another_one(ring, pool):
    one, other = pool(ring, 2)
    with ring.producer() as producer:
        feed(producer, 3)
        one.run(peers.hold, 2)
        one.run(abandon)
        producer.close()
        assert sorted(other.run(work)) == [[0, True], [1, True], [2, False]]


def test_a_killed_member_s_batch_is_redelivered(make, pool):
    ring = make(slots=8)
    one, other = pool(ring, 2)
    with ring.producer() as producer:
        feed(producer, 5)
        one.run(hold_batch, 3)
        one.kill()
        producer.close()
        assert sorted(other.run(work)) == [[0, True], [1, True], [2, True], [3, False], [4, False]]


def hold_batch(here, count):
    here.held = here.consumer.batch(count, timeout=PATIENCE)


def test_a_waiting_member_is_woken_for_a_killed_one_s_frame(ring, pool):
    one, other = pool(ring, 2)
    with ring.producer() as producer:
        feed(producer, 1)
        one.run(peers.hold, 1)
        other.begin(take_marked).asleep()
        one.kill()
        assert other.answer() == [0, True]


def test_at_most_once_counts_what_a_killed_member_held_as_lost(ring, pool):
    one, other = pool(ring, 2, at_most_once=True)
    with ring.producer() as producer:
        feed(producer, 4)
        one.run(peers.hold, 2)
        one.kill()
        producer.close()
        assert other.run(work) == [[2, False], [3, False]]
        (group,) = ring.stats().groups
        assert (group.at_most_once, group.lost, group.redelivered) == (True, 2, 0)


def test_a_new_member_gets_what_a_killed_pool_held(make, pool):
    ring = make(slots=8)
    members = pool(ring, 3)
    with ring.producer() as producer:
        feed(producer, 8)
        for one in members:
            one.run(peers.hold, 2)
        for one in members:
            one.kill()
        (late,) = pool(ring, 1)
        producer.close()
        assert sorted(late.run(work)) == [[seq, seq < 6] for seq in range(8)]


def test_a_full_ring_does_not_wait_for_a_killed_pool(ring, pool):
    one, other = pool(ring, 2)
    with ring.producer() as producer:
        feed(producer, ring.slots)
        one.run(peers.hold, 1)
        one.kill()
        other.kill()
        for _ in range(3 * ring.slots):
            assert producer.put(payload(producer.next_seq), timeout=PATIENCE)
        assert ring.stats().groups == ()


# ---- the end of the stream


def test_a_member_killed_at_the_end_hands_its_frame_to_one_that_waits(ring, pool):
    one, other = pool(ring, 2)
    with ring.producer() as producer:
        feed(producer, 3)
        one.run(peers.hold, 1)
    other.begin(work).asleep()
    assert not other.answered()
    one.kill()
    assert sorted(other.answer()) == [[0, True], [1, False], [2, False]]


def test_a_timeout_at_the_end_names_who_still_holds_frames(ring, pool):
    one, other = pool(ring, 2)
    with ring.producer() as producer:
        feed(producer, 1)
        one.run(peers.hold, 1)
    with pytest.raises(PeerError, match=r"RingEmpty: .*has closed.*'g' is not done.*label 'm0' holds 1"):
        other.run(get_with_timeout, 0.01)
    one.run(peers.let_go)
    with pytest.raises(PeerError, match="RingClosed"):
        other.run(get_with_timeout, PATIENCE)


def test_at_most_once_nobody_waits_for_what_others_hold(ring, pool):
    one, other = pool(ring, 2, at_most_once=True)
    with ring.producer() as producer:
        feed(producer, 2)
        one.run(peers.hold, 1)
    assert other.run(work) == [[1, False]]


def test_a_full_ring_names_what_a_group_has_not_read(make):
    ring = make(slots=8)
    with (
        ring.producer(on_full="raise") as producer,
        ring.consumer(group="w", label="a") as one,
        ring.consumer(group="w", label="b"),
    ):
        feed(producer, 1)
        held = one.get(0)
        feed(producer, 7)
        with pytest.raises(shmring.RingFull, match=r"label 'a'.*holds 1 frame, lag 7 frames.*'b'.*lag 7 fr"):
            feed(producer, 1)
        held.release()


def test_members_that_keep_the_loop_s_last_frame_all_come_to_the_end(ring, pool):
    members = pool(ring, 3)
    for one in members:
        one.begin(keep_the_last)
    with ring.producer() as producer:
        feed(producer, 30)
    assert sorted([item for one in members for item in one.answer()]) == list(range(30))


def keep_the_last(here):
    seqs = []
    for frame in here.consumer:
        seqs += [check(frame)]
    return seqs


def test_a_member_that_closes_at_the_end_with_a_frame_lets_the_others_end(ring, pool):
    one, other = pool(ring, 2)
    with ring.producer() as producer:
        feed(producer, 1)
        one.run(peers.hold, 1)
    other.begin(work).asleep()
    one.run(peers.close_consumer)
    assert other.answer() == []
    assert one.run(peers.check_held) == [0]


# ---- stopped and interrupted


def test_while_a_member_is_stopped_the_others_continue(make, pool):
    ring = make(slots=8)
    stopped, other = pool(ring, 2)
    with ring.producer() as producer:
        feed(producer, 2)
        stopped.run(peers.hold, 1)
        stopped.signal(signal.SIGSTOP)
        other.begin(work)
        for _ in range(20):
            assert producer.put(payload(producer.next_seq), timeout=PATIENCE)
        stopped.signal(signal.SIGCONT)
        assert stopped.run(peers.check_held) == [0]
        stopped.run(peers.let_go)
        producer.close()
        assert [seq for seq, _ in other.answer()] == list(range(1, 22))


def test_ctrl_c_in_a_waiting_member(ring, pool):
    one, other = pool(ring, 2)
    with ring.producer() as producer:
        one.begin(work).asleep()
        one.signal(signal.SIGINT)
        with pytest.raises(PeerError, match="KeyboardInterrupt"):
            one.answer()
        feed(producer, 3)
        assert one.run(take_marked) == [0, False]
        assert other.run(peers.take_all) == [1, 2]


# ---- producers


def test_a_pool_stays_for_the_next_producer(ring, pool, peer):
    members = pool(ring, 2, wait_for_takeover=True)
    for one in members:
        one.begin(work)
    first = peer(ring)
    first.run(peers.open_producer, 10)
    wait_until(lambda: ring.stats().groups[0].lag == 0, "the pool to take them")
    first.run(peers.claim)
    first.kill()
    with ring.producer() as producer:
        feed(producer, 10)
    seen = [item for one in members for item in one.answer()]
    assert sorted(seen) == [[seq, False] for seq in sorted(seq for seq, _ in seen)]
    assert len(seen) == 20


def test_a_pool_learns_that_its_producer_died(ring, pool, peer):
    members = pool(ring, 2)
    for one in members:
        one.begin(work)
    producer = peer(ring)
    producer.run(peers.open_producer, 5)
    producer.kill()
    for one in members:
        with pytest.raises(PeerError, match="ProducerDied"):
            one.answer()
    assert ring.stats().groups[0].lag == 0


# ---- many frames


@pytest.mark.parametrize("way", [work, work_in_batches])
def test_each_frame_exactly_once(make, pool, way):
    ring = make(slots=8)
    members = pool(ring, 3)
    for one in members:
        one.begin(way)
    with ring.producer() as producer:
        feed(producer, 3000)
    seen = [item for one in members for item in one.answer()]
    assert sorted(seen) == [[seq, False] for seq in range(3000)]


def test_two_groups_a_recorder_and_a_viewer_on_one_ring(make, peer):
    ring = make(slots=8)
    members = {name: [peer(ring) for _ in range(2)] for name in ("a", "b")}
    for name, those in members.items():
        for one in those:
            one.run(peers.open_consumer, group=name)
            one.begin(work)
    with ring.consumer(lossless=False) as viewer:
        recorder = peer(ring)
        recorder.begin(peers.take_to_the_end)
        with ring.producer() as producer:
            producer.wait_for_consumers(6, timeout=PATIENCE)
            got = 0
            for _ in range(100):
                feed(producer, 10)
                got += len(drain(viewer))
        got += len(drain_rest(viewer))
        for those in members.values():
            assert sorted(seq for one in those for seq, _ in one.answer()) == list(range(1000))
        assert recorder.answer() == list(range(1000))
        assert got + viewer.lost == 1000


def drain_rest(consumer):
    return [check(frame) for frame in consumer]


def test_no_frame_is_lost_while_members_are_killed_and_replaced(make, peer, pool):
    ring = make(slots=8)
    members = pool(ring, 3)
    for one in members[1:]:
        one.begin(work)
    with ring.producer() as producer:
        for killed in range(4):
            doomed = members[0] if killed == 0 else peer(ring)
            if killed:
                doomed.run(join)
            for _ in range(20):
                assert producer.put(payload(producer.next_seq), timeout=PATIENCE)
            with contextlib.suppress(PeerError):
                doomed.run(hold_some)
            doomed.kill()
    seen = [item for one in members[1:] for item in one.answer()]
    assert sorted(seq for seq, _ in seen) == list(range(80))


def hold_some(here):
    """Hold two frames, if there are some that nobody else has taken."""
    here.held = [here.consumer.try_get(), here.consumer.try_get()]
