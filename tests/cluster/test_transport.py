"""Frames from a ring to a ring by TCP, without a cluster: what is kept, and who is let in."""

import contextlib
import os
import socket
import threading
from types import SimpleNamespace

import numpy as np
import pytest

import shmring
from support.blocks import fresh_name
from support.frames import check, feed
from support.waiting import PATIENCE, wait_until

pytest.importorskip("ray", reason="needs the extra ray")

import ray

from shmring.ray import _fanout, _frames, _link, _mirror, _tcp
from shmring.ray._fanout import Fanout
from shmring.ray._link import Link
from shmring.ray._sink import Origin, Sink
from shmring.ray._target import Lost, Target
from shmring.ray._way import Destination, Ended, Limits, Progress, Way

SECRET = b"secret"
LARGE = (3, 1 << 15)  # bytes of a frame that is received in its slot

FORMATS = {
    "scalars": {"shape": (), "dtype": "f8"},
    "gaps between small slots": {"shape": (11, 13), "dtype": "i2"},
    "gaps between large slots": {"shape": (201, 203), "dtype": "i2"},
    "large": {"shape": LARGE, "dtype": "u1"},
    "big endian": {"shape": (3, 5), "dtype": ">u2"},
    "large, big endian": {"shape": (30, 5000), "dtype": ">f4"},
    "big-endian structures": {
        "shape": (5,),
        "dtype": [("x", ">f4", (2,)), ("in", [("a", ">i2"), ("b", "<i8")])],
    },
    "dates": {"shape": (7,), "dtype": "M8[us]"},
    "large dates": {"shape": (10_000,), "dtype": "M8[us]"},
    "a structure": {"shape": (4,), "dtype": [("x", "f4"), ("when", "M8[ns]"), ("name", "S3")]},
    "large structures": {"shape": (9000,), "dtype": [("x", "f4"), ("when", "M8[ns]"), ("name", "S3")]},
    "meta": {"shape": (4,), "dtype": "c8", "meta": [("exposure", "f8"), ("roi", "i2", (4,))]},
    "large with meta": {"shape": LARGE, "dtype": "u1", "meta": "M8[s]"},
    "rows": {"shape": (6, 2), "dtype": "i4", "variable_rows": True, "meta": "u1"},
    "large with rows": {"shape": (6, 9999), "dtype": "i4", "variable_rows": True, "meta": "u1"},
}


@pytest.fixture
def target():
    """`target(ring, first_seq=0)`: a ring that takes its frames."""
    made = []

    def start(ring, first_seq=0, name=None):
        made.append(Target(name or fresh_name(), _mirror.describe(ring), first_seq))
        return made[-1]

    yield start
    for one in made:
        one.close()


@pytest.fixture
def receiver():
    """`receiver(target, address=...)`: takes frames for it."""
    made = []

    def start(there, address="127.0.0.1"):
        made.append(_tcp.Receiver(there, "here", address, SECRET, lambda: None))
        return made[-1]

    yield start
    for one in made:
        one.close()


@pytest.fixture
def connect():
    """`connect(receiver)`: the source's end."""
    made = []

    def start(there, secret=SECRET):
        made.append(_tcp.Connection(there.endpoint, secret))
        return made[-1]

    yield start
    for one in made:
        one.hang_up()
        one.close()


def wait_for(connection, messages):
    """The first acknowledgement of so many messages."""
    return wait_until(lambda: (heard := connection.hear()) and heard.messages >= messages and heard)


def example(ring, number: int) -> np.ndarray:
    """A frame of any format, a different one for each number."""
    return random_bytes(number, ring.frame_nbytes).view(ring.dtype).reshape(ring.shape)


def random_bytes(number: int, count: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 100, count, "u1")


def put_examples(ring, out, count) -> None:
    """Frames of every kind that the ring can have, with a gap."""
    for number in range(count):
        if number == 5:
            out.drop(3)
        array, options = example(ring, number), {}
        if ring.meta_dtype is not None:
            options["meta"] = random_bytes(number, ring.meta_dtype.itemsize).view(ring.meta_dtype)[0]
        out.put(array[: number % 7] if ring.variable_rows else array, timestamp_ns=number * 1000, **options)


