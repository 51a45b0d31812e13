"""A mirror: the same frames, with everything that belongs to them, in rings of other nodes."""

import contextlib
import os
import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import shmring
from support.blocks import fresh_name
from support.frames import check, feed
from support.threads import Running
from support.waiting import PATIENCE, wait_until

ray = pytest.importorskip("ray", reason="needs the extra ray")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

from shmring.ray import Mirror, mirror, mirror_each  # noqa: E402

ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.fixture
def ring(make):
    """More slots than a test puts frames before it reads."""
    return make(slots=64)


@pytest.fixture(params=["tcp", "ray"])
def mirrored(request, cluster):
    """`mirrored(ring, nodes, ...)`: a mirror, closed at the end of the test."""
    made = []

    def start(ring, *arguments, **options):
        made.append(mirror(ring, *arguments, **{"transport": request.param, **options}))
        return made[-1]

    yield start
    for one in made:
        one.close()


BY_TCP = pytest.mark.parametrize("mirrored", ["tcp"], indirect=True)


def attach(mirror, node):
    return shmring.Ring.attach(mirror.names[node])


def test_frames_come_to_every_node(mirrored, others, make):
    """With what belongs to them, and with what was lost between and behind them."""
    ring = make(slots=64, shape=(6, 2), dtype="i4", variable_rows=True, meta="M8[s]", attrs={"gain": 2.5})
    made = mirrored(ring)
    assert set(made.names) == set(others)
    rings = [attach(made, node) for node in others]
    consumers = [one.consumer() for one in rings]
    with ring.producer() as out, ring.consumer() as near:
        for number in range(12):
            if number == 5:
                out.drop(3)
            frame = np.full((number % 7, 2), number, "i4")
            out.put(frame, timestamp_ns=number * 1000, meta=np.datetime64(number, "s"))
        out.drop(4)
        out.close()
        for one in near:
            for consumer in consumers:
                other = consumer.get(PATIENCE)
                assert (other.seq, other.timestamp_ns, other.rows) == (one.seq, one.timestamp_ns, one.rows)
                assert (other.meta, other.lost) == (one.meta, one.lost)
                assert other.array.tobytes() == one.array.tobytes()
                other.release()
            one.release()
    for far, consumer in zip(rings, consumers, strict=True):
        with pytest.raises(shmring.RingClosed):
            consumer.get(PATIENCE)
        assert (consumer.lost, far.stats().next_seq, far.attrs["gain"]) == (7, 19, 2.5)
    stats = made.wait(PATIENCE)
    assert stats.ended == "closed"
    for one in stats.sinks:
        assert (one.state, one.published, one.lost, one.lag, one.window) == ("ended", 12, 7, 0, 0)
    for one in (*consumers, *rings):
        one.close()


def test_a_mirror_in_the_middle_of_a_stream_begins_there(mirrored, others, ring):
    """Who attaches to the mirror has not lost what was before it, but gets what is still in the ring."""
    with ring.producer() as out:
        feed(out, 100)
        made = mirrored(ring, others[:1])
        with attach(made, others[0]) as far, far.consumer() as frames:
            feed(out, 10)
            out.close()
            seqs = [check(frame) for frame in frames]
            assert seqs == list(range(seqs[0], 110))
            assert 30 <= seqs[0] <= 40
            assert frames.lost == 0


def test_a_slow_node_holds_the_producer_up(mirrored, others, make):
    ring = make(slots=8)
    made = mirrored(ring, others[:1])
    with attach(made, others[0]) as far, far.consumer() as frames, ring.producer() as out:
        feeding = Running(lambda: feed(out, 200)).asleep()
        assert ring.stats().published <= 4 * ring.slots  # here, on their way and there
        assert [check(frames.get(PATIENCE)) for _ in range(200)] == list(range(200))
        assert feeding.end().value == 200
        assert frames.lost == 0


def test_a_lossy_node_loses_what_does_not_fit_and_counts_it(mirrored, others, make):
    ring = make(slots=8)
    made = mirrored(ring, others[:1], lossless=False)
    with attach(made, others[0]) as far, far.consumer() as frames, ring.producer() as out:
        reader = Running(lambda: [(check(frame), frame.lost) for frame in slowly(frames)])
        feed(out, 3000)  # nobody holds it up
        out.close()
        seen = reader.end().value
        seqs = [seq for seq, _ in seen]
        assert seqs == sorted(set(seqs))
        assert sum(lost for _, lost in seen) == seqs[-1] + 1 - len(seqs)
        stats = made.wait(PATIENCE)
        assert stats.sinks[0].published + stats.sinks[0].lost == 3000


