"""Hostile and damaged blocks: whatever the bytes say, at any moment, there is an exception or wrong data.

Never a crash, never memory outside the block, never a call that a timeout or Ctrl-C does not end.
tests/provers/fuzz has the coverage-guided fuzzers; what they found is here, or in its folder `regressions`.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import pickle
import shutil
import signal
import struct
import subprocess
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import shmring
from shmring import _blocks, _core
from shmring._schema import read_schema
from support.blocks import block_file, fresh_name
from support.frames import WORDS, feed
from support.waiting import PATIENCE

PROVERS = Path(__file__).parents[1] / "provers"
HOT = 256  # docs/layout.md
HEAD, NEXT_SEQ, CLAIMED, ACTIVE, JOIN_EPOCH, STATE = HOT, HOT + 8, HOT + 128, HOT + 512, HOT + 520, HOT + 640
TABLE = HOT + 768
PLACE_WORDS = (0, 8, 16, 24, 32, 40, 128, 136, 144, 152, 160)
ENTRY_WORDS = (0, 8, 16, 24, 32, 40, 48, 56)
MAX = (1 << 64) - 1

# What a call on a damaged ring may raise: our tree; and what the kernel or numpy say to impossible sizes.
ALLOWED = (shmring.ShmringError, OSError, MemoryError, ValueError)


class Attacker:
    """Another mapping of a ring's whole file, for as long as the test lives."""

    def __init__(self, ring: shmring.Ring):
        with open(block_file(ring.name), "r+b") as file:
            self.memory = mmap.mmap(file.fileno(), 0)
        self.entries = self.word(48 + 104)
        self.stride = self.word(48 + 32)
        self.slots, self.places = ring.slots, ring.consumers

    def word(self, offset: int) -> int:
        return struct.unpack_from("<Q", self.memory, offset)[0]

    def write(self, offset: int, value: int) -> None:
        offset %= len(self.memory) - 7
        struct.pack_into("<Q", self.memory, offset, value & MAX)

    def entry(self, index: int) -> int:
        return self.entries + index % self.slots * self.stride

    def offset(self, where: tuple[str, int, int]) -> int:
        kind, index, word = where
        if kind == "hot":
            return HOT + 4 * (index * 11 + word) % 768
        if kind == "place":
            return TABLE + 256 * (index % self.places) + PLACE_WORDS[word % len(PLACE_WORDS)]
        if kind == "entry":
            return self.entry(index) + ENTRY_WORDS[word % len(ENTRY_WORDS)]
        return index * 1009 + word

    def value(self, what: tuple[str, int]) -> int:
        kind, number = what
        near = {"head": self.word(HEAD), "claimed": self.word(CLAIMED), "zero": 0, "slots": self.slots}
        if kind == "stamp":
            return 2 * (self.word(HEAD) + number) + 2
        return near.get(kind, 1 << (number % 64)) + number

    def close(self) -> None:
        self.memory.close()


@pytest.fixture
def attacked(make):
    """attacked(**options): a ring and its attacker."""
    attackers = []

    def attacked(**options):
        ring = make(**options)
        attackers.append(Attacker(ring))
        return ring, attackers[-1]

    yield attacked
    for attacker in attackers:
        attacker.close()


class Interrupted(Exception):
    """What the signal handler raises."""


@contextlib.contextmanager
def interrupted_after(seconds: float):
    """A signal whose handler raises, again and again: once may be swallowed by a finalizer."""
    armed, done = False, threading.Event()

    def interrupt(_number, _frame):
        if armed:
            raise Interrupted

    def send():
        while not done.wait(seconds):
            signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, interrupt)
    thread = threading.Thread(target=send)
    thread.start()
    try:
        with contextlib.suppress(Interrupted):
            try:
                armed = True
                yield
            finally:
                armed = False
    finally:
        armed = False
        done.set()
        thread.join()
        signal.signal(signal.SIGUSR1, before)


# ---- any damage between any two calls

