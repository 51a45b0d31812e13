"""Objects as bytes and back: whatever pickle takes, in one piece or in parts, as views or as copies."""

import array
import collections
import datetime as dt
import decimal
import io
import pickle
import random

import numpy as np
import pytest

from shmring import _packing
from shmring._packing import ALIGNMENT, Arrival, Packed, unpack

RECORD = np.dtype([("id", ">i2"), ("at", "<f8", (2,)), ("name", "U3")])
STAMPED = np.dtype([("when", "M8[ms]"), ("x", "f4")])


class Point:
    def __init__(self, x):
        self.x = x

    def __eq__(self, other):
        return type(other) is Point and self.x == other.x

    __hash__ = None


VALUES = {
    "none": None,
    "number": 10**30,
    "text": "müde \0",
    "bytes": b"x" * 100_000,
    "bytearray": bytearray(b"abc"),
    "nothing": b"",
    "containers": {"a": [1, (2.5, {3}), frozenset()], 4: collections.OrderedDict(x=1)},
    "objects": [Point(1), decimal.Decimal("1.5"), dt.date(2026, 1, 1)],
    "arrays of the standard library": array.array("d", [1, 2]),
    "one array": np.arange(10),
    "big": np.arange(100_000, dtype="u4"),
    "many": [np.full(n % 7, n, "i2") for n in range(300)],
    "2-D": np.arange(12.0).reshape(3, 4),
    "Fortran": np.asfortranarray(np.arange(12).reshape(3, 4)),
    "0-D": np.array(7),
    "empty": np.empty((0, 3), "f4"),
    "empty at the end": [1, np.arange(3), np.empty(0)],
    "scalar": np.float32(1.5),
    "big-endian": np.arange(5, dtype=">u2"),
    "structured": np.ones(4, RECORD),
    "bool": np.array([True, False]),
    "complex": np.array([1 + 2j]),
    "half": np.array([1.5], "f2"),
    "bytes array": np.array([b"ab", b"c"]),
    "text array": np.array(["ab", "ö"]),
    "void": np.zeros(3, "V5"),
    "times": np.array(["2026-01-01", "NaT"], "M8[ns]"),
    "spans": np.arange(3, dtype="m8[s]"),
    "stamped": np.zeros(3, STAMPED),
    "every second": np.arange(10)[::2],
    "region": np.arange(100).reshape(10, 10)[2:5, 3:7],
    "backwards": np.arange(5)[::-1],
    "transposed": np.arange(24).reshape(2, 3, 4).transpose(1, 0, 2),
    "broadcast": np.broadcast_to(np.arange(3), (2, 3)),
    "object array": np.array([1, "x", None], object),
    "mixed": {"image": np.ones((8, 8), "u1"), "label": "cat", "box": np.arange(4.0)},
}


def packed_bytes(value, **options) -> bytearray:
    packed = Packed(value, **options)
    memory = bytearray(b"\xaa" * packed.nbytes)
    packed.write(memoryview(memory))
    return memory


def in_parts(memory, sizes):
    """What arrives in parts of these sizes, in turns."""
    arrival, view, i = Arrival(), memoryview(memory), 0
    while view:
        size = sizes[i % len(sizes)]
        arrival.add(view[:size])
        view, i = view[size:], i + 1
    return arrival


def check_same(found, given):
    """Equal, and of the same types and dtypes."""
    assert type(found) is type(given)
    if isinstance(given, np.ndarray):
        assert (found.dtype, found.shape) == (given.dtype, given.shape)
        np.testing.assert_array_equal(found, given)
    elif isinstance(given, dict):
        assert list(found) == list(given)
        for key in given:
            check_same(found[key], given[key])
    elif isinstance(given, list | tuple):
        assert len(found) == len(given)
        for one, other in zip(found, given, strict=True):
            check_same(one, other)
    else:
        assert found == given


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_what_went_in_comes_out(value):
    memory = packed_bytes(value)
    check_same(unpack(memoryview(memory)), value)
    check_same(unpack(memoryview(memory).toreadonly()), value)
    check_same(unpack(memoryview(memory), copies=True), value)
    for sizes in [[len(memory)], [1000], [64], [63, 1, 5]] + [[1]] * (len(memory) < 2000):
        check_same(in_parts(memory, sizes).unpack(), value)


@pytest.mark.parametrize("size", [1, 7, 64, 1000, 1 << 20])
def test_parts_are_the_whole_cut_up(size):
    value = ["x" * 50, np.arange(100), np.empty(0), np.arange(700, dtype="u1")]
    packed = Packed(value)
    whole = bytearray(packed.nbytes)
    packed.write(memoryview(whole))
    parts = bytearray()
    for begin in range(0, packed.nbytes, size):
        part = bytearray(min(size, packed.nbytes - begin))
        packed.write(memoryview(part), begin)
        parts += part
    assert parts == whole


def test_pieces_are_what_is_written():
    packed = Packed(["x" * 50, np.arange(100), np.empty(0), np.arange(7, dtype="u1")])
    memory = bytearray(packed.nbytes)
    by_hand = bytearray(packed.nbytes)
    packed.write(memoryview(memory))
    for offset, piece in packed.pieces():
        by_hand[offset : offset + len(piece)] = piece
    assert by_hand == memory


def test_more_room_than_needed_is_left_alone():
    packed = Packed(np.arange(3))
    memory = bytearray(b"\xaa" * (packed.nbytes + 10))
    packed.write(memoryview(memory))
    assert memory[packed.nbytes :] == b"\xaa" * 10


