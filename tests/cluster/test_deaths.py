"""Who dies, and what the others see: real kills, on a cluster of several raylets."""

import contextlib
import os
import signal
import subprocess
import sys
import threading

import pytest

import shmring
from support.blocks import SHM
from support.frames import check, feed
from support.threads import Running
from support.waiting import PATIENCE, wait_until

ray = pytest.importorskip("ray", reason="needs the extra ray")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

from shmring.ray import mirror  # noqa: E402

ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])

LONG = 40.0  # seconds for Ray to notice, and to start a worker again


@pytest.fixture
def ring(make):
    """More slots than a test puts frames before it reads."""
    return make(slots=64)


def attach(made, node):
    return shmring.Ring.attach(made.names[node])


def pid_of(actor) -> int:
    return ray.get(actor.__ray_call__.remote(lambda self: os.getpid()))


def sink_on(made, node):
    return next(one.sink for one in made._sinks if one.node == node)


def produce(here, count):
    """Put frames, and stay the producer."""
    here.out = here.ring.producer()
    feed(here.out, count)


def test_the_producer_is_killed(cluster, others, ring, peer):
    camera = peer(ring)
    with mirror(ring) as made, contextlib.ExitStack() as stack:
        consumers = []
        for node in others:
            far = stack.enter_context(attach(made, node))
            consumers.append(stack.enter_context(far.consumer()))
        camera.run(produce, 5)
        camera.kill()
        for frames in consumers:
            assert [check(frames.get(PATIENCE)) for _ in range(5)] == list(range(5))
            with pytest.raises(shmring.ProducerDied) as caught:
                frames.get(PATIENCE)
            assert not isinstance(caught.value, shmring.ProducerFailed)
        assert made.wait(PATIENCE).ended == "died"


@pytest.mark.parametrize("attached", [True, False], ids=["with a consumer", "alone"])
def test_a_sink_is_killed(cluster, others, ring, attached):
    """The other node gets every frame at once; the killed one joins again and counts what it missed."""
    killed, other = others
    with mirror(ring) as made, contextlib.ExitStack() as stack:
        out = stack.enter_context(ring.producer())
        ok = stack.enter_context(stack.enter_context(attach(made, other)).consumer())
        if attached:
            far = stack.enter_context(attach(made, killed))
            frames = stack.enter_context(far.consumer(wait_for_takeover=True))
        feed(out, 10)
        wait_until(lambda: all(one.published == 10 for one in made.stats().sinks))
        os.kill(pid_of(sink_on(made, killed)), signal.SIGKILL)
        reading = Running(lambda: [check(ok.get(PATIENCE)) for _ in range(510)])
        feed(out, 500)  # more than the ring has slots: nobody holds it up for long
        assert reading.end().value == list(range(510))
        wait_until(lambda: made_again(made, killed), "it has joined again", LONG)
        feed(out, 10)
        out.close()
        if not attached:
            far = stack.enter_context(shmring.Ring.attach(made.names[killed], timeout=PATIENCE))
            frames = stack.enter_context(far.consumer())
        seqs = [check(frame) for frame in frames]
        assert seqs[-1] == 519
        if attached:
            assert seqs[:10] == list(range(10))
            assert frames.lost == 520 - len(seqs)
        stats = {one.node: one for one in made.wait(PATIENCE).sinks}
        assert (stats[killed].joined, stats[other].joined, stats[other].lost) == (2, 1, 0)
        assert stats[killed].lost + stats[killed].published == 520


def made_again(made, node) -> bool:
    return next(one.joined for one in made.stats().sinks if one.node == node) == 2


def test_the_source_is_killed(cluster, others, ring):
    """It starts again, and the mirror continues in the same rings."""
    with mirror(ring, others[:1]) as made, attach(made, others[0]) as far, far.consumer() as frames:
        with ring.producer() as out:
            feed(out, 5)
            wait_until(lambda: made.stats().sinks[0].published == 5)
            os.kill(pid_of(made._source), signal.SIGKILL)
            wait_until(lambda: len([one for one in ring.stats().consumers if one.alive]) == 1, timeout=LONG)
            wait_until(lambda: running(made), timeout=LONG)
            feed(out, 5)
        assert [check(frame) for frame in frames] == list(range(10))


@pytest.mark.parametrize("transport", ["tcp", "ray"])
def test_kills_while_frames_flow(cluster, others, ring, transport):
    """No frame comes twice, torn or out of order, and what is missing is counted, whenever the kill comes."""
    stop = threading.Event()
    with (
        mirror(ring, others[:1], transport=transport) as made,
        attach(made, others[0]) as far,
        ring.producer() as out,
    ):
        frames = far.consumer(wait_for_takeover=True)
        reading = Running(lambda: [check(frame) for frame in frames])
        feeding = Running(lambda: feed_until(stop, out))
        for victim in (sink_on(made, others[0]), made._source):
            before = made.stats().sinks[0]
            os.kill(pid_of(victim), signal.SIGKILL)
            wait_until(lambda before=before: goes_on(made, before), "frames flow again", LONG)
        stop.set()
        feeding.end()
        out.close()
        seqs = reading.end().value
        assert seqs == sorted(set(seqs))
        assert frames.lost == seqs[-1] + 1 - len(seqs)
        assert seqs[-1] == ring.stats().next_seq - 1
        frames.close()