PLACES = st.tuples(
    st.sampled_from(["hot", "place", "entry", "entry", "any"]), st.integers(0, 70), st.integers(0, 10)
)
VALUES = st.tuples(
    st.sampled_from(["head", "claimed", "zero", "slots", "stamp", "power"]), st.integers(-8, 8)
) | st.tuples(st.just("power"), st.integers(0, 63))
DAMAGE = st.tuples(st.just("damage"), PLACES, VALUES)
READING = ["join_lossless", "join_lossy", "get", "try_get", "latest", "batch", "window", "release", "leave"]
WRITING = ["put", "put_many", "claim", "abort", "wait_for_consumers", "close_producer"]
LOOKING = ["observe", "observer_get", "stats", "repr"]
ATTACHING = ["attach", "attach_readonly", "pickle", "create_over"]
CALLS = READING + WRITING + LOOKING + ATTACHING
STEPS = st.lists(DAMAGE | st.tuples(st.sampled_from(CALLS), st.integers(0, 7)), min_size=3, max_size=40)


class Session:
    """One process's handles on a ring that somebody damages; runs one step after the other."""

    def __init__(self, ring: shmring.Ring, attacker: Attacker | None):
        self.ring, self.attacker = ring, attacker
        self.consumers: list[shmring.Consumer] = []
        self.held: list = []
        self.producer: shmring.Producer | None = None
        self.observer = ring.observer()
        self.frame = np.ones(ring.shape, ring.dtype)

    def damage(self, where, what) -> None:
        self.attacker.write(self.attacker.offset(where), self.attacker.value(what))

    def read(self, held) -> None:
        """Look at every byte that a frame or batch says it has."""
        assert held.array.nbytes <= self.ring.slots * self.ring.frame_nbytes
        held.array.tobytes()
        repr(held)
        self.held.append(held)

    def call(self, what: str, n: int) -> None:
        consumer = self.consumers[n % len(self.consumers)] if self.consumers else None
        start = ("oldest", "newest", "next")[n % 3]
        if what == "join_lossless":
            self.consumers.append(self.ring.consumer(start=start))
        elif what == "join_lossy":
            self.consumers.append(self.ring.consumer(lossless=False, start=start))
        elif what == "release" and self.held:
            self.held.pop(n % len(self.held)).release()
        elif what == "observe":
            self.observer.latest(0)
        elif what == "observer_get":
            self.observer.get(0.002)
        elif what == "stats":
            self.ring.stats()
        elif what == "repr":
            repr((self.ring, self.consumers, self.producer, self.observer))
        elif what == "attach":
            shmring.Ring.attach(self.ring.name, timeout=0.01).close()
        elif what == "pickle":
            pickle.loads(pickle.dumps(self.ring)).close()
        elif what == "attach_readonly":
            with shmring.Ring.attach(self.ring.name, readonly=True) as ring, ring.observer() as observer:
                observer.latest(0)
        elif what == "create_over":
            shmring.Ring.create(self.ring.name, shape=(1,), dtype="u1", slots=2, exist_ok=n % 2 == 0).close()
        elif consumer is not None and what in ("get", "try_get", "latest", "batch", "window", "leave"):
            self.consume(consumer, what, n)
        else:
            self.produce(what, n)

    def consume(self, consumer: shmring.Consumer, what: str, n: int) -> None:
        if what == "leave":
            consumer.close()
            self.consumers.remove(consumer)
        elif what == "window":
            with interrupted_after(0.02):
                for window in consumer.windows(1 + n % 2, 1 + n % 3 % 2):
                    self.read(window)
                    break
        elif what == "batch":
            self.read(consumer.batch(1 + n, 1 + n % 2, timeout=0.002 * (n % 2)))
        else:
            take = {
                "get": lambda: consumer.get(0.002),
                "try_get": consumer.try_get,
                "latest": lambda: consumer.latest(0),
            }
            frame = take[what]()
            if frame is not None:
                self.read(frame)
                assert frame.rows is None or frame.rows <= self.ring.shape[0]
                repr(frame.meta)

    def produce(self, what: str, n: int) -> None:
        if self.producer is None or self.producer.closed:
            self.producer = self.ring.producer(on_full=("wait", "drop", "raise")[n % 3])
        if what == "close_producer":
            self.producer.close()
        elif what == "put_many":
            self.producer.put_many(np.stack([self.frame] * (1 + n)), timeout=0)
        elif what == "wait_for_consumers":
            self.producer.wait_for_consumers(1 + n % self.ring.consumers, timeout=0.002)
        elif what in ("claim", "abort"):
            with self.producer.claim(1 + n, timeout=0) as slot:
                slot.array[...] = 1
                slot.abort() if what == "abort" else slot.publish(n % (slot.count + 1))
        else:
            self.producer.put(self.frame, timeout=0.002)

    def run(self, steps) -> None:
        for what, *arguments in steps:
            if what == "damage":
                self.damage(*arguments)
                continue
            try:
                self.call(what, *arguments)
            except ALLOWED:
                pass
            except Exception as error:
                raise AssertionError(f"{what} {arguments} raised {error!r}") from error

    def close(self) -> None:
        for held in self.held:
            held.release()
        for handle in (*self.consumers, self.producer, self.observer):
            if handle is not None:
                handle.close()
        self.ring.close()