@pytest.mark.parametrize("value", [np.arange(1000), np.ones((30, 40), order="F"), np.ones(9, RECORD)])
def test_memory_of_arrays_is_not_pickled_and_lies_on_boundaries(value):
    packed = Packed([value, value[:1].copy(), value])
    (_, _), (_, pickled), (begin, first), *rest = packed.pieces()
    assert len(pickled) < 600
    assert begin % ALIGNMENT == 0
    assert np.shares_memory(np.frombuffer(first, "u1"), value)
    assert all(offset % ALIGNMENT == 0 for offset, _ in rest)


def test_views_are_of_the_source():
    memory = packed_bytes({"a": np.arange(1000), "b": np.arange(3)})
    found = unpack(memoryview(memory))
    assert all(np.shares_memory(found[key], np.frombuffer(memory, "u1")) for key in "ab")
    assert found["a"].flags.writeable
    assert not unpack(memoryview(memory).toreadonly())["a"].flags.writeable


@pytest.mark.parametrize("size", [3, 100_000])
def test_copies_own_their_memory_each_array_its_own(size):
    memory = packed_bytes([np.arange(size), np.arange(size)])
    for one, other in (
        unpack(memoryview(memory).toreadonly(), copies=True),
        in_parts(memory, [1000]).unpack(),
    ):
        assert not np.shares_memory(one, np.frombuffer(memory, "u1"))
        assert one.flags.writeable
        one[0] = 9
        assert other[0] == 0
        span = np.lib.array_utils.byte_bounds(one)
        assert span[1] - span[0] == one.nbytes
        base = one.base
        while isinstance(base, np.ndarray) and base.base is not None:
            base = base.base
        assert memoryview(base).nbytes == one.nbytes  # not that of the whole object


def test_what_was_read_only_stays_so():
    value = np.arange(5)
    value.flags.writeable = False
    memory = packed_bytes(value)
    assert not unpack(memoryview(memory), copies=True).flags.writeable
    assert not in_parts(memory, [10]).unpack().flags.writeable


def test_parts_may_be_read_only_at_the_end():
    found = in_parts(packed_bytes([np.arange(5)]), [10]).unpack(writable=False)
    assert not found[0].flags.writeable


@pytest.mark.parametrize("seed", range(20))
def test_random_objects_in_random_parts(seed):
    draw = random.Random(seed)
    value = [
        np.frombuffer(draw.randbytes(draw.choice([0, 1, 63, 64, 65, 1000])), "u1")
        if draw.random() < 0.7
        else draw.randbytes(draw.randrange(200))
        for _ in range(draw.randrange(20))
    ]
    packed, capacity = Packed(value), draw.choice([1, 64, 100, 1000])
    arrival = Arrival()
    for begin in range(0, packed.nbytes, capacity):
        part = bytearray(min(capacity, packed.nbytes - begin))
        packed.write(memoryview(part), begin)
        arrival.add(memoryview(part))
    check_same(arrival.unpack(), value)


@pytest.mark.parametrize("nbytes", [_packing.BIG_COPY - 1, _packing.BIG_COPY, _packing.BIG_COPY + 1])
def test_around_the_size_from_which_numpy_copies(nbytes):
    value = np.frombuffer(random.Random(1).randbytes(nbytes), "u1")
    memory = packed_bytes(value)
    check_same(unpack(memoryview(memory), copies=True), value)
    check_same(in_parts(memory, [_packing.BIG_COPY]).unpack(), value)


# ---- errors


class Fails:
    def __reduce__(self):
        return fail, (np.arange(3),)


def fail(array):
    raise RuntimeError("no")


def test_what_cannot_be_pickled_raises_what_pickle_raises():
    with pytest.raises((TypeError, pickle.PicklingError, AttributeError)):
        Packed([np.arange(3), lambda: None])


def test_a_failed_unpickling_keeps_no_view_of_the_source():
    memory = packed_bytes([np.arange(3), b"x", Point(2)])
    spoilt = memory.replace(b"Point", b"Paint")
    kept = []
    for copies in (False, True):
        with memoryview(spoilt) as source, pytest.raises(AttributeError) as info:
            unpack(source, copies=copies)
        kept.append(info)  # with its traceback
    del info
    spoilt += b"grows"  # BufferError if a view of it were left


# ---- other picklers


class Named(pickle.Pickler):
    def persistent_id(self, value):
        return "it" if value is THING else None


class Finds(pickle.Unpickler):
    def persistent_load(self, name):
        return THING


THING = object()


def test_another_pickler_and_unpickler():
    value = [THING, np.arange(1000)]
    memory = packed_bytes(value, pickler=Named)
    assert len(bytes(memory)) < 9000
    for found in (
        unpack(memoryview(memory), Finds),
        unpack(memoryview(memory), Finds, copies=True),
        in_parts(memory, [100]).unpack(Finds),
    ):
        assert found[0] is THING
        assert (found[1] == value[1]).all()


def test_cloudpickle_sends_functions():
    cloudpickle = pytest.importorskip("cloudpickle")
    one = 1
    memory = packed_bytes(lambda x: x + one, pickler=cloudpickle.Pickler)
    assert unpack(memoryview(memory))(2) == 3


def test_bfloat16():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    value = np.arange(5).astype(ml_dtypes.bfloat16)
    check_same(unpack(memoryview(packed_bytes(value))), value)


def test_a_buffer_of_another_kind_that_lends_its_memory():
    value = [pickle.PickleBuffer(io.BytesIO(b"abcdef").getbuffer()), pickle.PickleBuffer(b"xy")]
    memory = packed_bytes(value)
    found = unpack(memoryview(memory), copies=True)
    assert [bytes(one) for one in found] == [b"abcdef", b"xy"]
