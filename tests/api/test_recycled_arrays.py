"""The array that nobody kept serves the next frame; what anybody kept, or changed, never does."""

import contextlib
import ctypes
import gc
import pickle
import warnings
import weakref
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

import shmring
from support.blocks import inode, mappings
from support.frames import WORDS, check, check_batch, drain, feed, payload
from support.threads import GIL, Running
from support.waiting import settle

WAYS = {
    "lossless": {},
    "lossy": {"lossless": False},
    "member": {"group": "workers"},
}


@pytest.fixture(params=WAYS)
def joins(request):
    """How the consumer joins."""
    return WAYS[request.param]


def leave_with(frame):
    with frame:
        pass


ENDS = {"release": shmring.Frame.release, "with": leave_with, "nothing": lambda frame: None}


def published(ring, count):
    with ring.producer() as producer:
        feed(producer, count)


# ---- what is recycled


def identity(frame) -> int:
    """Of the frame's array, which is not kept."""
    return id(frame.array)


def crowd() -> list[np.ndarray]:
    """Arrays that take the memory of those that have just died."""
    return [np.frombuffer(b"12345678", "u8") for _ in range(64)]


@pytest.mark.skipif(not GIL, reason="free-threaded, counts of references do not say who has an object")
@pytest.mark.parametrize("end", ENDS)
def test_a_loop_that_keeps_no_array_has_one_for_all_frames(ring, joins, end):
    with ring.producer() as producer, ring.consumer(**joins) as consumer:
        found, others = set(), []
        for seq in range(3 * ring.slots):
            feed(producer, 1)
            frame = consumer.get(0)
            assert check(frame) == seq
            assert frame.array is frame.array
            found.add(identity(frame))
            ENDS[end](frame)
            del frame
            assert consumer.held == 0
            others += crowd()
        assert len(found) == 1


@pytest.mark.skipif(not GIL, reason="free-threaded, counts of references do not say who has an object")
@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((4, 6, 3), "u1"),
        ((), "f8"),
        ((1, 7), "f4"),
        ((3, 2), ">i2"),
        ((5,), "M8[ns]"),
        ((2,), np.dtype([("a", "i1"), ("b", "f8")])),
        ((2,), np.dtype([("a", "i1"), ("b", "f8")], align=True)),
        ((3,), "S5"),
        ((3,), "c32"),
    ],
)
def test_arrays_of_any_format_are_recycled(make, shape, dtype):
    ring = make(shape=shape, dtype=dtype)
    with ring.producer() as producer, ring.consumer() as consumer:
        found, fresh = set(), []
        for number in range(2 * ring.slots):
            with producer.claim() as slot:
                slot.array.view("u1" if shape else None)[...] = number
            frame = consumer.get(0)
            array = frame.array
            fresh.append((array.shape, array.dtype, array.strides, str(array.flags)))
            assert array.tobytes() == array.nbytes * bytes([number]) if shape else array == number
            found.add(id(array))
            del array
            frame.release()
            crowding = crowd()
        assert len(found) == 1
        assert len(crowding) == 64
        assert all(one == fresh[0] for one in fresh)


def test_frames_in_turn_with_batches(ring, joins):
    with ring.producer() as producer, ring.consumer(**joins) as consumer:
        for turn in range(3 * ring.slots):
            feed(producer, 3)
            assert check(consumer.get(0)) == 3 * turn
            with consumer.batch(1) as batch:
                assert batch.array.shape == (1, WORDS)
                assert check_batch(batch) == [3 * turn + 1]
            assert check(consumer.get(0)) == 3 * turn + 2


