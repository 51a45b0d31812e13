"""Who dies, and what the others see: real kills, on a cluster of several raylets."""

import contextlib
import os
import re
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


def state_of(made, node):
    """What the mirror says of a node; None while its source is being started again."""
    with contextlib.suppress(ray.exceptions.RayError):
        return next(one for one in made.stats().sinks if one.node == node)


def is_back(made, node, joined=2) -> bool:
    one = state_of(made, node)
    return one is not None and (one.state, one.joined) == ("running", joined)


def test_a_sink_and_the_source_are_killed(cluster, others, ring):
    """Nobody attached to the sink: its ring is made again. What is lost is what was published in between."""
    (killed,) = others[:1]
    with mirror(ring, [killed]) as made, ring.producer() as out:
        name = made.names[killed]
        feed(out, 10)
        wait_until(lambda: made.stats().sinks[0].published == 10)
        os.kill(pid_of(sink_on(made, killed)), signal.SIGKILL)
        feed(out, 500)  # more than the ring has slots: nobody holds it up for long
        wait_until(lambda: is_back(made, killed), "it has joined again", LONG)
        with shmring.Ring.attach(name, timeout=PATIENCE) as far, far.consumer() as frames:
            reading = Running(lambda: [check(frame) for frame in frames])
            feed(out, 10)
            wait_until(lambda: made.stats().sinks[0].lag == 0)
            lost = made.stats().sinks[0].lost
            assert lost + made.stats().sinks[0].published == 520
            os.kill(pid_of(made._source), signal.SIGKILL)
            wait_until(lambda: is_back(made, killed, 1), "the source has begun again", LONG)
            feed(out, 5)
            out.close()
            seqs = reading.end().value
            assert seqs == list(range(seqs[0], 525))
            assert made.wait(PATIENCE).sinks[0].state == "ended"


def raylet_of(cluster, node_id) -> int:
    (node,) = [one for one in cluster.list_all_nodes() if one.node_id == node_id]
    return node.all_processes["raylet"][0].process.pid


@contextlib.contextmanager
def stopped(pid):
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("transport", ["tcp", "ray"])
def test_kills_while_frames_flow(cluster, others, ring, transport, words_of):
    """No frame comes twice, torn or out of order, and what is missing is counted, whenever the kill comes.

    While a sink is away, the other nodes get every frame, and the producer does not wait for it.
    """
    killed, other = others
    stop = threading.Event()
    with contextlib.ExitStack() as stack:
        made = stack.enter_context(mirror(ring, transport=transport))
        out = stack.enter_context(ring.producer())
        consumers = [
            stack.enter_context(stack.enter_context(attach(made, node)).consumer(wait_for_takeover=True))
            for node in others
        ]
        reading = [Running(lambda one=one: [check(frame) for frame in one]) for one in consumers]
        feeding = Running(lambda: feed_until(stop, out))
        stack.callback(stop.set)
        wait_until(lambda: all(one.published > 100 for one in made.stats().sinks))
        source = pid_of(made._source)
        sink = pid_of(sink_on(made, killed))
        with stopped(raylet_of(cluster, killed)):  # which would start the sink again
            os.kill(sink, signal.SIGKILL)
            away = wait_until(lambda: is_away(made, killed) and made.stats(), "the loss is noticed")
            before = {one.node: one for one in away.sinks}[other]
            # Laps of the ring while it is away: it holds nobody up.
            wait_until(lambda: state_of(made, other).published > before.published + 5 * ring.slots)
            assert is_away(made, killed)
        wait_until(lambda: is_back(made, killed), "it has joined again", LONG)
        wait_until(lambda: advances(made, killed), "its frames flow again")
        complete = made.stats()
        stats = {one.node: one for one in complete.sinks}
        assert (stats[other].joined, stats[other].lost) == (1, 0)
        said = re.compile(rf"mirror of ring '{ring.name}': node {killed} is (out of contact|back)")
        wait_until(lambda: said.findall(words_of(source)) == ["out of contact", "back"])
        os.kill(source, signal.SIGKILL)
        for node in others:
            wait_until(lambda node=node: is_back(made, node, 1), "the source has begun again", LONG)
            wait_until(lambda node=node: advances(made, node), "frames flow again")
        stop.set()
        feeding.end()
        out.close()
        for frames, one in zip(consumers, reading, strict=True):
            seqs = one.end().value
            assert seqs == sorted(set(seqs))
            assert frames.lost == seqs[-1] + 1 - len(seqs)
            assert seqs[-1] == ring.stats().next_seq - 1
        whole = stats[other].published
        assert reading[others.index(other)].value[:whole] == list(range(whole))


