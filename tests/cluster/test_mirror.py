"""A mirror: the same frames, with everything that belongs to them, in rings of other nodes."""

import contextlib
import functools
import importlib.util
import os
import re
import signal
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import shmring
from support.blocks import fresh_name
from support.frames import check, feed, payload
from support.screens import columns, shown, watch
from support.threads import Running
from support.waiting import PATIENCE, wait_asleep, wait_until

ray = pytest.importorskip("ray", reason="needs the extra ray")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

from shmring.ray import Mirror, mirror, mirror_each  # noqa: E402
from shmring.ray._mirror import WINDOW  # noqa: E402

ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])

EXAMPLES = Path(__file__).parents[2] / "examples"


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


class Marked(np.ndarray):
    """A subclass, as libraries have them."""


PARTS = np.dtype(
    [
        ("raw", ">f4", (2,)),
        ("when", "M8[ms]"),
        ("half", "u2"),  # bfloat16, of which a ring knows the memory only
        ("name", "S3"),
        ("inner", [("a", "<i2"), ("b", ">u8")]),
    ]
)


def parts(number: int) -> np.ndarray:
    """Rows of every kind of value that is not simply a number of this machine."""
    from ml_dtypes import bfloat16

    rows = np.zeros((number % 7, 2), PARTS)
    rows["raw"] = number / 3
    rows["when"] = "NaT" if number == 4 else np.datetime64(number, "ms")
    rows["half"].view(bfloat16)[...] = number + 0.5
    rows["name"] = str(number)
    rows["inner"]["a"], rows["inner"]["b"] = -number, number << 40
    return rows.view(Marked)


def check_parts(array: np.ndarray, number: int) -> None:
    from ml_dtypes import bfloat16

    assert array.dtype == PARTS
    assert len(array) == number % 7
    for row in array.reshape(-1):
        assert row["raw"].tolist() == [np.float32(number / 3)] * 2
        assert np.isnat(row["when"]) if number == 4 else row["when"] == np.datetime64(number, "ms")
        assert row["half"].view(bfloat16) == number + 0.5
        assert row["name"] == str(number).encode()
        assert row["inner"].tolist() == (-number, number << 40)


def test_frames_come_to_every_node(mirrored, others, make):
    """With what belongs to them, and with what was lost between and behind them."""
    pytest.importorskip("ml_dtypes")
    ring = make(slots=64, shape=(6, 2), dtype=PARTS, variable_rows=True, meta="M8[s]", attrs={"gain": 2.5})
    made = mirrored(ring)
    assert set(made.names) == set(others)
    rings = [attach(made, node) for node in others]
    consumers = [one.consumer() for one in rings]
    with ring.producer() as out, ring.consumer() as near:
        for number in range(12):
            if number == 5:
                out.drop(3)
            out.put(parts(number), timestamp_ns=number * 1000, meta=np.datetime64(number, "s"))
        out.drop(4)
        out.close()
        for number, one in enumerate(near):
            for consumer in consumers:
                other = consumer.get(PATIENCE)
                assert (other.seq, other.timestamp_ns, other.rows) == (one.seq, one.timestamp_ns, one.rows)
                assert (other.meta, other.lost) == (one.meta, one.lost)
                assert other.meta == np.datetime64(number, "s")
                check_parts(other.array, number)
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


def test_a_mirror_from_the_middle_of_a_stream_until_it_is_closed(mirrored, others, ring):
    """Its consumers have not lost what was before, and get what is in the ring, and what is published."""
    with ring.producer() as out:
        feed(out, 100)
        made = mirrored(ring, others[:1])
        with attach(made, others[0]) as far, far.consumer() as frames:
            reading = Running(lambda: [check(frame) for frame in frames])
            feed(out, 10)
            made.close()
            assert not os.path.exists(f"/dev/shm/{far.name}")
            seqs = reading.end().value
            assert seqs == list(range(seqs[0], 110))
            assert 30 <= seqs[0] <= 40
            assert frames.lost == 0
        feed(out, 100)  # nobody holds it up any more
    made.close()
    assert "closed" in repr(made)
    for call in (made.stats, made.wait):
        with pytest.raises(ValueError, match="this mirror is closed"):
            call()
    with pytest.raises(ValueError, match="timeout"):
        made.wait(-1)