KINDS = (
    {"slots": 4},
    {"slots": 2, "consumers": 2, "meta": [("a", "<i4"), ("name", "<U3")]},
    {"slots": 8, "shape": (512, 1), "variable_rows": True, "meta": "<f8", "consumers": 64},
)


def run_damaged(kind: int, steps) -> None:
    name = fresh_name()
    ring = shmring.Ring.create(name, **{"shape": (WORDS,), "dtype": "u8", **KINDS[kind]})
    attacker = Attacker(ring)
    try:
        session = Session(ring, attacker)
        try:
            session.run(steps)
        finally:
            session.close()
    finally:
        attacker.close()
        block_file(name).unlink(missing_ok=True)


QUICK = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
DEEP = settings(QUICK, max_examples=3000, derandomize=False, print_blob=True)


@QUICK
@given(st.integers(0, len(KINDS) - 1), STEPS)
@pytest.mark.slow
def test_any_damage_between_any_two_calls(kind, steps):
    run_damaged(kind, steps)


@pytest.mark.stress
@pytest.mark.timeout(600)
@DEEP
@given(st.integers(0, len(KINDS) - 1), STEPS)
def test_any_damage_between_any_two_calls_for_long(kind, steps):
    run_damaged(kind, steps)


# ---- damage at any moment, by another process