def test_rows_are_those_of_the_frame(make):
    ring = make(shape=(8, WORDS // 8), variable_rows=True)
    with ring.producer() as producer, ring.consumer() as consumer:
        found = []
        for rows in (8, 8, 3, 3, 0, 0, 1, 1, 8, 3):
            producer.put(payload(len(found), (rows, WORDS // 8)))
            with consumer.get(0) as frame:
                assert np.array_equal(frame.array, payload(len(found), (rows, WORDS // 8)))
                assert frame.array.flags.c_contiguous
                assert frame.array.flags.f_contiguous == (rows <= 1)
                found.append(identity(frame))
            crowding = crowd()
        assert len(crowding) == 64
        if GIL:
            assert found[0:8:2] == found[1:8:2]


def test_several_frames_at_a_time_have_their_own_arrays(make, joins):
    ring = make(slots=16, spares=16)
    with ring.producer() as producer, ring.consumer(**joins) as consumer:
        for turn in range(3 * ring.slots):
            feed(producer, 5)
            frames = [consumer.get(0) for _ in range(5)]
            assert [check(frame) for frame in frames] == list(range(5 * turn, 5 * turn + 5))
            assert len({id(frame.array) for frame in frames}) == 5
            for frame in frames[turn % 5 :]:
                frame.release()
            assert [check(frame) for frame in frames[: turn % 5]] == list(
                range(5 * turn, 5 * turn + turn % 5)
            )


# ---- what is kept


def out_of_band(array) -> pickle.PickleBuffer:
    buffers: list[pickle.PickleBuffer] = []
    pickle.dumps(array, 5, buffer_callback=buffers.append)
    return buffers[0]


def contents(kept) -> bytes:
    return np.array(kept).tobytes()


def contents_at_address(kept) -> bytes:
    return ctypes.string_at(kept.data, 8 * WORDS)


def contents_of_dlpack(kept) -> bytes:
    exporter = type(
        "Exporter", (), {"__dlpack__": lambda *_, **__: kept, "__dlpack_device__": lambda _: (1, 0)}
    )
    return contents(np.from_dlpack(exporter()))


def contents_of_struct(kept) -> bytes:
    return contents(SimpleNamespace(__array_struct__=kept))


# Of a frame or of the array that a frame should have: what is kept of it, and how to read that.
KEPT = {
    "array": (lambda frame: frame.array, contents),
    "slice": (lambda frame: frame.array[3:100:7], contents),
    "view": (lambda frame: frame.array.view("u1"), contents),
    "recarray": (lambda frame: frame.array.view(np.recarray), contents),
    "masked": (lambda frame: np.ma.asarray(frame.array), contents),
    "reshape": (lambda frame: frame.array.reshape(2, -1).T, contents),
    "broadcast": (lambda frame: np.broadcast_to(frame.array, (2, WORDS)), contents),
    "strided": (lambda frame: np.lib.stride_tricks.as_strided(frame.array, (3,), (16,)), contents),
    "base": (lambda frame: frame.array.base, contents),
    "memoryview of base": (lambda frame: memoryview(frame.array.base), contents),
    "memoryview": (lambda frame: memoryview(frame.array), contents),
    "cast": (lambda frame: memoryview(frame.array).cast("B")[8:], contents),
    "data": (lambda frame: frame.array.data, contents),
    "flat": (lambda frame: frame.array.flat, contents),
    "iterator": (lambda frame: iter(frame.array), lambda kept: contents(list(kept))),
    "nditer": (lambda frame: np.nditer(frame.array), lambda kept: contents(kept.operands[0])),
    "ctypes": (lambda frame: frame.array.ctypes, contents_at_address),
    "struct": (lambda frame: frame.array.__array_struct__, contents_of_struct),
    "pickle out of band": (lambda frame: out_of_band(frame.array), contents),
    "pickle": (lambda frame: pickle.dumps(frame.array), lambda kept: contents(pickle.loads(kept))),
    "asarray": (lambda frame: np.asarray(frame), contents),
    "array without copy": (lambda frame: np.array(frame, copy=False), contents),
    "memoryview of frame": (lambda frame: memoryview(frame), contents),
    "frombuffer": (lambda frame: np.frombuffer(frame, "u8"), contents),
    "ndarray": (lambda frame: np.ndarray((WORDS,), "u8", buffer=frame), contents),
    "item": (lambda frame: frame[5:50], contents),
    "dlpack": (lambda frame: frame.__dlpack__(max_version=(1, 0)), contents_of_dlpack),
    "from_dlpack": (lambda frame: np.from_dlpack(frame), contents),
}


class Expected(np.ndarray):
    """An array that is also the frame it should come from."""

    @property
    def array(self):
        return self.view(np.ndarray)


def expected(seq: int, what: str) -> bytes:
    keep, show = KEPT[what]
    frame = payload(seq).view(Expected)
    return show(keep(frame if what not in ("frombuffer", "ndarray") else frame.array))


@pytest.mark.parametrize("what", KEPT, ids=lambda key: key.replace(" ", "-"))
@pytest.mark.parametrize("end", ENDS)
def test_what_is_kept_of_a_frame_is_never_that_of_a_later_one(make, what, end):
    keep, show = KEPT[what]
    ring = make(slots=8)
    with ring.producer() as producer, contextlib.ExitStack() as consumers:
        everyone = [consumers.enter_context(ring.consumer(**options)) for options in WAYS.values()]
        kept = [None] * len(everyone)
        for seq in range(5 * ring.slots):
            feed(producer, 1)
            for i, consumer in enumerate(everyone):
                frame = consumer.get(0)
                assert check(frame) == seq
                if seq % 13 == 2:
                    kept[i] = keep(frame)
                ENDS[end](frame)
                del frame
                if seq % 13 == 11:
                    assert show(kept[i]) == expected(seq - 9, what)
                    kept[i] = None
        settle()
        assert [consumer.held for consumer in everyone] == [0, 0, 0]


@pytest.mark.parametrize("end", ENDS)
def test_a_weak_reference_ends_with_its_frame(ring, joins, end):
    ended = []
    with ring.producer() as producer, ring.consumer(**joins) as consumer:
        references, named = [], weakref.WeakValueDictionary()
        for seq in range(3 * ring.slots):
            feed(producer, 1)
            frame = consumer.get(0)
            if seq % 3 == 0:
                references.append(weakref.ref(frame.array))
                named[seq] = frame.array
                weakref.finalize(frame.array, ended.append, seq)
                assert references[-1]() is frame.array is named[seq]
            assert check(frame) == seq
            ENDS[end](frame)
            del frame
            settle()
            assert [reference() for reference in references] == [None] * len(references)
            assert len(named) == 0
            assert ended == list(range(0, seq + 1, 3))


def assign(name, value):
    return lambda array: setattr(array, name, value)


def take_base(array):
    """Leave the array with other memory and without a base; the base, which is kept for a while."""
    base = array.base
    array.__setstate__((1, array.shape, array.dtype, False, bytes(array.nbytes)))
    return base


CHANGES = {
    "bytes": assign("dtype", "u1"),
    "floats": assign("dtype", "f8"),
    "byte order": assign("dtype", ">u8"),
    "two axes": assign("shape", (2, WORDS // 2)),
    "one column": assign("shape", (WORDS, 1)),
    "no axis to speak of": assign("shape", (1, WORDS)),
    "strides": assign("strides", (0,)),
    "stride of the only row": assign("strides", (8, 8)),
    "unaligned": lambda array: array.setflags(align=False),
    "read-only": lambda array: array.setflags(write=False),
    "state": lambda array: array.__setstate__((1, (3,), np.dtype("u1"), False, b"abc")),
    "base": take_base,
    "resized": lambda array: array.resize((2, WORDS // 2), refcheck=False),
    "data": assign("data", np.ones(WORDS, "u8").data),
    "class": assign("__class__", np.recarray),
}


def described(array) -> tuple:
    return array.shape, array.dtype, array.strides, str(array.flags), type(array), type(array.base)


@pytest.mark.parametrize("change", CHANGES, ids=lambda key: key.replace(" ", "-"))
@pytest.mark.parametrize("shape", [(WORDS,), (1, WORDS)], ids=["one axis", "two"])
def test_an_array_that_was_changed_is_not_that_of_a_later_frame(make, change, shape):
    ring = make(shape=shape)
    with ring.producer() as producer, ring.consumer() as consumer:
        producer.put(payload(0, shape))
        usual = described(consumer.get(0).array)
        for seq in range(1, 3 * ring.slots):
            producer.put(payload(seq, shape))
            frame = consumer.get(0)
            assert described(frame.array) == usual
            assert check(frame) == seq
            kept = None
            with warnings.catch_warnings(), contextlib.suppress(ValueError, TypeError, AttributeError):
                warnings.simplefilter("ignore")
                kept = CHANGES[change](frame.array)
            list(ENDS.values())[seq % 3](frame)
            del frame, kept
            settle()
            assert consumer.held == 0


def test_what_is_kept_by_chance_stays_what_it_was(make):
    """Frames end and are kept in random order, by each kind of consumer at the same time."""
    random = np.random.default_rng(1)
    ring = make(slots=16, spares=16)
    with ring.producer() as producer, contextlib.ExitStack() as consumers:
        everyone = [consumers.enter_context(ring.consumer(**options)) for options in WAYS.values()]
        kept: list[tuple[int, str, object]] = []
        kinds = [what for what in KEPT if what not in ("dlpack", "iterator")]  # they can be read once
        for seq in range(300):
            feed(producer, 1)
            for consumer in everyone:
                frame = consumer.get(0)
                if random.random() < 0.8:
                    assert check(frame) == seq
                if random.random() < 0.3:
                    what = kinds[int(random.integers(len(kinds)))]
                    kept.append((seq, what, KEPT[what][0](frame)))
                ENDS[("release", "with", "nothing")[int(random.integers(3))]](frame)
                del frame
            for at, what, one in kept:
                assert KEPT[what][1](one) == expected(at, what)
            while len(kept) > 4:
                del kept[int(random.integers(len(kept)))]
        one = None
        kept.clear()
        settle()
        assert [consumer.held for consumer in everyone] == [0, 0, 0]


# ---- what the array that waits for its next frame does not keep


def test_a_consumer_that_recycled_an_array_goes_with_its_last_reference(name):
    ring = shmring.Ring.create(name, shape=(WORDS,), dtype="u8", slots=4)
    node = inode(name)
    published(ring, 2)
    consumer = ring.consumer(start="oldest")
    while consumer.lag:
        with consumer.get(0) as frame:
            assert frame.array.size
    del frame
    assert not any(isinstance(one, np.ndarray) for one in gc.get_referents(consumer))
    gone = weakref.ref(consumer)
    ring.unlink()
    ring.close()
    assert consumer.closed
    gc.disable()
    try:
        del ring, consumer
        assert gone() is None
        assert not mappings(node)
    finally:
        gc.enable()


def test_frames_are_released_in_other_threads(make):
    """Each thread looks at the array of its frame, and ends it, while the next ones are taken."""
    ring = make(slots=16)
    with ring.producer() as producer, ring.consumer() as consumer:

        def look(frame):
            found = check(frame)
            frame.release()
            return found

        for turn in range(20):
            feed(producer, 4)
            threads = [Running(partial(look, consumer.get(0))) for _ in range(4)]
            assert [thread.end().value for thread in threads] == list(range(4 * turn, 4 * turn + 4))
            del threads
            settle()
        assert consumer.held == 0


def test_a_forked_child_looks_at_the_frames_of_its_parent(ring, fork):
    with ring.producer() as producer, ring.consumer() as consumer:
        feed(producer, 3)
        assert check(consumer.get(0)) == 0  # leaves an array for the next frame
        held = [consumer.get(0), consumer.get(0)]

        def work(send):
            found = [check(frame) for frame in held]
            for frame in held:
                frame.release()
            send(found)

        child = fork(work)
        assert child.receive() == [1, 2]
        assert child.wait() == 0
        assert consumer.held == 2
        assert [check(frame) for frame in held] == [1, 2]
        held.clear()
        feed(producer, 2)
        assert drain(consumer) == [3, 4]