def check_same(one, other) -> None:
    assert (other.seq, other.timestamp_ns, other.rows) == (one.seq, one.timestamp_ns, one.rows)
    assert (other.meta, other.lost) == (one.meta, one.lost)
    assert other.array.tobytes() == one.array.tobytes()


@pytest.mark.parametrize("frames", FORMATS.values(), ids=FORMATS)
def test_everything_is_kept(make, target, receiver, connect, frames):
    attrs = {"units": "counts", "axes": ["y", "x"], "nested": {"gain": 2.5}}
    ring = make(slots=32, spares=2, consumers=5, attrs=attrs, mode=0o640, **frames)
    there = target(ring)
    connection = connect(receiver(there))
    with shmring.Ring.attach(there.name) as far, far.consumer() as got:
        for what in ("shape", "dtype", "meta_dtype", "variable_rows", "attrs", "slots", "consumers"):
            assert getattr(far, what) == getattr(ring, what), what
        assert os.stat(f"/dev/shm/{far.name}").st_mode & 0o777 == 0o640
        with ring.producer() as out, ring.consumer() as near, ring.consumer() as sent:
            put_examples(ring, out, 12)
            messages = 0
            while messages < 3:
                with sent.batch(4, timeout=0) as batch:
                    connection.send(*_frames.pack(batch))
                    messages += 1
                    wait_for(connection, messages)
            for _ in range(12):
                check_same(near.get(0), got.get(0))
        assert got.lost == 3