def is_away(made, node) -> bool:
    return state_of(made, node).state == "out of contact"


def advances(made, node) -> bool:
    """Whether more has come there than a ring has slots, since the last call."""
    first = state_of(made, node)
    return bool(wait_until(lambda: (now := state_of(made, node)) and now.published > first.published + 100))


def feed_until(stop, out) -> None:
    while not stop.is_set():
        feed(out, 1)


def exhaust(frames) -> None:
    while True:
        check(frames.get(LONG))


class Maker:
    """Makes a mirror of a ring of its node."""

    def make(self, name, node):
        self.ring = shmring.Ring.attach(name)
        self.mirror = mirror(self.ring, [node])
        return self.mirror.names[node]


def test_a_node_is_killed(cluster, others, victim, on, ring, make):
    """It has a mirror of a ring, and the source of another one's: consumers of both learn of its end.

    The other nodes do not, the producers are not held up, and what it had in /dev/shm goes. The program that
    made the second mirror was there, too.
    """
    other, sourced = others[0], make(slots=64)
    maker = ray.remote(Maker).options(**on(victim.node_id)).remote()
    with mirror(ring, [victim.node_id, other]) as made, contextlib.ExitStack() as stack:
        out = stack.enter_context(ring.producer())
        source = stack.enter_context(sourced.producer())
        ok = stack.enter_context(stack.enter_context(attach(made, other)).consumer())
        far = stack.enter_context(attach(made, victim.node_id))
        at_the_victim = stack.enter_context(far.consumer())
        name = ray.get(maker.make.remote(sourced.name, other))
        from_the_victim = stack.enter_context(stack.enter_context(shmring.Ring.attach(name)).consumer())
        for producer, frames in ((out, at_the_victim), (source, from_the_victim)):
            feed(producer, 5)
            assert [check(frames.get(PATIENCE)) for _ in range(5)] == list(range(5))
        cluster.remove_node(victim, allow_graceful=False)
        reading = Running(lambda: [check(ok.get(PATIENCE)) for _ in range(505)])
        feed(out, 500)
        assert reading.end().value == list(range(505))
        for frames in (at_the_victim, from_the_victim):
            with pytest.raises(shmring.ProducerDied):
                exhaust(frames)
            frames.close()
            frames.ring.close()
        wait_until(lambda: not any(one.alive for one in sourced.stats().consumers), timeout=LONG)
        feed(source, 100)
        for gone in (far.name, name):
            wait_until(lambda gone=gone: not (SHM / gone).exists(), f"the name {gone} is gone", LONG)
        wait_until(lambda: "dead" in {one.state for one in made.stats().sinks}, timeout=LONG)
        feed(out, 5)
        out.close()
        assert [check(frame) for frame in ok] == list(range(505, 510))
        assert made.wait(PATIENCE).ended == "closed"


DRIVER = """if True:
    import sys, time
    import ray, shmring
    from shmring.ray import mirror

    address, name = sys.argv[1:]
    ray.init(address, namespace="driver", log_to_driver=False)
    with shmring.Ring.attach(name) as ring:
        made = mirror(ring)
        print(*made.names.values(), flush=True)
        time.sleep(1000)
"""


@pytest.fixture
def driver(cluster, ring):
    """Another driver, which mirrors the ring; its process and the names of the mirrored rings."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", DRIVER, cluster.address, ring.name]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    yield process, process.stdout.readline().split()
    process.kill()
    process.wait()
    process.stdout.close()


def test_the_driver_is_killed(driver, ring):
    """One of the rings has a consumer, nobody uses the other one."""
    process, names = driver
    with ring.producer() as out, shmring.Ring.attach(names[0]) as far, far.consumer() as frames:
        feed(out, 3)
        assert [check(frames.get(PATIENCE)) for _ in range(3)] == [0, 1, 2]
        process.kill()
        with pytest.raises(shmring.ProducerDied):
            frames.get(LONG)
        wait_until(lambda: not any(one.alive for one in ring.stats().consumers), timeout=LONG)
        feed(out, 100)  # nobody holds it up any more
    wait_until(lambda: not any((SHM / name).exists() for name in names), "the names are gone", LONG)