def feed_until(stop, out) -> None:
    while not stop.is_set():
        feed(out, 1)


def goes_on(made, before) -> bool:
    (now,) = made.stats().sinks
    return now.state == "running" and now.published > before.published + 100


def running(made) -> bool:
    with contextlib.suppress(ray.exceptions.RayError):
        return made.stats().sinks[0].state == "running"
    return False


def exhaust(frames) -> None:
    while True:
        check(frames.get(LONG))


def test_a_node_is_killed(cluster, others, victim, ring):
    """Its consumers learn of it, the other nodes do not; and what it had in /dev/shm goes."""
    other = others[0]
    with mirror(ring, [victim.node_id, other]) as made, contextlib.ExitStack() as stack:
        out = stack.enter_context(ring.producer())
        ok = stack.enter_context(stack.enter_context(attach(made, other)).consumer())
        far = attach(made, victim.node_id)
        frames = far.consumer()
        feed(out, 5)
        assert [check(frames.get(PATIENCE)) for _ in range(5)] == list(range(5))
        cluster.remove_node(victim, allow_graceful=False)
        reading = Running(lambda: [check(ok.get(PATIENCE)) for _ in range(505)])
        feed(out, 500)
        assert reading.end().value == list(range(505))
        with pytest.raises(shmring.ProducerDied):
            exhaust(frames)
        frames.close()
        far.close()
        wait_until(lambda: not (SHM / far.name).exists(), timeout=LONG)
        wait_until(lambda: "dead" in {one.state for one in made.stats().sinks}, timeout=LONG)
        feed(out, 5)
        out.close()
        assert [check(frame) for frame in ok] == list(range(505, 510))
        assert made.wait(PATIENCE).ended == "closed"


class Maker:
    """Makes a mirror of a ring of its node."""

    def make(self, name, node):
        self.ring = shmring.Ring.attach(name)
        self.mirror = mirror(self.ring, [node])
        return self.mirror.names[node]


def test_the_sources_node_is_killed(cluster, others, victim, on, ring):
    """The program that made the mirror goes with it; the producer lives here, and is not held up."""
    maker = ray.remote(Maker).options(**on(victim.node_id)).remote()
    name = ray.get(maker.make.remote(ring.name, others[0]))
    with ring.producer() as out, shmring.Ring.attach(name) as far, far.consumer() as frames:
        feed(out, 5)
        assert [check(frames.get(PATIENCE)) for _ in range(5)] == list(range(5))
        cluster.remove_node(victim, allow_graceful=False)
        with pytest.raises(shmring.ProducerDied):
            frames.get(LONG)
        wait_until(lambda: not any(one.alive for one in ring.stats().consumers), timeout=LONG)
        feed(out, 100)
    wait_until(lambda: not (SHM / name).exists(), "the name is gone", LONG)


DRIVER = """if True:
    import sys, time
    import ray, shmring
    from shmring.ray import mirror

    address, name, node = sys.argv[1:]
    ray.init(address, namespace="driver", log_to_driver=False)
    with shmring.Ring.attach(name) as ring:
        made = mirror(ring, [node])
        print(made.names[node], flush=True)
        time.sleep(1000)
"""


@pytest.fixture
def driver(cluster, others, ring):
    """Another driver, which mirrors the ring; its process and the name of the mirrored ring."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", DRIVER, cluster.address, ring.name, others[0]]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    yield process, process.stdout.readline().strip()
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.mark.parametrize("attached", [True, False], ids=["with a consumer", "alone"])
def test_the_driver_is_killed(driver, ring, attached):
    process, name = driver
    with ring.producer() as out, contextlib.ExitStack() as stack:
        if attached:
            far = stack.enter_context(shmring.Ring.attach(name))
            frames = stack.enter_context(far.consumer())
        feed(out, 3)
        if attached:
            assert [check(frames.get(PATIENCE)) for _ in range(3)] == [0, 1, 2]
        process.kill()
        if attached:
            with pytest.raises(shmring.ProducerDied):
                frames.get(LONG)
        wait_until(lambda: not any(one.alive for one in ring.stats().consumers), timeout=LONG)
        feed(out, 100)  # nobody holds it up any more
    wait_until(lambda: not (SHM / name).exists(), "the name is gone", LONG)