def test_a_node_may_have_an_address_of_ipv6(make, target, receiver, connect):
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    ring = make()
    there = target(ring)
    into = receiver(there, "::1")
    assert into.endpoint[0] == "::1"
    connection = connect(into)
    with shmring.Ring.attach(there.name) as far, far.consumer() as got, ring.producer() as out:
        with ring.consumer() as near:
            feed(out, 3)
            with near.batch(3, timeout=0) as batch:
                connection.send(*_frames.pack(batch))
                wait_for(connection, 1)
        assert [check(got.get(0)) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(Lost):
            connect(into, b"guessed")


def test_frames_that_are_there_already_do_not_come_twice(make, target, receiver, connect):
    """As after a connection was lost: the source sends again what it is not sure of."""
    ring = make(shape=LARGE, dtype="u1", slots=16)
    there = target(ring)
    there_again = receiver(there)
    with shmring.Ring.attach(there.name) as far, far.consumer() as got, ring.producer() as out:
        with ring.consumer() as near, ring.consumer() as again:
            put_examples(ring, out, 8)
            for count, consumer in ((6, near), (8, again)):
                with consumer.batch(count, timeout=0) as batch:
                    connection = connect(there_again)
                    connection.send(*_frames.pack(batch))
                    wait_for(connection, 1)
        seen = [(frame.seq, frame.lost) for frame in (got.get(0) for _ in range(8))]
        assert seen == [(0, 0), (1, 0), (2, 0), (3, 0), (4, 0), (8, 3), (9, 0), (10, 0)]
        assert there.lost == 3


def test_a_frame_of_which_a_part_has_come_is_never_seen(make, target, receiver, connect):
    ring = make(shape=LARGE, dtype="u1", slots=4)
    there = target(ring)
    into = receiver(there)
    with shmring.Ring.attach(there.name) as far, far.consumer() as got, ring.producer() as out:
        with ring.consumer() as near:
            put_examples(ring, out, 2)
            with near.batch(2, timeout=0) as batch:
                columns, (payload,) = _frames.pack(batch)
                torn = connect(into)
                torn.send(columns, [payload[: -len(payload) // 4]])  # all of the first, half of the second
                wait_until(lambda: there.next_seq == 1)
                torn.hang_up()
                connection = connect(into)
                connection.send(columns, [payload])
                wait_for(connection, 1)
        for number in range(2):
            assert got.get(0).array.tobytes() == example(ring, number).tobytes()


def test_an_end_overtakes_a_frame_that_does_not_come(make, target, receiver, connect):
    """The source's host is gone, and no packet says so: what watches it ends the stream."""
    ring = make(shape=LARGE, dtype="u1", slots=4)
    there = target(ring)
    connection = connect(receiver(there))
    with ring.producer() as out, ring.consumer() as near:
        put_examples(ring, out, 1)
        with near.batch(1, timeout=0) as batch:
            columns, (payload,) = _frames.pack(batch)
            connection.send(columns, [payload[:9]])
        with shmring.Ring.attach(there.name) as far, far.consumer() as got:
            there.end("died", "")
            with pytest.raises(shmring.ProducerDied):
                got.get(PATIENCE)


def test_a_stranger_is_not_let_in(make, target, receiver, connect, monkeypatch, caplog):
    """Who does not know the secret is turned away, and who says nothing holds nobody up for long."""
    monkeypatch.setattr(_tcp, "GREETING", 0.2)
    ring = make()
    there = target(ring)
    into = receiver(there)
    with pytest.raises(Lost):
        connect(into, b"guessed")
    with socket.create_connection(into.endpoint):
        connection = connect(into)
        connection.end("closed", "", 0)
        wait_for(connection, 1)
    assert there.ended == "closed"
    said = f"ring '{there.name}' on node here: a stranger was turned away: "
    reasons = [message.removeprefix(said) for message in caplog.messages]
    assert reasons == ["it does not know the secret", "timed out"]


def test_a_stranger_who_says_little_at_a_time_holds_nobody_up(make, target, receiver, connect, monkeypatch):
    """Its time is that for the whole greeting, not for each byte."""
    monkeypatch.setattr(_tcp, "GREETING", 0.3)
    ring = make()
    there = target(ring)
    into = receiver(there)
    with socket.create_connection(into.endpoint) as stranger:
        stranger.settimeout(0.1)
        said = 0
        with contextlib.suppress(ConnectionError):  # it was turned away
            while said < 2 * _tcp.CHALLENGE - 1:
                stranger.sendall(b"?")
                said += 1
                with contextlib.suppress(TimeoutError):
                    while stranger.recv(_tcp.CHALLENGE):
                        pass
                    break
        assert said < _tcp.CHALLENGE
    connection = connect(into)
    connection.end("closed", "", 0)
    wait_for(connection, 1)


def answer(server, words) -> None:
    connection, _ = server.accept()
    with connection:
        connection.sendall(words)
        connection.recv(64)


def test_a_sink_that_does_not_know_the_secret_gets_no_frame():
    with socket.create_server(("127.0.0.1", 0)) as server:
        answering = threading.Thread(target=answer, args=(server, bytes(64)))
        answering.start()
        with pytest.raises(Lost, match="does not know the secret"):
            _tcp.Connection(server.getsockname(), SECRET)
        answering.join()


def test_nobody_listens():
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = server.getsockname()
    with pytest.raises(Lost, match="refused"):
        _tcp.Connection(endpoint, SECRET)


def test_a_full_ring_holds_the_sender_up_and_shows_signs_of_life(make, target, receiver, connect):
    ring = make(slots=4)
    there = target(ring)
    connection = connect(receiver(there))
    with (
        shmring.Ring.attach(there.name) as far,
        far.consumer() as got,
        ring.producer() as out,
        ring.consumer() as near,
    ):
        for messages in (1, 2):
            feed(out, 4)
            with near.batch(4, timeout=0) as batch:
                connection.send(*_frames.pack(batch))
            if messages == 1:
                wait_for(connection, 1)
        assert wait_until(connection.hear).messages == 1
        assert [check(got.get(PATIENCE)) for _ in range(8)] == list(range(8))
        wait_for(connection, 2)


class Local:
    """A sink of this process, which answers like an actor."""

    def __init__(self, sink):
        self.sink = sink

    def __getattr__(self, name):
        return SimpleNamespace(remote=getattr(self.sink, name))


@pytest.fixture(params=["tcp", "ray"])
def way(request, monkeypatch):
    """`way(ring)`: sends the frames of a ring to a sink of this process; and that sink."""
    monkeypatch.setattr(ray, "get", lambda answer, **_: answer)
    monkeypatch.setattr(ray, "put", lambda what: what)
    monkeypatch.setattr(ray, "wait", lambda answers, **_: (answers, []))
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: "127.0.0.1")
    monkeypatch.setattr("shmring.ray._sink.this_node", lambda: "here")
    secret = SECRET if request.param == "tcp" else None
    made = []

    def start(ring):
        sink = Sink(fresh_name(), _mirror.describe(ring), secret)
        to = Destination("here", sink._name, True, 0, Local(sink))
        limits, me = Limits(4, 2), Origin(Local(sink), "here")
        sends = Fanout(ring, [to], limits, me) if secret is None else Link(ring, to, limits, secret, me)
        made.append((sink, sends))
        return sink, sends

    yield start
    for sink, sends in made:
        sends.join(0)
        sink.close("died", "")


@pytest.mark.parametrize("end", ["closed", "failed", "died"])
def test_a_close_while_frames_are_left(make, way, monkeypatch, end):
    """With every batch that is sent another frame comes: the mirror ends behind those from before.

    If the producer has ended by then, its end is the mirror's.
    """
    ring, begun = make(slots=64), threading.Event()

    def pack(batch):
        begun.wait(PATIENCE)
        if batch.seqs[0] == 0:
            if end == "failed":
                out.close(error="lens cap on")
            elif end == "died":
                out.abandon()
            sends.close(Ended("closed"))
        if end == "closed":
            feed(out, 1)
        return _frames.pack(batch)

    for module in (_link, _fanout):
        monkeypatch.setattr(module, "pack", pack)
    with contextlib.closing(ring.producer()) as out:
        feed(out, 10)
        sink, sends = way(ring)
        begun.set()
        sends.join(PATIENCE)
        target = sink._target
        assert (target.ended, target.next_seq, target.lost) == (end, 10, 0)


MIB = 1 << 20


@pytest.mark.parametrize(
    ("transport", "slots", "batch_nbytes", "limits"),
    [
        ("tcp", 64, 4 * MIB, (4, 4)),
        ("tcp", 16, 4 * MIB, (4, 2)),  # half of the ring
        ("tcp", 2, 4 * MIB, (1, 1)),
        ("ray", 64, 4 * MIB, (4, 4)),
        ("ray", 16, 64 * MIB, (16, 4)),  # Ray's store has what is on its way
        ("ray", 16, 1, (1, 4)),
    ],
)
def test_what_may_be_on_its_way(make, transport, slots, batch_nbytes, limits):
    ring = make(shape=(MIB,), dtype="u1", slots=slots)
    assert _mirror.choose_limits(ring, batch_nbytes, 4, transport) == limits


def test_other_frames_than_the_rings_are_refused(make, target):
    ring, taken = make(), make(shape=(3,))
    with pytest.raises(shmring.RingIncompatible, match="shape"):
        target(ring, name=taken.name)
    there = target(ring)
    with pytest.raises(shmring.ProducerExists):
        target(ring, name=there.name)


def test_a_node_that_ends_while_its_statistics_are_read_is_not_done_yet(ring):
    """Who waits for the end takes the statistics that say so for the final ones."""

    class Ending(Way):
        window = 0

    class Stale(Progress):
        @property
        def next_seq(self):
            way.state = "ended"  # a moment after its counters came
            return 0

        @next_seq.setter
        def next_seq(self, value):
            pass

    way = Ending(ring, Destination("there", "copy", True, 0, None))
    way.progress = Stale()
    assert way.stats().state == "starting"
    assert way.stats().state == "ended"