def slowly(frames):
    """The frames, with as much work between them as makes the ring behind overflow."""
    for frame in frames:
        sum(range(3000))
        yield frame


@pytest.mark.parametrize("end", ["failed", "died"])
def test_the_end_is_the_sources(mirrored, others, ring, end):
    made = mirrored(ring)
    with attach(made, others[0]) as far, far.consumer() as frames:
        out = ring.producer()
        feed(out, 2)
        if end == "failed":
            out.close(error="lens cap on")
        else:
            out.abandon()
        assert [check(frames.get(PATIENCE)) for _ in range(2)] == [0, 1]
        error = {"failed": shmring.ProducerFailed, "died": shmring.ProducerDied}
        with pytest.raises(error[end]) as caught:
            frames.get(PATIENCE)
        assert type(caught.value) is error[end]
        if end == "failed":
            assert caught.value.failure == "lens cap on"
    assert made.wait(PATIENCE).ended == end


def test_closing_sends_what_is_published(mirrored, others, ring):
    made = mirrored(ring, others[:1])
    with attach(made, others[0]) as far, far.consumer() as frames, ring.producer() as out:
        feed(out, 20)
        made.close()
        assert not os.path.exists(f"/dev/shm/{far.name}")
        assert [check(frame) for frame in frames] == list(range(20))
        made.close()
        assert "closed" in repr(made)
        feed(out, 100)  # nobody holds it up any more


def test_an_error_in_the_block_is_one_for_consumers(cluster, others, ring):
    made = mirror(ring, others[:1])
    far = attach(made, others[0])
    frames = far.consumer()
    with pytest.raises(ZeroDivisionError), made:
        1 / 0  # noqa: B018
    with pytest.raises(shmring.ProducerFailed, match="ZeroDivisionError"):
        frames.get(PATIENCE)
    frames.close()
    far.close()


def test_a_taken_name_is_refused(cluster, others, make):
    ring, there = make(), make()
    with pytest.raises(shmring.RingIncompatible, match=f"frames of another source.*{others[0]}"):
        mirror(ring, others[:1], name=there.name)
    assert not any(one.alive for one in ring.stats().consumers)


def test_wrong_arguments(cluster, others, ring):
    here = ray.get_runtime_context().get_node_id()
    for nodes, error, said in (
        ([here], ValueError, "has the ring itself"),
        (["0" * 56], ValueError, others[0]),
        (others[0], TypeError, "list of ids"),
        (ray.nodes(), TypeError, "not of dict"),
        ([], ValueError, "no other node"),
    ):
        with pytest.raises(error, match=said):
            mirror(ring, nodes)
    for options in ({"window": 0}, {"batch_nbytes": 0}, {"name": "a/b"}, {"lossless": {"x": True}}):
        with pytest.raises(ValueError, match=next(iter(options))):
            mirror(ring, others[:1], **options)
    with pytest.raises(TypeError, match="lossless"):
        mirror(ring, others[:1], lossless=1)
    with pytest.raises(TypeError, match="attach to it"):
        mirror(ring.name, others[:1])
    with (
        shmring.Ring.attach(ring.name, readonly=True) as reading,
        pytest.raises(shmring.RingAccessDenied),
    ):
        mirror(reading, others[:1])


def test_ray_was_shut_down_first(monkeypatch):
    """The mirror ended with it, and does not make Ray start again."""
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr("shmring.ray._mirror.this_node", lambda: "here")
    with Mirror(None, []) as made, pytest.raises(shmring.ray.SourceDied, match="Ray was shut down"):
        made.stats()


class Refused:
    """An actor whose start failed, as Ray says it."""

    def __getattr__(self, name):
        return SimpleNamespace(remote=lambda *_: None)