def own_memory(_actor) -> int:
    """Bytes of a process that are not shared."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("RssAnon"))


def feed_large(out, count, shape) -> None:
    for _ in range(count):
        out.put(payload(out.next_seq, shape))


def test_a_slow_node_holds_the_producer_up(mirrored, others, make):
    """And memory is bounded by the rings and the window, whatever goes by: 3,000 frames are 400 MB."""
    ring = make(shape=(1 << 14,), slots=8)
    made = mirrored(ring, others[:1], batch_nbytes=1 << 20)
    actors = [made._source, made._sinks[0].sink]
    with ring.producer() as out:
        with attach(made, others[0]) as far, far.consumer() as frames:
            feeding = Running(lambda: feed_large(out, 200, ring.shape)).asleep()
            assert ring.stats().published <= (2 + WINDOW) * ring.slots  # here, there, and on their way
            assert [check(frames.get(PATIENCE)) for _ in range(200)] == list(range(200))
            assert feeding.end().error is None
            assert frames.lost == 0
        for sent in (500, 3500):
            while out.published < sent:
                out.claim().publish()
            wait_until(lambda sent=sent: made.stats().sinks[0].published == sent)
            used = [ray.get(actor.__ray_call__.remote(own_memory)) for actor in actors]
            if sent == 500:
                first = used
        assert max(after - before for before, after in zip(first, used, strict=True)) < 64 << 20


def lose_some(made, node, out) -> None:
    """Publish faster than a consumer on a lossy node reads: nobody is held up, and every loss is counted."""
    with attach(made, node) as far, far.consumer() as frames:
        reader = Running(lambda: [(check(frame), frame.lost) for frame in slowly(frames)])
        feed(out, 3000)
        published = out.next_seq
        out.close()
        seen = reader.end().value
        seqs = [seq for seq, _ in seen]
        assert seqs == sorted(set(seqs))
        assert sum(lost for _, lost in seen) == seqs[-1] + 1 - len(seqs)
        (one,) = [one for one in made.wait(PATIENCE).sinks if one.node == node]
        assert one.published + one.lost == published


def slowly(frames):
    """The frames, with as much work between them as makes the ring behind overflow."""
    for frame in frames:
        sum(range(3000))
        yield frame


@pytest.mark.parametrize("mirrored", ["ray"], indirect=True)
def test_a_lossy_node_loses_what_does_not_fit_and_counts_it(mirrored, others, make):
    """By TCP, at the end of the test of the statistics."""
    ring = make(slots=8)
    with ring.producer() as out:
        lose_some(mirrored(ring, others[:1], lossless=False), others[0], out)


@pytest.mark.parametrize(("mirrored", "end"), [("tcp", "failed"), ("ray", "died")], indirect=["mirrored"])
def test_the_end_is_the_sources(mirrored, others, ring, end):
    made = mirrored(ring, others[:1])
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


def exhaust(frames) -> None:
    while True:
        check(frames.get(PATIENCE))


def test_a_second_ctrl_c_ends_the_close_and_leaves_nothing(cluster, others, ring):
    """The close waits for a node that takes no more frames, which nobody needs to wait for."""
    main = threading.main_thread().native_id

    def press_again():
        wait_until(lambda: made._closed)
        wait_asleep(os.getpid(), main)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    made = mirror(ring, others[:1])
    actors = [made._source, made._sinks[0].sink]
    pids = [ray.get(actor.__ray_call__.remote(lambda _: os.getpid())) for actor in actors]
    with ring.producer() as out, attach(made, others[0]) as far, far.consumer() as frames:
        feeding = Running(lambda: feed(out, 4 * ring.slots)).asleep()  # full here, on the way and there
        pressing = Running(press_again)
        with pytest.raises(KeyboardInterrupt), made:
            raise KeyboardInterrupt
        assert pressing.end().error is None
        wait_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids), "the actors end")
        with pytest.raises(shmring.ProducerDied):
            exhaust(frames)
        assert feeding.end().error is None  # nobody holds it up any more
    wait_until(lambda: not os.path.exists(f"/dev/shm/{far.name}"), "the name is gone")
    made.close()


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


async def check_rows(nodes, app, _pilot, look) -> None:
    """A frame of `shmring top`: each node is a consumer of the ring."""
    await look()
    rows = [dict(zip(columns(app, "#consumers"), row, strict=True)) for row in shown(app, "#consumers")]
    found = {row["LABEL"]: (row["POLICY"], row["LAG"], row["HELD"], row["LOST"]) for row in rows}
    lossless, lossy = (found[f"mirror {node[:8]}"] for node in nodes)
    assert lossless == ("lossless", "0", "0", "0")
    assert lossy == ("lossy", "0", "0/31", "0")  # it may hold half of the ring


def every_node_shows_a_rate(made, out) -> bool:
    """Put a frame when all before have come: a rate is that of the last two seconds."""
    sinks = made.stats().sinks
    if all(one.lag == 0 for one in sinks):
        feed(out, 1)
    return all(one.rate > 0 for one in sinks)


@BY_TCP
def test_statistics_and_commands_show_each_node(mirrored, others, ring, cli):
    """And policies may differ between them."""
    made = mirrored(ring, lossless={others[0]: True, others[1]: False})
    with pytest.raises(TimeoutError, match=others[0][:8]):
        made.wait(0)
    policies = {one.label: one.policy for one in ring.stats().consumers}
    assert policies == {f"mirror {others[0][:8]}": "lossless", f"mirror {others[1][:8]}": "lossy"}
    with ring.producer() as out:
        wait_until(lambda: every_node_shows_a_rate(made, out), "frames flow")
        wait_until(lambda: all(one.published == out.next_seq for one in made.stats().sinks))
        stats = made.stats()
        assert (stats.ring, stats.ended) == (ring.name, None)
        assert {one.node for one in stats.sinks} == set(others)
        for one in stats.sinks:
            assert (one.ring, one.state, one.joined) == (made.names[one.node], "running", 1)
            assert one.lossless == (one.node == others[0])
            assert f"node {one.node[:8]}" in str(stats)
        code, said, _ = cli("metrics", ring.name)
        assert code == 0
        for what in ("lag_frames", "held_frames", "lost_frames_total", "delivered_frames_total"):
            for node in others:
                assert re.search(f'consumer_{what}.*label="mirror {node[:8]}"', said)
        watch(functools.partial(check_rows, others), ring.name)
        code, said, _ = cli("metrics", made.names[others[0]])
        assert code == 0
        assert f'shmring_producer_live{{ring="{made.names[others[0]]}"}} 1.0' in said
        lose_some(made, others[1], out)
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


def test_the_example(cluster, others, monkeypatch, capsys):
    """On the nodes that are there."""
    spec = importlib.util.spec_from_file_location("ray_mirror", EXAMPLES / "ray_mirror.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    monkeypatch.setitem(sys.modules, "ray_mirror", example)
    ray.cloudpickle.register_pickle_by_value(example)
    here = SimpleNamespace(list_all_nodes=cluster.list_all_nodes, shutdown=lambda: None)
    monkeypatch.setattr(example, "start_cluster", lambda: here)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    assert example.main() == 0
    said = capsys.readouterr().out
    assert "recorder: 150 frames, 0 lost, producer closed" in said
    assert "lossless mirror: 150 frames, 0 lost, ended" in said