def lie(name: str, seed: int) -> None:
    """Damage the block at full speed, without end; now and then set things right again."""
    random = np.random.default_rng(seed)
    with open(block_file(name), "r+b") as file:
        memory = np.frombuffer(mmap.mmap(file.fileno(), 0), "u8")
    whole = memory[: memory[(48 + 112) // 8] // 8].copy()
    words = memory[: len(whole)]
    spots = random.integers(HOT // 8, len(whole), 2000)
    spots[::4] = HOT // 8
    values = np.where(
        random.random(2000) < 0.7, random.integers(0, 40, 2000, "u8"), random.integers(0, MAX, 2000, "u8")
    )
    while True:
        for spot, value in zip(spots, values, strict=True):
            words[spot] = value
        words[32:] = whole[32:]


def calls_on(ring: shmring.Ring, seconds: float, seed: int) -> int:
    """Every kind of call for so long; how many came to an end with a value or an allowed error."""
    random = np.random.default_rng(seed)
    session = Session(ring, None)  # the other process damages
    ended = 0
    until = time.monotonic() + seconds
    choices = READING + WRITING + LOOKING
    try:
        while time.monotonic() < until:
            session.run([(str(random.choice(choices)), int(random.integers(8)))])
            ended += 1
            while len(session.held) > 6:
                session.held.pop(0).release()
    finally:
        session.close()
    return ended


def lied_to(make, fork, seconds: float, seed: int) -> int:
    ring = make(slots=4)
    liar = fork(lambda send: (send("lying"), lie(ring.name, seed)))
    assert liar.receive() == "lying"
    user = fork(lambda send: send(calls_on(ring, seconds, seed)))
    ended = user.receive(seconds + 60)
    assert user.wait() == 0
    assert liar.code is None
    return ended


@pytest.mark.slow
def test_damage_while_calls_run(make, fork):
    """In two processes, so that it meets every moment of a call."""
    assert lied_to(make, fork, 0.5, 1) > 10


@pytest.mark.stress
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(6))
def test_damage_while_calls_run_for_long(make, fork, seed):
    assert lied_to(make, fork, 20.0, 100 + seed) > 200


# ---- timeouts and signals hold, whatever the counters say


def far_head(attacker: Attacker) -> None:
    attacker.write(HEAD, 1 << 62)


def last_head(attacker: Attacker) -> None:
    attacker.write(HEAD, MAX)
    attacker.write(CLAIMED, MAX)


def lost_entries(attacker: Attacker) -> None:
    attacker.write(HEAD, attacker.word(HEAD) + 3)


LIES = [far_head, last_head, lost_entries]


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("before", [True, False], ids=["joined before", "joined after"])
def test_calls_end_whatever_head_says(attacked, fork, lossless, lie, before):
    """In a child, so that one that does not end fails this test alone."""
    ring, attacker = attacked(slots=8)  # three of which a lossy consumer may hold: two windows in a row
    with ring.producer() as producer:
        feed(producer, 3)

    def work(send):
        if not before:
            lie(attacker)
        consumer, observer = ring.consumer(lossless=lossless), ring.observer()
        lie(attacker)
        windows = consumer.windows(2, 1)
        calls = {
            "get": lambda: consumer.get(0.01),
            "latest": lambda: consumer.latest(0.01),
            "batch": lambda: consumer.batch(3, 2, timeout=0.01),
            "window": lambda: next(windows),
            "observer.get": lambda: observer.get(0.01),
            "observer.latest": lambda: observer.latest(0.01),
        }
        for name, call in calls.items():
            send(name)
            with interrupted_after(0.05):
                for _ in range(4):
                    with contextlib.suppress(*ALLOWED, StopIteration):
                        call()
        send("ended")

    child = fork(work)
    while child.receive(PATIENCE) != "ended":
        pass
    assert child.wait() == 0


def test_an_observer_does_not_wait_for_frames_that_a_swap_took(ring):
    """Nothing hostile: the newest frame's entry went in a swap for a claim that was aborted."""
    with (
        ring.producer() as producer,
        ring.consumer(lossless=False) as consumer,
        ring.consumer(lossless=False) as other,
        ring.observer() as observer,
    ):
        feed(producer, 4)
        held = [consumer.get(0) for _ in range(2)]
        other.batch(2).release()
        held.append(other.get(0))
        with producer.claim() as slot:
            slot.abort()
        assert ring.stats().swaps == 1
        with pytest.raises(shmring.RingEmpty):
            observer.latest(timeout=0.01)
        producer.close()
        with pytest.raises(shmring.RingClosed):
            observer.latest(timeout=1)
        del held


# ---- schemas

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=8,
)
DESCR_LINES = r"""
'<f8'; '|u1'; '>c16'; '|O'; 'O'; 'T'; '|S0'; '|V0'; 'V8'
'<U2'; '<M8[ns]'; 'm8[7Y]'; '\\ud800'; b'<f8'; '<f8' '<f8'
'i4,i4,(2,)f8'; '<i99999999999'; 'U536870912'; '(1000000000,1000000000)f8'
'f8' if 1 else 2; __import__('os')
('<f8', (2, 3)); ('<f8', (2,) * 3); ('<f8', (0,)); ('<f8', -1); ('V4', [('a', '<i4')])
('<i4', {'x': 1}); (); 1; None
[('a', '<i4'), ('a', '<i4')]; [('a', '<i4'), ('b', '|O')]; [('', '|V4'), ('b', '<u4')]
[('a', None)]; []; {1: 2}
[(('t', 'n'), '<i4', (2, 2))]; [('a', [('b', [('c', '<f8')])])]; [('\\ud800', '<i4')]
[('a:b', '<i4'), ('{', '<i4')]
[(b'a', '<i4')]; [(1, '<i4')]; [('a', '<i4', (1000000000000, 1000000000000))]; [('a', '<i4', (1 << 40,))]
{'names': ['a'], 'formats': ['<i4'], 'offsets': [99]}; {'a': ('<i4', -4)}; {'names': 'ab', 'formats': '<i4'}
"""
DESCRS = st.sampled_from(
    [descr for line in DESCR_LINES.split("\n") for descr in line.split("; ") if descr]
    + ["-" * 5000 + "1", "(" * 150 + ")" * 150, "1" + "+1" * 5000, "'" + "i4," * 500 + "'"]
)
LENGTHS = st.integers(-1, 9) | st.sampled_from([2**31, 2**63, 2**64, 10**30, True, 1.0, None, "8", [1], -1])
SHAPES = st.lists(LENGTHS, max_size=40) | JSON
SCHEMAS = (
    st.fixed_dictionaries(
        {},
        optional={
            "dtype": DESCRS | JSON,
            "shape": SHAPES,
            "meta": st.none() | DESCRS | JSON,
            "attrs": st.dictionaries(st.text(max_size=4), JSON, max_size=3) | JSON,
        },
    ).map(lambda found: json.dumps(found).encode())
    | JSON.map(lambda found: json.dumps(found).encode())
    | st.binary(max_size=60)
    | st.sampled_from(
        [b"\xff\xfe" + b"x" * 40, b"[" * 100_000, b'{"dtype":' * 5000, b"9" * 10_000, b"\0" * 64, b""]
    )
)
SIZES = st.tuples(
    st.sampled_from([1, 4, 8, 16, 48, 64, 4096]),
    st.sampled_from([0, 4, 8, 16]),
    st.sampled_from([0, 1, 8, 16]),
)


def attach_with_schema(schema: bytes, frame_bytes: int, meta_bytes: int, row_bytes: int) -> bool:
    """Read a schema as `attach` does; if it is accepted, use a ring that says so."""
    row_bytes = min(row_bytes, frame_bytes)
    block = SimpleNamespace(
        name="x", schema=schema, frame_bytes=frame_bytes, meta_bytes=meta_bytes, row_bytes=row_bytes
    )
    try:
        read_schema(block)  # type: ignore[arg-type]
    except shmring.RingCorrupt:
        return False
    name = fresh_name()
    geometry = _core.Geometry(block, 4, 0, 2, schema)  # type: ignore[arg-type]
    fd, presence = _blocks.create_nameless(name, 0o600, geometry, None)
    _blocks.give_name(fd, name)
    os.close(fd)
    presence.close()
    try:
        with shmring.Ring.attach(name) as ring, ring.producer() as producer, ring.consumer() as consumer:
            repr((ring, ring.attrs, ring.stats()))
            with producer.claim() as slot:
                slot.array.view()
            with consumer.get(0) as frame:
                assert frame.array.nbytes <= frame_bytes
                assert (frame.array.shape, frame.array.dtype) == (ring.shape, ring.dtype)
                assert len(frame.array.tobytes()) <= frame_bytes
                repr((frame, frame.meta))
            producer.put_many(np.zeros((3, *ring.shape), ring.dtype))
            assert consumer.batch(3, timeout=0).array.shape[1:] == ring.shape
    finally:
        block_file(name).unlink()
    return True


@settings(QUICK, max_examples=40)
@given(SCHEMAS, SIZES)
@pytest.mark.slow
def test_any_schema(schema, sizes):
    attach_with_schema(schema, *sizes)


@pytest.mark.stress
@pytest.mark.timeout(600)
@settings(DEEP, max_examples=60_000)
@given(SCHEMAS, SIZES)
def test_any_schema_for_long(schema, sizes):
    attach_with_schema(schema, *sizes)


@settings(QUICK, max_examples=60)
@given(DESCRS, st.none() | DESCRS)
@pytest.mark.slow
def test_any_dtype_of_the_right_size(descr, meta):
    """The sizes agree with the header, so that what is refused is refused for what it is."""
    sizes = []
    for described in (descr, meta):
        try:
            sizes.append(0 if described is None else np.lib.format.descr_to_dtype(eval(described)).itemsize)
        except Exception:
            sizes.append(0)
    if 0 < sizes[0] < 1 << 20 and sizes[1] < 1 << 19:
        schema = json.dumps({"dtype": descr, "shape": [], "meta": meta, "attrs": {}}).encode()
        attach_with_schema(schema, sizes[0], sizes[1], 0)


@pytest.mark.parametrize("rows", [0, 8])
def test_a_length_that_is_true_is_refused(rows):
    """It counts as 1, but no array can be made with it; found by fuzzing."""
    schema = json.dumps({"dtype": "'<f8'", "shape": [True], "meta": None, "attrs": {}}).encode()
    assert not attach_with_schema(schema, 8, 0, rows)


def test_a_shape_of_very_many_axes_is_refused_at_once(attacked):
    """Their product would keep a core busy for seconds, out of reach of Ctrl-C."""
    schema = json.dumps({"dtype": "'|u1'", "shape": [9] * 250_000, "meta": None, "attrs": {}}).encode()
    before = time.process_time()
    assert not attach_with_schema(schema, 64, 0, 0)
    assert time.process_time() - before < 1.0  # 3 s before there was a limit; reading the JSON takes 10 ms


# ---- what the fuzzer of the headers found


@pytest.mark.skipif(not shutil.which("make") or not shutil.which("cc"), reason="needs make and a C compiler")
@pytest.mark.slow
def test_the_fuzzers_corpus_and_regressions(tmp_path):
    command = [
        "make",
        "-C",
        str(PROVERS / "fuzz"),
        f"OUT={tmp_path}",
        f"INCLUDE={shmring.get_include()}",
        "replay",
    ]
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    assert "inputs replayed" in done.stdout