def test_a_ring_that_ended_before_its_mirror_began(make, monkeypatch):
    """Its actors cannot attach to it; a service that mirrors each stream continues with the next one."""

    def get(*_arguments, **_options):
        raise ray.exceptions.ActorDiedError

    for name, replacement in {
        "is_initialized": lambda: True,
        "get": get,
        "wait": lambda *_, **__: ([], []),
        "kill": lambda *_: None,
    }.items():
        monkeypatch.setattr(ray, name, replacement)
    monkeypatch.setattr("shmring.ray._mirror.this_node", lambda: "here")
    monkeypatch.setattr("shmring.ray._mirror.living", lambda: ["here", "there"])

    ring = make()
    monkeypatch.setattr("shmring.ray._mirror.start", lambda *_: Refused())
    with pytest.raises(ray.exceptions.ActorDiedError):
        mirror(ring)

    def start(*_arguments):
        with contextlib.suppress(shmring.RingNotFound):
            ring.unlink()
        return Refused()

    monkeypatch.setattr("shmring.ray._mirror.start", start)
    with pytest.raises(shmring.RingNotFound, match="ended before"):
        mirror(ring)


def test_a_closed_mirror_says_that_it_is_closed(mirrored, others, ring):
    made = mirrored(ring, others[:1])
    made.close()
    for call in (made.stats, made.wait):
        with pytest.raises(ValueError, match="this mirror is closed"):
            call()
    with pytest.raises(ValueError, match="timeout"):
        made.wait(-1)
    made.close()


@BY_TCP
def test_statistics_and_commands_show_each_node(mirrored, others, ring, cli):
    """And policies may differ between them."""
    made = mirrored(ring, lossless={others[0]: True, others[1]: False})
    with pytest.raises(TimeoutError, match=others[0][:8]):
        made.wait(0)
    policies = {one.label: one.policy for one in ring.stats().consumers}
    assert policies == {f"mirror {others[0][:8]}": "lossless", f"mirror {others[1][:8]}": "lossy"}
    with ring.producer() as out:
        feed(out, 20)
        wait_until(lambda: all(one.published == 20 for one in made.stats().sinks))
        stats = made.stats()
        assert (stats.ring, stats.ended) == (ring.name, None)
        assert {one.node for one in stats.sinks} == set(others)
        for one in stats.sinks:
            assert (one.ring, one.state, one.joined) == (made.names[one.node], "running", 1)
            assert one.rate > 0
            assert one.lossless == (one.node == others[0])
            assert f"node {one.node[:8]}" in str(stats)
        code, said, _ = cli("metrics", ring.name)
        assert code == 0
        for what in ("lag_frames", "held_frames", "lost_frames_total", "delivered_frames_total"):
            for node in others:
                assert re.search(f'consumer_{what}.*label="mirror {node[:8]}"', said)
        code, said, _ = cli("metrics", made.names[others[0]])
        assert code == 0
        assert f'shmring_producer_live{{ring="{made.names[others[0]]}"}} 1.0' in said
    assert made.wait(PATIENCE).ended == "closed"


def test_following_mirrors_one_stream_after_another(cluster, others, make):
    """A new ring of the name, and the next producer of the same ring; consumers there follow, too."""
    name, far_name = fresh_name(), fresh_name()
    streams = mirror_each(name, others[:1], name=far_name)
    taken = []
    with shmring.follow(far_name) as frames, contextlib.closing(streams):
        for run in range(3):
            if run < 2:
                ring = make(name=name, slots=32)
            out = ring.producer()
            made = next(streams)
            feed(out, 5)
            taken += [check(next(frames)) for _ in range(5)]
            out.close() if run == 0 else out.abandon()
            if run == 0:
                ring.unlink()
            assert made.wait(PATIENCE).ended == ("closed" if run == 0 else "died")
    assert taken == [*range(5), *range(5), *range(5, 10)]


def own_memory(_actor) -> int:
    """Bytes of a process that are not shared."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("RssAnon"))


def test_memory_is_bounded(mirrored, others, make):
    """By the rings and the window, whatever goes by: 3,000 frames are 400 MB."""
    ring = make(shape=(1 << 17,), dtype="u1", slots=32)
    made = mirrored(ring, others[:1], batch_nbytes=1 << 20)
    actors = [made._source, made._sinks[0].sink]
    with ring.producer() as out:
        for sent in (500, 3500):
            while out.published < sent:
                out.claim().publish()
            wait_until(lambda sent=sent: made.stats().sinks[0].published == sent)
            used = [ray.get(actor.__ray_call__.remote(own_memory)) for actor in actors]
            if sent == 500:
                first = used
        assert max(after - before for before, after in zip(first, used, strict=True)) < 64 << 20
